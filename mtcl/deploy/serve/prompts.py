"""Names of prompts: which task, role, prompt and max length the texts of a request get.

| name | task | role |
|---|---|---|
| `TASK` | that task | `role` of the request, by default document |
| `TASK_query`, `TASK_document` | that task | as the name says |
| `query`, `document`, or none | none: the run's own prompt | as the name says, or `role` |
"""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import nearest
from mtcl.task.prompt import SIDES_BY_NAME, SideName


@dataclass(frozen=True)
class ChosenPrompt:
    """What the texts of a request get: a task's head and max length, and the prompt before each text."""

    task: str | None
    prompt: str
    max_length: int


class Prompts:
    """The names of an encoder's prompts."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._parts: dict[str, tuple[str | None, SideName | None]] = {role: (None, role) for role in SIDES_BY_NAME}
        for task in encoder.prompts:
            self._parts |= {f"{task}_{role}": (task, role) for role in SIDES_BY_NAME}
        self._parts |= {task: (task, None) for task in encoder.prompts}  # a task's own name wins

    @property
    def names(self) -> list[str]:
        """All names that a request can give, sorted."""
        return sorted(self._parts)

    def choose(self, name: str | None, role: str | None, *, field: str) -> ChosenPrompt:
        """The choice for a name and a role, each None if not given. Raises `RefusedError` for unknown ones."""
        if role is not None and role not in SIDES_BY_NAME:
            raise RefusedError(Reason.MALFORMED, f"role is {role!r}: give query or document", field="role")
        task, own = (None, None) if name is None else self._known(name, field)
        if own is not None and role is not None and own != role:
            raise RefusedError(
                Reason.MALFORMED,
                f"{field} {name!r} is for the role {own}, but role is {role!r}: give one",
                field="role",
            )
        found = self.encoder.input_format(task, own or role or "document")
        return ChosenPrompt(task, found.prompt, found.max_length)

    def _known(self, name: str, field: str) -> tuple[str | None, SideName | None]:
        if name not in self._parts:
            hint = nearest(name, self._parts)
            raise RefusedError(Reason.MALFORMED, f"no task or prompt is named {name!r:.60}{hint}", field=field)
        return self._parts[name]
