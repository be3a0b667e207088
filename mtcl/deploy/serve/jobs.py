"""Requests that wait for their vectors, and how a batch is made of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mtcl.types import FloatArray, IntArray, Ragged


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


def has_enough(jobs: Iterable[Job], *, num_texts: int, num_tokens: int) -> bool:
    """Whether this many texts or tokens wait."""
    texts = tokens = 0
    for job in jobs:
        texts += len(job.tokens) - job.num_taken
        tokens += int(job.tokens.offsets[-1] - job.tokens.offsets[job.num_taken])
        if texts >= num_texts or tokens >= num_tokens:
            return True
    return False


def take_batch(jobs: deque[Job], max_tokens: int) -> list[Slice]:
    """Slices of the waiting jobs: an equal share for each, in turn, until the batch is full. Jobs whose texts are all
    taken leave the queue.
    """
    left = max_tokens
    share = max(1, left // len(jobs))
    batch: list[Slice] = []
    while jobs and left > 0:
        job = jobs.popleft()
        part = job.take(min(share, left))
        num_tokens = len(part.values)
        if batch and num_tokens > left:  # one text, longer than what is left: it comes first in the next batch
            job.num_taken = part.start
            jobs.appendleft(job)
            break
        left -= num_tokens
        batch.append(part)
        if job.num_taken < len(job.tokens):
            jobs.append(job)
    return batch
