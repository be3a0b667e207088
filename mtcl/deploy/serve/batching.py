"""Dynamic batching: texts of all waiting requests go through one forward pass, up to a number of tokens.

Three threads share the work. The event loop admits requests, tokenises short ones, and waits. One thread tokenises
longer ones (a tokenizer's settings are not safe to change from two, so there is a lock). One thread computes: whenever
it is free, it takes the waiting texts. If these are fewer than in the previous batch, it first waits for a moment,
because clients that have just received an answer send their next request; the first of these would otherwise be
computed alone, at several times the cost per text. Every waiting request gets the same share of a batch, so a long
request does not delay short ones. Texts of all tasks, roles and lengths share the forward pass, and heads are applied
to its rows afterwards.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional as F

from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.deploy.serve.dialects import Direction
from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.metrics import Metrics
from mtcl.deploy.serve.prompts import Choice
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.encoder.heads import through
from mtcl.encoder.malloc_trim import trim_heap
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.types import FloatArray, IntArray, Ragged, offsets_of

log = logging.getLogger("mtcl")
CHARACTERS_AT_ONCE = 2048
"""Shorter requests are tokenised in the event loop if the tokenizer is free: some 0.1 ms, less than a thread costs."""
PATIENCE = 0.1
"""How long a batch waits for as many texts as the previous one had, as a share of the previous batch's time."""
TOKENS_PER_TRIM = 1 << 15
"""Free memory is returned to the system after this many tokens; otherwise the heap grows with batches of varying sizes
(docs/serve.md).
"""


@dataclass(eq=False)
class Job:
    """A request's tokenised texts.

    Attributes:
        tokens: The texts, T of them.
        task: Whose head applies.
        dim: Leading dimensions to keep; None for all.
        done: Resolved when the last text is embedded.
        vectors_TD: The vectors so far.
        num_taken, num_embedded: Texts that a batch has taken, and those that are embedded.
        is_dropped: Whether nobody waits for it any more.
    """

    tokens: Ragged
    task: str | None
    dim: int | None
    done: asyncio.Future[None]
    vectors_TD: FloatArray
    num_taken: int = 0
    num_embedded: int = 0
    is_dropped: bool = False
    queued_at: float = field(default_factory=time.perf_counter)
    started_at: float = 0.0

    def take(self, num_tokens: int) -> Slice:
        """The next texts: as many as fit into `num_tokens`, but at least one."""
        start, offsets = self.num_taken, self.tokens.offsets
        fitting = int(np.searchsorted(offsets, offsets[start] + num_tokens, side="right")) - 1
        self.num_taken = min(max(fitting, start + 1), len(self.tokens))
        self.started_at = self.started_at or time.perf_counter()
        return Slice(self, start, self.num_taken)


@dataclass(frozen=True)
class Slice:
    """The texts of a job from `start` to `end`."""

    job: Job
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def lengths(self) -> IntArray:
        """Tokens of each text."""
        return np.diff(self.job.tokens.offsets[self.start : self.end + 1])

    @property
    def values(self) -> IntArray:
        """Token ids of all texts."""
        offsets = self.job.tokens.offsets
        return self.job.tokens.values[offsets[self.start] : offsets[self.end]]


@dataclass(frozen=True)
class Last:
    """The batch before: its texts, and the seconds that it took."""

    num_texts: int = 0
    seconds: float = 0.0


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
        self._tokenizers: dict[Direction, Tokenizer] = {_side(encoder.tokenizer): encoder.tokenizer}
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_open, self._is_abandoned = True, False
        self._tokenizer_lock = threading.Lock()
        self._tokenising = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._computing = threading.Thread(target=self._compute, name="compute", daemon=True)

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.get_running_loop()
        self._computing.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self.abandon()
        await self._loop.run_in_executor(None, self._computing.join)
        self._tokenising.shutdown(wait=False, cancel_futures=True)

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
        choice: Choice,
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
            tokens = await self._tokenised(texts, choice, truncate, direction)
            self.metrics.tokenization_duration.observe(time.perf_counter() - started)
            if self._is_abandoned:
                raise _shutting_down()
            size = self.encoder.dim_of(choice.task)
            job = Job(tokens, choice.task, dim, self._loop.create_future(), np.empty((len(tokens), size), np.float32))
            with self._changed:
                self._jobs.append(job)
                self._changed.notify()
            await job.done
            self._observe(job, started)
            return job.vectors_TD, len(tokens.values)
        finally:
            self._count(-len(texts))
            if job is not None:
                job.is_dropped = True

    def abandon(self) -> None:
        """Refuse all jobs that are not finished."""
        with self._changed:
            self._is_abandoned = True
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
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

    async def _tokenised(
        self, texts: Sequence[str], choice: Choice, truncate: bool, direction: Direction | None
    ) -> Ragged:
        given = (texts, choice, truncate, direction)
        if sum(map(len, texts)) <= CHARACTERS_AT_ONCE and self._tokenizer_lock.acquire(blocking=False):
            try:
                return self._tokens(*given)
            finally:
                self._tokenizer_lock.release()
        return await self._loop.run_in_executor(self._tokenising, self._tokens_locked, *given)

    def _tokens_locked(
        self, texts: Sequence[str], choice: Choice, truncate: bool, direction: Direction | None
    ) -> Ragged:
        with self._tokenizer_lock:
            return self._tokens(texts, choice, truncate, direction)

    def _tokens(self, texts: Sequence[str], choice: Choice, truncate: bool, direction: Direction | None) -> Ragged:
        """Ids of texts with their prompt, cut as by `TextEncoder.encode`. Its caller has the tokenizer's lock."""
        whole = [choice.prompt + text for text in texts]
        tokenizer = self._tokenizer(direction)
        most = choice.max_length
        cut = [text[-MAX_CHARACTERS:] if direction == "left" else text[:MAX_CHARACTERS] for text in whole]
        tokens = tokenizer(cut, most)
        if not truncate and (int(tokens.lengths().max()) == most or any(len(text) > MAX_CHARACTERS for text in whole)):
            self._check_length(tokenizer(whole, 1 << 20), most)
        for length in tokens.lengths().tolist():
            self.metrics.input_length.observe(length)
        return tokens

    def _check_length(self, tokens: Ragged, most: int) -> None:
        lengths = tokens.lengths()
        if (longest := int(lengths.max())) > most:
            at = f" (text {int(lengths.argmax())})" if len(lengths) > 1 else ""
            raise RefusedError(
                Reason.TOO_LONG, f"`inputs` must have at most {most} tokens. Given: {longest}{at}; truncate is false"
            )

    def _tokenizer(self, direction: Direction | None) -> Tokenizer:
        """A tokenizer that cuts texts at that end; a second one is made when it is first asked for."""
        own = self.encoder.tokenizer
        if direction is None:
            return own
        if direction not in self._tokenizers:
            backend = copy.deepcopy(own.backend)
            backend.truncation_side = direction
            self._tokenizers[direction] = replace(own, backend=backend)
        return self._tokenizers[direction]

    def _compute(self) -> None:
        """Compute batch after batch until the batcher ends; the life of the computing thread."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        num_tokens, last = 0, Last()
        while (batch := self._next_batch(last)) is not None:
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

    def _next_batch(self, last: Last) -> list[Slice] | None:
        """What is waiting, up to a batch's tokens; waits for a first job, and a moment for more. None at the end."""
        with self._changed:
            while True:
                while self._is_open and not self._drop():
                    self._changed.wait()
                until = time.perf_counter() + PATIENCE * last.seconds
                while self._is_open and not self._is_enough(last) and (left := until - time.perf_counter()) > 0:
                    self._changed.wait(left)
                if self._drop():  # their clients may have left in the meantime
                    return self._take()
                if not self._is_open:
                    return None

    def _drop(self) -> int:
        """Remove jobs that nobody waits for; returns how many are left."""
        self._jobs = deque(job for job in self._jobs if not job.is_dropped)
        return len(self._jobs)

    def _is_enough(self, last: Last) -> bool:
        """Whether a batch has as many texts as the last one, or is full."""
        num_texts = num_tokens = 0
        for job in self._jobs:
            num_texts += len(job.tokens) - job.num_taken
            num_tokens += int(job.tokens.offsets[-1] - job.tokens.offsets[job.num_taken])
            if num_texts >= last.num_texts or num_tokens >= self.limits.max_batch_tokens:
                return True
        return False

    def _take(self) -> list[Slice]:
        """Slices of the waiting jobs: an equal share for each, in turn, until the batch is full."""
        left = self.limits.max_batch_tokens
        share = max(1, left // len(self._jobs))
        batch: list[Slice] = []
        while self._jobs and left > 0:
            job = self._jobs.popleft()
            part = job.take(min(share, left))
            num_tokens = len(part.values)
            if batch and num_tokens > left:  # one text, longer than what is left: it comes first in the next batch
                job.num_taken = part.start
                self._jobs.appendleft(job)
                break
            left -= num_tokens
            batch.append(part)
            if job.num_taken < len(job.tokens):
                self._jobs.append(job)
        return batch

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


def _side(tokenizer: Tokenizer) -> Direction:
    return "left" if tokenizer.backend.truncation_side == "left" else "right"


def _finish(jobs: list[Job]) -> None:
    """Wake up those who wait for jobs; runs in the event loop."""
    for job in jobs:
        if not job.done.done():
            job.done.set_result(None)


def _fail(job: Job, error: RefusedError) -> None:
    job.is_dropped = True
    if not job.done.done():
        job.done.set_exception(error)
