"""The parts of a text encoder: model, tokenizer, and how the texts of each task are read.

`TextEncoder` adds loading and encoding. The modules that write an encoder as a folder (`layout`, `card`) need only the
parts, so they do not depend on the `TextEncoder` that calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import nn

from mtcl.data.tokenizer import Tokenizer
from mtcl.encoder.backbone import values_digest
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.facts import Facts
from mtcl.errors import ConfigError, nearest
from mtcl.task.prompt import NO_PROMPT, SIDES_BY_NAME, Prompt, SideName


@dataclass(frozen=True)
class InputFormat:
    """How a text goes into the encoder: the prompt before it, and the tokens that both together are cut to."""

    prompt: str
    max_length: int


@dataclass(frozen=True)
class EncoderParts:
    """An encoder with its tokenizer; texts are cut to `max_length` tokens.

    `prompt` is put before texts of no particular task: the run's, or what the base model declares. `prompts`, `lengths`
    and `heads` (projections of the shared vector) are those of the run's tasks, by name. `facts` is what is known about
    the run.
    """

    model: Encoder
    tokenizer: Tokenizer
    max_length: int
    tokens_per_chunk: int
    prompt: Prompt = NO_PROMPT
    prompts: dict[str, Prompt] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self.model.dim

    def dim_of(self, task: str | None) -> int:
        """Dimensions of the vectors of a task, or of the shared vectors."""
        head = self.heads.get(task or "")
        return self.dim if head is None else int(cast("nn.Linear", head).out_features)

    def dims_of(self, task: str | None) -> list[int]:
        """The numbers of leading dimensions that vectors of a task, or the shared ones, are trained at, falling."""
        trained = [] if task in self.heads else [dim for dim in self.facts.trained_dims if dim < self.dim]
        return [self.dim_of(task), *trained]

    def input_format(self, task: str | None, role: SideName) -> InputFormat:
        """The format of a task's texts in a role, as in training; of texts of no particular task if `task` is None.

        Raises `ConfigError` for an unknown task or role.
        """
        if role not in SIDES_BY_NAME:
            raise ConfigError(f"role is {role!r}: give query or document")
        if task is not None and task not in self.prompts:
            raise ConfigError(f"task is {task!r}, which the encoder was not trained on{nearest(task, self.prompts)}")
        prompt = self.prompt if task is None else self.prompts[task]
        return InputFormat(prompt[SIDES_BY_NAME[role]], self.lengths.get(task or "", self.max_length))

    def fingerprint(self) -> str:
        """A fingerprint of the weights and the pooling, 16 hexadecimal digits.

        Encoders of equal fingerprints give equal vectors for equal tokens: a checkpoint and the folder exported from
        it, for example. Heads of tasks are not included: see `head_fingerprint`.
        """
        return values_digest(self.model, self.model.pooling, *self.model.cut)

    def head_fingerprint(self, task: str | None) -> str | None:
        """A fingerprint of a task's head; None if it has none."""
        head = self.heads.get(task or "")
        return None if head is None else values_digest(head)
