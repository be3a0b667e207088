"""Tokenises the texts of requests: short ones in the event loop, longer ones in a thread.

A tokenizer's settings are not safe to change from two threads, so there is a lock.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.deploy.serve.dialects import Direction
from mtcl.deploy.serve.metrics import Metrics
from mtcl.deploy.serve.prompts import Choice
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.types import Ragged

CHARACTERS_AT_ONCE = 2048
"""Shorter requests are tokenised in the event loop if the tokenizer is free: some 0.1 ms, less than a thread costs."""


class Tokenising:
    """Tokenises as `TextEncoder.encode` does. `close` ends its thread."""

    def __init__(self, own: Tokenizer, metrics: Metrics) -> None:
        self.own, self.metrics = own, metrics
        self._tokenizers: dict[Direction, Tokenizer] = {_side(own): own}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def tokens(
        self, texts: Sequence[str], choice: Choice, *, truncate: bool, direction: Direction | None
    ) -> Ragged:
        """The texts' tokens, with their prompt. They are cut at the end `direction`, the tokenizer's own if None.

        Raises `RefusedError` for a text that is too long, unless it may be truncated.
        """
        given = (texts, choice, truncate, direction)
        if sum(map(len, texts)) <= CHARACTERS_AT_ONCE and self._lock.acquire(blocking=False):
            try:
                return self._tokens(*given)
            finally:
                self._lock.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._tokens_locked, *given)

    def _tokens_locked(
        self, texts: Sequence[str], choice: Choice, truncate: bool, direction: Direction | None
    ) -> Ragged:
        with self._lock:
            return self._tokens(texts, choice, truncate, direction)

    def _tokens(self, texts: Sequence[str], choice: Choice, truncate: bool, direction: Direction | None) -> Ragged:
        """Its caller has the lock."""
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
        if direction is None:
            return self.own
        if direction not in self._tokenizers:
            backend = copy.deepcopy(self.own.backend)
            backend.truncation_side = direction
            self._tokenizers[direction] = replace(self.own, backend=backend)
        return self._tokenizers[direction]


def _side(tokenizer: Tokenizer) -> Direction:
    return "left" if tokenizer.backend.truncation_side == "left" else "right"
