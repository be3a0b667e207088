"""Writes an exported folder as one ONNX graph, and the same graph with 8-bit weights.

The graph has pooling, layers and normalisation inside, so a consumer outside of Python needs one tensor,
`sentence_embedding` (n, D). The other output, `last_hidden_state` (n, L, H), is for consumers that pool themselves.
Batch and length are dynamic. `torch.onnx.export` writes it: its older tracer records relative positions (T5, MPNet) as
constants of the example's length, so the exporter of `torch.export` is used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtcl.arrays import Ragged
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.encoder.pooling import pool_states
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, root_cause

FILE = Path("onnx") / "model.onnx"
TARGETS = {"arm64": False, "avx2": True, "avx512": True, "avx512_vnni": False}
"""Kinds of CPU -> whether weights get 7 bits: without VNNI, sums of two products of 8 bits overflow 16 bits."""
THIS_CPU = "qint8"
OUTPUTS = ("last_hidden_state", "sentence_embedding")
LARGEST = 1_900_000_000
"""Bytes of weights in the file itself; protobuf cannot read more than 2 GB."""
TOLERANCE = 1e-3
"""Differences from the encoder that are more than rounding."""
TOKENS_AT_ONCE = 8192


class Graph(nn.Module):
    """Token ids (n, L) and their mask to hidden states (n, L, H) and unit vectors (n, D)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states_nLH = self.encoder.backbone(
            input_ids=input_ids, attention_mask=attention_mask, **types
        ).last_hidden_state
        return states_nLH, self.encoder.finish(pool_states(states_nLH, attention_mask, self.encoder.poolings))


def require() -> None:
    """Raise `ConfigError` if a package that ONNX needs is missing."""
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"ONNX needs {', '.join(missing)}, which is not installed: pip install 'mtcl[export]'")


def write_graph(folder: Path) -> TextEncoder:
    """Write the graph of the model in `folder`, and return the model. Raises `ConfigError` if it has no graph."""
    model = TextEncoder.base({"name": str(folder), "attention": "eager"}, device="cpu")
    path = folder / FILE
    path.parent.mkdir()
    example = _inputs(model, Ragged(np.array([0, 9, 14]), np.concatenate([_ids(model, 9), _ids(model, 5)])))
    size = sum(value.numel() * value.element_size() for value in model.model.parameters())
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                Graph(model.model).eval(),
                (),
                str(path),
                kwargs={name: torch.from_numpy(value) for name, value in example.items()},
                input_names=list(example),
                output_names=list(OUTPUTS),
                dynamic_shapes=dict.fromkeys(example, dynamic),
                dynamo=True,
                external_data=size > LARGEST,
                verbose=False,
            )
    except Exception as error:  # of torch's exporter, of whatever the model's code meets in it
        kind = type(model.model.backbone).__name__
        raise ConfigError(
            f"{kind} has no ONNX graph ({root_cause(error):.120}): export without onnx and --quantize"
        ) from error
    _check(model, path)
    return model


def quantize(folder: Path, target: str) -> Path:
    """Write the graph with 8-bit weights for a kind of CPU; activations are quantised as they come.

    Returns its path in the folder. The graph must have been written.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = this_cpu() if target == THIS_CPU else target
    path = FILE.with_name(f"model_qint8_{target}.onnx")
    with _quiet():
        quantize_dynamic(
            folder / FILE,
            folder / path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=TARGETS[target],
            extra_options={"MatMulConstBOnly": True},
        )
    return path


def this_cpu() -> str:
    """The kind of this machine's CPU."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    if "avx512_vnni" in flags:
        return "avx512_vnni"
    return "avx512" if "avx512f" in flags else "avx2"


class Session:
    """A graph in onnxruntime on the CPU."""

    def __init__(self, path: Path, model: TextEncoder) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False  # it keeps the memory of the longest batch for good
        self.run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run
        self.model = model

    def embed(self, tokens: Ragged, head: nn.Module | None = None) -> Tensor:
        """(T, D) unit vectors of tokenised texts, through a task's head if there is one."""
        order = np.argsort(tokens.lengths(), kind="stable")
        parts = [self._batch(tokens.take(rows)) for rows in _batches(order, tokens.lengths()[order])]
        vectors_TD = torch.from_numpy(np.concatenate(parts)[np.argsort(order)])
        return through(head, vectors_TD)

    def _batch(self, tokens: Ragged) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self.run([OUTPUTS[1]], _inputs(self.model, tokens))[0]
        return found


def _batches(order: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Parts of `order`, by rising `lengths`, of at most `TOKENS_AT_ONCE` tokens with padding."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[end] > TOKENS_AT_ONCE:
            yield order[start:end]
            start = end


def _inputs(model: TextEncoder, tokens: Ragged) -> dict[str, np.ndarray[Any, Any]]:
    """The graph's inputs (n, L), padded on the right."""
    width, lengths = int(tokens.lengths().max()), tokens.lengths()
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    padding: Any = model.tokenizer.backend.pad_token_id
    given = {"input_ids": tokens.padded(width, padding or 0), "attention_mask": mask}
    if model.model.token_types is not None:
        of_all, of_last = model.model.token_types
        types = np.full_like(mask, of_all)
        types[np.arange(len(mask)), lengths - 1] = of_last
        given["token_type_ids"] = types
    return given


def _ids(model: TextEncoder, number: int) -> np.ndarray[Any, Any]:
    """Token ids of no special meaning."""
    special = set(model.tokenizer.backend.all_special_ids)
    found = [i for i in range(len(model.tokenizer.backend) - 1, -1, -1) if i not in special]
    return np.resize(np.array(found[:64]), number)


def _check(model: TextEncoder, path: Path) -> None:
    """Raise `ConfigError` if the graph gives other vectors at sizes that are not the example's."""
    lengths = np.array([3, 17, min(40, model.max_length), 1])
    tokens = Ragged(np.concatenate([[0], lengths.cumsum()]), _ids(model, int(lengths.sum())))
    wanted_TD, found_TD = model.embed(tokens), Session(path, model).embed(tokens)
    worst = float((wanted_TD - found_TD).abs().max())
    if not worst < TOLERANCE:
        raise ConfigError(
            f"the ONNX graph of {type(model.model.backbone).__name__} gives other vectors (by {worst:.2g}): export "
            "without onnx and --quantize"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes about packages and optimisations that play no part here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
