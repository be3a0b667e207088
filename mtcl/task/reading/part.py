"""The rows of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtcl.task.roles import Role

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Wanted:
    """The columns to read and the role of each; with `rest`, all other columns too, with the types they have."""

    roles: Mapping[str, Role]
    rest: bool = False


@dataclass(frozen=True)
class Part:
    """The rows of one file, with the wanted columns that exist; `names` has the names of all its columns. Rows that are
    spilled are on disk (`mtcl.task.spill`).
    """

    rows: pa.Table
    names: list[str]
    is_spilled: bool = False
