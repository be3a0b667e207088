"""Sends a step's values and an evaluation's results to the run's loggers and to Lightning's `callback_metrics`.

Training values are added up on the device and read once per log point, so that logging never makes the device wait in a
step. Evaluation results also go through `self.log`: `trainer.test()` returns them, and EarlyStopping, ModelCheckpoint
and tuners monitor them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mtcl.data.batch import StepBatch
from mtcl.distributed import world
from mtcl.errors import DivergedError
from mtcl.evaluation import Result, primary_of
from mtcl.losses import Loss, View
from mtcl.training import metrics
from mtcl.training.board.names import Level, Names, layout
from mtcl.training.callback_checks import check_at_validation
from mtcl.training.metrics import RunningMeans
from mtcl.training.observation import observe
from mtcl.training.run import Run
from mtcl.weighting import gradient_cosines, gramian_of

MOST_COSINES = 28
"""Pairs of tasks up to which each has a chart of its gradient cosine, 8 tasks; the board's picture shows all pairs."""
Cosines = dict[tuple[str, str], tuple[float, int]]
"""By pair of tasks, the sum of their gradient cosines and their number."""


class MetricLog:
    """Logs a run's metrics. `gradient_norm` is that of the last optimizer step, and `pairs_drawn` counts the pairs
    that the run has drawn of each task, over all ranks.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.take([])
        self.gradient_norm = torch.zeros(())
        self.pairs_drawn: dict[str, int] = {}
        self._shown_at = 0
        self._level: Level = "full"
        self._names: Names | None = None
        self._ranks = 1
        self._cosines: Cosines = {}

    def take(self, tasks: list[str]) -> None:
        """Take the names of the tasks that the run trains, in the order of their numbers."""
        self.tasks, self.means = tasks, RunningMeans(tasks)

    def begin(self) -> None:
        """Start at the run's current step, and give TensorBoard its custom charts, once for each file of events."""
        self._shown_at, self._ranks = self.run.step, world()[1]
        self.means = RunningMeans(self.tasks)
        for logger in self.run.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout(self._level))

    def set_level(self, level: Level) -> None:
        """Set how much is logged. Callbacks can monitor every value at each level."""
        self._level, self._names = level, None

    @property
    def names(self) -> Names:
        """The names of the run's values in TensorBoard."""
        evaluated = self.run.data.evaluated
        if self._names is None or self._names.primary.keys() != evaluated.keys():
            self._names = Names({name: task.metric.name for name, task in evaluated.items()}, self._level)
        return self._names

    def observe(self, task: int, view: View, loss_of: Loss, loss: Tensor) -> None:
        """Add one sub-batch's loss, accuracy, cosines, and the share of candidates that keys leave out."""
        self.means.observe(task, observe(view, loss, loss_of.temperature))

    def count(self, batch: StepBatch) -> None:
        """Add a step's numbers of tokens, texts and pairs."""
        throughput = self.means.throughput
        throughput.tokens += batch.texts.num_tokens
        throughput.padded += batch.texts.num_padded
        throughput.texts += batch.num_texts
        throughput.distinct += len(batch.texts.place_T)
        throughput.pairs += sum(len(part) for part in batch.parts)
        for part in batch.parts:
            name = self.tasks[part.task]
            self.pairs_drawn[name] = self.pairs_drawn.get(name, 0) + len(part) * self._ranks

    def show_cosines(self, losses: dict[str, Tensor], every: int) -> None:
        """Log the gradient cosines of the step's tasks, if those of any two of them are `every` optimizer steps old.
        Every n-th step would not do: the mixture is periodic, so these steps may always have the same tasks.

        It is only a diagnostic: conflicting gradients do not predict harm (Mueller et al. 2024, arXiv 2408.14677).
        """
        if not every or len(losses) == 1:
            return
        step, shown_at = self.run.step, self.run.cosines_at
        pairs = {metrics.cosine_tag(*pair): pair for pair in combinations(sorted(losses, key=self.tasks.index), 2)}
        if all(step - shown_at.get(tag, -every) < every for tag in pairs):
            return
        shown_at |= dict.fromkeys(pairs, step)
        cosine_KK = gradient_cosines(gramian_of(losses, self.run.model.encoder.last_shared())).tolist()
        place = list(losses).index
        found = {tag: cosine_KK[place(one)][place(other)] for tag, (one, other) in pairs.items()}
        for tag, cosine in found.items():
            total, count = self._cosines.get(pairs[tag], (0.0, 0))
            self._cosines[pairs[tag]] = (total + cosine, count + 1)
        if len(self.tasks) * (len(self.tasks) - 1) // 2 <= MOST_COSINES:
            self._to_loggers(found)

    def take_cosines(self) -> Cosines:
        """The sums of the gradient cosines since the last call."""
        found, self._cosines = self._cosines, {}
        return found

    def show_training(self) -> None:
        """Log the means since the last log point, once per step, and let callbacks monitor them; nothing if
        `log_every_n_steps` is 0.

        Raises `DivergedError` if gradients are not finite.
        """
        step, trainer = self.run.step, self.run.trainer
        if step == self._shown_at or not trainer.log_every_n_steps or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        self._shown_at = step
        norm = float(self.gradient_norm)
        if not math.isfinite(norm) and trainer.precision != "16-mixed":  # with fp16, scaled losses may overflow
            raise DivergedError(f"the gradient's norm is {norm} at step {step}: {DivergedError.advice}")
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        shown = self.means.flush() | {metrics.GRADIENT_NORM: norm, metrics.LEARNING_RATE: rate}
        self._to_loggers(shown)
        trainer.callback_metrics.update({tag: torch.tensor(value) for tag, value in shown.items()})

    def show_at_start(self, results: Mapping[str, Result]) -> None:
        """Log the results of the weights that the run starts from as those of step 0."""
        self._to_loggers(self._values("val", results))

    def names_of(self, results: Mapping[str, Result]) -> set[str]:
        """The names of the values that a validation logs, if it has results like these."""
        return set(self._values("val", results))

    def show_results(self, split: str, results: Mapping[str, Result]) -> None:
        """Log an evaluation's figures, of each task and as macro means. Call it in a hook that ends an evaluation."""
        shown = self._values(split, results)
        in_training = self.run.trainer.state.fn == "fit"
        if in_training:  # by optimizer step; Lightning would add a chart of epochs
            self._to_loggers(shown)
        with warnings.catch_warnings():
            # without a logger too, `trainer.test` returns only what is meant for one
            warnings.filterwarnings("ignore", message=".*no logger configured.*")
            self.run.module.log_dict(shown, logger=not in_training, sync_dist=True)
        if in_training:
            check_at_validation(self.run.trainer, shown)

    def _values(self, split: str, results: Mapping[str, Result]) -> dict[str, float]:
        shown = {metrics.eval_tag(split, m, r.name): value for r in results.values() for m, value in r.metrics.items()}
        shown |= self.means_of(split, primary_of(results))
        figures = self.run.base_figures if split == "val" else {}
        shown |= {metrics.gain_tag(name): r.primary - figures[name] for name, r in results.items() if name in figures}
        base = self.means_over(results, figures)
        if metrics.VAL_MEAN in base:
            shown[metrics.VAL_GAIN] = shown[metrics.VAL_MEAN] - base[metrics.VAL_MEAN]
        return shown

    def means_of(self, split: str, primary: Mapping[str, float]) -> dict[str, float]:
        """Macro means of primary metrics by tag, for the run's own tasks and for those in each other role, and the
        weighted mean that chooses the best checkpoint if it is not one of these.
        """
        apart = self.run.data.roles.apart
        return metrics.means(split, primary, apart) | self.run.selection.mean(split, primary, apart)

    def means_over(self, tasks: Iterable[str], known: Mapping[str, float]) -> dict[str, float]:
        """The macro means of the `known` figures of an encoder over these tasks on validation, without the means of
        which it lacks a task.
        """
        groups = metrics.mean_groups("val", tasks, self.run.data.roles.apart)
        complete = [group for group in groups.values() if known.keys() >= {*group}]
        return self.means_of("val", {name: known[name] for group in complete for name in group})

    def _to_loggers(self, shown: dict[str, float]) -> None:
        kept = self.names.kept(shown)
        for logger in self.run.trainer.loggers:
            named = self.names.on_board(kept) if isinstance(logger, TensorBoardLogger) else kept
            logger.log_metrics(named, step=self.run.step)
