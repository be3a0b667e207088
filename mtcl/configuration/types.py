"""Split the type of a key into the single values, lists, dicts and objects that it allows."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, cast

from torch import nn

LEAVES = (bool, int, float, str, Path, timedelta, NoneType)
"""Types of single values."""
PACKAGES = ("mtcl", "lightning")
"""Packages of the classes that a configuration names; the parser handles others, such as `Decimal`, itself."""


def members(hint: Any) -> list[Any]:
    """The types that a value may have: the members of a union, or the type itself."""
    if typing.get_origin(hint) is typing.Annotated:
        return members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return [member for part in typing.get_args(hint) for member in members(part)]
    return [hint]


@dataclass(frozen=True)
class Members:
    """The members of a type, grouped by kind.

    Attributes:
        leaves: Types of single values.
        classes: Classes of objects.
        record: The dataclass among them.
        item: The type of a list's items.
        entry: The types of a dict's keys and values.
        is_open: Whether there are other members that only the parser can check, for example functions.
    """

    leaves: tuple[Any, ...]
    classes: tuple[type, ...]
    record: type | None
    item: Any
    entry: tuple[Any, Any] | None
    is_open: bool

    @property
    def is_nested(self) -> bool:
        """Whether there are members besides single values."""
        return bool(self.classes or self.entry or self.item is not None or self.is_open)

    @staticmethod
    @cache
    def of(hint: Any) -> Members:
        kinds = members(hint)
        leaves = tuple(kind for kind in kinds if kind in LEAVES or typing.get_origin(kind) is Literal)
        classes = tuple(kind for kind in kinds if _is_class(kind))
        records = [kind for kind in classes if dataclasses.is_dataclass(cast("object", kind))]
        items = [
            _arguments(k)[0] for k in kinds if _arguments(k) and typing.get_origin(k) in (list, Iterable, Sequence)
        ]
        entries = [_arguments(k) for k in kinds if _arguments(k) and typing.get_origin(k) is dict]
        return Members(
            leaves,
            classes,
            record=records[0] if records else None,
            item=items[0] if items else None,
            entry=entries[0] if entries else None,
            is_open=len(leaves) + len(classes) + len(items) + len(entries) < len(kinds),
        )


def _arguments(kind: Any) -> Any:
    return typing.get_args(kind)


def _is_class(kind: Any) -> bool:
    if not isinstance(kind, type) or typing.get_origin(kind) is not None:
        return False
    is_ours = kind.__module__.partition(".")[0] in PACKAGES
    return is_ours or issubclass(kind, nn.Module) or dataclasses.is_dataclass(kind)
