"""Process settings of a command: library output limited to what a user can act on, and enough open files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from mtcl.console import plain

log = logging.getLogger("mtcl")


def quiet_libraries() -> None:
    """Print mtcl's own log lines plainly on standard error, and hide library messages that a user cannot act on."""
    import warnings

    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    import lightning.pytorch  # sets its own level when first imported

    for name in (lightning.pytorch.__name__, "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "LightningCLI's args parameter",
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*isinstance.treespec.*",
        ".*in eval mode at the start of training.*",  # a frozen backbone
        ".*`max_epochs` was not set.*",  # a run ends by its steps
    ):
        warnings.filterwarnings("ignore", message=message)


class _Plain(logging.Formatter):
    """Formats log lines without the control characters that names and texts may have."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def allow_open_files() -> None:
    """Raise the limit of open files as far as allowed: tensors of workers, files of stores and connections need one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
