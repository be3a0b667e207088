"""What a checkpoint says about its run, as one dataclass that is written and read as plain values.

The fields' defaults are for versions that did not record them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mtcl.errors import ConfigError, at
from mtcl.records.mapping import from_mapping
from mtcl.task.prompt import Prompt

Plain = dict[str, Any]


@dataclass(frozen=True)
class TaskRecord:
    """A task of the run.

    Attributes:
        prompt: Put before its texts, as in a configuration; None if it is not known.
        max_length: Tokens that its texts are cut to; None if it is not known.
        about: What it teaches.
        owner, license: The people responsible for it, and the licence of its data.
        loss, metric: Their names.
    """

    prompt: str | dict[str, str] | None = ""
    max_length: int | None = None
    about: str = ""
    owner: str = ""
    license: str = ""
    loss: str = ""
    metric: str = ""


@dataclass(frozen=True)
class RunRecord:
    """A run, or several whose weights were merged. Figures are primary metrics on validation, by task.

    Attributes:
        config: The run's configuration as YAML. It is untrusted text, so take names from it one by one.
        base: Figures of the base encoder.
        start: Figures of the weights that the run started from; empty if it was the base encoder.
        history: Figures of each validation, by optimizer step.
        cosines_at: The optimizer step of the last gradient cosine of each two tasks, by its tag.
        facts: The settings and data that determine each step's pairs and loss; None if the checkpoint is not a run's.
        recipe: Settings that change the weights, but not whether a run can be resumed.
        tasks: The evaluated tasks, with the prompts and lengths in effect; empty if these are not known.
        prompt, max_length: Of texts of no particular task.
        tokenizer: The probe of the run's tokenizer (`Tokenizer.probe`).
        trained_before: Tasks that the weights were trained on before the run, or those of merged runs.
        base_weights: The digest of the base encoder's weights (`Encoder.base_weights`).
        merged: The share of each merged checkpoint.
        version: The version of mtcl.
    """

    config: str = ""
    base: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    cosines_at: dict[str, int] = field(default_factory=dict)
    facts: Plain | None = None
    recipe: Plain = field(default_factory=dict)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    prompt: str | dict[str, str] = ""
    max_length: int | None = None
    tokenizer: str | None = None
    trained_before: list[str] = field(default_factory=list)
    base_weights: str | None = None
    merged: dict[str, float] | None = None
    version: str = ""

    @classmethod
    def of(cls, given: Plain) -> RunRecord:
        """From a checkpoint's plain values, of which unknown names are skipped. Raises `ConfigError` if one of the
        others is malformed.
        """
        facts = _mapping(given, "facts")
        of_facts = task_records(_mapping(facts, "tasks"), where="mtcl.facts.tasks")  # where version 0.1 had them
        tasks = task_records(_mapping(given, "tasks"), where="mtcl.tasks") or of_facts
        values = {"base_weights": _mapping(facts, "model.encoder").get("weights"), **_known(cls, given), "tasks": tasks}
        record = from_mapping(cls, values, where="mtcl")
        check_texts(record, where="mtcl")
        return record

    def plain(self) -> Plain:
        """As plain values, without names that have none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def task_records(given: Plain, *, where: str) -> dict[str, TaskRecord]:
    """A record of each task, from plain values of which unknown names are skipped. Raises `ConfigError` as above."""
    found = {}
    for name in given:
        found[name] = from_mapping(TaskRecord, _known(TaskRecord, _mapping(given, name)), where=f"{where}.{name}")
        check_texts(found[name], where=f"{where}.{name}")
    return found


def check_texts(one: RunRecord | TaskRecord, *, where: str) -> None:
    """Raise a `ConfigError` that begins with `where` if no text can have this prompt or max length."""
    with at(f"{where}."):
        if one.prompt is not None:
            Prompt.of(one.prompt)
        if one.max_length is not None and one.max_length < 1:
            raise ConfigError(f"max_length is {one.max_length}: give 1 or more")


def _mapping(among: Plain, name: str) -> Plain:
    found = among.get(name) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is {found!r:.60}")
    return found


def _known(kind: type[RunRecord | TaskRecord], given: Plain) -> Plain:
    return {one.name: given[one.name] for one in fields(kind) if one.name in given}
