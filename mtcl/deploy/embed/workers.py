"""Several processes on one machine, each on its own device: each takes the next input that no other one works on, and
helps with the windows of others when there is none left (`mtcl.deploy.embed.shard_run`).

On a CPU, the processes share its threads. They tell the first process what they have done through pipes. They end when
it ends (`mtcl.processes`), and it stops all of them if one fails; what is finished stays.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from mtcl.deploy.embed.computing import Choice, Computer
from mtcl.deploy.embed.progress import OnProgress
from mtcl.deploy.embed.run import Done, Job
from mtcl.deploy.embed.settings import Settings
from mtcl.deploy.embed.shards import Shard
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import DataError, MtclError, RankError
from mtcl.processes import out_of_reach_of_interrupts, stay_with_rank

log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class EncoderSource:
    """The encoder as a process loads it."""

    path: str
    choice: Choice
    trust_checkpoint: bool = False

    def load(self, device: str | None = None) -> Computer:
        """Load it on a device; None chooses the best one."""
        encoder = TextEncoder.load(self.path, device=device, trust_checkpoint=self.trust_checkpoint)
        return Computer.of(encoder, self.choice)


def num_devices() -> int:
    """GPUs, or 1 for the CPU."""
    return max(1, torch.cuda.device_count())


def embed_in_processes(
    job: Job,
    source: EncoderSource,
    settings: Settings,
    left: Sequence[Shard],
    *,
    num_processes: int,
    report: OnProgress,
) -> Done:
    """Embed the inputs in several processes. Raises the error of a process that fails."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // num_processes)
    on_cpu = not torch.cuda.is_available()
    job = replace(job, tokenize_apart=job.tokenize_apart and not on_cpu)  # the CPU has enough to do
    processes: list[Any] = []
    pipes: list[Connection] = []
    try:
        for number in range(num_processes):
            device = "cpu" if on_cpu else f"cuda:{number % num_devices()}"
            pipe, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(theirs, job, source, settings, list(left), device, threads), name=f"embed {number}"
            )
            with out_of_reach_of_interrupts():
                process.start()
            theirs.close()
            processes.append(process)
            pipes.append(pipe)
        return _follow(pipes, report)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(5)
            process.kill()


def _follow(pipes: list[Connection], report: OnProgress) -> Done:
    total, open_pipes = Done(), list(pipes)
    while open_pipes:
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection)
            try:
                told = pipe.recv()
            except EOFError as error:
                raise RankError("an embedding process has ended early: run the same command again") from error
            if isinstance(told, MtclError):
                raise told
            if isinstance(told, Done):
                total += replace(told, elsewhere=0)
                open_pipes.remove(pipe)
            else:
                report(*told)
    return total


def _work(
    pipe: Connection, job: Job, source: EncoderSource, settings: Settings, left: list[Shard], device: str, threads: int
) -> None:
    """The main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    stay_with_rank(0)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizers' threads
    try:
        done = job.embed(left, source.load(device), settings, lambda rows, read: pipe.send((rows, read)))
        pipe.send(done)
    except MtclError as error:
        pipe.send(error)
    except OSError as error:
        pipe.send(DataError(f"{error.strerror}: {error.filename or error}"))
