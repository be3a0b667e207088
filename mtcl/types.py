"""Types and constants that several layers share: arrays, ragged arrays, kinds of pairs, names of checkpoints.

Shape letters used across the package: N anchors, C candidates, D dimensions, L tokens of a text, T distinct texts,
K keys, P pairs, S total of a ragged array.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from mtcl.errors import ConfigError, DataError, nearest, root_cause

__version__ = "0.1.0"
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
EMPTY_PLACE = 2**63 - 1
"""The first key of a hard negative that a pair does not have; such a place is a candidate for no anchor."""
TAKEN = 1 << 20
"""Rows of a ragged array that are copied at a time."""
BEST, LAST = "best.ckpt", "last.ckpt"
"""Checkpoints of a run, in its folder `checkpoints/`: the best by `val/mean`, and the latest, to resume from."""


class Kind(StrEnum):
    """The kind of a pair determines which losses fit and how a split is evaluated."""

    POSITIVE = "positive"
    """The two texts belong together; every unrelated text is a negative."""
    PARALLEL = "parallel"
    """The texts are translations of each other: as `POSITIVE`, but evaluated language by language."""
    GRADED = "graded"
    """The texts are similar to a degree of 0 to 1."""
    BINARY = "binary"
    """The texts belong together (1) or not (0)."""


@dataclass(frozen=True)
class Ragged:
    """Rows of varying length, one after the other: row i is `values[offsets[i]:offsets[i + 1]]`.

    `offsets` is (rows + 1,) int64 and starts at 0; both arrays may be memory-mapped.
    """

    offsets: IntArray
    values: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> IntArray:
        """(rows,) the number of values in each row."""
        return np.diff(self.offsets)

    def owners(self) -> IntArray:
        """(values,) the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def take(self, rows: IntArray) -> Ragged:
        """The given rows in the given order, copied into a new ragged array in vectorised reads."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        offsets = offsets_of(ends - starts)
        values = np.empty(offsets[-1], dtype=self.values.dtype)
        for first in range(0, len(rows), TAKEN):
            some = slice(first, first + TAKEN)
            lengths, places = (ends - starts)[some], offsets[first : first + TAKEN + 1]
            within = np.arange(places[-1] - places[0]) - np.repeat(places[:-1] - places[0], lengths)
            values[places[0] : places[-1]] = self.values[np.repeat(starts[some], lengths) + within]
        return Ragged(offsets, values)

    @classmethod
    def join(cls, pieces: Sequence[Ragged]) -> Ragged:
        """The rows of all pieces, one piece after the other, as int64."""
        lengths = np.concatenate([piece.lengths() for piece in pieces])
        return cls(offsets_of(lengths), np.concatenate([piece.values.astype(np.int64) for piece in pieces]))

    def padded(self, width: int, fill: int) -> npt.NDArray[np.int64]:
        """(rows, width) int64 with `fill` after each row's values; no row may be longer than `width`."""
        lengths = self.lengths()
        dense = np.full((len(self), width), fill, dtype=np.int64)
        dense[np.arange(width) < lengths[:, None]] = self.values
        return dense


def offsets_of(lengths: IntArray) -> npt.NDArray[np.int64]:
    """Offsets (n + 1,) from row lengths (n,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def group(rows: IntArray, values: IntArray, *, num_rows: int) -> Ragged:
    """Ragged array of each row's distinct `values`, sorted, from (row, value) pairs in any order."""
    order = np.lexsort((values, rows))
    rows, values = rows[order], values[order]
    keep = np.ones(len(rows), dtype=bool)
    keep[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    return Ragged(offsets_of(np.bincount(rows[keep], minlength=num_rows)), values[keep])


Options = TypeVar("Options")


def from_mapping(kind: type[Options], given: Options | Mapping[str, Any] | None, *, where: str) -> Options:
    """An instance of a dataclass from a mapping of its attributes, as in YAML or a notebook.

    None gives the defaults, and an instance is returned unchanged. Raises a `ConfigError` that begins with `where` for
    an unknown name or a value of the wrong type.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {given!r:.80}: give a mapping of names to values, or a {kind.__name__}")
    hints, values = get_type_hints(kind), dict(given or {})
    known = [one.name for one in fields(cast("Any", kind)) if one.init]
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{where} has an unknown name {name!r}{nearest(str(name), known)}")
        inner = [one for one in (hints[name], *get_args(hints[name])) if isinstance(one, type) and is_dataclass(one)]
        if inner and isinstance(value, Mapping):
            of = from_each_mapping if get_origin(hints[name]) is dict else from_mapping
            values[name] = of(inner[0], value, where=f"{where}.{name}")
        elif not _fits(value, hints[name]):
            raise ConfigError(f"{where}.{name} is {value!r:.80}: give {_words(hints[name])}")
    return kind(**values)


def read_record(kind: type[Options], file: Path, *, leaving_out: Collection[str] = (), advice: str) -> Options | None:
    """An instance of a dataclass from a JSON file; None if there is no such file.

    Entries named in `leaving_out` are skipped. Raises a `DataError`, with `advice`, for a malformed file.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        given = {name: value for name, value in content.items() if name not in leaving_out}
        return from_mapping(kind, given, where=str(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{file} is malformed ({root_cause(error)}): {advice}") from error


def from_each_mapping(kind: type[Options], given: Mapping[str, Any], *, where: str) -> dict[str, Options]:
    """`from_mapping` for each value of a mapping."""
    return {str(name): from_mapping(kind, value, where=f"{where}.{name}") for name, value in given.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type annotation. An int is accepted as a float, a bool only as a bool."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _words(hint: Any) -> str:
    """A type annotation in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (list, dict):
        return f"a {origin.__name__} of {' to '.join(_words(one) for one in inner)}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


class Described:
    """Remembers the arguments of an instance's `__init__`, so that a checkpoint can store it as plain values."""

    init_args: dict[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        with suppress(TypeError):  # `__init__` reports wrong arguments; there are none while a copy is being made
            given = inspect.signature(cls.__init__).bind(made, *arguments, **options).arguments
            made.__dict__["init_args"] = {k: v for k, v in list(given.items())[1:] if k != "kwargs"}
        return made

    def described(self) -> dict[str, Any]:
        """`{"class_path": ..., "init_args": ...}`, as in a configuration; nested instances are described too."""

        def plain(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [plain(one) for one in value]
            return value.described() if isinstance(value, Described) else value

        package = ".".join(type(self).__module__.split(".")[:2])
        path = package if package in ("mtcl.losses", "mtcl.weighting") else type(self).__module__
        return {
            "class_path": f"{path}.{type(self).__name__}",
            "init_args": {name: plain(value) for name, value in self.init_args.items()},
        }

    @property
    def words(self) -> str:
        """The class and its arguments that are not the defaults, for people: `Matryoshka(InfoNCE(), dims=[50])`."""
        defaults = {name: one.default for name, one in inspect.signature(type(self).__init__).parameters.items()}

        def word(value: Any) -> str:
            if isinstance(value, list | tuple):
                return f"[{', '.join(map(word, value))}]"
            return value.words if isinstance(value, Described) else str(value)

        changed = {name: value for name, value in self.init_args.items() if value != defaults.get(name)}
        given = [word(v) if isinstance(v, Described) else f"{k}={word(v)}" for k, v in changed.items()]
        return f"{type(self).__name__}({', '.join(given)})"
