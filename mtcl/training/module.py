"""The LightningModule: the shared encoder, each task's loss, and when to evaluate.

A step is one packed forward over all texts of all tasks, then each sub-batch's loss on its rows; the training loss
is the mean over sub-batches, weighted. Everything that learns is a parameter here. Lightning does the rest
(automatic optimisation).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from mtcl.data.batch import StepBatch
from mtcl.data.plan import stream_key
from mtcl.distributed import of_all_ranks, together, world
from mtcl.encoder.backbone import digest_of
from mtcl.encoder.checkpoint import trained_of
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.teacher import BASE, Teacher, vectors_file
from mtcl.errors import ConfigError, DivergedError, at
from mtcl.evaluation import Pool, Result, evaluate, primary_of
from mtcl.evaluation.groups import check_installed
from mtcl.losses import Loss, default_loss
from mtcl.losses.gather import gather_views
from mtcl.training import metrics as board
from mtcl.training import resume as continuation
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.lightning_private import set_batches_done
from mtcl.training.metrics import Board
from mtcl.training.observation import observe
from mtcl.training.optimizer import OptimizerConfig, build_optimizer, build_schedule
from mtcl.training.resume import Beginning
from mtcl.training.task_config import TaskConfig
from mtcl.types import IntArray, Kind, Ragged
from mtcl.weighting import Mean, Weighting, cosines, gramian_of

PCA_TEXTS = 8192
log = logging.getLogger("mtcl")


class MtclModule(pl.LightningModule):
    """Multi-task contrastive training of one encoder.

    Args:
        tasks: The run's tasks by name (set as the top-level key `tasks`).
        encoder: The shared encoder.
        optimizer: Learning rates and schedule.
        weighting: How the tasks' losses become one; the weighted mean if null.
        gradient_cosines_every_n_steps: Show the cosines of the tasks' gradients so often; 0 for never.
        eval_dims: Also evaluate the vectors cut to so many leading dimensions, of unit length again.
        eval_groups: Also a linear probe, nearest neighbours and k-means, for tasks whose posts fall into groups.
        activation_checkpointing: Keep only one chunk's activations at a time and compute them again in the backward
            pass: activations do not grow with the batch, at the price of a second forward.
    """

    def __init__(
        self,
        tasks: dict[str, TaskConfig] | None = None,
        encoder: EncoderConfig = EncoderConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        weighting: Weighting | None = None,
        gradient_cosines_every_n_steps: int = 0,
        eval_dims: list[int] | None = None,
        eval_groups: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.task_configs = tasks or {}
        self.encoder_config, self.optimizer_config = encoder, optimizer
        self.encoder = Encoder.load(self.encoder_config)
        self.encoder.activation_checkpointing = activation_checkpointing
        self.eval_dims, self.eval_groups = tuple(eval_dims or ()), eval_groups
        if eval_groups:
            with at(groups="model.eval_groups"):
                check_installed()
        if odd := [dim for dim in self.eval_dims if not 0 < dim < self.encoder.dim]:
            raise ConfigError(
                f"model.eval_dims has {odd[0]}: give 1 to {self.encoder.dim - 1}, the encoder has {self.encoder.dim}"
            )
        self.base_projection = (
            deepcopy(self.encoder.projection).requires_grad_(False) if self.encoder.projection else None
        )
        """The projection before training, kept so that a checkpoint can be compared with the base encoder."""
        if taken := [name for name in self.task_configs if hasattr(nn.ModuleDict(), name)]:
            raise ConfigError(f"task name {taken[0]!r} is one that torch keeps for itself: rename the task")
        self.losses = nn.ModuleDict({n: config.loss for n, config in self.task_configs.items() if config.loss})
        self.weighting = weighting or Mean()
        self.weighting.start(list(self.task_configs))
        self.gradient_cosines_every_n_steps = gradient_cosines_every_n_steps
        self.board = Board(list(self.task_configs))
        self.base: dict[str, float] = {}
        """Primary metric of the base encoder on validation, by task (held-out ones too)."""
        self.history: dict[int, dict[str, float]] = {}
        """Primary metrics on validation, by optimizer step and task."""
        self.results: dict[str, Result] = {}
        self.base_weights = digest_of(self.encoder.backbone)
        self.beginning = Beginning()
        self._shown_at = 0
        self._gradient_norm = torch.zeros(())

    @property
    def data(self) -> MtclDataModule:
        return cast("MtclDataModule", self.trainer.datamodule)  # type: ignore[attr-defined]

    @property
    def _log_every(self) -> int:
        return int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def choose_losses(self, kinds: dict[str, Kind]) -> None:
        """Give each task the default loss of its kind of pairs where the configuration has none.

        Raises `ConfigError` for a loss that has no meaning for the pairs or the encoder.
        """
        for name, kind in kinds.items():
            if name not in self.losses:
                self.losses[name] = default_loss(kind)
            loss = cast("Loss", self.losses[name])
            if kind not in loss.kinds:
                raise ConfigError(
                    f"tasks.{name}.loss is {type(loss).__name__}, for {' or '.join(sorted(loss.kinds))} pairs, but the "
                    f"task has {kind} pairs: the default there is {type(default_loss(kind)).__name__}"
                )
            loss.check(dim=self.encoder.dim)

    def setup(self, stage: str) -> None:
        self.choose_losses(self.data.kinds)
        if stage == "fit":
            with together():
                self._check_ranks_agree()
        for name in self.data.evaluated:
            self.encoder.check_length(name, self.data.length_of(name))
        restored = self.beginning.has_weights or (stage == "fit" and self.trainer.ckpt_path is not None)
        if (
            self.encoder.projection is not None
            and self.encoder_config.projection == "pca"
            and not restored
            and world()[0] == 0
        ):
            self.encoder.to(self.trainer.strategy.root_device)  # Lightning moves the module only behind `setup`
            texts = self.data.sample(PCA_TEXTS)
            self.encoder.init_projection_pca(self._embed_with(self.encoder.without_projection(), texts))
        if self.base_projection is not None and self.encoder.projection is not None and not restored:
            self.base_projection.load_state_dict(self.encoder.projection.state_dict())

    def configure_optimizers(self) -> Any:
        learned = [self.losses, self.weighting]
        heads = learned if self.encoder.projection is None else [*learned, self.encoder.projection]
        optimizer = build_optimizer(
            self.optimizer_config,
            backbone=self.encoder.backbone,
            heads=heads,
            fused=self.trainer.precision != "16-mixed",
        )
        schedule = build_schedule(self.optimizer_config, optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """After a checkpoint was read, before loaders are made: the base projection is the run's own."""
        for name in self.task_configs:
            teacher = cast("Loss", self.losses[name]).teacher
            if teacher is not None:
                self.data.teachers[name] = self._teacher_vectors(name, teacher)

    def _teacher_vectors(self, task: str, name: str) -> Path:
        """The file of a teacher's vectors of a task's training texts, made first where there is none."""
        if name == BASE:
            teacher = Teacher(self.base_encoder())
        else:
            teacher = Teacher.load(
                name, like=self.encoder_config, own_tokenizer=self.data.tokenizer().digest, device=self.device
            )
        if cast("Loss", self.losses[task]).matches_teacher and teacher.encoder.dim != self.encoder.dim:
            raise ConfigError(
                f"tasks.{task}.loss: the teacher {name!r} has {teacher.encoder.dim} dimensions, the encoder "
                f"{self.encoder.dim}: set model.encoder.dim, or take the teacher {BASE!r}"
            )
        precision = str(self.trainer.precision)
        return vectors_file(self.data.store(task, "train"), teacher, self._embed_with, precision=precision)

    def on_train_start(self) -> None:
        self._shown_at = self.global_step
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.global_step == 0:
                logger.experiment.add_custom_scalars(board.layout(self.board.tasks))
        missing = [pool for pool in self.data.pools("validation") if pool.name not in self.base]
        if missing and self.beginning.with_base:
            is_base = self.global_step == 0 and not self.beginning.has_weights
            with nullcontext() if is_base else self._as_base():
                results = {pool.name: self._evaluate(pool) for pool in missing}
            self.base |= primary_of(results)
            if is_base:
                self._show("val", results)

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        torch.manual_seed(stream_key(self.data.seed, self.global_rank, batch.step) % (1 << 63))

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        embeddings_TD: Tensor = self.encoder(batch.texts)
        views = gather_views(batch.parts, embeddings_TD)
        losses: dict[str, Tensor] = {}
        for part, view in zip(batch.parts, views, strict=True):
            name = self.board.tasks[part.task]
            loss_module = cast("Loss", self.losses[name])
            loss: Tensor = loss_module(view)
            share = self.task_configs[name].loss_weight * loss / len(batch.parts)
            losses[name] = losses[name] + share if name in losses else share
            self.board.observe(part.task, observe(view, loss, loss_module.temperature))
        self._count(batch)
        self._show_cosines(losses)
        total: Tensor = self.weighting(losses, self.encoder.last_shared())
        return total

    def _show_cosines(self, losses: dict[str, Tensor]) -> None:
        """A chart for each couple of tasks: a diagnostic, since conflict of gradients does not foretell harm (Mueller
        et al. 2024, arXiv 2408.14677).
        """
        every = self.gradient_cosines_every_n_steps
        if every and self.global_step % every == 0 and len(losses) > 1:
            cosine_KK = cosines(gramian_of(losses, self.encoder.last_shared())).tolist()
            self._log(
                {
                    board.cosine_tag(one, other): cosine_KK[row][column]
                    for row, one in enumerate(losses)
                    for column, other in enumerate(losses)
                    if self.board.tasks.index(one) < self.board.tasks.index(other)
                }
            )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and keep the norm that clipping computes. Lightning's own refuses fused AdamW under bf16-mixed."""
        if gradient_clip_algorithm == "value" and gradient_clip_val:
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
            gradient_clip_val = None
        self._gradient_norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or math.inf)

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        if self._log_every and self.global_step % self._log_every == 0:
            self.show_training()

    def show_training(self) -> None:
        """Log the means since the last log point, once a step."""
        if self.global_step != self._shown_at:
            self._shown_at = self.global_step
            norm = float(self._gradient_norm)
            if not math.isfinite(norm) and self.trainer.precision != "16-mixed":  # there scaled losses may overflow
                raise DivergedError(f"the gradient's norm is {norm} at step {self.global_step}: {DivergedError.advice}")
            shown = self.board.flush() | {
                board.GRADIENT_NORM: norm,
                board.LEARNING_RATE: self.trainer.optimizers[0].param_groups[0]["lr"],
            }
            self._log(shown)

    def on_validation_epoch_start(self) -> None:
        self.results = {}
        self.board.pause()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        pool = self.data.pools("validation")[batch]
        self.results[pool.name] = self._evaluate(pool)

    def on_validation_epoch_end(self) -> None:
        self.board.go_on()
        if self.trainer.sanity_checking:  # some of the tasks
            return
        primary = primary_of(self.results)
        self.log(board.VAL_MEAN, self.means("val", primary)[board.VAL_MEAN], logger=False, sync_dist=True)
        self.history[self.global_step] = primary
        self._show("val", self.results)

    def on_test_epoch_start(self) -> None:
        self.results = {}

    def test_step(self, batch: int, batch_idx: int) -> None:
        pool = self.data.pools("test")[batch]
        self.results[pool.name] = self._evaluate(pool)

    def on_test_epoch_end(self) -> None:
        self._show("test", self.results)

    def predict_step(self, batch: int, batch_idx: int) -> Tensor:
        """The embeddings (T, D) of all texts of a task's test split, in the order of its store."""
        return self._embed_with(self.encoder, self.data.pools("test")[batch].store.tokens)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mtcl"] = {
            "base": self.base,
            "history": self.history,
            "config": self.beginning.config_text,
            "facts": self._facts(),
            "trained_before": sorted(self.beginning.trained_before),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises `ConfigError` if the checkpoint is of another run, unless `allow_changes`."""
        saved = checkpoint["mtcl"]
        with together():
            if "facts" not in saved:
                raise ConfigError(
                    f"cannot resume, the checkpoint is of an earlier version of mtcl: {continuation.ANEW}"
                )
            changes = continuation.check(saved["facts"], self._facts(), allow_changes=self.beginning.allow_changes)
            continuation.check_trained(checkpoint["state_dict"], self.state_dict())
            continuation.check_never_trained(trained_of(checkpoint), self.data.held_out)
        for change in changes if world()[0] == 0 else ():
            log.warning("going on with a change: %s", change)
        self.beginning.trained_before = trained_of(checkpoint)
        self.base = self._still_evaluated(saved["base"])
        self.history = {step: self._still_evaluated(primary) for step, primary in saved["history"].items()}
        if set(saved["facts"]["tasks"]) != set(self.task_configs):  # means over other tasks: the best starts anew
            self.history, checkpoint["callbacks"] = {}, {}
        checkpoint["callbacks"].pop("Timer", None)  # trainer.max_time is each process's, as a scheduler's limit is
        set_batches_done(checkpoint, checkpoint["global_step"] * self.trainer.accumulate_grad_batches)

    def _still_evaluated(self, primary: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in primary.items() if name in self.data.evaluated}

    def _facts(self) -> continuation.Facts:
        return continuation.facts_of(
            self.data, self.encoder_config, weights=self.base_weights, accumulate=self.trainer.accumulate_grad_batches
        )

    def _check_ranks_agree(self) -> None:
        """Raise `ConfigError` on every rank if any has other data, another plan or another encoder than rank 0."""
        also = {"trainer.max_steps": self.trainer.max_steps, "data.held_out": self.data.held_out}
        first, *others = of_all_ranks({**self._facts(), **also})
        for rank, facts in enumerate(others, 1):
            if found := continuation.differences(first, facts, sides=("on rank 0", f"on rank {rank}")):
                raise ConfigError(f"ranks differ ({continuation.shown(found)}): give all the same files and values")

    @contextmanager
    def _as_base(self) -> Iterator[None]:
        """Evaluate with the base encoder inside, go on with the trained one behind."""
        trained = self.encoder
        self.back_to_base()
        try:
            yield
        finally:
            self.encoder = trained

    def base_encoder(self) -> Encoder:
        """The encoder before training, with the projection it began with."""
        encoder = Encoder.load(replace(self.encoder_config, compile=False)).to(self.device)
        if encoder.projection is not None and self.base_projection is not None:
            encoder.projection.load_state_dict(self.base_projection.state_dict())
        return encoder

    def back_to_base(self) -> None:
        """Put the base encoder in the place of the trained one."""
        self.encoder = self.base_encoder()

    def _embed_with(self, encoder: Encoder, tokens: Ragged) -> Tensor:
        with self._precision():
            return encoder.embed(tokens, tokens_per_chunk=self.encoder_config.tokens_per_chunk)

    def _evaluate(self, pool: Pool) -> Result:
        def embed(texts: IntArray) -> Tensor:
            return self._embed_with(self.encoder, pool.store.tokens.take(texts))

        return evaluate(pool, embed, dims=self.eval_dims, groups=self.eval_groups)

    def _precision(self) -> AbstractContextManager[None]:
        return self.trainer.precision_plugin.forward_context()

    def _count(self, batch: StepBatch) -> None:
        throughput = self.board.throughput
        throughput.tokens += batch.texts.num_tokens
        throughput.padded += batch.texts.num_padded
        throughput.texts += batch.num_texts
        throughput.distinct += len(batch.texts.place_T)
        throughput.pairs += sum(len(part) for part in batch.parts)

    def _show(self, split: str, results: dict[str, Result]) -> None:
        shown = {board.eval_tag(split, m, r.name): value for r in results.values() for m, value in r.metrics.items()}
        shown |= self.means(split, primary_of(results))
        if split == "val" and (base := self.base_means(results)):
            shown[board.VAL_GAIN] = shown[board.VAL_MEAN] - base[board.VAL_MEAN]
        self._log(shown)

    def means(self, split: str, primary: Mapping[str, float]) -> dict[str, float]:
        """Macro means of primary metrics by tag, of trained and of held-out tasks."""
        return board.means(split, primary, self.data.held_out)

    def base_means(self, tasks: Iterable[str]) -> dict[str, float]:
        """The same of the base encoder on validation over these tasks; nothing if it was not evaluated on all."""
        return self.means("val", {name: self.base[name] for name in tasks}) if {*tasks} <= self.base.keys() else {}

    def _log(self, shown: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(shown, step=self.global_step)
