"""Reads a checkpoint without trusting it: weights, configuration and figures of its run, as plain, checked values.

Nothing in the file is executed, imported or called. Weights are read with torch's weights-only loader. The
configuration is text, of which only known names with values of the right type are used. Code from a model's repository
never runs because a checkpoint asks for it.
"""

from __future__ import annotations

import zipfile
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
from mtcl.encoder.module_state import ENCODER, State, part
from mtcl.encoder.paths import BEST, checkpoint_at
from mtcl.encoder.run_record import Plain, RunRecord, TaskRecord, task_records
from mtcl.errors import ConfigError, root_cause
from mtcl.records.mapping import from_mapping
from mtcl.task.prompt import Prompt

DEFAULT_MAX_LENGTH = 128
TEXTS = ("prompt", "max_length")
"""Options of a task that say how its texts are read."""
ANOTHER_MACHINE = (None, *TOKENS_PER_CHUNK.values())
"""Values of `tokens_per_chunk` that earlier versions wrote if nothing was configured."""
CONTENT = {"mtcl": dict, "state_dict": dict, "global_step": int}
RUN_STATE = {"optimizer_states": list, "lr_schedulers": list, "callbacks": dict, "loops": dict}
"""The further content of a checkpoint that a run can be resumed from."""


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint's content. Properties that read its configuration or its weights raise a one-line `ConfigError` if
    these are malformed.
    """

    path: Path
    content: Plain
    record: RunRecord
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
        saved = cls(Path(path), content, RunRecord(), trust)
        for name, kind in {**CONTENT, **(RUN_STATE if saved.has_run_state else {})}.items():
            if not isinstance(content.get(name), kind):
                raise saved.malformed(f"{name} is {content.get(name)!r:.60}")
        weights = saved.state.items()
        if odd := [name for name, value in weights if not isinstance(name, str) or not isinstance(value, Tensor)]:
            raise saved.malformed(f"its weight {odd[0]!r:.60} is not a tensor with a name")
        try:
            return replace(saved, record=RunRecord.of(content["mtcl"]))
        except ConfigError as error:
            raise saved.malformed(str(error)) from error

    def malformed(self, what: str) -> ConfigError:
        """The error for content that mtcl would not have written."""
        return ConfigError(f"checkpoint {str(self.path)!r} is malformed: {what}")

    @property
    def state(self) -> State:
        """The weights, by their names in the module."""
        return dict(self.content["state_dict"])

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
        try:
            config = yaml.safe_load(self.record.config)
        except yaml.YAMLError as error:
            raise self.malformed(f"its configuration is not YAML: {root_cause(error)}") from error
        if not isinstance(config, dict):
            raise self.malformed(f"its configuration is {config!r:.60}, not a mapping")
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
        found = self.record.max_length or self.section("data").get("max_length") or DEFAULT_MAX_LENGTH
        if type(found) is not int or found < 1:
            raise self.malformed(f"data.max_length is {found!r:.60}")
        return found

    @property
    def prompt(self) -> Prompt:
        """The prompt of texts of no particular task."""
        return Prompt.of(self.record.prompt)

    @cached_property
    def tasks(self) -> dict[str, TaskRecord]:
        """The run's tasks: those of its record, else those of its configuration, without what task files declare."""
        if self.record.tasks:
            return self.record.tasks
        texts = {name: {one: self.section("tasks", name).get(one) for one in TEXTS} for name in self.section("tasks")}
        try:
            return task_records(texts, where="tasks")
        except ConfigError as error:
            raise self.malformed(str(error)) from error

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompt of each task's texts, as far as they are known."""
        return {name: Prompt.of(task.prompt) for name, task in self.tasks.items() if task.prompt is not None}

    @property
    def lengths(self) -> dict[str, int]:
        """The max length, in tokens, of each task's texts, as far as they are known."""
        return {name: task.max_length for name, task in self.tasks.items() if task.max_length is not None}

    @property
    def trained(self) -> set[str]:
        """The tasks that the weights were trained on: the run's, and those of the weights that it started from."""
        return {*self.trained_in_run, *self.record.trained_before}

    @property
    def trained_in_run(self) -> list[str]:
        """The tasks that the run itself trained: those of its configuration that it did not only watch."""
        return [str(name) for name in self.section("tasks") if self.section("tasks", name).get("watch") is not True]

    @property
    def pooling(self) -> str:
        """The pooling in effect, as `Encoder.pooling`."""
        in_facts = (self.record.facts or {}).get("model.encoder") or {}
        found = in_facts.get("pooling") or self.encoder_config.pooling or "mean"
        names = [found] if isinstance(found, str) else found
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise self.malformed(f"pooling is {found!r:.60}")
        return "+".join(names)

    def check_base(self, name: str, *, tokenizer: str, pooling: str | None = None) -> None:
        """Raise `ConfigError` if the model `name` reads texts in another way than the run's: with a tokenizer of
        another probe, or a pooling that differs from the one that the run took from the model's files.

        The weights are in the checkpoint, so another folder of the same name would give wrong vectors without an error.
        """
        what = ""
        if self.record.tokenizer not in (None, tokenizer):
            what = "another tokenizer than"
        elif pooling not in (None, self.pooling) and self.record.facts and self.encoder_config.pooling is None:
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
        state = part(self.plain_state, ENCODER)
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
