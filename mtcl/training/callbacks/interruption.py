"""A run that is told to stop (SIGTERM, SIGUSR1, Ctrl-C) saves `last.ckpt` after the step at hand and leaves; after the
validation of that step where one is due, which would be missing on resume.

Lightning's own handling hangs when SIGTERM reaches several ranks, as schedulers send it (Lightning issue 20806), and
broadcasts in every step for it. Here each rank only notes the signal; ranks compare notes at log points, so a step
has no further collective. A second Ctrl-C ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from mtcl.distributed import max_over_ranks
from mtcl.training.callbacks.checkpoints import save_shown
from mtcl.training.lightning_private import is_accumulating, is_validation_due, silence_sigterm_broadcast
from mtcl.types import LAST

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule


class Interrupted(SystemExit):
    """The run was told to stop and has saved its state. `code` is 128 + the signal's number, as shells have it."""


class Interruption(Checkpoint):
    """Needs an `MtclModule`, and to stand behind others that write checkpoints.

    Handlers are those of this process only while it trains.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LAST
        self.received = self._leaving = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        silence_sigterm_broadcast(trainer)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                signal.signal(number, self._note)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: MtclModule, *arguments: Any, **options: Any) -> None:  # type: ignore[override]
        several = trainer.world_size > 1
        every: int = (trainer.log_every_n_steps or 1) if several else 1  # type: ignore[attr-defined]
        if is_accumulating(trainer) or trainer.global_step % every:
            return
        self._leaving = (
            int(max_over_ranks(torch.tensor(self.received, device=pl_module.device))) if several else self.received
        )
        if self._leaving and not is_validation_due(trainer):
            self._leave(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if self._leaving:
            self._leave(trainer, pl_module)

    def _leave(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:
        save_shown(trainer, pl_module, self.path)
        raise Interrupted(128 + self._leaving)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class EvaluationEnd(Callback):
    """An evaluation, which has nothing to save, ends at once where it is told to stop (SIGTERM).

    Lightning's handler broadcasts, for which another rank, waiting in a collective of the evaluation, is not there.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._listen()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
