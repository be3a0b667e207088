"""`mtcl tasks check NAME`: test a task on its sample and its real rows, with a table of statistics and warnings.

Without an encoder it only reads the rows. With one (--model or --config) it also tokenises them, evaluates the
untrained encoder and runs a few training steps.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtcl.console import WIDEST, console, one_line
from mtcl.errors import TaskError
from mtcl.task.contract import Task, errors_of

if TYPE_CHECKING:
    from mtcl.commands.task_run import RunOfTask
    from mtcl.evaluation import Result
    from mtcl.task.pairs import PairTable
    from mtcl.training.advice.report import TaskReport
    from mtcl.training.advice.seen import Seen
    from mtcl.training.advice.split import Split

log = logging.getLogger("mtcl")
EXAMPLES, WIDTH = 3, 64
"""The number of pairs to show, and of characters of each text."""
SAMPLE = 10_000
"""Texts that are tokenised to measure their lengths."""
NEEDS_ENCODER = (
    "with --model NAME (or -c RUN.yaml) the check also reads lengths and unknown tokens, scores the untrained encoder, "
    "measures the time of an epoch and suggests batch size, steps and learning rate"
)


def check(task: Task, root: Path | None, *, run: RunOfTask | None = None, batch_size: int | None = None) -> int:
    """Print the sample, the table and what to do. Raises an error if pairs cannot be made, or if training would learn
    nothing: with `run`, on texts and batches as that run cuts them, else on whole texts with default options.
    """
    from mtcl.training.advice.report import TaskReport

    _check_sample(task)
    terminal = console()
    terminal.width = min(terminal.width, WIDEST)
    report = TaskReport(f"{task.name}: {_declared(task.pairs)}, {task.metric.name}")
    try:
        Check(task, root, report, run, batch_size).fill()
    finally:
        report.print(terminal)
    print(f"task {task.name!r} is ready: add it to a configuration under `tasks:`")
    return 0


@dataclass
class Check:
    """The check of one task. It fills `report`; `run` is a run with the task, if an encoder was given."""

    task: Task
    root: Path | None
    report: TaskReport
    run: RunOfTask | None = None
    batch_size: int | None = None
    tables: dict[str, PairTable] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

    def fill(self) -> None:
        """Add figures and advice. Errors of the rows come before the error of a task that would learn nothing."""
        for name in self._present():
            with errors_of(self.task, name):
                self._read(name)
        if "train" in self.tables:
            self.report.warnings += self._learnable()
        results = self._try() if self.run and "train" in self.tables else {}
        for name in self.splits:
            if name != "train":
                self._score(name, results.get(name))
        if not self.run:
            self.report.advice.append(("note:", NEEDS_ENCODER))

    @property
    def _has_labels(self) -> bool:
        return bool(getattr(self.task.pairs, "has_labels", False))

    def _present(self) -> list[str]:
        from mtcl.task.sources import SPLITS, Source

        source = self.task.data
        missing = [split for split in SPLITS if isinstance(source, Source) and not source.has(split, self.root)]
        if missing == ["test"]:
            use = "the task can be trained; `mtcl test` and `mtcl predict` need one"
        elif "test" in missing:  # reading it says why
            return list(SPLITS)
        else:
            use = "the task can be held out or watched, and `mtcl test` evaluates it"
        if missing:
            self.report.advice.append(("note:", f"no {' and no '.join(missing)} split: {use}"))
        return [split for split in SPLITS if split not in missing]

    def _read(self, name: str) -> None:
        """A split's figures and warnings that need no encoder, and some training pairs to read."""
        from mtcl.task.rows import pairs_of, roles_in, rows_of
        from mtcl.training.advice.report import rows_figures
        from mtcl.training.advice.rows import spellings
        from mtcl.training.advice.seen import seen_in
        from mtcl.training.advice.split import Split
        from mtcl.training.advice.warnings import of_evaluation, of_training

        rows = rows_of(self.task, name, self.root, roles_in(self.task, name))
        self.tables[name] = pairs_of(self.task, name, self.root, rows=rows)
        split = self.splits[name] = Split.of(name, self.tables[name])
        self.report.add(name, rows_figures(split, len(rows)))
        if name == "train":
            self.report.advice += [("pair:", line) for line in examples(split)]
            self.report.warnings += of_training(split)
        else:
            train = self.splits.get("train")
            if train is not None:
                self.seen[name] = seen_in(train, split)
            self.report.warnings += of_evaluation(train, split, self.seen.get(name), has_labels=self._has_labels)
            self.report.warnings += spellings(split)

    def _learnable(self) -> list[str]:
        from mtcl.training import learnable

        if self.run is None:
            return learnable.check_table(self.task, self.tables["train"], batch_size=self.batch_size)
        if (loss := self.run.loss()) is None:
            return ["the loss is a class of your own, so only a run can check that it has something to learn"]
        return learnable.check_data(self.run.data, lambda _: loss) if self.run.data.tasks else []

    def _try(self) -> dict[str, Result]:
        """Add what needs the encoder: lengths and unknown tokens, a few steps, suggestions. Returns the untrained
        encoder's results by split.
        """
        from mtcl.training.advice.pace import tried
        from mtcl.training.advice.report import reading_figures
        from mtcl.training.advice.suggestion import suggestions
        from mtcl.training.advice.warnings import prompt_of, reading_of, twins_of
        from mtcl.training.callbacks.progress_lines import duration

        assert self.run is not None
        data, name, train = self.run.data, self.task.name, self.splits["train"]
        if name not in data.tasks:  # held out or watched
            return {}
        self.report.warnings += prompt_of(data, name)
        for split in self.splits:
            reading = reading_of(data, name, split, SAMPLE)
            self.report.add(split, reading_figures(reading))
            self.report.warnings += reading.lines(split) if split == "train" else twins_of(data, name, split)
        log.info("evaluating the untrained encoder and timing some steps ...")
        result, pace = tried(data, name, self.run.loss(), self.run.model)
        epoch = f"{duration(pace.epoch_s(len(train)))} for an epoch of {len(train):,} pairs here ({pace.device})"
        step = f"{pace.step_s:.2f} s for a step of {pace.batch_size} pairs"
        self.report.advice.append(("time:", f"{epoch}: {step}"))
        trains = str(data.encoder_config.train)
        for one in suggestions(train, has_labels=self._has_labels, on_gpu=pace.device != "CPU", trains=trains):
            self.report.advice.append(("try:", f"{one.key} {one.value}: {one.reason}"))
        return {} if result is None else {"validation": result}

    def _score(self, name: str, base: Result | None) -> None:
        """The scores of random vectors and of the untrained encoder, and the effect of seen rows on them."""
        from mtcl.training.advice.baseline import Baseline, random_result
        from mtcl.training.advice.seen import seen_items
        from mtcl.training.advice.untokenised import untokenised

        metric, split = self.task.metric, self.splits[name]
        random = random_result(self.task.name, untokenised(self.tables[name]), metric)
        baseline = Baseline(name, metric, random, base)
        for of, result in ((f"{metric.name} of random vectors", random), (f"{metric.name} of the encoder now", base)):
            self.report.add(name, {of: f"{result.primary:.3f}"} if result else {})
        self.report.warnings += baseline.lines()
        if (seen := self.seen.get(name)) is not None:
            near = f" + {seen.near_share:.1%}" if len(seen.near) else ""
            self.report.add(name, {"seen in training": f"{len(seen.equal):,} ({seen.share:.1%}){near}"})
            self.report.warnings += baseline.inflation(seen_items(seen, split)) if seen.lines() else []


def examples(split: Split, count: int = EXAMPLES) -> list[str]:
    """Some pairs, spread over the split, as readable lines."""
    from mtcl.arrays import evenly

    arrow = "->" if not split.is_symmetric else "~"
    scores = [""] * count
    if split.scores is not None:
        scores = [f"  ({score:g})" for score in split.scores[evenly(len(split), count)]]
    pairs = split.read_pairs(count)
    return [f"{shown(one)}\n{arrow} {shown(other)}{score}" for (one, other), score in zip(pairs, scores, strict=False)]


def _declared(pairs: object) -> str:
    """A pair construction with the fields that are not its defaults."""
    if not is_dataclass(pairs):
        return "pairs of its own"
    given = {one.name: getattr(pairs, one.name) for one in fields(pairs) if getattr(pairs, one.name) != one.default}
    return f"{type(pairs).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def shown(text: str) -> str:
    """A text on one line, quoted and cut to `WIDTH`."""
    return repr(one_line(text, WIDTH))


def describe(table: PairTable) -> str:
    """Summarise a table of pairs in one line."""
    from mtcl.task.pairs.columns import reasons

    words = f"{len(table.anchors):,} pairs, {len(table.texts):,} distinct texts, {len(table.candidates):,} candidates"
    return words + (f"; left out: {reasons(table.skipped)}" if table.skipped else "")


def _check_sample(task: Task) -> None:
    from mtcl.task.as_table import as_table
    from mtcl.task.pairs import Pairs, PairTable

    with errors_of(task, "sample"):
        roles = task.pairs.columns() if isinstance(task.pairs, Pairs) else None
        table = task.pairs(as_table(task.sample, roles))
        if not isinstance(table, PairTable):
            raise TaskError(f"pairs must give a PairTable, not {type(table).__name__}: use mtcl.pair_table")
        print(f"sample: {describe(table)}")
