"""Dynamic batching: texts of all waiting requests go through one forward pass, up to a number of tokens.

The event loop admits requests, has them tokenised (`tokenising.py`) and waits. One thread computes: whenever it is
free, it takes the waiting texts (`waiting.py`). Texts of all tasks, roles and lengths share the forward pass, and heads
are applied to its rows afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from mtcl.arrays import FloatArray, Ragged, offsets_of
from mtcl.deploy.serve.dialects import Direction
from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.metrics import Metrics
from mtcl.deploy.serve.prompts import ChosenPrompt
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.deploy.serve.tokenising import Tokenising
from mtcl.deploy.serve.waiting import Job, Last, Slice, Waiting
from mtcl.encoder.heads import through
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.encoder.text_encoder import TextEncoder

log = logging.getLogger("mtcl")
TOKENS_PER_TRIM = 1 << 15
"""Free memory is returned to the system after this many tokens; otherwise the heap grows with batches of varying sizes
(docs/serve.md).
"""


class Batcher:
    """Embeds the texts of many requests at once. `async with` starts and ends its threads.

    `num_threads` is the number of torch's threads in the forward pass; None does not change it.
    """

    def __init__(
        self, encoder: TextEncoder, limits: Limits, metrics: Metrics, *, num_threads: int | None = None
    ) -> None:
        self.encoder, self.limits, self.metrics, self.num_threads = encoder, limits, metrics, num_threads
        self.num_waiting = 0
        """Texts that are accepted and not yet answered."""
        self.waiting = Waiting(limits.max_batch_tokens)
        self._tokenising = Tokenising(encoder.tokenizer, metrics)
        self._is_abandoned = False
        self._computing = threading.Thread(target=self._compute, name="compute", daemon=True)

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.get_running_loop()
        self._computing.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.waiting.close()
        self.abandon()
        await self._loop.run_in_executor(None, self._computing.join)
        self._tokenising.close()

    @property
    def is_alive(self) -> bool:
        """Whether the computing thread runs."""
        return self._computing.is_alive()

    def check_space(self, num_texts: int) -> None:
        """Raise `RefusedError` if the queue has no room for this many texts."""
        if self.num_waiting + num_texts > self.limits.max_queue:
            raise RefusedError(
                Reason.OVERLOADED,
                f"the queue is full: {self.num_waiting} of {self.limits.max_queue} texts wait; try again later",
            )

    async def embed(
        self,
        texts: Sequence[str],
        choice: ChosenPrompt,
        *,
        dim: int | None = None,
        truncate: bool = True,
        direction: Direction | None = None,
    ) -> tuple[FloatArray, int]:
        """(T, D) vectors of texts, and their number of tokens. Raises `RefusedError`.

        If the waiting task is cancelled, texts that no batch has taken yet are dropped.
        """
        self.check_space(len(texts))
        self._count(len(texts))
        job = None
        try:
            started = time.perf_counter()
            tokens = await self._tokenising.tokens_of(texts, choice, truncate=truncate, direction=direction)
            self.metrics.tokenization_duration.observe(time.perf_counter() - started)
            if self._is_abandoned:
                raise _shutting_down()
            size = self.encoder.dim_of(choice.task)
            job = Job(tokens, choice.task, dim, self._loop.create_future(), np.empty((len(tokens), size), np.float32))
            self.waiting.add(job)
            await job.done
            self._observe(job, started)
            return job.vectors_TD, len(tokens.values)
        finally:
            self._count(-len(texts))
            if job is not None:
                job.is_dropped = True

    def abandon(self) -> None:
        """Refuse all jobs that are not finished."""
        self._is_abandoned = True
        for job in self.waiting.clear():
            _fail(job, _shutting_down())

    def _count(self, num_texts: int) -> None:
        self.num_waiting += num_texts
        self.metrics.queue_size.inc(num_texts)
        if num_texts > 0:
            self.metrics.embed_count.inc(num_texts)

    def _observe(self, job: Job, started: float) -> None:
        now = time.perf_counter()
        self.metrics.queue_duration.observe(job.started_at - job.queued_at)
        self.metrics.inference_duration.observe(now - job.started_at)
        self.metrics.embed_duration.observe(now - started)
        self.metrics.embed_success.inc(len(job.tokens))

    def _compute(self) -> None:
        """Compute batch after batch until the batcher ends; the life of the computing thread."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        num_tokens, last = 0, Last()
        while (batch := self.waiting.next_batch(last)) is not None:
            started = time.perf_counter()
            num_tokens += sum(len(part.values) for part in batch)
            try:
                self._embed(batch)
            except Exception as error:
                self._embed_alone(batch, error)
            jobs = dict.fromkeys(part.job for part in batch)  # one may have several slices of the batch
            finished = [job for job in jobs if job.num_embedded == len(job.tokens)]
            for job in finished:
                if job.dim is not None:
                    job.vectors_TD = F.normalize(torch.from_numpy(job.vectors_TD[:, : job.dim]), dim=1).numpy()
            if finished:
                self._loop.call_soon_threadsafe(_finish, finished)
            last = Last(sum(map(len, batch)), time.perf_counter() - started)
            if num_tokens >= TOKENS_PER_TRIM:
                num_tokens = 0
                trim_heap()

    def _embed(self, batch: list[Slice]) -> None:
        """Write the vectors of a batch into its jobs."""
        tokens = Ragged(
            offsets_of(np.concatenate([part.lengths for part in batch])),
            np.concatenate([part.values for part in batch]),
        )
        self.metrics.batch_size.observe(len(tokens))
        self.metrics.batch_tokens.observe(len(tokens.values))
        shared_TD = self.encoder.embed(tokens)
        if not bool(torch.isfinite(shared_TD).all()):
            raise ValueError("a vector is not finite")
        rows = torch.split(shared_TD, [len(part) for part in batch])
        for task in {part.job.task for part in batch}:
            own = [index for index, part in enumerate(batch) if part.job.task == task]
            with torch.no_grad():
                vectors_TD = through(self.encoder.heads.get(task or ""), torch.cat([rows[index] for index in own]))
            for index, vectors_nD in zip(
                own, torch.split(vectors_TD, [len(batch[index]) for index in own]), strict=True
            ):
                part = batch[index]
                part.job.vectors_TD[part.start : part.end] = vectors_nD.numpy()
        for part in batch:
            part.job.num_embedded += len(part)

    def _embed_alone(self, batch: list[Slice], error: Exception) -> None:
        """After a batch has failed: each job by itself, so that only those at fault fail."""
        if len(batch) == 1:
            log.error("a forward pass failed: %s: %s", type(error).__name__, error, exc_info=error)
            refusal = RefusedError(Reason.BACKEND, "the encoder failed on this request; the server's log says why")
            self._loop.call_soon_threadsafe(_fail, batch[0].job, refusal)
            return
        for part in batch:
            try:
                self._embed([part])
            except Exception as own_error:
                self._embed_alone([part], own_error)


def _shutting_down() -> RefusedError:
    return RefusedError(Reason.UNHEALTHY, "the server shuts down: send the request again")


def _finish(jobs: list[Job]) -> None:
    """Wake up those who wait for jobs; runs in the event loop."""
    for job in jobs:
        if not job.done.done():
            job.done.set_result(None)


def _fail(job: Job, error: RefusedError) -> None:
    job.is_dropped = True
    if not job.done.done():
        job.done.set_exception(error)
