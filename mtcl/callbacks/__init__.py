"""What accompanies a run: checkpoints, interruption, record of the configuration, progress bar, report, averaging."""

from mtcl.callbacks.averaging import Averaging, AveragingConfig
from mtcl.callbacks.checkpoints import checkpoints
from mtcl.callbacks.interruption import EvaluationEnd, Interrupted, Interruption
from mtcl.callbacks.progress import Progress
from mtcl.callbacks.record import Record
from mtcl.callbacks.report import Report

__all__ = [
    "Averaging",
    "AveragingConfig",
    "EvaluationEnd",
    "Interrupted",
    "Interruption",
    "Progress",
    "Record",
    "Report",
    "checkpoints",
]
