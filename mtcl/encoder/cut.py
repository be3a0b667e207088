"""The part of an encoder that is exported."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from mtcl.encoder.facts import Facts, TaskFacts
from mtcl.encoder.parts import EncoderParts
from mtcl.errors import ConfigError, nearest
from mtcl.task.prompt import Prompt

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Cut:
    """The vectors of one `task`, or `dim` leading dimensions, or both; by default the shared vectors as a whole."""

    task: str | None = None
    dim: int | None = None

    def check(self, encoder: EncoderParts) -> None:
        """Raise `ConfigError` if the encoder has no such vectors, and warn if it was not trained for them."""
        if self.task is not None and self.task not in encoder.prompts:
            raise ConfigError(
                f"task is {self.task!r}, which is not a task of the run{nearest(self.task, encoder.prompts)}"
            )
        dims = encoder.dims_of(self.task)
        if self.dim is not None and not 0 < self.dim <= dims[0]:
            raise ConfigError(f"dim is {self.dim}: give 1 to {dims[0]}")
        if self.dim is not None and self.dim not in dims:
            log.warning(
                "the vectors were not trained at %d dimensions (only at %s), so the cut may cost more than it has to; "
                "see what it costs with --check",
                self.dim,
                ", ".join(map(str, dims)),
            )

    def dim_of(self, encoder: EncoderParts) -> int:
        """Dimensions of the exported vectors."""
        return self.dim or encoder.dim_of(self.task)

    def dims_of(self, encoder: EncoderParts) -> list[int]:
        """The exported vectors' own dimensions, then the smaller ones that they were trained at."""
        own = self.dim_of(encoder)
        return [own, *(dim for dim in encoder.dims_of(self.task) if dim < own)]

    def is_shared(self, encoder: EncoderParts) -> bool:
        """Whether the exported vectors are the run's shared vectors as a whole, so that heads of tasks fit."""
        return self.task is None and self.dim_of(encoder) == encoder.dim

    def tasks(self, encoder: EncoderParts) -> dict[str, TaskFacts]:
        """The tasks that the folder has vectors for."""
        tasks = {
            name: encoder.facts.tasks.get(name, TaskFacts(prompt.plain())) for name, prompt in encoder.prompts.items()
        }
        if self.task is not None:
            return {self.task: replace(tasks[self.task], head=None)}
        return {name: task for name, task in tasks.items() if name not in encoder.heads or self.is_shared(encoder)}

    def facts(self, encoder: EncoderParts) -> Facts:
        """The facts that the folder keeps, without names of folders of this machine."""
        base = encoder.facts.base
        return replace(
            encoder.facts,
            base=Path(base).name if Path(base).is_absolute() or Path(base).exists() else base,
            tasks=self.tasks(encoder),
            trained_dims=self.dims_of(encoder)[1:],
        )

    def prompt(self, encoder: EncoderParts) -> Prompt:
        """The prompt of texts of no particular task, or of the one task."""
        return encoder.prompt if self.task is None else encoder.prompts[self.task]

    def max_length(self, encoder: EncoderParts) -> int:
        """Tokens that texts are cut to."""
        return encoder.max_length if self.task is None else encoder.lengths.get(self.task, encoder.max_length)
