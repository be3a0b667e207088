"""The encoding of text files: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from pathlib import Path

from mtcl.errors import DataError

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def check_encoding(path: Path) -> None:
    """Raise `DataError` for a file that says that it has another encoding."""
    with path.open("rb") as file:
        if found := MARKS.get(file.read(2)):
            raise DataError(f"cannot read {path}: it is {found}: save it as UTF-8")


def first_other_line(path: Path) -> int | None:
    """The number of the first line that is not UTF-8, from 1; None if there is none."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:  # text, so that lines end as on any system
        for number, line in enumerate(file, 1):
            try:
                line.encode("utf-8")
            except UnicodeEncodeError:
                return number
    return None
