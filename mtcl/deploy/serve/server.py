"""One worker: loads the model and serves it on a bound socket until a signal ends it (`stopping.py`)."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mtcl.deploy.serve.limits import Limits
from mtcl.encoder.paths import is_hub_name
from mtcl.errors import ConfigError, at

if TYPE_CHECKING:
    from mtcl.encoder.precision import Precision

BACKLOG = 2048
SWITCH_INTERVAL_S = 0.001
"""How long a thread keeps the interpreter while another wants it. Python's 5 ms would make the computing thread wait
that long for the event loop after many of its operations."""


@dataclass(frozen=True)
class ServeConfig:
    """The options of a worker.

    Attributes:
        path: A run folder, a .ckpt file or a model's folder or name.
        name: The model's name in requests and answers.
        device: Where to compute; by default a GPU if there is one.
        precision: What to compute in.
        num_threads: Threads of the forward pass; torch's own number if None.
        api_key: What clients must send; None for no check.
        limits: The limits of requests and of the queue.
        grace_s: How long the end may take.
        trust_checkpoint: Run code from the base model's repository if the run did.
    """

    path: str
    name: str
    device: str | None = None
    precision: Precision = "float32"
    num_threads: int | None = None
    api_key: str | None = None
    limits: Limits = field(default_factory=Limits)
    grace_s: float = 30.0
    trust_checkpoint: bool = False


def check_installed() -> None:
    """Raise `ConfigError` if the extra `serve` is not installed."""
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"mtcl serve needs {error.name}: pip install 'mtcl[serve]'") from error


def check_exists(path: str) -> None:
    """Raise `ConfigError` if there is no such file or folder, before anything slow is imported."""
    if not Path(path).expanduser().exists() and not is_hub_name(path):
        raise ConfigError(f"{path} does not exist: give a run folder, a .ckpt file or a model's folder or name")


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not yet listening. Raises `ConfigError` if the address is not free."""
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port is {port}: give 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot serve on {host}:{port} ({reason}): give another --host or --port") from error
    return found


def address_of(bound_socket: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = bound_socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _http() -> str:
    """The protocol for uvicorn: by httptools if it is installed, as with the extra `serve`, otherwise by h11."""
    return "auto" if importlib.util.find_spec("httptools") is None else "mtcl.deploy.serve.http:HttpProtocol"


def serve(config: ServeConfig, bound_socket: socket.socket, tell: Callable[[str], None]) -> None:
    """Load the model and serve it until a signal ends it. `tell` gets one line when the server is ready.

    Raises `KeyboardInterrupt` if a second SIGINT ended it before its requests were answered.
    """
    import torch
    import uvicorn

    from mtcl.deploy.serve.app import App
    from mtcl.deploy.serve.stopping import Server
    from mtcl.encoder.text_encoder import TextEncoder, best_device

    with at(device="--device"):
        device = best_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    encoder = TextEncoder.load(
        config.path, device=device, precision=config.precision, trust_checkpoint=config.trust_checkpoint
    )
    app = App(encoder, name=config.name, limits=config.limits, api_key=config.api_key, num_threads=config.num_threads)
    tasks = ", ".join(encoder.prompts) or "none"
    ready = (
        f"serving {config.name} on {address_of(bound_socket)} (tasks: {tasks}; dimensions: "
        f"{', '.join(map(str, encoder.dims_of(None)))}; fingerprint: {app.info['fingerprint']})"
    )

    server = Server(
        uvicorn.Config(
            app.starlette,
            http=_http(),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(config.grace_s) + 5,
        ),
        app,
        grace_s=config.grace_s,
        on_ready=lambda: tell(ready),
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(server.serve(sockets=[bound_socket]))
    if server.force_exit:
        raise KeyboardInterrupt
