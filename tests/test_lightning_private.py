"""The private names of Lightning that mtcl touches are still there.

python -m pytest tests/test_lightning_private.py
"""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningCLI

from mtcl.training.callbacks import Averaging, AveragingConfig
from mtcl.training.lightning_private import (
    allow_unused_parameters,
    follow_weights,
    is_saved_at_epoch_end_by_default,
    set_batches_done,
    silence_sigterm_broadcast,
    stops_at_epoch_end,
)


def test_ddp_keyword_arguments() -> None:
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    assert trainer.strategy._ddp_kwargs == {}
    allow_unused_parameters(trainer)
    assert trainer.strategy._ddp_kwargs == {"find_unused_parameters": True}
    allow_unused_parameters(pl.Trainer(accelerator="cpu", devices=1, logger=False))


def test_average_is_a_copy_at_first() -> None:
    """`tests/test_averaging.py` shows what comes of it."""
    averaging, module = Averaging(AveragingConfig(decay=0.5)), pl.LightningModule()
    averaging.setup(pl.Trainer(accelerator="cpu", devices=1, logger=False), module, "fit")
    averaging._average_model.update_parameters(module)
    assert averaging._average_model.n_averaged == 1
    follow_weights(averaging)
    assert averaging._average_model.n_averaged == 0


def test_description_of_the_progress_bar() -> None:
    assert callable(RichProgressBar._get_train_description)


def test_loops() -> None:
    """`tests/test_resume.py` shows that they mean what we take them for."""
    loop = pl.Trainer(accelerator="cpu", devices=1, logger=False).fit_loop
    assert callable(loop.epoch_loop._should_accumulate)
    assert callable(loop.epoch_loop._should_check_val_fx)
    assert hasattr(loop, "_data_fetcher")


def test_broadcast_in_each_step() -> None:
    """Gone from a later Lightning, `silence_sigterm_broadcast` has nothing to do and can go as well."""
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False)
    assert hasattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor")
    silence_sigterm_broadcast(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None


def test_cli_hook_that_reads_checkpoints() -> None:
    """We override it; if Lightning renames it, a checkpoint would override given values again."""
    assert callable(LightningCLI._parse_ckpt_path)


def test_batches_done_in_a_checkpoint() -> None:
    """The names as Lightning writes them; `tests/test_continuation.py` shows that they mean what we take them for."""
    loop = pl.Trainer(accelerator="cpu", devices=1, logger=False).fit_loop
    for _ in range(3):
        for count in ("ready", "started", "processed"):
            getattr(loop.epoch_loop.batch_progress, f"increment_{count}")()
    checkpoint = {"loops": {"fit_loop": loop.state_dict()}}
    set_batches_done(checkpoint, 7)
    loop.load_state_dict(checkpoint["loops"]["fit_loop"])
    assert loop.epoch_loop.batch_progress.current.processed == loop.epoch_loop.batch_progress.total.ready == 7
    assert loop.epoch_loop.batch_progress.current.completed == 4, "the three that were open stay open"


def test_callbacks_at_the_end_of_an_epoch() -> None:
    """`tests/test_callbacks.py` shows what comes of it."""
    for given in (False, True):
        assert stops_at_epoch_end(EarlyStopping("val/mean", check_on_train_epoch_end=given)) is given
    assert is_saved_at_epoch_end_by_default(ModelCheckpoint())
    assert not is_saved_at_epoch_end_by_default(ModelCheckpoint(save_on_train_epoch_end=True))
    assert not is_saved_at_epoch_end_by_default(ModelCheckpoint(every_n_train_steps=2))
