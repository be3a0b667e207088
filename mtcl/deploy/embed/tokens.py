"""Tokenises windows in another process, while this one computes the vectors of the window before.

The process is started with the second window, so a small input does not wait for it. At most one window is in flight,
so the two processes cannot block each other. It ends with this process, however that happens, because its pipe closes.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mtcl.arrays import Ragged
from mtcl.errors import RankError
from mtcl.processes import out_of_reach_of_interrupts

if TYPE_CHECKING:
    from mtcl.data.tokenizer import Tokenizer

Item = TypeVar("Item")


class TokenProcess:
    """A tokenizer, in this process until `start` and in another one afterwards."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, *, is_apart: bool = True) -> None:
        self.tokenizer, self.max_length, self.is_apart = tokenizer, max_length, is_apart
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._process.join(1)
            self._process.kill()
            self._process.join()

    def each(self, items: Iterable[Item], texts_of: Callable[[Item], list[str]]) -> Iterator[tuple[Item, Ragged]]:
        """Each item with the tokens of its texts; the next item is tokenised while the caller works."""
        before: Item | None = None
        for number, item in enumerate(items):
            if number == 0 or not self.is_apart:
                yield item, self.tokenizer(texts_of(item), self.max_length)
                continue
            if before is not None:
                tokens = self._receive()
                self._send(texts_of(item))
                yield before, tokens
            else:
                self._send(texts_of(item))
            before = item
        if before is not None:
            yield before, self._receive()

    def _send(self, texts: list[str]) -> None:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(texts)
        except OSError as error:
            raise self._ended() from error

    def _receive(self) -> Ragged:
        assert self._pipe is not None
        try:
            found: Ragged = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        return found

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.tokenizer, self.max_length)
        self._process = context.Process(target=answer, args=arguments, name="tokenizer")
        with out_of_reach_of_interrupts():
            self._process.start()
        theirs.close()

    def _ended(self) -> RankError:
        self._process.join(1)
        return RankError(
            f"the tokenising process has ended (exit code {self._process.exitcode}): run the command again"
        )


def answer(pipe: Connection, tokenizer: Tokenizer, max_length: int) -> None:
    """The other process: answers texts with tokens until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they may reach all processes of a group; the first one decides
        signal.signal(number, signal.SIG_IGN)
    try:
        while True:
            pipe.send(tokenizer(pipe.recv(), max_length))
    except (EOFError, OSError):
        return
