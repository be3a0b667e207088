"""The texts of the board: the command, the configuration, and a report of the data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mtcl.console import markdown_table
from mtcl.task.pairs import Pairs
from mtcl.task.pairs.columns import reasons
from mtcl.training.board.exposure import planned_pairs
from mtcl.training.datamodule import MtclDataModule


def command(arguments: Sequence[str]) -> str:
    """The command that started this process, as Markdown."""
    program = "mtcl" if arguments[0].endswith(("mtcl/__main__.py", "/mtcl")) else arguments[0]
    return f"    {shlex.join([program, *arguments[1:]])}\n"


def configuration(text: str) -> str:
    """A configuration in YAML, as Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def data_report(data: MtclDataModule) -> str:
    """A table with a row per task: its role, pairs, batch, share of the run's steps, and how often the run will pass
    its pairs; then what was left out of the pairs, and who owns the tasks.
    """
    num_steps, planned = data.num_steps or 0, {task.name: number for number, task in enumerate(data.plan.tasks)}
    pairs = planned_pairs(data.plan, num_steps=num_steps)
    validated = data.stores.evaluated_in("validation")
    rows, notes = [], []
    for name, task in data.evaluated.items():
        trained = data.plan.tasks[planned[name]] if name in planned else None
        drawn = pairs[planned[name]] if name in planned else 0.0
        rows.append(
            [
                name,
                data.roles.apart.get(name, "train"),
                type(task.pairs).__name__ if isinstance(task.pairs, Pairs) else "its own",
                task.metric.name,
                f"{trained.num_pairs:,}" if trained else "",
                f"{len(data.store(name, 'validation')):,}" if name in validated else "",
                trained.batch_size if trained else "",
                data.stores.length_of(name),
                f"{drawn / (trained.batch_size * data.plan.num_slots * max(1, num_steps)):.0%}" if trained else "",
                f"{drawn / trained.num_used:.2g}" if trained else "",
            ]
        )
        if trained and (skipped := data.store(name, "train").pairs.skipped):
            notes.append(f"{name}: left out {reasons(skipped)}")
    owners = dict.fromkeys(task.owner for task in data.evaluated.values() if task.owner)
    notes += [
        f"{owner} owns {', '.join(n for n, task in data.evaluated.items() if task.owner == owner)}" for owner in owners
    ]
    head = ["task", "role", "pairs", "metric", "train", "val", "batch", "tokens", "steps", "passes"]
    return markdown_table(head, rows, numbers={4, 5, 6, 7, 8, 9}) + "".join(f"\n- {note}" for note in notes)
