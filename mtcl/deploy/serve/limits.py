"""Limits of the server, so that no client can exhaust its memory or make the others wait for ever."""

from __future__ import annotations

from dataclasses import dataclass

from mtcl.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits of one worker process.

    Attributes:
        max_batch_tokens: Tokens in one forward pass. A text is never split, so a longer one gets its own pass.
        max_queue: Texts that are accepted and not yet answered; a request beyond it is refused with 429.
        max_items: Texts of one request; more are refused with 413.
        max_bytes: Bytes of one request's body; more are refused with 413.
    """

    max_batch_tokens: int = 16_384
    max_queue: int = 4096
    max_items: int = 2048
    max_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more")
        if self.max_queue < self.max_items:
            raise ConfigError(
                f"max_queue is {self.max_queue}, less than the {self.max_items} texts of one request (max_items): "
                "such a request would never be accepted"
            )
