"""What accompanies a run: checkpoints, progress bar, report."""

from mtcl.callbacks.checkpoints import BEST, LAST, checkpoints
from mtcl.callbacks.progress import Progress
from mtcl.callbacks.report import Report

__all__ = ["BEST", "LAST", "Progress", "Report", "checkpoints"]
