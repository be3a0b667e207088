"""`python -m mtcl.commands.child_run LOCK COMMANDS`: a run of a study, which stops with the study (`mtcl.processes`).

COMMANDS is a JSON list of argument lists of `mtcl`, carried out one after the other up to the first that fails. The
lock is held meanwhile: a study that is started again waits until the run of the killed one has saved its state.
"""

from __future__ import annotations

import json
import signal
import sys

from filelock import FileLock

from mtcl.__main__ import main as mtcl
from mtcl.processes import stop_with_starter


def main(lock: str, commands: str) -> int:
    """The exit code of the last command."""
    stop_with_starter()
    with FileLock(lock):
        for arguments in json.loads(commands):
            if code := mtcl(arguments):
                return code
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # training has its own handlers
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
