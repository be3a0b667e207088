"""`mtcl serve RUN`: serve embeddings over HTTP, with OpenAI's interface and that of TEI."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import logging
import math
import os
import sys
from pathlib import Path

from mtcl.commands.arguments import Parser
from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.server import ServeConfig, bound, check_exists, check_installed, serve
from mtcl.errors import ConfigError, at

KEY = "MTCL_API_KEY"
log = logging.getLogger("mtcl")


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_args(arguments)
    config = config_of(options)
    check_installed()
    check_exists(config.path)
    with bound(options.host, options.port) as bound_socket:
        _show_log()
        if config.api_key is None and not _is_local(options.host):
            log.warning("anyone who reaches %s can use the server: set %s to ask for a key", options.host, KEY)
        if options.workers == 1:
            serve(config, bound_socket, _tell)
            return 0
        from mtcl.deploy.serve.workers import serve_all

        return serve_all(config, bound_socket, options.workers, _tell)


def config_of(options: argparse.Namespace) -> ServeConfig:
    """The configuration of a worker, from the options. Raises `ConfigError` if they are not valid."""
    for name, least in (("workers", 1), ("threads", 1), ("grace_s", 0)):
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:  # nan too
            raise ConfigError(f"--{name} is {value}: give {least} or more")
    with at("--"):
        limits = Limits(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)})
    api_key = options.api_key if options.api_key is not None else os.environ.get(KEY)
    api_key = None if api_key is None else api_key.strip()  # a secret often ends with a line break
    if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
        raise ConfigError(
            f"the API key is empty, or has a line break or another character that no header can have: give another "
            f"--api_key or {KEY}"
        )
    threads = options.threads
    if threads is None and options.workers > 1:
        threads = max(1, _num_cores() // options.workers)
    return ServeConfig(
        path=options.path,
        name=options.name or _name_of(options.path),
        device=options.device,
        precision=options.precision,
        num_threads=threads,
        api_key=api_key,
        limits=limits,
        grace_s=options.grace_s,
        trust_checkpoint=options.trust_checkpoint,
    )


def _name_of(path: str) -> str:
    """The name of a run, also of a link to it, which clients keep while the link moves to another run."""
    return Path(os.path.normpath(Path(path).expanduser().absolute())).name.removesuffix(".ckpt")


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tell(line: str) -> None:
    print(line, flush=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show_log() -> None:
    """Print mtcl's log lines plainly on standard error; `quiet_libraries` would import Lightning, which a server does
    not need.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__, epilog="docs/serve.md describes routes and limits.")
    parser.add_argument("path", metavar="RUN", help="run folder (its best checkpoint), .ckpt, or folder of a model")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on; 0.0.0.0 for all (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0 for any free one (default: %(default)s)")
    parser.add_argument("--name", help="the model's name in requests and answers (default: that of RUN)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument(
        "--precision",
        choices=["float32", "bf16"],
        default="float32",
        help="precision to compute in (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, help="threads of a worker's forward pass (default: cores / workers)")
    parser.add_argument("--workers", type=int, default=1, help="processes with a model each (default: %(default)s)")
    texts = {
        "max_batch_tokens": "tokens of one forward pass",
        "max_queue": "texts of a worker that are accepted and not yet answered; more are refused with 429",
        "max_items": "texts of one request; more are refused with 413",
        "max_bytes": "bytes of one request's body; more are refused with 413",
    }
    for field in dataclasses.fields(Limits):
        text = f"{texts[field.name]} (default: %(default)s)"
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help=text)
    parser.add_argument("--api_key", help=f"what clients must send; better set {KEY}, which process lists do not show")
    parser.add_argument(
        "--grace_s", type=float, default=30.0, help="seconds to answer at the end (default: %(default)s)"
    )
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="let a base model run code from its repository if the run did"
    )
    return parser
