"""`mtcl` in processes of their own that need not import the libraries again.

Importing PyTorch, Lightning and transformers takes more time than all the rest of a short run. So one process for each
pytest worker imports them, and forks for each command. From there on everything is as in `python -m mtcl`: own process
id, folder, environment, signals, exit handlers and exit code; mtcl itself is imported by the command.

`MTCL_FORK=0` starts `python -m mtcl` instead, as `make nightly` does, and so does any system but Linux.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    *("lightning.pytorch.cli", "pandas", "pyarrow.parquet", "safetensors.torch", "torch.utils.tensorboard"),
    *("transformers.modeling_layers", "transformers.models.bert.modeling_bert"),
)
FORKS = sys.platform == "linux" and os.environ.get("MTCL_FORK") != "0"
ENVIRONMENT = dict(os.environ)
"""As it was before any test."""
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
MAX_BYTES = 100_000
"""Of a message with the arguments and the environment of a command."""


class Server:
    """The process that has imported the libraries, as the tests see it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                cwd=ROOT,
                env=ENVIRONMENT | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # Python asks once whether it can seek in its output, and a command's is a pipe
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.codes: dict[int, int] = {}
        self.owner = os.getpid()
        atexit.register(self.end)

    def end(self) -> None:
        if os.getpid() == self.owner:  # not in a process that a test has forked
            self.connection.close()
            self.process.communicate(timeout=10)

    def start(self, request: dict[str, Any], outputs: list[int]) -> int:
        """The process id of a new command."""
        socket.send_fds(self.connection, [json.dumps(request).encode()], outputs)
        while (pid := self._read()) is None:
            pass
        self.codes.pop(pid, None)  # of an earlier process with this id
        return pid

    def code(self, pid: int, timeout_s: float) -> int | None:
        """The exit code as `Popen` has it; None if the process still runs after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while pid not in self.codes:
            if not select.select([self.connection], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            self._read()
        return self.codes[pid]

    def _read(self) -> int | None:
        """Read one message: the id of a new process, or that one has ended."""
        message = self.connection.recv(MAX_BYTES)
        if not message:
            raise RuntimeError(f"the process that forks for each command has ended: {self.process.communicate()[0]}")
        content = json.loads(message)
        if "code" not in content:
            return int(content["pid"])
        self.codes[content["pid"]] = content["code"]
        return None


_servers: list[Server] = []


class Command:
    """A command that runs; the methods are those of `subprocess.Popen`.

    What it writes is appended to `log`. Without one, `communicate` gives it, once all that hold it open have ended.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        folder: Path,
        environment: dict[str, str],
        session: bool = False,
        log: Path | None = None,
    ) -> None:
        self.args = [sys.executable, "-m", "mtcl", *arguments]
        self.popen: subprocess.Popen[bytes] | None = None
        self.returncode: int | None = None
        pipes = [os.pipe(), os.pipe()] if log is None else [(os.dup(0), os.open(log, APPEND)) for _ in range(2)]
        self.outputs = [os.fdopen(read, "rb", buffering=0) for read, _ in pipes]
        out, err = (write for _, write in pipes)
        if FORKS:
            sys.audit("subprocess.Popen", sys.executable, self.args, folder, environment)
            if not _servers:
                _servers.append(Server())
            request = {"arguments": arguments, "folder": str(folder), "environment": environment, "session": session}
            self.pid = _servers[0].start(request, [out, err])
        else:
            self.popen = subprocess.Popen(
                self.args, cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=session
            )
            self.pid = self.popen.pid
        for write in (out, err):
            os.close(write)

    def poll(self) -> int | None:
        self.returncode = self.popen.poll() if self.popen else _servers[0].code(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        self.returncode = self.popen.wait(timeout) if self.popen else _servers[0].code(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Standard output and standard error, with the line ends of `text=True`."""
        until = time.monotonic() + timeout
        content = dict.fromkeys(self.outputs, b"")
        opened = list(self.outputs)
        while opened:
            ready = select.select(opened, [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout)
            for file in ready:
                more = file.read(65536) or b""
                content[file] += more
                if not more:
                    opened.remove(file)
                    file.close()
        self.wait(max(0.0, until - time.monotonic()))
        out, err = (io.TextIOWrapper(io.BytesIO(content[file]), encoding="utf-8").read() for file in self.outputs)
        return out, err


def serve(connection: socket.socket) -> None:
    """Fork for each request and tell how each command ends; return in the commands, and when the tests are over."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pages that the collector does not write to are shared
    ended, wakes = socket.socketpair()
    wakes.setblocking(False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    while True:
        ready = select.select([connection, ended], [], [])[0]
        if ended in ready:
            ended.recv(4096)
            _tell_ended(connection)
        if connection not in ready:
            continue
        message, outputs, _, _ = socket.recv_fds(connection, MAX_BYTES, 2)
        if not message:
            return
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, before)
            for opened in (connection, ended, wakes):
                opened.close()
            _become(json.loads(message), outputs)
            return
        for output in outputs:
            os.close(output)
        connection.send(json.dumps({"pid": pid}).encode())


def _tell_ended(connection: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        connection.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: dict[str, Any], outputs: list[int]) -> None:
    """Be `python -m mtcl` with its arguments, in its folder, with its environment and its outputs."""
    if request["session"]:
        os.setsid()
    for output, number in zip(outputs, (1, 2), strict=True):
        os.dup2(output, number)
        os.close(output)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    sys.argv = ["mtcl", *request["arguments"]]
    runpy.run_module("mtcl", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
