"""JSON as a value, with integers of any length; Python refuses to convert long ones, which takes quadratic time."""

from __future__ import annotations

import json
from typing import Any

MAX_DIGITS = 4000
"""Python's own limit is 4,300 digits; it can be set lower, but not below 640."""


def json_value(content: str | bytes) -> Any:
    """The value of a JSON text; an integer of more than `MAX_DIGITS` digits stays text.

    Raises `ValueError` if it is not JSON or not UTF-8, `RecursionError` if it is nested too deeply.
    """
    return json.loads(content, parse_int=_whole)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits
