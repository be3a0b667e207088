"""A run's callbacks: checkpoints, interruption, saving of the configuration, progress bar, report, averaging."""

from mtcl.training.callbacks.averaging import Averaging, AveragingConfig
from mtcl.training.callbacks.checkpoints import checkpoints
from mtcl.training.callbacks.interruption import EvaluationEnd, Interrupted, Interruption
from mtcl.training.callbacks.progress import Progress
from mtcl.training.callbacks.progress_lines import ProgressLines
from mtcl.training.callbacks.report import Report
from mtcl.training.callbacks.save_config import SaveConfig

__all__ = [
    "Averaging",
    "AveragingConfig",
    "EvaluationEnd",
    "Interrupted",
    "Interruption",
    "Progress",
    "ProgressLines",
    "Report",
    "SaveConfig",
    "checkpoints",
]
