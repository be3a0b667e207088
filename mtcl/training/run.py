"""A run: a model, its data, and what is known of it so far. The parts of `MtclModule` take it and share it."""

from __future__ import annotations

from dataclasses import dataclass, field

import lightning.pytorch as pl

from mtcl.errors import ConfigError
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.model import Model
from mtcl.training.selection import Selection


@dataclass(eq=False)
class Run:
    """A run of `model`. `module` is the LightningModule that runs it, which knows the Trainer, the device and the step.

    Figures are primary metrics on validation, by task.
    """

    module: pl.LightningModule
    model: Model
    selection: Selection
    base_figures: dict[str, float] = field(default_factory=dict)
    """Figures of the base encoder, of held-out tasks too."""
    start_figures: dict[str, float] = field(default_factory=dict)
    """Figures of the weights that the run started from; empty for the base encoder."""
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    """Figures of each validation, by optimizer step."""
    cosines_at: dict[str, int] = field(default_factory=dict)
    """The optimizer step of the last gradient cosine of each two tasks, by its tag."""
    trained_before: set[str] = field(default_factory=set)
    """Tasks that the weights were trained on before this run."""
    has_trained: bool = False
    """Whether a run has trained the weights, so that they are no longer those that the module was made with."""

    def begin(self) -> None:
        """Forget an earlier run of the same module, unless the Trainer continues or resumes one."""
        if self.step == 0 and self.trainer.ckpt_path is None:
            self.base_figures, self.start_figures, self.history, self.cosines_at = {}, {}, {}, {}

    @property
    def trainer(self) -> pl.Trainer:
        """The module's Trainer."""
        return self.module.trainer

    @property
    def step(self) -> int:
        """The number of optimizer steps done."""
        return self.module.global_step

    @property
    def data(self) -> MtclDataModule:
        """The Trainer's data."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, MtclDataModule):
            raise ConfigError("MtclModule reads its tasks from an MtclDataModule: trainer.fit(module, datamodule)")
        return data
