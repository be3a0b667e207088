"""A trained or untrained encoder with its tokenizer: turns texts into vectors without a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.arrays import Ragged
from mtcl.console import track
from mtcl.encoder.card import card
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.exported import Exported
from mtcl.encoder.facts import Facts
from mtcl.encoder.heads import read_heads, through
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.layout import new_folder, write_layout
from mtcl.encoder.parts import EncoderParts
from mtcl.encoder.paths import PathKind, kind_of_path
from mtcl.encoder.precision import Precision, check_precision, computing_in, in_half
from mtcl.encoder.reading import check_pooled, default_length, tokenizer_of
from mtcl.encoder.texts import texts_of
from mtcl.errors import ConfigError, root_cause
from mtcl.task.contract import Task
from mtcl.task.prompt import Prompt, SideName

log = logging.getLogger("mtcl")
AT_ONCE = 4096
"""The number of texts that are tokenised and sorted by length together."""


@dataclass(frozen=True)
class TextEncoder(EncoderParts):
    """An encoder with its tokenizer; texts are cut to `max_length` tokens.

    >>> encoder = TextEncoder.load("runs/demo")                       # doctest: +SKIP
    >>> encoder.encode("We are hiring a data engineer.").shape        # doctest: +SKIP
    torch.Size([384])
    """

    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_precision(self.precision)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        precision: Precision = "float32",
        trust_checkpoint: bool = False,
    ) -> TextEncoder:
        """Load an encoder, trained by mtcl or not.

        Args:
            path: A run folder (its best checkpoint), a .ckpt file of any Lightning Trainer, a folder that
                `mtcl export` wrote, any other folder of a model in the layout of sentence-transformers or Hugging
                Face, or a model's name on the Hub.
            device: The device to compute on; by default a GPU if there is one.
            precision: float32, or bf16 for matrix products in bf16: faster where the hardware has them, with vectors
                that differ by some 2e-3.
            trust_checkpoint: Run code from the base model's repository if the run did. If false, no code that a
                checkpoint names is executed.
        """
        check_precision(precision)
        match kind_of_path(path):
            case PathKind.MODEL_FOLDER:
                folder = Path(path).expanduser()
                encoder = cls._of_folder(folder, name=str(folder), device=device)
            case PathKind.HUB_NAME:
                encoder = cls._of_folder(resolve_model(str(path)), name=str(path), device=device)
            case PathKind.CHECKPOINT:
                encoder = cls.of_run(SavedRun.read(path, trust=trust_checkpoint), device=device)
        return replace(encoder, precision=precision)

    @classmethod
    def of_run(cls, saved: SavedRun, *, device: str | None = None) -> TextEncoder:
        """The encoder of a run, adapters merged."""
        config = saved.encoder_config
        model = saved.encoder().to(best_device(device)).eval()
        if odd := [name for name, head in saved.heads.items() if head.in_features != model.dim]:
            raise saved.malformed(f"the head of task {odd[0]!r} does not fit the encoder's {model.dim} dimensions")
        tokenizer = tokenizer_of(config, model.declared)
        saved.check_base(config.name, tokenizer=tokenizer.probe, pooling=model.pooling)
        facts, chunk_size = Facts.of_run(saved), config.chunk_size()
        texts = (saved.prompt, facts.prompts, facts.lengths)
        return cls(model, tokenizer, saved.max_length, chunk_size, *texts, saved.heads, facts)

    @classmethod
    def _of_folder(cls, folder: Path, *, name: str, device: str | None) -> TextEncoder:
        """An encoder from the folder of the model `name`, with the facts and heads of an export."""
        encoder = cls.base(EncoderConfig(name=name), device=device)
        facts = Facts.of_folder(folder)
        if facts is None:
            return replace(encoder, facts=Facts(base=name))
        heads = read_heads(folder)
        if odd := [name for name, head in heads.items() if head.in_features != encoder.dim]:
            raise ConfigError(
                f"{folder}: the head of task {odd[0]!r} does not fit the encoder's {encoder.dim} dimensions"
            )
        return replace(encoder, prompts=facts.prompts, lengths=facts.lengths, heads=heads, facts=facts)

    @classmethod
    def base(
        cls,
        config: EncoderConfig | Mapping[str, Any] | None = None,
        *,
        max_length: int | None = None,
        prompt: Prompt | str | Mapping[str, str] | None = None,
        device: str | None = None,
    ) -> TextEncoder:
        """Load the untrained encoder with the settings that it declares: see `EncoderConfig`.

        Args:
            config: The encoder; also a mapping of its options.
            max_length: Tokens a text is cut to; what the model declares if None.
            prompt: Put before each text: one for all texts, or a mapping with `query` and `document`; what the model
                declares if None.
            device: The device to compute on; by default a GPU if there is one.

        Raises `ConfigError` if the model cannot be loaded, or for a max length that it does not support.
        """
        config = EncoderConfig.of(config)
        model = Encoder.load(config).to(best_device(device)).eval()
        tokenizer = tokenizer_of(config, model.declared)
        if max_length is not None:
            tokenizer.check_length(None, max_length, positions=model.num_positions)
        length = max_length or default_length(model.declared, tokenizer, model.num_positions)
        given = model.declared.prompt if prompt is None else Prompt.of(prompt)
        own = check_pooled(given, model.declared)
        return cls(model, tokenizer, length, config.chunk_size(), own, facts=Facts(base=config.name))

    def save_pretrained(self, folder: str | Path, *, task: str | None = None, dim: int | None = None) -> None:
        """Write a folder that sentence-transformers, transformers and model servers load, with a model card.

        `TextEncoder.load(folder)` gives an encoder of the same vectors, tasks and prompts. `mtcl export` and
        `mtcl.deploy.export` write further forms into it, such as ONNX.

        Args:
            folder: The folder to make.
            task: Export the vectors of this task, with its head, prompt and max length.
            dim: Export this many leading dimensions.

        Raises `ConfigError` if the folder exists, or if the encoder cannot be expressed in the layout.
        """
        exported, path = Exported(self, task, dim), Path(folder).expanduser()
        with new_folder(path) as aside:
            write_layout(exported, aside)
            (aside / "README.md").write_text(card(exported, path.name), encoding="utf-8")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def prompt_of(self, task: Task) -> Prompt:
        """The prompt before the task's texts in training; for another task, its own or `prompt`."""
        own = self.prompt if task.prompt is None else Prompt.of(task.prompt)
        return self.prompts.get(task.name, own)

    def length_of(self, task: Task) -> int:
        """The max length, in tokens, of the task's texts in training."""
        return self.lengths.get(task.name, self.max_length)

    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = ...,
        role: SideName = ...,
        dim: int | None = ...,
        output: Literal["torch"] = ...,
        progress: bool = ...,
    ) -> Tensor: ...

    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = ...,
        role: SideName = ...,
        dim: int | None = ...,
        output: Literal["numpy"],
        progress: bool = ...,
    ) -> npt.NDArray[np.float32]: ...

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | None = None,
        role: SideName = "document",
        dim: int | None = None,
        output: Literal["torch", "numpy"] = "torch",
        progress: bool = False,
    ) -> Tensor | npt.NDArray[np.float32]:
        """Unit vectors in float32 on the CPU: (D,) for one text, (T, D) for a list of texts, in their order.

        Args:
            texts: One text or several, in any ordered collection (a list, a column of a DataFrame, an array, a
                generator). Each is cut to the task's max length, or the run's.
            task: Encode as for this task in training, with its prompt and max length, and its head if it has one.
            role: Which prompt to put before each text, if queries and documents have different ones.
            dim: Keep this many leading dimensions, normalised to unit length; for encoders trained with `Matryoshka`.
            output: A torch tensor, on which further layers can be trained, or a numpy array.
            progress: Show a progress bar on a terminal.

        Raises `ConfigError` for a task that the run did not have, a `dim` larger than the encoder's, or other values
        than text.
        """
        as_input = self.input_format(task, role)
        is_number = isinstance(dim, int | np.integer) and not isinstance(dim, bool)
        if dim is not None and not (is_number and 0 < dim <= self.dim_of(task)):
            owner = "the encoder" if task not in self.heads else f"the head of {task}"
            raise ConfigError(f"dim is {dim!r}: give 1 to {self.dim_of(task)}, the dimensions of {owner}")
        if output not in ("torch", "numpy"):
            raise ConfigError(f"output is {output!r}: give torch or numpy")
        if dim is not None and dim not in (dims := self.dims_of(task)):
            _warn_of_untrained(int(dim), tuple(dims))
        given = texts_of(texts)
        starts = range(0, len(given), AT_ONCE)
        parts = [
            self([as_input.prompt + text for text in given[start : start + AT_ONCE]], as_input.max_length, task=task)
            for start in (track(starts, "encode") if progress else starts)
        ]
        vectors_TD = torch.cat(parts) if parts else torch.empty(0, self.dim_of(task))
        if dim is not None:
            vectors_TD = F.normalize(vectors_TD[:, :dim], dim=1)
        vectors = vectors_TD[0] if isinstance(texts, str) else vectors_TD
        return vectors.numpy() if output == "numpy" else vectors

    def __call__(self, texts: Sequence[str], max_length: int | None = None, *, task: str | None = None) -> Tensor:
        """(T, D) float32 unit vectors on the CPU, by the head of `task` if it has one. No prompts are added."""
        if max_length is not None:
            self.tokenizer.check_length(None, max_length, positions=self.model.num_positions)
        tokens = self.tokenizer([self.tokenizer.shortened(text) for text in texts], max_length or self.max_length)
        return self.embed(tokens, task=task)

    @cached_property
    def _computing(self) -> Encoder:
        """The model in the form in which it computes."""
        return in_half(self.model) if self.precision == "bf16" else self.model

    def embed(self, tokens: Ragged, *, task: str | None = None) -> Tensor:
        """(T, D) float32 unit vectors on the CPU of tokenised texts, by the head of `task` if it has one."""
        with computing_in(self.precision, self.device):
            shared_TD = self._computing.embed(tokens, tokens_per_chunk=self.tokens_per_chunk)
        with torch.no_grad():
            return through(self.heads.get(task or ""), shared_TD)


@cache
def _warn_of_untrained(dim: int, trained: tuple[int, ...]) -> None:
    """Once for each size."""
    log.warning(
        "dim is %d, but the vectors are only known to be trained at %s dimensions: cut vectors may find less",
        dim,
        ", ".join(map(str, trained)),
    )


def best_device(given: str | None = None) -> str:
    """The given device, or else a GPU if there is one. Raises `ConfigError` for a device that the machine lacks."""
    if given is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=given)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device is {given!r}, which cannot be used here ({root_cause(error)}): give cpu") from error
    return given
