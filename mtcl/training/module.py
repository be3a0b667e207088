"""The LightningModule: the shared encoder and each task's loss.

A step is one packed forward pass over all texts of all tasks, then each sub-batch's loss on its rows. The training loss
is the mean over sub-batches of `loss_weight` times their loss, if no other weighting is chosen. Everything that is
trained is a parameter of this module, and Lightning does the rest (automatic optimisation). In `setup` the module takes
its tasks from the Trainer's `MtclDataModule`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcl.data.batch import StepBatch
from mtcl.data.pseudorandom import stream_key
from mtcl.data.store import TokenStore
from mtcl.distributed import together, world
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.evaluation import Result
from mtcl.losses.gather import gather_views
from mtcl.records.mapping import check_types, from_mapping
from mtcl.task.kind import Kind
from mtcl.training import learnable, lightning_private, metrics, resume, trained
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.evaluation import Evaluation
from mtcl.training.facts import check_ranks_agree
from mtcl.training.keep import Keep, KeepConfig
from mtcl.training.metric_log import MetricLog
from mtcl.training.model import Model
from mtcl.training.optimizer import OptimizerConfig, build_optimizer, build_schedule, check_warm_up, clip_gradients
from mtcl.training.recipe import recipe_of
from mtcl.training.record import config_text, record_of
from mtcl.training.run import Run
from mtcl.training.run_encoder import RunEncoder
from mtcl.training.selection import Selection
from mtcl.training.start import Start
from mtcl.training.task_config import TaskConfig
from mtcl.training.task_reader import TaskReader
from mtcl.weighting import Mean, Weighting

log = logging.getLogger("mtcl")
LIGHTNINGS = {"hparams_file", "strict", "weights_only"}
"""Arguments of Lightning's `load_from_checkpoint` that make no difference here."""


class MtclModule(TaskReader):
    """Multi-task contrastive training of one encoder.

    Args:
        encoder: The shared encoder; in Python also a mapping of its options, such as {"dim": 50}.
        optimizer: Learning rates and schedule; in Python also a mapping.
        weighting: How the tasks' losses are combined into one; the mean over sub-batches, each loss multiplied by its
            `loss_weight`, if null.
        gradient_cosines_every_n_steps: Optimizer steps after which the gradient cosine of two tasks is logged again, at
            the next step with both; 0 for never.
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
        check_types(MtclModule.__init__, locals(), where="model.", but=("encoder", "optimizer", "keep"))
        if (every := gradient_cosines_every_n_steps) < 0:
            raise ConfigError(f"model.gradient_cosines_every_n_steps is {every}: give 0 or more")
        super().__init__()
        self.encoder_config = EncoderConfig.of(encoder)
        self.optimizer_config = from_mapping(OptimizerConfig, optimizer, where="optimizer")
        self.gradient_cosines_every_n_steps = gradient_cosines_every_n_steps
        self.evaluate_base, self.evaluate_start, self.allow_changes = evaluate_base, evaluate_start, allow_changes
        self.model = Model(self.encoder_config, weighting or Mean(), activation_checkpointing=activation_checkpointing)
        self._register()
        self.run = Run(self, self.model, Selection(unseen_weight))
        self.keep = None if keep is None else Keep(self.run, from_mapping(KeepConfig, keep, where="keep"))
        self.metric_log = MetricLog(self.run)
        self.run_encoder = RunEncoder(self.run)
        self.start = Start(self.run, self.run_encoder)
        self.evaluation = Evaluation(
            self.run, self.run_encoder, self.metric_log, dims=eval_dims or (), groups=eval_groups
        )

    def _register(self) -> None:
        """Make the model's parameters those of this module. A checkpoint has them under these names."""
        self.encoder = self.model.encoder
        self.base_projection = self.model.base.projection  # so that a checkpoint can be compared with its base
        self.heads, self.base_heads = self.model.heads, self.model.base_heads
        self.losses, self.weighting = self.model.losses, self.model.weighting

    @property
    def data(self) -> MtclDataModule:
        """The Trainer's data."""
        return self.run.data

    @property
    def results(self) -> dict[str, Result]:
        """The last evaluation's results, by task."""
        return self.evaluation.results

    # What the data asks

    def choose_tasks(self, tasks: Mapping[str, TaskConfig], kinds: Mapping[str, Kind]) -> None:
        if self.model.choose(tasks, kinds, self.device):
            self.metric_log.take(list(tasks))
            self.start.take_weights()

    @property
    def reads_training_texts(self) -> bool:
        return self.start.reads_training_texts

    @property
    def keep_share(self) -> float:
        return 0.0 if self.keep is None else self.keep.config.share

    @property
    def cost_of_padding(self) -> float:
        with self.trainer.precision_plugin.forward_context():
            return self.encoder.cost_of_padding

    def teacher_file(self, task: str) -> Path | None:
        return self.run_encoder.teacher_file(task)

    def check_schedule(self) -> None:
        check_warm_up(self.optimizer_config, self.trainer.max_steps)

    def pooled_file(self, store: TokenStore) -> Path | None:
        return self.run_encoder.pooled_file(store)

    # Start of a run

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        *,
        trust_checkpoint: bool = False,
        **options: Any,
    ) -> MtclModule:
        """Make a module with a checkpoint's encoder and loss parameters, to evaluate it or to train it further.

        Args:
            checkpoint_path: A run folder (its best checkpoint), or a .ckpt file of any Lightning Trainer.
            map_location: The device of the module; the CPU if None.
            trust_checkpoint: Run code from the base model's repository if the run did.
            options: Arguments of the module; encoder and optimizer default to the checkpoint's.
        """
        if odd := sorted(options.keys() & LIGHTNINGS):
            raise ConfigError(f"{odd[0]} has no effect here: a checkpoint is read whole, as plain values; leave it out")
        saved = SavedRun.read(checkpoint_path, trust=trust_checkpoint)
        optimizer = from_mapping(OptimizerConfig, saved.section("model", "optimizer"), where="model.optimizer")
        arguments: dict[str, Any] = {"encoder": saved.encoder_config, "optimizer": optimizer}
        module = cls(**arguments | options)
        module.start_from(saved)
        return module if map_location is None else module.to(map_location)

    def start_from(self, saved: SavedRun) -> None:
        """Start from a checkpoint's weights: take the encoder's now and the tasks' loss parameters in `setup`.

        Adapters that only the checkpoint has are added to its weights; a projection of another size starts again.
        Raises `ConfigError` if the checkpoint has a different encoder.
        """
        self.start.load(saved, is_compared=self.evaluate_base)

    def setup(self, stage: str) -> None:
        lightning_private.keep_samplers(self.trainer)
        self.choose_tasks(self.data.roles.trained_configs, self.data.roles.kinds)
        if stage == "fit":
            with together():
                check_ranks_agree(self.run)
        resume.check_never_trained(self.run.trained_before, self.data.held_out)
        if world()[0] == 0 and not self.evaluation.is_of_base:  # both read the texts in one way
            log.info("%s", trained.use_of_encoder(self.model, self.data.stores))
        self.start.begin()
        if stage == "fit":
            with together():
                shows_cosines = self.gradient_cosines_every_n_steps > 0
                trained.check(self.model, self.data, self.optimizer_config, shows_cosines=shows_cosines)
                self.run.selection.check(self.data.stores.evaluated_in("validation"), self.data.roles.apart)
                learnable.check(self.data, self.model.loss_of)
            if world()[0] == 0:
                log.info("%s", trained.summary(self.model))
        if any(True for head in (self.losses, self.weighting, self.heads) for _ in head.parameters()):
            lightning_private.allow_unused_parameters(self.trainer)

    @property
    def lr(self) -> float:
        """The backbone's learning rate; Lightning's LearningRateFinder reads and sets it under this name."""
        return self.optimizer_config.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer_config = replace(self.optimizer_config, lr=value)

    def configure_optimizers(self) -> Any:
        learned = [self.losses, self.weighting, self.heads]
        optimizer = build_optimizer(
            self.optimizer_config,
            backbone=self.encoder.backbone,
            dense=self.encoder.dense,
            heads=learned if self.encoder.projection is None else [*learned, self.encoder.projection],
            fused=self.trainer.precision != "16-mixed",
        )
        schedule = build_schedule(self.optimizer_config, optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self.run.begin()
        self.metric_log.begin()
        is_base = self.start.saved is None and not self.run.has_trained
        if self.keep is not None:
            self.keep.begin(is_base=is_base)
        asked = {"with_base": self.evaluate_base, "with_start": self.evaluate_start}
        self.evaluation.before_training(is_base=is_base, **asked)

    # Training

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        torch.manual_seed(stream_key(self.data.seed, self.global_rank, batch.step) % (1 << 63))
        self.metric_log.means.start_clock()

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        pooled_TH = batch.pooled_TH
        embeddings_TD: Tensor = self.encoder(batch.texts) if pooled_TH is None else self.encoder.finish(pooled_TH)
        views = gather_views(batch.parts, embeddings_TD)
        losses = self.model.task_losses(batch.parts, views, self.metric_log.observe)
        self.metric_log.count(batch)
        self.metric_log.show_cosines(losses, self.gradient_cosines_every_n_steps)
        total: Tensor = self.weighting(losses, self.encoder.last_shared(), self.model.shares(batch.parts))
        if self.keep is not None:
            distance = self.keep.distance(batch, embeddings_TD)
            self.metric_log.means.observe_step(metrics.DISTANCE, distance)
            total = total + self.keep.config.strength * distance
        self.metric_log.means.observe_step(metrics.TRAIN_LOSS, total)
        return total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and keep the norm before. Lightning's own method rejects fused AdamW with bf16-mixed."""
        by_value = gradient_clip_algorithm == "value"
        self.metric_log.gradient_norm = clip_gradients(self.parameters(), gradient_clip_val, by_value=by_value)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        self.run.has_trained = True
        for name in self.losses:
            self.model.loss_of(name).keep_in_bounds()

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        every = int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            self.metric_log.show_training()

    def on_train_epoch_end(self) -> None:
        self.metric_log.show_training()  # callbacks read the values next

    # Evaluation

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.metric_log.show_training()  # callbacks read the values next

    def on_validation_epoch_start(self) -> None:
        self.evaluation.begin()
        self.metric_log.means.pause()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        self.evaluation.add("validation", batch)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:  # it covers only some of the tasks
            self.evaluation.end("val")

    def on_test_epoch_start(self) -> None:
        self.evaluation.begin()

    def test_step(self, batch: int, batch_idx: int) -> None:
        self.evaluation.add("test", batch)

    def on_test_epoch_end(self) -> None:
        self.evaluation.end("test")

    def predict_step(self, batch: int, batch_idx: int) -> Tensor:
        """The embeddings (T, D) of all texts of a task's test split, in the order of its store."""
        pool = self.data.pools("test")[batch]
        return self.run_encoder.embed(pool.store.tokens, head=self.model.head_of(pool.name))

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        config = checkpoint.get("mtcl", {}).get("config") or self.config_text()
        checkpoint["mtcl"] = record_of(self.run, config=config, recipe=self._recipe()).plain()
        if self.keep is not None:
            self.keep.on_save(checkpoint)

    def _recipe(self) -> dict[str, Any]:
        return recipe_of(self.run, self.optimizer_config, None if self.keep is None else self.keep.config)

    def config_text(self) -> str:
        """The configuration of a run that has none (in a notebook), as YAML."""
        return config_text(self.options(), self.run)

    def options(self) -> dict[str, Any]:
        """The options that the module was made with, as plain values."""
        return {
            "encoder": asdict(self.encoder_config),
            "optimizer": asdict(self.optimizer_config),
            "weighting": None if type(self.weighting) is Mean else self.model.weighting.described(),
            "gradient_cosines_every_n_steps": self.gradient_cosines_every_n_steps,
            "eval_dims": list(self.evaluation.dims) or None,
            "eval_groups": self.evaluation.groups,
            "activation_checkpointing": self.encoder.activation_checkpointing,
            "evaluate_base": self.evaluate_base,
            "evaluate_start": self.evaluate_start,
            "unseen_weight": self.run.selection.unseen_weight,
            "keep": None if self.keep is None else asdict(self.keep.config),
        }

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
            saved = SavedRun.of(content, "of the module")
            TextEncoder.of_run(saved, device="cpu").save_pretrained(folder, task=task, dim=dim)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises `ConfigError` if a run is resumed from a checkpoint of a different one, unless `allow_changes`."""
        saved = SavedRun.of(checkpoint, str(self.trainer.ckpt_path))
        if self.trainer.state.fn == "fit":
            now: dict[str, Any] = {"optimizer": self.optimizer_config, "recipe": self._recipe()}
            resume.on_resume(self.run, saved, checkpoint, **now, allow_changes=self.allow_changes)
            self.run.has_trained = saved.step > 0
            if self.keep is not None:
                self.keep.on_resume(checkpoint)
        else:
            saved.check_base(self.encoder_config.name, tokenizer=self.data.stores.tokenizer.probe)
            self.run.base_figures = saved.record.base
