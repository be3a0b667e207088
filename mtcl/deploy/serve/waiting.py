"""The requests that wait for the encoder, and which of their texts the next batch takes.

Every waiting request gets the same share of a batch, so a long request does not delay short ones. If fewer texts wait
than the previous batch had, the next one waits for a moment, because clients that have just received an answer send
their next request; the first of these would otherwise be computed alone, at several times the cost per text.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged

PATIENCE = 0.1
"""How long a batch waits for as many texts as the previous one had, as a share of the previous batch's time."""


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


class Waiting:
    """The jobs of which some text is in no batch yet, for batches of at most `max_tokens`. Threads may share it."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_open = True

    def add(self, job: Job) -> None:
        """Put a job at the end of the queue."""
        with self._changed:
            self.jobs.append(job)
            self._changed.notify()

    def clear(self) -> list[Job]:
        """Take all jobs out of the queue."""
        with self._changed:
            jobs = list(self.jobs)
            self.jobs.clear()
        return jobs

    def close(self) -> None:
        """Batches no longer wait for anything: when no job is left, `next_batch` returns None."""
        with self._changed:
            self._is_open = False
            self._changed.notify()

    def next_batch(self, last: Last) -> list[Slice] | None:
        """What is waiting, up to `max_tokens`; waits for a first job, and a moment for more. None at the end."""
        with self._changed:
            while True:
                while self._is_open and not self._drop():
                    self._changed.wait()
                until = time.perf_counter() + PATIENCE * last.seconds
                while self._is_open and not self.is_enough(last) and (left := until - time.perf_counter()) > 0:
                    self._changed.wait(left)
                if self._drop():  # their clients may have left in the meantime
                    return self._take()
                if not self._is_open:
                    return None

    def is_enough(self, last: Last) -> bool:
        """Whether a batch has as many texts as the last one, or is full."""
        num_texts = num_tokens = 0
        for job in self.jobs:
            num_texts += len(job.tokens) - job.num_taken
            num_tokens += int(job.tokens.offsets[-1] - job.tokens.offsets[job.num_taken])
            if num_texts >= last.num_texts or num_tokens >= self.max_tokens:
                return True
        return False

    def _drop(self) -> int:
        """Remove jobs that nobody waits for; returns how many are left."""
        self.jobs = deque(job for job in self.jobs if not job.is_dropped)
        return len(self.jobs)

    def _take(self) -> list[Slice]:
        """Slices of the waiting jobs: an equal share for each, in turn, until the batch is full."""
        left = self.max_tokens
        share = max(1, left // len(self.jobs))
        batch: list[Slice] = []
        while self.jobs and left > 0:
            job = self.jobs.popleft()
            part = job.take(min(share, left))
            num_tokens = len(part.values)
            if batch and num_tokens > left:  # one text, longer than what is left: it comes first in the next batch
                job.num_taken = part.start
                self.jobs.appendleft(job)
                break
            left -= num_tokens
            batch.append(part)
            if job.num_taken < len(job.tokens):
                self.jobs.append(job)
        return batch
