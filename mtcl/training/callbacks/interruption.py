"""When a run is told to stop (SIGTERM, SIGUSR1, Ctrl-C), it saves `last.ckpt` after the current step and exits. If a
validation is due at that step, it runs first, because it would be missing on resume. The same happens when the
processes that load data have stopped.

Before the first step, while the base encoder is evaluated, there is nothing to save: the run ends at once. It also ends
at once at a second signal of any kind. Signals within a second of the first count as one, because launchers pass on
what schedulers and terminals also send to each process.

Lightning's own handling hangs when SIGTERM reaches several ranks, as schedulers send it (Lightning issue 20806), and
broadcasts in every step. Here each rank only notes the signal, and ranks compare notes at log points, so a step has no
additional collective.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from mtcl.distributed import max_over_ranks, together
from mtcl.encoder.paths import LAST
from mtcl.errors import DataError
from mtcl.training.callbacks.checkpoints import save_shown
from mtcl.training.lightning_private import is_accumulating, is_validation_due, silence_sigterm_broadcast
from mtcl.training.module import MtclModule

NO_LOADER = 1000
"""Recorded like a signal when the processes that load data have stopped."""
SAME_S = 1.0
"""Signals within this time of the first one are the same one, sent more than once."""


class Interrupted(SystemExit):
    """The run was told to stop and has nothing left to save. `code` is 128 + the signal's number, as in shells."""


class Interruption(Checkpoint):
    """Needs an `MtclModule`, and must come after other callbacks that write checkpoints.

    Its signal handlers are active only during training.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LAST
        self.received = self._leaving = 0
        self._received_at = 0.0
        self._has_begun = self._is_first = self._is_alone = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_first, self._is_alone = trainer.is_global_zero, trainer.world_size == 1
        silence_sigterm_broadcast(trainer)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                signal.signal(number, self._note)

    def on_train_batch_start(self, *arguments: Any, **options: Any) -> None:
        self._has_begun = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: MtclModule, *arguments: Any, **options: Any) -> None:  # type: ignore[override]
        several = trainer.world_size > 1
        every: int = (trainer.log_every_n_steps or 1) if several else 1  # type: ignore[attr-defined]
        if is_accumulating(trainer) or trainer.global_step % every:
            return
        noted = NO_LOADER if pl_module.data.loader_failure and not self.received else self.received
        self._leaving = int(max_over_ranks(torch.tensor(noted, device=pl_module.device))) if several else noted
        if self._leaving and not is_validation_due(trainer):
            self._leave(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:  # type: ignore[override]
        if self._leaving:
            self._leave(trainer, pl_module)

    def _leave(self, trainer: pl.Trainer, pl_module: MtclModule) -> None:
        save_shown(trainer, pl_module, self.path)
        if self._leaving != NO_LOADER:
            raise Interrupted(128 + self._leaving)
        with together():
            if failure := pl_module.data.loader_failure:
                saved = f"the run is saved at step {trainer.global_step}"
                raise DataError(f"{failure}; {saved}, continue with: mtcl fit --resume {self.path.parent.parent}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The handler of all signals."""
        now = time.monotonic()
        if self.received and now - self._received_at < SAME_S:
            return
        if self.received:
            self._say(number, "ends at once; what was done since the last checkpoint is lost")
            os._exit(128 + number)
        self.received, self._received_at = number, now
        if self._has_begun:
            self._say(number, "saves its state after this step and stops; a second signal ends it at once")
            return
        self._say(number, "stops before its first step")
        if self._is_alone:
            raise Interrupted(128 + number)
        os._exit(128 + number)  # the other ranks may wait for this one in the evaluation's collectives

    def _say(self, number: int, what: str) -> None:
        """Write directly to standard error, because a handler may have interrupted a write through Python's buffers."""
        if self._is_first:
            os.write(2, f"\n{signal.Signals(number).name}: the run {what}\n".encode())


class EvaluationEnd(Callback):
    """Ends an evaluation at once when it is told to stop (SIGTERM), because it has nothing to save.

    Lightning's handler would broadcast, but the other ranks may be waiting in one of the evaluation's collectives.
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
