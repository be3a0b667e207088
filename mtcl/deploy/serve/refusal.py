"""Why a request is refused or has failed. Each dialect has its own status and body for it (`dialects.py`)."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Values are labels of the metric `te_request_failure`."""

    NOT_JSON = "json"
    MALFORMED = "validation"
    EMPTY = "empty"
    DIMENSIONS = "dimensions"
    TOO_LONG = "tokenizer"
    NO_KEY = "unauthorized"
    NO_MODEL = "model"
    NO_ROUTE = "route"
    NO_METHOD = "method"
    ENCODED = "encoding"
    TOO_MANY_BYTES = "bytes"
    TOO_MANY_ITEMS = "batch_size"
    LEFT = "disconnected"
    OVERLOADED = "overloaded"
    UNHEALTHY = "unhealthy"
    BACKEND = "backend"


class RefusedError(Exception):
    """A request that is not answered with vectors. `field` is the field of the body at fault, if it is one.

    Both may quote the request; half of a surrogate pair in them becomes an escape, since no answer can have it.
    """

    def __init__(self, reason: Reason, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.reason, self.message = reason, _encodable(message)
        self.field = None if field is None else _encodable(field)


def _encodable(text: str) -> str:
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
