"""The settings that all vectors of a folder are made with, in its `_manifest.json`.

The first process writes the file. Every other process compares its own settings with it, so vectors of another encoder,
prompt or type are never mixed.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from mtcl.deploy.embed.numbers import Numbers, NumberType, Ranges
from mtcl.encoder.paths import is_hub_name
from mtcl.errors import ConfigError, DataError
from mtcl.files import aside_of
from mtcl.records.mapping import read_record
from mtcl.records.version import __version__

MANIFEST = "_manifest.json"
LAYOUT = 1
"""The version of the folder's layout."""
RECORDS, PARTS, BAD = "_shards", "_parts", "_bad"
"""Folders below that of the vectors (`mtcl.deploy.vectors`)."""
ID, EMBEDDING = "id", "embedding"
"""Names of columns in the files."""
ABOUT_FILE = b"mtcl"
"""Key of the settings in the metadata of Parquet files of vectors."""
FileFormat = Literal["parquet", "npy"]


@dataclass(frozen=True)
class Settings:
    """Everything besides the row that its vector and the layout of the files depend on.

    Attributes:
        fingerprint: The fingerprint of the encoder's weights and pooling.
        tokens: A digest of the tokens of a few texts.
        head: The fingerprint of the task's head; None if it has none.
        task, role, prompt: The task and role whose prompt and head are used, and the prompt itself.
        max_length: Tokens that a text is cut to.
        dim, dtype: Dimensions and type of the vectors.
        precision: The precision that the encoder computed in.
        format: The format of the files.
        id: The id's column in the inputs; None if ids are row numbers.
        text, keep: The text's column, and those that are copied.
        window: Rows that are encoded together.
        ranges: For int8, the lowest and the highest value of each dimension; otherwise None.
    """

    fingerprint: str
    tokens: str
    head: str | None
    task: str | None
    role: str
    prompt: str
    max_length: int
    dim: int
    dtype: NumberType
    precision: str
    format: FileFormat
    text: str
    id: str | None
    keep: list[str]
    window: int
    ranges: list[list[float]] | None = None
    layout: int = LAYOUT

    @property
    def numbers(self) -> Numbers:
        """The type of number to write, with its ranges if they are determined."""
        ranges = None if self.ranges is None else Ranges.of_plain(self.ranges, dim=self.dim)
        return Numbers(self.dtype, self.dim, ranges)

    def differences(self, other: Settings) -> Iterator[tuple[str, Any, Any]]:
        """Names, own and other values of what differs. Ranges that were not determined yet differ from none."""
        for field in fields(self):
            own, others = getattr(self, field.name), getattr(other, field.name)
            if own != others and not (field.name == "ranges" and None in (own, others)):
                yield field.name, own, others

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def read_settings(folder: Path) -> Settings | None:
    """The settings of a folder; None if it has no manifest. Raises `DataError` for a malformed one."""
    file, advice = folder / MANIFEST, "it is of another version of mtcl, or damaged; embed into another folder"
    found = read_record(Settings, file, leaving_out=ABOUT, advice=advice)
    if found is None:
        return None
    try:
        _ = found.numbers
    except (ConfigError, ValueError) as error:
        raise DataError(f"{file} is malformed ({error}): {advice}") from error
    if found.layout != LAYOUT:
        raise DataError(
            f"{file} has layout {found.layout}, this version of mtcl reads {LAYOUT}: embed into another folder"
        )
    return found


ABOUT = ("mtcl_version", "encoder")
"""Entries of the manifest that no vector depends on. `encoder` is where the first run found its encoder."""


def encoder_of(folder: Path) -> Path | None:
    """The path of the encoder that the folder's first vectors came from, as far as it is known and still there."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    path = Path(str(content.get("encoder") or ""))
    return path if content.get("encoder") and path.exists() else None


def _place(encoder: Path | None) -> str | None:
    """The encoder's absolute path, or its name on the Hub."""
    if encoder is None:
        return None
    return str(encoder) if is_hub_name(str(encoder)) else str(encoder.expanduser().absolute())


def agree(folder: Path, wanted: Settings, *, encoder: Path | None = None) -> Settings:
    """Write these settings to the folder, or raise `ConfigError` if it has others; returns the settings in effect.

    `encoder` is where the encoder is, for those that search the folder later.

    Safe if several processes, on several machines, do this at the same time: exactly one writes the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = read_settings(folder)
    if there is None:
        aside = aside_of(folder / f"{MANIFEST}.{uuid.uuid4().hex}")  # also threads may be here at once
        content = {**wanted.plain(), "mtcl_version": __version__, "encoder": _place(encoder)}
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            _publish(aside, folder / MANIFEST)
        finally:
            aside.unlink(missing_ok=True)
        there = read_settings(folder)
        assert there is not None
    check_same(folder, there, wanted)
    return there


def check_same(folder: Path, there: Settings, wanted: Settings) -> None:
    """Raise a `ConfigError` that names the differences."""
    if found := list(wanted.differences(there)):
        told = ", ".join(f"{name} {_short(other)} there and {_short(own)} now" for name, own, other in found)
        raise ConfigError(f"{folder} has vectors of other settings ({told}): give another --out")


def with_ranges(settings: Settings, ranges: Ranges) -> Settings:
    """The settings with the ranges of int8."""
    return replace(settings, ranges=ranges.plain())


def _publish(aside: Path, path: Path) -> None:
    """Give the file its name, unless it is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            aside.replace(path)


def _short(value: Any) -> str:
    text = "none" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
