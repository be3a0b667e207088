"""Several workers on one port: processes with a model each, that accept from one socket.

The parent binds the socket, starts the workers, passes a SIGTERM on to them, and replaces a worker that has died (for
example for lack of memory). A worker that cannot start ends the server only at its beginning: once all have been ready,
the others go on, and the start is tried again. The parent imports neither torch nor the model. A worker whose parent
ends, for whatever reason, ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from mtcl.deploy.serve.metrics import FOLDER
from mtcl.deploy.serve.server import ServeConfig, serve
from mtcl.errors import ConfigError, MtclError

STOPPING = (signal.SIGTERM, signal.SIGINT)
AFTER_GRACE_S = 10.0
"""Seconds after its grace period until a worker that has not ended is killed."""
RETRY_S = 5.0
"""Seconds until another start, after a replacement could not start: memory may be short, or the model's folder away."""


@dataclass
class Worker:
    """A worker process; its `pipe` sends a line when it is ready, or an error that the user can fix."""

    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False


def serve_all(config: ServeConfig, bound_socket: socket.socket, num_workers: int, tell: Callable[[str], None]) -> int:
    """Serve with several workers until a signal ends them. Returns the exit code."""
    folder = tempfile.mkdtemp(prefix="mtcl-serve-")
    os.environ[FOLDER] = folder
    try:
        return _Supervisor(config, bound_socket, num_workers, tell).run()
    finally:
        del os.environ[FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


class _Supervisor:
    def __init__(
        self, config: ServeConfig, bound_socket: socket.socket, num_workers: int, tell: Callable[[str], None]
    ) -> None:
        self.config, self.socket, self.num_workers, self.tell = config, bound_socket, num_workers, tell
        self.workers: list[Worker] = []
        self.stopped_at: float | None = None
        self.failure: str | None = None
        self.is_told = False
        self.retry_at = 0.0

    def run(self) -> int:
        for number in STOPPING:
            signal.signal(number, self.stop)
        self.workers = [self.start() for _ in range(self.num_workers)]
        code = 0
        while self.workers or self.is_serving:
            wait([w.process.sentinel for w in self.workers] + [w.pipe for w in self.workers if not w.is_ready], 0.5)
            self.hear()
            code = max(code, self.bury())
            self.replace()
            if self.stopped_at and time.monotonic() > self.stopped_at + self.config.grace_s + AFTER_GRACE_S:
                for worker in self.workers:
                    worker.process.kill()
        if self.failure is not None:
            raise ConfigError(self.failure)
        return code

    @property
    def is_serving(self) -> bool:
        """Whether all workers were ready once and no signal has come: from then on, they are replaced."""
        return self.is_told and self.stopped_at is None

    def replace(self) -> None:
        """Start a worker for each one that has ended."""
        if self.is_serving and time.monotonic() >= self.retry_at:
            self.workers += [self.start() for _ in range(self.num_workers - len(self.workers))]

    def start(self) -> Worker:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=run_worker, args=(self.config, self.socket, theirs), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours)

    def stop(self, _: int, frame: FrameType | None) -> None:
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
            self.socket.close()  # otherwise the kernel would go on accepting connections
        for worker in self.workers:
            worker.process.terminate()

    def hear(self) -> None:
        """Note which workers are ready; tell it once, when all are."""
        for worker in self.workers:
            if not worker.is_ready and worker.pipe.poll():
                try:
                    line, failure = worker.pipe.recv()
                except EOFError:  # it ended before
                    continue
                if failure is not None and self.is_serving:
                    print(f"mtcl: {failure}", file=sys.stderr)
                elif failure is not None:
                    self.failure = failure
                    self.stop(signal.SIGTERM, None)
                else:
                    worker.is_ready = True
                if not self.is_told and all(w.is_ready for w in self.workers):
                    self.is_told = True
                    self.tell(f"{line} with {self.num_workers} workers")

    def bury(self) -> int:
        """Remove workers that have ended. Returns an exit code above 0 if the server ends because of one."""
        from prometheus_client.multiprocess import mark_process_dead

        code = 0
        for worker in [w for w in self.workers if not w.process.is_alive()]:
            self.workers.remove(worker)
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
            ended = worker.process.exitcode or 0
            if self.is_serving or (self.stopped_at is None and worker.is_ready):
                print(f"mtcl: a worker ended with exit code {ended}; starting another", file=sys.stderr)
                self.retry_at = 0.0 if worker.is_ready else time.monotonic() + RETRY_S
                if not self.is_told:
                    self.workers.append(self.start())
            elif ended and not (self.stopped_at and not worker.is_ready):
                code = ended if ended > 0 else 128 - ended
                self.stop(signal.SIGTERM, None)
        return code


def run_worker(config: ServeConfig, bound_socket: socket.socket, ready: Any) -> None:
    """Run a worker in this process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        serve(config, bound_socket, lambda line: ready.send((line, None)))
    except MtclError as error:  # of all workers, which the parent reports once
        ready.send(("", str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
