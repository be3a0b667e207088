"""`python -m mtcl.commands.child_run LOCK COMMANDS`: a run of a study, which stops when the study stops.

COMMANDS is a JSON list of argument lists for `mtcl`. They run one after another until one fails. The process holds the
lock while it runs, so a restarted study waits until a run of the killed study has saved its state. `mtcl.processes`
ties the process to the study.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from filelock import FileLock

from mtcl.__main__ import main as mtcl
from mtcl.processes import stop_with_starter


def main(lock: str, commands: str) -> int:
    """Run the commands and return the exit code of the last one."""
    stop_with_starter()
    noted, note = os.pipe()
    for end in (noted, note):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(note, warn_on_full_buffer=False)  # gets each signal's number, whoever handles it
    with FileLock(lock):
        for arguments in json.loads(commands):
            if code := mtcl(arguments):
                return code
            if signal.SIGTERM in _read(noted):  # training that was at its end finishes all the same
                return 128 + signal.SIGTERM
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # training has its own handlers
    return 0


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 12)
    except BlockingIOError:
        return b""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
