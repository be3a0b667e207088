"""What accompanies a run: checkpoints, record of the configuration, progress bar, report."""

from mtcl.callbacks.checkpoints import checkpoints
from mtcl.callbacks.progress import Progress
from mtcl.callbacks.record import Record
from mtcl.callbacks.report import Report

__all__ = ["Progress", "Record", "Report", "checkpoints"]
