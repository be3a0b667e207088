"""The LightningModule: the shared encoder and each task's loss.

A step is one packed forward pass over all texts of all tasks, then each sub-batch's loss on its rows. The training loss
is the weighted mean over sub-batches. Everything that is trained is a parameter of this module, and Lightning does the
rest (automatic optimisation). In `setup` the module takes its tasks from the Trainer's `MtclDataModule`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtcl.data.batch import StepBatch
from mtcl.data.pseudorandom import stream_key
from mtcl.data.store import TokenStore
from mtcl.distributed import of_all_ranks, together, world
from mtcl.encoder.adapt import freeze_unused
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, at
from mtcl.evaluation import Result, primary_of
from mtcl.evaluation.groups import check_installed
from mtcl.losses import Loss, default_loss
from mtcl.losses.gather import gather_views
from mtcl.training import learnable, lightning_private, resume, trained
from mtcl.training.base_reference import BaseReference
from mtcl.training.callback_checks import check_before_training
from mtcl.training.keep import Keep, KeepConfig
from mtcl.training.metric_log import MetricLog
from mtcl.training.optimizer import OptimizerConfig, build_optimizer, build_schedule
from mtcl.training.run import Run
from mtcl.training.selection import Selection
from mtcl.training.start import Start
from mtcl.training.task_config import TaskConfig
from mtcl.training.vectors import Vectors
from mtcl.types import Kind, from_mapping
from mtcl.weighting import Mean, Weighting

log = logging.getLogger("mtcl")


class MtclModule(Run):
    """Multi-task contrastive training of one encoder.

    Args:
        encoder: The shared encoder; in Python also a mapping of its options, such as {"dim": 50}.
        optimizer: Learning rates and schedule; in Python also a mapping.
        weighting: How the tasks' losses are combined into one; the weighted mean if null.
        gradient_cosines_every_n_steps: Optimizer steps between logs of the tasks' gradient cosines; 0 for never.
        eval_dims: Also evaluate vectors cut to these numbers of leading dimensions and normalised to unit length.
        eval_groups: Also evaluate a linear probe, nearest neighbours and k-means, for tasks whose posts have groups.
        activation_checkpointing: Keep only one chunk's activations at a time and recompute them in the backward pass:
            memory for activations does not grow with the batch, at the cost of a second forward pass.
        evaluate_base: Evaluate the base encoder before the first step, for comparison.
        evaluate_start: Evaluate the weights that the run starts from before the first step (with --init_from), to show
            what it forgets.
        keep: Keep the encoder near the weights that the run starts from, so that other tasks lose less; null for no
            such limit.
        unseen_weight: Weight of the mean of watched and held-out tasks in `val/weighted_mean`, which then chooses
            `best.ckpt`; with 0, `val/mean` does.
        allow_changes: Resume a checkpoint even if its tasks, pairs or encoder differ from the present ones.
    """

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        weighting: Weighting | None = None,
        gradient_cosines_every_n_steps: int = 0,
        eval_dims: list[int] | None = None,
        eval_groups: bool = False,
        activation_checkpointing: bool = False,
        evaluate_base: bool = True,
        evaluate_start: bool = True,
        keep: KeepConfig | None = None,
        allow_changes: bool = False,
        unseen_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder_config = EncoderConfig.of(encoder)
        self.optimizer_config = from_mapping(OptimizerConfig, optimizer, where="optimizer")
        self.encoder = Encoder.load(self.encoder_config)
        self.encoder.activation_checkpointing = activation_checkpointing
        self.eval_dims, self.eval_groups = tuple(eval_dims or ()), eval_groups
        if eval_groups:
            with at(groups="model.eval_groups"):
                check_installed()
        if odd := [dim for dim in self.eval_dims if not 0 < dim < self.encoder.dim]:
            raise ConfigError(
                f"model.eval_dims has {odd[0]}: give 1 to {self.encoder.dim - 1}; the encoder has {self.encoder.dim}"
            )
        self.gradient_cosines_every_n_steps = gradient_cosines_every_n_steps
        self.evaluate_base, self.evaluate_start, self.allow_changes = evaluate_base, evaluate_start, allow_changes
        self.base = BaseReference(self.encoder_config, self.encoder)
        self.base_projection = self.base.projection  # saved, so that a checkpoint can be compared with its base
        freeze_unused(self.encoder)
        self.heads, self.base_heads = nn.ModuleDict(), nn.ModuleDict()
        """The tasks' own projections of the shared vector, by task, now and at the start of training."""
        self.losses = nn.ModuleDict()
        self.weighting = weighting or Mean()
        self.task_configs: Mapping[str, TaskConfig] = {}
        self.metric_log = MetricLog(self, [])
        self.history: dict[int, dict[str, float]] = {}
        """Primary metrics on validation, by optimizer step and task."""
        self.start_figures: dict[str, float] = {}
        """Primary metrics on validation of the weights that the run started from, by task; empty for the base."""
        self.results: dict[str, Result] = {}
        """The last evaluation's results, by task."""
        self.selection = Selection(unseen_weight)
        self.trained_before: set[str] = set()
        """Tasks that the weights were trained on before this run."""
        self.keep = None if keep is None else Keep(self, from_mapping(KeepConfig, keep, where="keep"))
        self.vectors = Vectors(self)
        self.start = Start(self, self.vectors)

    # Start of a run

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, *, trust_checkpoint: bool = False, **options: Any
    ) -> MtclModule:
        """Make a module with a checkpoint's encoder and loss parameters, to evaluate it or to train it further.

        Args:
            checkpoint_path: A run folder (its best checkpoint), or a .ckpt file of any Lightning Trainer.
            trust_checkpoint: Run code from the base model's repository if the run did.
            options: Arguments of the module; encoder and optimizer default to the checkpoint's.
        """
        saved = SavedRun.read(checkpoint_path, trust=trust_checkpoint)
        optimizer = from_mapping(OptimizerConfig, saved.section("model", "optimizer"), where="model.optimizer")
        arguments: dict[str, Any] = {"encoder": saved.encoder_config, "optimizer": optimizer}
        module = cls(**arguments | options)
        module.start_from(saved)
        return module

    def start_from(self, saved: SavedRun) -> None:
        """Start from a checkpoint's weights: take the encoder's now and the tasks' loss parameters in `setup`.

        Adapters that only the checkpoint has are added to its weights; a projection of another size starts again.
        Raises `ConfigError` if the checkpoint has a different encoder.
        """
        if self.evaluate_base and saved.base_weights not in (None, self.base.weights):
            raise ConfigError(
                f"model.encoder.name is {self.encoder_config.name!r}, but the checkpoint was trained from other "
                "weights: give the encoder it was trained from, or --no_base"
            )
        self.start.load(saved)
        self.trained_before = saved.trained

    def setup(self, stage: str) -> None:
        lightning_private.keep_samplers(self.trainer)
        self.choose_losses(self.data.trained_configs, self.data.kinds)
        if stage == "fit":
            with together():
                self._check_ranks_agree()
        for name in self.data.evaluated:
            self.encoder.check_length(name, self.data.length_of(name))
        resume.check_never_trained(self.trained_before, self.data.held_out)
        if world()[0] == 0:
            log.info("%s", trained.use_of_encoder(self))
        self.start.begin()
        if stage == "fit":
            with together():
                trained.check(self)
                self.selection.check(self.data.evaluated_in("validation"), self.data.apart)
                learnable.check(self)
            if world()[0] == 0:
                log.info("%s", trained.summary(self))
        if any(True for head in (self.losses, self.weighting, self.heads) for _ in head.parameters()):
            lightning_private.allow_unused_parameters(self.trainer)

    def choose_losses(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind]) -> None:
        """Take a run's tasks, and each task's configured loss or the default one for its pairs.

        Raises `ConfigError` for a loss that does not support the pairs or the encoder.
        """
        given = {name: task.loss for name, task in tasks.items() if task.loss is not None}
        if self.task_configs and list(tasks) == list(self.task_configs):
            if odd := [name for name, loss in given.items() if loss is not self.losses[name]]:
                raise ConfigError(f"the module has another loss for {odd[0]!r} already: make a new module")
            if odd := [name for name, task in tasks.items() if task.head != self.task_configs[name].head]:
                raise ConfigError(f"the module has another head for {odd[0]!r} already: make a new module")
            self.task_configs = tasks
            return
        if self.task_configs:
            raise ConfigError(f"the module has the tasks {', '.join(self.task_configs)}: make a new one for others")
        if taken := [name for name in tasks if hasattr(nn.ModuleDict(), name)]:
            raise ConfigError(f"task name {taken[0]!r} is reserved by torch: rename the task")
        for name, kind in kinds.items():
            loss = tasks[name].loss or default_loss(kind)
            if kind not in loss.kinds:
                raise ConfigError(
                    f"tasks.{name}.loss is {type(loss).__name__}, for {' or '.join(sorted(loss.kinds))} pairs, but the "
                    f"task has {kind} pairs: the default there is {type(default_loss(kind)).__name__}"
                )
            if (dim := tasks[name].head) is not None:
                self._add_head(name, dim)
            loss.check(dim=self.dim_of(name))
            self.losses[name] = loss
        self.weighting.start(list(tasks))
        self.task_configs = tasks
        self.metric_log = MetricLog(self, list(tasks))
        self.start.take_weights()

    def _add_head(self, name: str, dim: int) -> None:
        if dim > self.encoder.dim:
            raise ConfigError(f"tasks.{name}.head is {dim}, more than the encoder's {self.encoder.dim}: give fewer")
        head = nn.Linear(self.encoder.dim, dim).to(self.device)
        self.heads[name], self.base_heads[name] = head, deepcopy(head).requires_grad_(False)

    @property
    def lr(self) -> float:
        """The backbone's learning rate; Lightning's LearningRateFinder reads and sets it under this name."""
        return self.optimizer_config.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer_config = replace(self.optimizer_config, lr=value)

    def configure_optimizers(self) -> Any:
        learned = [self.losses, self.weighting, self.heads]
        heads = learned if self.encoder.projection is None else [*learned, self.encoder.projection]
        optimizer = build_optimizer(
            self.optimizer_config,
            backbone=self.encoder.backbone,
            dense=self.encoder.dense,
            heads=heads,
            fused=self.trainer.precision != "16-mixed",
        )
        schedule = build_schedule(self.optimizer_config, optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def keep_share(self) -> float:
        return 0.0 if self.keep is None else self.keep.config.share

    @property
    def reads_training_texts(self) -> bool:
        return self.start.reads_training_texts

    def teacher_file(self, task: str) -> Path | None:
        return self.vectors.teacher_file(task)

    def pooled_file(self, store: TokenStore) -> Path | None:
        return self.vectors.pooled_file(store)

    def on_train_start(self) -> None:
        self.metric_log.begin()
        if self.keep is not None:
            self.keep.begin(from_checkpoint=self.start.saved is not None)
        pools = self.data.pools("validation")
        is_base = self.global_step == 0 and self.start.saved is None
        results: dict[str, Result] = {}
        missing = [pool for pool in pools if pool.name not in self.base.figures]
        if missing and self.evaluate_base:
            encoder = self.encoder if is_base else self.base.encoder(self.device)
            results |= {pool.name: self.vectors.evaluate(pool, encoder) for pool in missing}
            self.base.figures |= primary_of(results)
            if is_base:
                self.metric_log.show_at_start(results)
        if self.global_step == 0 and self.start.saved is not None and self.evaluate_start:
            results = {pool.name: self.vectors.evaluate(pool, self.encoder) for pool in pools}
            self.start_figures = primary_of(results)
            self.metric_log.show_at_start(results)
        known = self.metric_log.names_of(results) if len(results) == len(pools) else set()
        check_before_training(self, self.data.evaluated, self.data.tasks, known)

    # Training

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        torch.manual_seed(stream_key(self.data.seed, self.global_rank, batch.step) % (1 << 63))

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        pooled_TH = batch.pooled_TH
        embeddings_TD: Tensor = self.encoder(batch.texts) if pooled_TH is None else self.encoder.finish(pooled_TH)
        views = gather_views(batch.parts, embeddings_TD)
        names = list(self.task_configs)
        losses: dict[str, Tensor] = {}
        for part, view in zip(batch.parts, views, strict=True):
            name = names[part.task]
            if (head := self.head_of(name)) is not None:
                view = view.map_vectors(partial(through, head))
            loss_of = cast("Loss", self.losses[name])
            loss: Tensor = loss_of(view)
            share = self.task_configs[name].loss_weight * loss / len(batch.parts)
            losses[name] = losses[name] + share if name in losses else share
            self.metric_log.observe(part.task, view, loss_of, loss)
        self.metric_log.count(batch)
        self.metric_log.show_cosines(losses, self.gradient_cosines_every_n_steps)
        total: Tensor = self.weighting(losses, self.encoder.last_shared())
        if self.keep is not None:
            distance = self.keep.distance(batch, embeddings_TD)
            self.metric_log.means.observe_distance(distance.detach())
            total = total + self.keep.config.strength * distance
        self.metric_log.means.observe_total(total.detach().float())
        return total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip and keep the norm that clipping computes. Lightning's own method rejects fused AdamW with bf16-mixed."""
        if gradient_clip_algorithm == "value" and gradient_clip_val:
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
            gradient_clip_val = None
        norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or math.inf)
        self.metric_log.gradient_norm = norm

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        for loss in self.losses.values():
            cast("Loss", loss).keep_in_bounds()

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        every = int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            self.metric_log.show_training()

    def on_train_epoch_end(self) -> None:
        self._show_training()

    def _show_training(self) -> None:
        """Log the training values now, so that callbacks that read them next have those of the present step."""
        if self.trainer.log_every_n_steps and not self.trainer.sanity_checking:  # type: ignore[attr-defined]
            self.metric_log.show_training()

    # Evaluation

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self._show_training()

    def on_validation_epoch_start(self) -> None:
        self.results = {}
        self.metric_log.means.pause()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        self._evaluate_pool("validation", batch)

    def on_validation_epoch_end(self) -> None:
        self.metric_log.means.go_on()
        if self.trainer.sanity_checking:  # it covers only some of the tasks
            return
        if self.trainer.state.fn == "fit":
            self.history[self.global_step] = primary_of(self.results)
        self.metric_log.show_results("val", self.results)

    def on_test_epoch_start(self) -> None:
        self.results = {}

    def test_step(self, batch: int, batch_idx: int) -> None:
        self._evaluate_pool("test", batch)

    def on_test_epoch_end(self) -> None:
        self.metric_log.show_results("test", self.results)

    def predict_step(self, batch: int, batch_idx: int) -> Tensor:
        """The embeddings (T, D) of all texts of a task's test split, in the order of its store."""
        pool = self.data.pools("test")[batch]
        return self.vectors.embed(pool.store.tokens, head=self.head_of(pool.name))

    def _evaluate_pool(self, split: str, number: int) -> None:
        pool = self.data.pools(split)[number]
        self.results[pool.name] = self.vectors.evaluate(pool, self.encoder, self.head_of(pool.name))

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Inside this context, the module has the base encoder and no heads; afterwards it has its own ones again."""
        own = self.encoder, self.heads
        self.encoder, self.heads = self.base.encoder(self.device), nn.ModuleDict()
        try:
            yield
        finally:
            self.encoder, self.heads = own

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        about = checkpoint.setdefault("mtcl", {})
        about |= resume.on_save(self)
        if self.keep is not None:
            self.keep.on_save(checkpoint)
        about.setdefault("config", resume.config_text(self))

    def save_pretrained(self, folder: str | Path, *, task: str | None = None, dim: int | None = None) -> None:
        """Write the encoder as a folder for other libraries: see `TextEncoder.save_pretrained`.

        Call it after `Trainer.fit`, on all ranks; one of them writes. Raises `ConfigError` if the module has no run.
        """
        try:
            trainer = self.trainer
        except RuntimeError as error:
            raise ConfigError(
                "the module has no run: fit it first, or give TextEncoder.load(RUN).save_pretrained(...)"
            ) from error
        state = {name: value.detach().cpu() for name, value in self.state_dict().items()}
        content = {"state_dict": state, "global_step": trainer.global_step}
        self.on_save_checkpoint(content)
        if trainer.is_global_zero:
            TextEncoder.of_run(SavedRun.of(content, "of the module"), device="cpu").save_pretrained(
                folder, task=task, dim=dim
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises `ConfigError` if a run is resumed from a checkpoint of a different one, unless `allow_changes`."""
        saved = SavedRun.of(checkpoint, str(self.trainer.ckpt_path))
        if self.trainer.state.fn == "fit":
            resume.on_resume(self, saved, checkpoint)
            if self.keep is not None:
                self.keep.on_resume(checkpoint)
        else:
            self.base.figures = saved.base_figures

    def described(self) -> dict[str, Any]:
        """The module's part of a configuration, as plain values."""
        return {
            "encoder": asdict(self.encoder_config),
            "optimizer": asdict(self.optimizer_config),
            "weighting": None if type(self.weighting) is Mean else self.weighting.described(),
            "gradient_cosines_every_n_steps": self.gradient_cosines_every_n_steps,
            "eval_dims": list(self.eval_dims) or None,
            "eval_groups": self.eval_groups,
            "activation_checkpointing": self.encoder.activation_checkpointing,
            "evaluate_base": self.evaluate_base,
            "evaluate_start": self.evaluate_start,
            "unseen_weight": self.selection.unseen_weight,
            "keep": None if self.keep is None else asdict(self.keep.config),
        }

    def facts(self) -> resume.Facts:
        """The settings and data that determine each step's pairs and loss."""
        accumulate = self.trainer.accumulate_grad_batches
        return resume.facts_of(
            self.data,
            self.encoder_config,
            pooling=self.encoder.pooling,
            weights=self.base.weights,
            accumulate=accumulate,
        )

    def _check_ranks_agree(self) -> None:
        """Raise `ConfigError` on every rank if the data, plan or encoder of any rank differs from rank 0."""
        also = {"trainer.max_steps": self.trainer.max_steps, "evaluated tasks": list(self.data.evaluated)}
        first, *others = of_all_ranks({**self.facts(), **also})
        for rank, facts in enumerate(others, 1):
            if found := resume.differences(first, facts, sides=("on rank 0", f"on rank {rank}")):
                raise ConfigError(f"ranks differ ({resume.shown(found)}): give all ranks the same files and values")
