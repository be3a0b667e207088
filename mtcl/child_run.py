"""`python -m mtcl.child_run LOCK COMMANDS`: commands of mtcl that end with the process that started them.

COMMANDS is a JSON list of argument lists, run one after the other in this process up to the first that fails.

A study that is killed outright cannot stop its runs; they would go on beside those of the study's next start. So each
run reads from a pipe whose other end the study holds: when the pipe closes, for whatever reason, the run is told to
stop (SIGTERM: it saves its state after the step at hand). The lock makes a new start wait until that is done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading


def main() -> int:
    """Run the commands that the arguments give, attached; the value is the exit code."""
    from filelock import FileLock

    from mtcl.__main__ import main as mtcl

    lock, commands = sys.argv[1:]
    threading.Thread(target=_stop_with_parent, args=(os.dup(sys.stdin.fileno()),), daemon=True).start()
    with FileLock(lock):
        for arguments in json.loads(commands):
            if code := mtcl(arguments):
                return code
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # training has its own handlers
    return 0


def _stop_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
