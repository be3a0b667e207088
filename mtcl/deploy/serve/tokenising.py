"""Tokenises the texts of requests: short ones in the event loop, longer ones in a thread of its own.

A lock says whether the tokenizer is free: the event loop does not wait for the thread.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mtcl.arrays import Ragged
from mtcl.data.tokenizer import MAX_CHARACTERS, Tokenizer
from mtcl.deploy.serve.dialects import Direction
from mtcl.deploy.serve.metrics import Metrics
from mtcl.deploy.serve.prompts import ChosenPrompt
from mtcl.deploy.serve.refusal import Reason, RefusedError

CHARACTERS_AT_ONCE = 2048
"""Shorter requests are tokenised in the event loop if the tokenizer is free: some 0.1 ms, less than a thread costs."""


class Tokenising:
    """An encoder's tokenizer, and one that cuts texts at the other end if a request asks for it."""

    def __init__(self, tokenizer: Tokenizer, metrics: Metrics) -> None:
        self.metrics, self._own = metrics, tokenizer
        self._tokenizers: dict[Direction, Tokenizer] = {_side(tokenizer): tokenizer}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    def close(self) -> None:
        """End the thread. Texts that it has not begun stay without tokens."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def tokens_of(
        self, texts: Sequence[str], choice: ChosenPrompt, *, truncate: bool, direction: Direction | None
    ) -> Ragged:
        """Ids of the texts with their prompt, cut as by `TextEncoder.encode` or, with a `direction`, at that end.

        Raises `RefusedError` for a text that is too long, unless `truncate`.
        """
        given = (texts, choice, truncate, direction)
        if sum(map(len, texts)) <= CHARACTERS_AT_ONCE and self._lock.acquire(blocking=False):
            try:
                return self._tokens(*given)
            finally:
                self._lock.release()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._tokens_locked, *given)

    def _tokens_locked(
        self, texts: Sequence[str], choice: ChosenPrompt, truncate: bool, direction: Direction | None
    ) -> Ragged:
        with self._lock:
            return self._tokens(texts, choice, truncate, direction)

    def _tokens(
        self, texts: Sequence[str], choice: ChosenPrompt, truncate: bool, direction: Direction | None
    ) -> Ragged:
        """`tokens_of` for a caller that has the lock."""
        whole = [choice.prompt + text for text in texts]
        tokenizer = self._tokenizer(direction)
        most = choice.max_length
        cut = [tokenizer.shortened(text) for text in whole]
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
            return self._own
        if direction not in self._tokenizers:
            backend = copy.deepcopy(self._own.backend)
            backend.truncation_side = direction
            self._tokenizers[direction] = replace(self._own, backend=backend)
        return self._tokenizers[direction]


def _side(tokenizer: Tokenizer) -> Direction:
    return "left" if tokenizer.backend.truncation_side == "left" else "right"
