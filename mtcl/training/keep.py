"""Keeps the encoder near its start: each text's vector is pulled to the one that the starting weights give it.

Fine-tuning on a few tasks moves the vectors of all texts, and tasks that the run does not train get worse. Adding the
squared distance between a text's vector now and at the start to the loss limits the movement (learning without
forgetting, Li and Hoiem 2016, arXiv 1606.09282, on embeddings). It needs no data of other tasks. Each measured text
costs a forward pass of the starting weights, without gradient, so only a random share of a step's texts is measured.
docs/results/unseen_tasks.md has the effect of strength and share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtcl.data.batch import StepBatch
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.lora_state import merged
from mtcl.encoder.module_state import ENCODER, State, part
from mtcl.errors import ConfigError
from mtcl.training.run import Run

SAVED = "kept"
"""The starting weights' place in a checkpoint."""


@dataclass(frozen=True)
class KeepConfig:
    """Keep the encoder near the weights that the run starts from.

    Attributes:
        strength: Multiplies the mean squared distance between texts' vectors now and at the start, which is added to
            the training loss.
        share: Share of a step's texts whose distance is measured, drawn at random; above 0 and at most 1.
    """

    strength: float = 1.0
    share: float = 1 / 32

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ConfigError(f"model.keep.strength is {self.strength}: give 0 or more, or model.keep null")
        if not 0 < self.share <= 1:
            raise ConfigError(f"model.keep.share is {self.share}: give more than 0 and at most 1")


class Keep:
    """The starting weights of a run, and the distance from them."""

    def __init__(self, run: Run, config: KeepConfig) -> None:
        self.run, self.config = run, config
        self._start: Encoder | None = None
        self._is_base = True
        self._saved: State | None = None
        """The starting weights in the checkpoint that the run is resumed from, if they are not the base encoder's."""

    def begin(self, *, is_base: bool) -> None:
        """Take the starting weights before the first step, or load them again in a resumed run.

        `is_base` says whether the run starts from the base encoder's weights.
        """
        run, model = self.run, self.run.model
        if run.step and run.trainer.ckpt_path is None:
            return  # the Trainer continues its run
        self._start = model.base.encoder(run.module.device).requires_grad_(False).eval()
        if run.trainer.ckpt_path is None:
            self._is_base = is_base
            adapter = model.config.adapter
            plain = merged(run.module.state_dict(), alpha=0.0 if adapter is None else adapter.alpha)
            self._start.load_state_dict(part(plain, ENCODER))
        else:
            self._is_base = self._saved is None
            if self._saved is not None:
                self._start.load_state_dict(self._saved)

    def distance(self, batch: StepBatch, vectors_TD: Tensor) -> Tensor:
        """The mean squared distance (scalar) between the vectors (T, D) of a step's texts now and at the start.

        It is a mean over the rows of all sub-batches, estimated without bias from the texts that the batch has drawn;
        the mean over ranks is that of one process with all rows.
        """
        kept, start, pooled_TH = batch.kept, self._start, batch.pooled_TH
        assert kept is not None
        assert start is not None
        if not len(kept.places_K):
            return vectors_TD.sum() * 0
        with torch.no_grad():
            start_KD = start(kept.texts) if pooled_TH is None else start.finish(pooled_TH[kept.places_K])
        squared_K = (vectors_TD[kept.places_K].float() - start_KD).square().sum(dim=1)
        return (squared_K * kept.weights_K).sum()

    def on_save(self, checkpoint: dict[str, Any]) -> None:
        """Add the starting weights, if the base encoder does not have them."""
        if self._start is not None and not self._is_base:
            checkpoint[SAVED] = self._start.state_dict()

    def on_resume(self, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint.get(SAVED)
