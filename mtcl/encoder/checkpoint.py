"""Reads a checkpoint without trusting it: weights, configuration and figures of its run, as plain, checked values.

Nothing in the file is executed, imported or called. Weights are read with torch's weights-only loader. The
configuration is text, of which only known names with values of the right type are used. Code from a model's repository
never runs because a checkpoint asks for it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from mtcl.encoder.config import ATTENTIONS, TOKENS_PER_CHUNK, EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.finite import check_finite
from mtcl.encoder.heads import heads_in
from mtcl.encoder.lora_state import has_adapters, merged
from mtcl.encoder.paths import BEST, checkpoint_at
from mtcl.errors import ConfigError, root_cause
from mtcl.records.mapping import from_mapping
from mtcl.task.prompt import Prompt

PREFIX = "encoder."
"""The prefix of the encoder's weights in a module's state."""
DEFAULT_MAX_LENGTH = 128
ANOTHER_MACHINE = (None, *TOKENS_PER_CHUNK.values())
"""Values of `tokens_per_chunk` that earlier versions wrote if nothing was configured."""
CONTENT = {"mtcl": dict, "state_dict": dict, "global_step": int}
RUN_STATE = {"optimizer_states": list, "lr_schedulers": list, "callbacks": dict, "loops": dict}
"""The further content of a checkpoint that a run can be resumed from."""
Plain = dict[str, Any]
State = dict[str, Tensor]


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint's content. Each property raises a one-line `ConfigError` if its content is malformed."""

    path: Path
    content: Plain
    is_trusted: bool = False
    """Whether the user trusts the file: then code from the model's repository may run if the run allowed it."""

    @classmethod
    def read(cls, path: str | Path, default: str = BEST, *, trust: bool = False) -> SavedRun:
        """Read a .ckpt file, or a run folder's checkpoint `default`.

        Raises `ConfigError` if mtcl did not write it, if it is damaged, and if a weight is not finite.
        """
        file = checkpoint_at(Path(path), default)
        try:
            check_sums(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen types for damaged files
            raise ConfigError(f"{str(file)!r} is not a checkpoint, or is damaged ({root_cause(error)})") from error
        saved = cls.of(content, file, trust=trust)
        check_finite(saved.state, f"checkpoint {str(file)!r}", advice="give one from before training diverged")
        return saved

    @classmethod
    def of(cls, content: Any, path: str | Path, *, trust: bool = False) -> SavedRun:
        """Check `content`, loaded from `path`. Raises `ConfigError` if mtcl did not write it."""
        if not isinstance(content, dict) or "mtcl" not in content:
            raise ConfigError(f"{str(path)!r} is not an mtcl checkpoint")
        saved = cls(Path(path), content, trust)
        for name, kind in {**CONTENT, **(RUN_STATE if saved.has_run_state else {})}.items():
            saved._typed(content, name, kind)
        weights = saved.state.items()
        if odd := [name for name, value in weights if not isinstance(name, str) or not isinstance(value, Tensor)]:
            raise saved.malformed(f"its weight {odd[0]!r:.60} is not a tensor with a name")
        return saved

    def malformed(self, what: str) -> ConfigError:
        """The error for content that mtcl would not have written."""
        return ConfigError(f"checkpoint {str(self.path)!r} is malformed: {what}")

    def _typed(self, among: Mapping[str, Any], name: str, kind: Any) -> Any:
        value = among.get(name)
        if not isinstance(value, kind):
            raise self.malformed(f"{name} is {value!r:.60}")
        return value

    @property
    def state(self) -> State:
        """The weights, by their names in the module."""
        return dict(self.content["state_dict"])

    @property
    def about(self) -> Plain:
        """The run's own record: base figures, history, facts."""
        return dict(self.content["mtcl"])

    @property
    def step(self) -> int:
        """Optimizer steps that the run had taken."""
        return int(self.content["global_step"])

    @property
    def has_run_state(self) -> bool:
        """Whether a run can be resumed from it."""
        return "optimizer_states" in self.content

    @property
    def is_averaged(self) -> bool:
        """Whether the run kept an average of its weights."""
        return "current_model_state" in self.content

    @cached_property
    def config(self) -> Plain:
        """The run's configuration as written. It is untrusted text, so take names from it one by one."""
        text = self._typed(self.about, "config", str)
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise self.malformed(f"its configuration is not YAML: {root_cause(error)}") from error
        if not isinstance(config, dict):
            raise self.malformed("its configuration is not a mapping")
        return config

    def section(self, *names: str) -> Plain:
        """A mapping inside the configuration; empty if it is absent or null."""
        found: Any = self.config
        for name in names:
            found = found.get(name)
            if found is None:
                return {}
            if not isinstance(found, dict):
                raise self.malformed(f"{'.'.join(names)} is {found!r:.60}")
        return dict(found)

    @cached_property
    def encoder_config(self) -> EncoderConfig:
        """The trained encoder's options, without `compile`, which takes a minute and pays off only in training."""
        given = self.section("model", "encoder")
        if not given:
            raise self.malformed("it does not name the trained encoder")
        known = {one.name for one in fields(EncoderConfig)} - {"compile"}
        try:
            config = from_mapping(EncoderConfig, {k: v for k, v in given.items() if k in known}, where="model.encoder")
        except ConfigError as error:
            raise self.malformed(str(error)) from error
        if config.attention not in ATTENTIONS and not self.is_trusted:
            raise ConfigError(
                f"checkpoint {str(self.path)!r} asks for attention {config.attention!r}, which may be code from the "
                "Hub: pass trust_checkpoint (--trust_checkpoint) if you trust the file"
            )
        size = None if config.tokens_per_chunk in ANOTHER_MACHINE else config.tokens_per_chunk
        return replace(config, tokens_per_chunk=size, trust_remote_code=config.trust_remote_code and self.is_trusted)

    @property
    def max_length(self) -> int:
        """Tokens that a text is cut to if its task gives no other number."""
        found = self.about.get("max_length") or self.section("data").get("max_length") or DEFAULT_MAX_LENGTH
        return self._length(found, "max_length")

    @property
    def prompt(self) -> Prompt:
        """The prompt of texts of no particular task; runs of version 0.1 had none."""
        return self._prompt(self.about.get("prompt", ""), "prompt")

    @cached_property
    def tasks(self) -> dict[str, Plain]:
        """The run's tasks, each with the `prompt` and `max_length` of its texts if these are known."""
        found = self.about.get("tasks") or (self.facts or {}).get("tasks") or self.section("tasks")
        if not isinstance(found, dict) or not all(isinstance(task, dict | None) for task in found.values()):
            raise self.malformed(f"tasks is {found!r:.60}")
        return {str(name): task or {} for name, task in found.items()}

    @property
    def tasks_in_effect(self) -> dict[str, Plain]:
        """`tasks` if the run recorded the prompts and lengths that it used; otherwise empty."""
        return self.tasks if self.about.get("tasks") or self.facts else {}

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompt of each task's texts."""
        sure = self.tasks_in_effect  # a configuration does not contain what a task file declares
        given = {name: task.get("prompt", "" if name in sure else None) for name, task in self.tasks.items()}
        return {
            name: self._prompt(prompt, f"the prompt of task {name!r}")
            for name, prompt in given.items()
            if prompt is not None
        }

    def _prompt(self, value: Any, name: str) -> Prompt:
        try:
            return Prompt.of(value)
        except ConfigError as error:
            raise self.malformed(f"{name} is {value!r:.60}") from error

    @property
    def lengths(self) -> dict[str, int]:
        """The max length, in tokens, of each task's texts."""
        given = {name: task.get("max_length") for name, task in self.tasks.items()}
        return {n: self._length(length, f"max_length of {n}") for n, length in given.items() if length is not None}

    def _length(self, value: Any, name: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.malformed(f"{name} is {value!r:.60}")
        return value

    @property
    def trained(self) -> set[str]:
        """The tasks that the weights were trained on: the run's, and those of the weights that it started from."""
        before = self.about.get("trained_before") or ()  # earlier versions did not record it
        if not isinstance(before, list | tuple) or not all(isinstance(name, str) for name in before):
            raise self.malformed(f"trained_before is {before!r:.60}")
        return {*self.trained_in_run, *before}

    @property
    def trained_in_run(self) -> list[str]:
        """The tasks that the run itself trained: those of its configuration that it did not only watch."""
        return [str(name) for name in self.section("tasks") if self.section("tasks", name).get("watch") is not True]

    @property
    def start_figures(self) -> dict[str, float]:
        """Primary metrics on validation of the weights that the run started from, by task; empty if it was the base."""
        return self._figures(self.about.get("start") or {}, "start")

    @property
    def base_figures(self) -> dict[str, float]:
        """The base encoder's primary metrics on validation, by task."""
        return self._figures(self.about.get("base") or {}, "base")

    @property
    def history(self) -> dict[int, dict[str, float]]:
        """Primary metrics on validation, by step and task."""
        history = self.about.get("history") or {}
        if not isinstance(history, dict) or not all(isinstance(step, int) for step in history):
            raise self.malformed(f"history is {history!r:.60}")
        return {step: self._figures(figures, "history") for step, figures in history.items()}

    @property
    def cosines_at(self) -> dict[str, int]:
        """The optimizer step of the last gradient cosine of each two tasks, by its tag."""
        found = self.about.get("cosines_at") or {}  # earlier versions did not record it
        if not isinstance(found, dict) or not all(isinstance(step, int) for step in found.values()):
            raise self.malformed(f"cosines_at is {found!r:.60}")
        return {str(tag): step for tag, step in found.items()}

    def _figures(self, found: Any, name: str) -> dict[str, float]:
        if not isinstance(found, dict) or not all(isinstance(v, int | float) for v in found.values()):
            raise self.malformed(f"{name} is {found!r:.60}")
        return {str(task): float(value) for task, value in found.items()}

    @property
    def facts(self) -> Plain | None:
        """The settings and data that determine each step's pairs and loss; None if the checkpoint is not a run's."""
        facts: Plain | None = self.about.get("facts")
        if facts is None:
            return None
        tasks = facts.get("tasks", {}) if isinstance(facts, dict) else None
        if not isinstance(tasks, dict) or not all(isinstance(one, dict) for one in tasks.values()):
            raise self.malformed(f"facts is {facts!r:.60}")
        return facts

    @property
    def pooling(self) -> str:
        """The pooling in effect, as `Encoder.pooling`."""
        encoder = (self.facts or {}).get("model.encoder")
        in_facts = encoder.get("pooling") if isinstance(encoder, dict) else None
        found = in_facts or self.encoder_config.pooling or "mean"
        names = [found] if isinstance(found, str) else found
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise self.malformed(f"pooling is {found!r:.60}")
        return "+".join(names)

    @property
    def base_weights(self) -> str | None:
        """The fingerprint of the base encoder that the run, or the merged runs, started from."""
        encoder = (self.facts or {}).get("model.encoder")
        in_facts = encoder.get("weights") if isinstance(encoder, dict) else None
        found = self.about.get("base_weights") or in_facts
        return found if isinstance(found, str) else None

    @property
    def tokenizer(self) -> str | None:
        """The probe of the run's tokenizer (`Tokenizer.probe`); earlier versions did not record it."""
        found = self.about.get("tokenizer")
        return found if isinstance(found, str) else None

    def check_base(self, name: str, *, tokenizer: str, pooling: str | None = None) -> None:
        """Raise `ConfigError` if the model `name` reads texts in another way than the run's: with a tokenizer of
        another probe, or a pooling that differs from the one that the run took from the model's files.

        The weights are in the checkpoint, so another folder of the same name would give wrong vectors without an error.
        """
        what = ""
        if self.tokenizer not in (None, tokenizer):
            what = "another tokenizer than"
        elif pooling not in (None, self.pooling) and self.facts and self.encoder_config.pooling is None:
            what = f"{self.pooling} pooling, not {pooling} as in"
        if what:
            raise ConfigError(
                f"checkpoint {str(self.path)!r} was trained with {what} the model {name!r}: run the command where this "
                "name means the run's own base encoder, or restore its files"
            )

    @property
    def has_adapters(self) -> bool:
        """Whether some of its weights have an adapter, which is saved next to them."""
        return has_adapters(self.state)

    @property
    def alpha(self) -> float | None:
        """The scale of the encoder's adapters; None if it has none."""
        adapter = self.encoder_config.adapter
        return None if adapter is None else adapter.alpha

    @property
    def plain_state(self) -> State:
        """The weights of a module without adapters: each adapter is added to its weight, and all are float32."""
        if self.has_adapters != (self.alpha is not None):
            raise self.malformed(f"model.encoder.train is {self.encoder_config.train}, which its weights do not fit")
        try:
            return merged(self.state, alpha=self.alpha or 0.0)
        except ConfigError as error:
            raise self.malformed(str(error)) from error

    @property
    def heads(self) -> dict[str, nn.Linear]:
        """The tasks' own projections of the shared vector, by task."""
        try:
            return heads_in(self.state)
        except ValueError as error:
            raise self.malformed(str(error)) from error

    def encoder(self) -> Encoder:
        """The trained encoder, on the CPU, without adapters: they are added to its weights."""
        encoder = Encoder.load(self.encoder_config.plain())
        state = {k.removeprefix(PREFIX): v for k, v in self.plain_state.items() if k.startswith(PREFIX)}
        shapes = [{name: tuple(value.shape) for name, value in s.items()} for s in (state, encoder.state_dict())]
        for name in dict.fromkeys([*shapes[0], *shapes[1]]):
            if shapes[0].get(name) != shapes[1].get(name):
                found, wanted = (one.get(name, "absent") for one in shapes)
                raise ConfigError(
                    f"checkpoint {str(self.path)!r} does not fit its base encoder {self.encoder_config.name!r}: "
                    f"{name} is {found} in the checkpoint, {wanted} in the encoder"
                )
        encoder.load_state_dict(state)
        return encoder


def check_sums(file: Path) -> None:
    """Raise `ValueError` if a part of a checkpoint is damaged, which torch does not check."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            if damaged := parts.testzip():
                raise ValueError(f"{damaged} has other content than was written")
