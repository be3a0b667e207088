"""The files of one input: its windows as parts, then one file of vectors, its side file and its record.

Every file is written under a temporary name, flushed and renamed. The record comes last, so an input is done if its
record exists. Parts that were finished before a kill, or by another process, are used. A part names the content that it
was made from, so parts of an input that has changed are ignored. An input of a single window has no parts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.deploy.embed.claims import input_lock, remove_empty
from mtcl.deploy.embed.numbers import Stored
from mtcl.deploy.embed.outputs import outputs_of
from mtcl.deploy.embed.parquet_files import cast, fits, layout, write_tables
from mtcl.deploy.embed.rows import Bad, Window, no_rows
from mtcl.deploy.embed.settings import ABOUT_FILE, BAD, EMBEDDING, PARTS, Settings
from mtcl.deploy.embed.shards import Identity, Shard
from mtcl.deploy.vectors import ShardRecord, record_file
from mtcl.errors import DataError
from mtcl.files import write_text, written_whole
from mtcl.records.version import __version__
from mtcl.task.reading.joined import joined

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT_PART = b"mtcl_part"
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class Part:
    """A finished window: rows `start` to `stop` of an input with this digest, `num_good` of them with a vector, and of
    these `num_full` with a text that fills the maximum length. `num_clipped` is as in `ShardRecord`.
    """

    path: Path
    start: int
    stop: int
    num_good: int
    digest: str | None
    num_full: int = 0
    num_clipped: int = 0

    @classmethod
    def read(cls, path: Path) -> Part:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            about = _about(file)
            counts = about.get("full", 0), about.get("clipped", 0)
            return cls(path, about["start"], about["stop"], file.metadata.num_rows, about.get("digest"), *counts)

    def bad(self) -> list[Bad]:
        """Its rows without a vector, read from the file, since there may be many."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            return [Bad(**one) for one in _about(file)["bad"]]


def _about(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.schema_arrow.metadata[ABOUT_PART])
    return found


@dataclass(frozen=True)
class ShardFiles:
    """The files of one input in a folder of vectors."""

    folder: Path
    shard: Shard
    settings: Settings
    identity: Identity

    @property
    def parts(self) -> Path:
        """The folder of finished windows, which are joined to the shard at the end."""
        return self.folder / PARTS / self.shard.name

    @property
    def is_finished(self) -> bool:
        """Whether the input, with this content, is done."""
        record = ShardRecord.read(self.folder, self.shard.name)
        return record is not None and record.digest == self.identity.digest and record.has_files(self.folder)

    def window_lock(self, start: int) -> Path:
        """Held by the process that embeds the window from row `start`."""
        return self.parts / f".{start:012d}.lock"

    @property
    def finish_lock(self) -> Path:
        """Held by the process that joins the parts."""
        return self.parts / ".finish.lock"

    def remove_stale_parts(self) -> None:
        """Remove the parts of an input that has changed, or of a stream, which nobody can read again."""
        num_stale = 0
        for path in list(self.parts.glob("*.parquet")):
            with suppress(FileNotFoundError):  # another process has just finished the input and removed its parts
                if self.shard.path is None or Part.read(path).digest != self.identity.digest:
                    path.unlink()
                    num_stale += 1
        if num_stale:
            log.info("%s: starting again, %s", self.shard, "it has changed" if self.shard.path else "it is a stream")

    def finished_parts(self) -> list[Part]:
        """The finished windows from the first one up to the first gap."""
        found: list[Part] = []
        while (part := self._part(found[-1].stop if found else 0)) is not None:
            found.append(part)
        return found

    def has_part(self, window: Window) -> bool:
        """Whether the window is done."""
        part = self._part(window.start)
        return part is not None and part.stop == window.stop

    def _part(self, start: int) -> Part | None:
        try:
            part = Part.read(self._part_file(start))
        except FileNotFoundError:  # not made yet, or removed by a process that has finished the input
            return None
        return part if part.digest == self.identity.digest and part.stop > start else None

    def _part_file(self, start: int) -> Path:
        return self.parts / f"{start:012d}.parquet"

    def write_part(self, window: Window, stored: Stored, num_full: int = 0) -> Part:
        """Write a window to a file of its own; `num_full` of its texts fill the maximum length."""
        import pyarrow.parquet as pq

        path, digest = self._part_file(window.start), self.identity.digest
        bad = [one.plain() for one in window.bad]
        about = {"start": window.start, "stop": window.stop, "digest": digest, "full": num_full, "bad": bad}
        about["clipped"] = num_clipped = self.settings.numbers.num_clipped(stored)
        table = self._table(window, stored).replace_schema_metadata({ABOUT_PART: json.dumps(about)})
        with written_whole(path, alone=True) as aside:
            pq.write_table(table, aside, **layout(table.schema))
        return Part(path, window.start, window.stop, len(table), digest, num_full, num_clipped)

    def finish(self, parts: list[Part], last: tuple[Window, Stored, int] | None) -> ShardRecord:
        """Write the file of vectors from the parts and the last window (and its full texts), which is no part; then the
        rest.

        Raises `DataError` if the input has changed since it was opened.
        """
        import pyarrow.parquet as pq

        if self.shard.path is not None and not self.identity.still_holds(self.shard):
            raise DataError(f"{self.shard} has changed while it was read: run the same command again")
        table = None if last is None else self._table(*last[:2])
        schema = self._joined(parts, table)

        def tables() -> Iterator[pa.Table]:
            for part in parts:
                yield cast(pq.read_table(part.path), schema)
            if table is not None:
                yield cast(table, schema)

        windows = [part.bad for part in parts] + ([] if last is None else [lambda: last[0].bad])
        num_rows = sum(part.num_good for part in parts) + (0 if table is None else len(table))
        files = (
            [self._write_parquet(tables(), schema)]
            if self.settings.format == "parquet"
            else self._write_npy(tables(), schema, num_rows)
        )
        num_bad = self._write_bad(one for bad_of in windows for one in bad_of())
        record = ShardRecord(
            name=self.shard.name,
            rows=num_rows,
            bad=num_bad,
            files={path.relative_to(self.folder).as_posix(): _sha256(path) for path in files},
            sizes={path.relative_to(self.folder).as_posix(): path.stat().st_size for path in files},
            path=os.path.normpath(self.shard.path.absolute()) if self.shard.path else "",
            source=self.shard.path.name if self.shard.path else str(self.shard),
            size=self.identity.size,
            digest=self.identity.digest,
            modified_ns=self.identity.modified_ns,
            full=sum(part.num_full for part in parts) + (0 if last is None else last[2]),
            clipped=sum(part.num_clipped for part in parts)
            + (0 if last is None else self.settings.numbers.num_clipped(last[1])),
        )
        write_text(record_file(self.folder, self.shard.name), record.text(), alone=True)
        remove_parts(self.folder, self.shard)
        return record

    def _table(self, window: Window, stored: Stored) -> pa.Table:
        return window.rows.append_column(EMBEDDING, self.settings.numbers.column(stored))

    def _joined(self, parts: list[Part], last: pa.Table | None) -> pa.Schema:
        """The columns in types that all windows have, or that all can be turned to without loss."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schemas = [pq.read_schema(part.path) for part in parts] + ([] if last is None else [last.schema])
        if not schemas:
            empty = np.empty((0, self.settings.numbers.width), dtype=self.settings.numbers.dtype)
            return no_rows(self.settings.keep).append_column(EMBEDDING, self.settings.numbers.column(empty)).schema
        vectors = schemas[0].field(EMBEDDING)
        others = [schema.remove(schema.get_field_index(EMBEDDING)).remove_metadata() for schema in schemas]
        found = joined([schema.empty_table() for schema in others]).schema
        for place, field in enumerate(found):
            is_mixed = pa.types.is_floating(field.type) and any(
                pa.types.is_integer(schema.field(field.name).type) for schema in others
            )
            if is_mixed and not _all_fit(field, parts, last):
                found = found.set(place, pa.field(field.name, pa.large_string()))
        return pa.schema([*found, vectors])

    def _write_parquet(self, tables: Iterator[pa.Table], schema: pa.Schema) -> Path:
        [path] = self._outputs
        write_tables(path, tables, schema.with_metadata(self._metadata()))
        return path

    def _write_npy(self, tables: Iterator[pa.Table], schema: pa.Schema, num_rows: int) -> list[Path]:
        """Both files in one pass over the windows."""
        numbers = self.settings.numbers
        vectors, rows = self._outputs
        shape = (num_rows, numbers.width)
        header = {"descr": np.lib.format.dtype_to_descr(numbers.dtype), "fortran_order": False, "shape": shape}

        with written_whole(vectors, alone=True) as aside, aside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)

            def others() -> Iterator[pa.Table]:
                for table in tables:
                    file.write(np.ascontiguousarray(numbers.from_column(table[EMBEDDING])).tobytes())
                    yield table.drop_columns([EMBEDDING])

            of_others = schema.remove(schema.get_field_index(EMBEDDING))
            write_tables(rows, others(), of_others.with_metadata(self._metadata()))
            file.flush()
        return [vectors, rows]

    @property
    def _outputs(self) -> list[Path]:
        return [self.folder / name for name in outputs_of(self.shard.name, self.settings.format)]

    def _metadata(self) -> dict[bytes, bytes]:
        return {
            ABOUT_FILE: json.dumps({**self.settings.plain(), "mtcl_version": __version__}, ensure_ascii=False).encode()
        }

    def _write_bad(self, bad: Iterator[Bad]) -> int:
        """Write the side file if there are bad rows, and return their number."""
        path, count = self.folder / BAD / f"{self.shard.name}.jsonl", 0
        first = next(bad, None)
        if first is None:
            path.unlink(missing_ok=True)
            return 0
        with written_whole(path, alone=True) as aside, aside.open("w", encoding="utf-8") as file:
            for one in chain([first], bad):
                file.write(json.dumps(one.plain(), ensure_ascii=False) + "\n")
                count += 1
        return count


def remove_parts(folder: Path, shard: Shard) -> None:
    """Remove an input's parts and locks, which a killed command may have left although the input is done. The parts of
    an input `a/b` are in a folder below those of `a`, and stay.
    """
    parts = folder / PARTS / shard.name
    with suppress(FileNotFoundError):  # it may be removed by another process at the same time
        for path in parts.iterdir():
            if not path.is_dir():
                path.unlink(missing_ok=True)
    remove_empty(parts)


def tidy(folder: Path, shard: Shard) -> None:
    """Remove the remains of a killed command for an input that is done."""
    input_lock(folder, shard).unlink(missing_ok=True)
    remove_parts(folder, shard)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _all_fit(field: pa.Field, parts: list[Part], last: pa.Table | None) -> bool:
    """Whether the values of all windows keep their value in this column."""
    import pyarrow.parquet as pq

    columns = [pq.read_table(part.path, columns=[field.name])[0] for part in parts]
    columns += [] if last is None else [last[field.name]]
    return all(fits(column, field.type) for column in columns)
