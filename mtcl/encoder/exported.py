"""The part of an encoder that is exported."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import nn

from mtcl.encoder.facts import Facts, TaskFacts
from mtcl.encoder.parts import EncoderParts
from mtcl.encoder.stages import Step, stages_of
from mtcl.errors import ConfigError, nearest
from mtcl.task.prompt import Prompt

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Exported:
    """An encoder's vectors of one `task`, or `dim` leading dimensions, or both; by default the shared ones as a whole.

    Raises `ConfigError` if the encoder has no such vectors, and warns if it was not trained for them.
    """

    encoder: EncoderParts
    task: str | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        encoder, dims = self.encoder, self.encoder.dims_of(self.task)
        if self.task is not None and self.task not in encoder.prompts:
            raise ConfigError(
                f"task is {self.task!r}, which is not a task of the run{nearest(self.task, encoder.prompts)}"
            )
        if self.dim is not None and not 0 < self.dim <= dims[0]:
            raise ConfigError(f"dim is {self.dim}: give 1 to {dims[0]}")
        if self.dim is not None and self.dim not in dims:
            log.warning(
                "the vectors were not trained at %d dimensions (only at %s), so the cut may cost more than it has to; "
                "see what it costs with --check",
                self.dim,
                ", ".join(map(str, dims)),
            )

    @property
    def dims(self) -> list[int]:
        """The vectors' own dimensions, then the smaller numbers of leading ones that they were trained at."""
        whole, *trained = self.encoder.dims_of(self.task)
        own = self.dim or whole
        return [own, *(dim for dim in trained if dim < own)]

    @property
    def is_shared(self) -> bool:
        """Whether these are the run's shared vectors as a whole, so that heads of tasks fit."""
        return self.task is None and self.dims[0] == self.encoder.dim

    @property
    def tasks(self) -> dict[str, TaskFacts]:
        """The tasks that the folder has vectors for."""
        encoder = self.encoder
        tasks = {
            name: encoder.facts.tasks.get(name, TaskFacts(prompt.plain())) for name, prompt in encoder.prompts.items()
        }
        if self.task is not None:
            return {self.task: replace(tasks[self.task], head=None)}
        return {name: task for name, task in tasks.items() if name not in encoder.heads or self.is_shared}

    @property
    def facts(self) -> Facts:
        """The facts that the folder keeps, without names of folders of this machine."""
        facts, base = self.encoder.facts, self.encoder.facts.base
        name = Path(base).name if Path(base).is_absolute() or Path(base).exists() else base
        return replace(facts, base=name, tasks=self.tasks, trained_dims=self.dims[1:])

    @property
    def prompt(self) -> Prompt:
        """The prompt of texts of no particular task, or of the one task."""
        return self.encoder.prompt if self.task is None else self.encoder.prompts[self.task]

    @property
    def max_length(self) -> int:
        """Tokens that texts are cut to."""
        return self.encoder.lengths.get(self.task or "", self.encoder.max_length)

    @property
    def stages(self) -> list[Step]:
        """The computation from a pooled state to a vector."""
        head = cast("nn.Linear | None", self.encoder.heads.get(self.task or ""))
        return stages_of(self.encoder.model, head=head, dim=self.dim)
