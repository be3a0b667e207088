"""The LightningModule: the shared encoder, each task's loss, and when to evaluate.

A step is one packed forward over all texts of all tasks, then each sub-batch's loss on its rows; the training loss
is the mean over sub-batches, weighted. Everything that learns is a parameter here. Lightning does the rest
(automatic optimisation).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from mtcl import board
from mtcl.batch import StepBatch, SubBatch, join
from mtcl.board import Board
from mtcl.datamodule import MtclDataModule, TaskConfig
from mtcl.distributed import differing_ranks, gather, world
from mtcl.encoder import Encoder, EncoderConfig
from mtcl.errors import ConfigError
from mtcl.evaluation import Pool, Result, evaluate, macro_mean
from mtcl.losses import InfoNCE, Loss, Side, View, row_blocks
from mtcl.optimizer import OptimizerConfig, build_optimizer, build_schedule
from mtcl.plan import stream_key
from mtcl.relation import NEGATIVE, relation
from mtcl.types import Ragged

PCA_TEXTS = 8192


class MtclModule(pl.LightningModule):
    """Multi-task contrastive training of one encoder.

    Args:
        tasks: The run's tasks by name (set as the top-level key `tasks`).
        encoder: The shared encoder.
        optimizer: Learning rates and schedule.
        activation_checkpointing: Keep only one chunk's activations at a time and compute them again in the backward
            pass: activations do not grow with the batch, at the price of a second forward.
    """

    def __init__(
        self,
        tasks: dict[str, TaskConfig] | None = None,
        encoder: EncoderConfig = EncoderConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.task_configs = tasks or {}
        self.encoder_config, self.optimizer_config = encoder, optimizer
        self.encoder = Encoder.load(self.encoder_config)
        self.encoder.activation_checkpointing = activation_checkpointing
        self.base_projection = (
            deepcopy(self.encoder.projection).requires_grad_(False) if self.encoder.projection else None
        )
        """The projection before training, kept so that a checkpoint can be compared with the base encoder."""
        self.losses = nn.ModuleDict({name: config.loss or InfoNCE() for name, config in self.task_configs.items()})
        self.board = Board(list(self.task_configs))
        self.base: dict[str, float] = {}
        """Primary metric of the base encoder on validation, by task."""
        self.history: dict[int, dict[str, float]] = {}
        """Primary metrics on validation, by optimizer step and task."""
        self.results: dict[str, Result] = {}
        self.weights_from_checkpoint = False
        """Set before `setup` by who has loaded weights, so that the projection is not started anew."""
        self.config_text = ""
        """The run's whole configuration as YAML: kept in every checkpoint."""
        self._shown_at = 0
        self._gradient_norm = torch.zeros(())

    @property
    def data(self) -> MtclDataModule:
        return cast("MtclDataModule", self.trainer.datamodule)  # type: ignore[attr-defined]

    @property
    def _log_every(self) -> int:
        return int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        for name in self.task_configs:
            self.encoder.check_length(name, self.data.length_of(name))
        restored = self.weights_from_checkpoint or (stage == "fit" and self.trainer.ckpt_path is not None)
        if (
            self.encoder.projection is not None
            and self.encoder_config.projection == "pca"
            and not restored
            and world()[0] == 0
        ):
            self.encoder.init_projection_pca(self._backbone_embeddings(PCA_TEXTS))
        if self.base_projection is not None and self.encoder.projection is not None and not restored:
            self.base_projection.load_state_dict(self.encoder.projection.state_dict())

    def configure_optimizers(self) -> Any:
        heads = [self.losses] if self.encoder.projection is None else [self.losses, self.encoder.projection]
        optimizer = build_optimizer(
            self.optimizer_config,
            backbone=self.encoder.backbone,
            heads=heads,
            fused=self.trainer.precision != "16-mixed",
        )
        schedule = build_schedule(self.optimizer_config, optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self._check_ranks_agree()
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.global_step == 0:
                logger.experiment.add_custom_scalars(board.layout(self.board.tasks))
        if not self.base:
            results = {pool.name: self._evaluate(pool) for pool in self.data.pools("validation")}
            self.base = {name: result.primary for name, result in results.items()}
            self._show("val", results)

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        torch.manual_seed(stream_key(self.data.seed, self.global_rank, batch.step) % (1 << 63))

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        embeddings_TD: Tensor = self.encoder(batch.texts)
        views = gather_views(batch.parts, embeddings_TD)
        total = embeddings_TD.new_zeros(())
        for part, view in zip(batch.parts, views, strict=True):
            name = self.board.tasks[part.task]
            loss_module = cast("Loss", self.losses[name])
            loss: Tensor = loss_module(view)
            total += self.task_configs[name].loss_weight * loss
            self.board.observe(part.task, observe(view, loss, loss_module.temperature))
        self._count(batch)
        return total / len(batch.parts)

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
        if self.global_step % self._log_every == 0 and self.global_step != self._shown_at:
            self._shown_at = self.global_step
            shown = self.board.flush() | {
                board.GRADIENT_NORM: float(self._gradient_norm),
                board.LEARNING_RATE: self.trainer.optimizers[0].param_groups[0]["lr"],
            }
            self._log(shown)

    def on_validation_epoch_start(self) -> None:
        self.results = {}

    def validation_step(self, batch: int, batch_idx: int) -> None:
        pool = self.data.pools("validation")[batch]
        self.results[pool.name] = self._evaluate(pool)

    def on_validation_epoch_end(self) -> None:
        mean = macro_mean(self.results)
        self.log(board.VAL_MEAN, mean, logger=False, sync_dist=True)
        primary = {name: result.primary for name, result in self.results.items()}
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
        return self._embed(self.data.pools("test")[batch].store.tokens)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mtcl"] = {"base": self.base, "history": self.history, "config": self.config_text}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.base, self.history = checkpoint["mtcl"]["base"], checkpoint["mtcl"]["history"]

    def _check_ranks_agree(self) -> None:
        """Raise `ConfigError` on every rank if any trains on other data or by another plan than rank 0."""
        folders = [self.data.store(name, "train").folder.name for name in self.task_configs]
        if ranks := differing_ranks(repr((self.data.plan.fingerprint(), folders, self.trainer.max_steps))):
            raise ConfigError(
                f"ranks {ranks} have other data or another plan than rank 0: give all the same files and values"
            )

    def back_to_base(self) -> None:
        """Put the base encoder, with the projection it began with, in the place of the trained one."""
        self.encoder = Encoder.load(self.encoder_config).to(self.device)
        if self.encoder.projection is not None and self.base_projection is not None:
            self.encoder.projection.load_state_dict(self.base_projection.state_dict())

    def _embed(self, tokens: Ragged) -> Tensor:
        with self._precision():
            return self.encoder.embed(tokens, tokens_per_chunk=self.encoder_config.tokens_per_chunk)

    def _evaluate(self, pool: Pool) -> Result:
        return evaluate(pool, self._embed)

    def _precision(self) -> AbstractContextManager[None]:
        return self.trainer.precision_plugin.forward_context()

    def _backbone_embeddings(self, num_texts: int) -> Tensor:
        """(T, H) embeddings before the projection of about `num_texts` training texts, alike over tasks."""
        stores = [self.data.store(name, "train") for name in self.task_configs]
        generator = np.random.default_rng(self.data.seed)
        share = -(-num_texts // len(stores))
        tokens = [
            store.tokens.take(
                np.sort(generator.choice(len(store.tokens), min(share, len(store.tokens)), replace=False))
            )
            for store in stores
        ]
        backbone = Encoder(self.encoder.backbone, pooling=self.encoder.pooling)
        with self._precision():
            return backbone.embed(join(tokens), tokens_per_chunk=self.encoder_config.tokens_per_chunk)

    def _count(self, batch: StepBatch) -> None:
        throughput = self.board.throughput
        throughput.tokens += batch.texts.num_tokens
        throughput.padded += batch.texts.num_padded
        throughput.texts += batch.num_texts
        throughput.distinct += len(batch.texts.place_T)
        throughput.pairs += sum(len(part.anchors_N) for part in batch.parts)

    def _show(self, split: str, results: dict[str, Result]) -> None:
        shown = {board.eval_tag(split, m, r.name): value for r in results.values() for m, value in r.metrics.items()}
        shown[board.mean_tag(split)] = macro_mean(results)
        if split == "val" and self.base:
            shown[board.VAL_GAIN] = macro_mean(results) - sum(self.base.values()) / len(self.base)
        self._log(shown)

    def _log(self, shown: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(shown, step=self.global_step)


def gather_views(parts: tuple[SubBatch, ...], embeddings_TD: Tensor) -> list[View]:
    """Each sub-batch's local rows against those of all ranks: one gather of embeddings, one of keys."""
    rank, ranks = world()
    local = [t for part in parts for t in (part.anchors_N, part.positives_N)]
    keys = [k for part in parts for k in (part.anchor_keys_NK, part.positive_keys_NK)]
    widest = max(k.shape[1] for k in keys)
    rows_RD = embeddings_TD[torch.cat(local)]
    all_RD = gather(rows_RD)
    all_RK = gather(torch.cat([nn.functional.pad(k, (0, widest - k.shape[1])) for k in keys])) if ranks > 1 else None
    sides, start = [], 0
    for rows, key_NK in zip(local, keys, strict=True):
        end = start + len(rows)
        places = torch.cat([torch.arange(start, end, device=rows.device) + r * len(rows_RD) for r in range(ranks)])
        all_keys = key_NK if all_RK is None else all_RK[places, : key_NK.shape[1]]
        sides.append(Side(rows_RD[start:end], key_NK, all_RD[places], all_keys))
        start = end
    views = []
    for anchors, positives in zip(sides[::2], sides[1::2], strict=True):
        own_N = torch.arange(len(anchors.local_ND), device=rows_RD.device) + rank * len(anchors.local_ND)
        views.append(View(anchors, positives, own_N))
    return views


@torch.no_grad()
def observe(view: View, loss: Tensor, temperature: Tensor) -> Tensor:
    """The values of `board.TASK_TRAIN` for one sub-batch, as one tensor on the device."""
    num_rows, num_candidates = len(view.own_N), len(view.positives.all_CD)
    sums = [_sums(view, rows) for rows in row_blocks(num_rows, num_candidates)]
    right, own, negative, num_negatives = torch.stack(sums).sum(dim=0)
    left_out = 1 - (num_negatives + num_rows) / (num_rows * num_candidates)
    values = [loss, right / num_rows, temperature, own / num_rows, negative / num_negatives.clamp(min=1), left_out]
    return torch.stack([value.detach().float() for value in values])


def _sums(view: View, rows: slice) -> Tensor:
    """Over a block of rows: right answers, cosine of positives, cosine of negatives, number of negatives."""
    own_N = view.own_N[rows]
    cosine_NC = view.anchors.local_ND[rows] @ view.positives.all_CD.T
    negative_NC = relation(view.anchors.local_keys_NK[rows], view.positives.all_keys_CK, own_N) == NEGATIVE
    positive_N = cosine_NC.gather(1, own_N[:, None])[:, 0]
    hardest_N = cosine_NC.masked_fill(~negative_NC, -torch.inf).amax(dim=1)
    right = (positive_N > hardest_N).sum()
    return torch.stack([right, positive_N.sum(), (cosine_NC * negative_NC).sum(), negative_NC.sum()]).float()


def check_dim(module: MtclModule, state: dict[str, Tensor]) -> None:
    """Raise `ConfigError` if weights `state` are of an encoder with another projection than the configured one."""
    saved = state.get("encoder.projection.weight")
    now = module.encoder.projection
    sizes = [None if saved is None else len(saved), None if now is None else now.out_features]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the checkpoint has model.encoder.dim {sizes[0]}, the configuration {sizes[1]}: give the same"
        )
