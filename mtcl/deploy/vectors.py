"""A folder of vectors that `mtcl embed` wrote, read block by block.

    folder = VectorFolder.open("vectors")
    for block in folder.blocks():
        index.add_with_ids(block.vectors, np.asarray(block.ids))

Files, for an input `posts.jsonl`:

    posts.parquet         the columns `id` and `embedding` (a list of fixed size), and the kept columns
    posts.npy             in the format npy: the vectors; the other columns are in posts.rows.parquet
    _manifest.json        the settings, which are those of all files (`mtcl.deploy.embed.settings`)
    _shards/posts.json    the record of a finished file (`ShardRecord`)
    _bad/posts.jsonl      rows without a vector, with the reason
    _parts/posts/         parts of an unfinished file

Names that begin with `_` are those that Parquet readers skip, so `pyarrow.parquet.read_table(folder)` works too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtcl.arrays import Float32Array
from mtcl.deploy.embed.numbers import Numbers, Stored
from mtcl.deploy.embed.settings import EMBEDDING, ID, PARTS, RECORDS, Settings, read_settings
from mtcl.errors import ConfigError, DataError, root_cause
from mtcl.records.mapping import read_record

if TYPE_CHECKING:
    import pyarrow as pa

    from mtcl.encoder.text_encoder import TextEncoder

BLOCK = 65_536


@dataclass(frozen=True)
class ShardRecord:
    """A finished file of vectors.

    Attributes:
        name: The input's path below the given folder, without its suffix.
        rows: Number of vectors in the file.
        bad: Number of the input's rows without a vector; they are in the side file.
        full: Number of vectors of texts that fill the maximum length, so that anything longer was cut off.
        clipped: Number of int8 values at an end of their range, so that anything beyond was cut off.
        files: SHA-256 of each file by name.
        source: The name of the input file.
        sizes: The size in bytes of each file by name.
        path: The input file's absolute path; empty for standard input.
        size, digest, modified_ns: The size in bytes, SHA-256 and time of change of the input file.
    """

    name: str
    rows: int
    bad: int
    files: dict[str, str]
    source: str
    size: int
    digest: str
    modified_ns: int
    full: int = 0
    clipped: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    path: str = ""

    @classmethod
    def read(cls, folder: Path, name: str) -> ShardRecord | None:
        """None if the file is not finished. Raises `DataError` for a malformed record."""
        return read_record(cls, record_file(folder, name), advice="delete it and embed again")

    @classmethod
    def all_of(cls, folder: Path) -> Iterator[ShardRecord]:
        """The records of all finished files, sorted by name."""
        for file in sorted((folder / RECORDS).rglob("*.json")):
            record = cls.read(folder, file.relative_to(folder / RECORDS).as_posix().removesuffix(".json"))
            assert record is not None
            yield record

    def has_files(self, folder: Path) -> bool:
        """Whether all its files are in the folder of vectors. Raises `DataError` for one that is not as long as it was
        written.
        """
        if not all((folder / name).is_file() for name in self.files):
            return False
        for name, size in self.sizes.items():
            if (there := (folder / name).stat().st_size) != size:
                raise DataError(
                    f"{folder / name} is damaged or another file: it has {there:,} bytes, and {size:,} were written: "
                    "delete it, and the same `mtcl embed` writes it again"
                )
        return True

    def text(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Block:
    """Rows of one file: `rows` has the column `id` and the kept ones, `vectors` is (n, D) float32."""

    rows: pa.Table
    vectors: Float32Array

    @property
    def ids(self) -> pa.ChunkedArray:
        """Integers or text, as in the input."""
        return self.rows[ID]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class VectorFolder:
    """The finished files of a folder, sorted by name."""

    path: Path
    settings: Settings
    shards: tuple[ShardRecord, ...]

    @classmethod
    def open(cls, folder: str | Path) -> VectorFolder:
        """Raises `DataError` if it is not a folder of vectors, or if a file is missing or damaged."""
        path = Path(folder).expanduser()
        settings = read_settings(path)
        if settings is None:
            raise DataError(f"{path} is not a folder of vectors: `mtcl embed` writes one")
        found = tuple(ShardRecord.all_of(path))
        for record in found:
            if not record.has_files(path):
                missing = next(one for one in record.files if not (path / one).is_file())
                file = record_file(path, record.name)
                raise DataError(f"{path / missing} is missing: delete {file} and embed again")
        return cls(path, settings, found)

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self.settings.dim

    @property
    def dtype(self) -> str:
        """float32, float16, int8 or binary."""
        return self.settings.dtype

    @property
    def numbers(self) -> Numbers:
        """How stored numbers are turned to float32 and back."""
        return self.settings.numbers

    @property
    def unfinished(self) -> list[str]:
        """Names of files that `mtcl embed` began and did not finish."""
        parts = self.path / PARTS
        return sorted({p.parent.relative_to(parts).as_posix() for p in parts.rglob("*.parquet")})

    def blocks(self, num_rows: int = BLOCK) -> Iterator[Block]:
        """All rows in the order of the files, at most `num_rows` at a time, with vectors as float32.

        int8 becomes the middle of its level, binary 1 and -1; vectors of these two are not of unit length.
        """
        numbers = self.numbers
        for rows, stored in self.stored_blocks(num_rows):
            yield Block(rows, numbers.decode(stored))

    def stored_blocks(self, num_rows: int = BLOCK) -> Iterator[tuple[pa.Table, Stored]]:
        """The same with the numbers as they are stored, for example int8 (n, D), or uint8 (n, D / 8) for binary."""
        import pyarrow as pa

        for shard in self.shards:
            try:
                yield from self._of_shard(shard, num_rows)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(
                    f"cannot read vectors of {shard.name!r} in {self.path}: {root_cause(error)}: if the file is "
                    "damaged, delete it, and the same `mtcl embed` writes it again"
                ) from error

    def ids(self) -> pa.ChunkedArray:
        """All ids in the order of `vectors`. If some files have integers and others text, all are text."""
        from mtcl.task.reading.joined import joined

        return joined([rows.select([ID]) for rows, _ in self.stored_blocks()] or [_no_ids()])[ID]

    def vectors(self) -> Float32Array:
        """(N, D) float32, all in memory."""
        found_ND = np.empty((len(self), self.dim), dtype=np.float32)
        at = 0
        for block in self.blocks():
            found_ND[at : at + len(block)] = block.vectors
            at += len(block)
        return found_ND

    def check_encoder(self, encoder: TextEncoder) -> None:
        """Raise `ConfigError` if the folder's vectors are not those of this encoder."""
        own, there = encoder.fingerprint(), self.settings.fingerprint
        head = encoder.head_fingerprint(self.settings.task)
        if own != there or head != self.settings.head:
            what = "encoder" if own != there else f"head of {self.settings.task!r}"
            pair = (there, own) if own != there else (self.settings.head, head)
            raise ConfigError(
                f"{self.path} has vectors of another {what} (fingerprint {pair[0]} there, {pair[1]} given): "
                "give the encoder that it was embedded with"
            )

    def _of_shard(self, shard: ShardRecord, num_rows: int) -> Iterator[tuple[pa.Table, Stored]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        main = self.path / f"{shard.name}.parquet"
        beside = None
        if self.settings.format == "npy":
            main = self.path / f"{shard.name}.rows.parquet"
            beside = np.load(self.path / f"{shard.name}.npy", mmap_mode="r")
        at = 0
        # otherwise it keeps the whole file in memory
        with pq.ParquetFile(main, pre_buffer=False, buffer_size=1 << 20) as file:
            if (num_rows_there := file.metadata.num_rows) != shard.rows:
                raise ValueError(f"{main.name} has {num_rows_there:,} rows, and {shard.rows:,} were written")
            for batch in file.iter_batches(batch_size=num_rows):
                rows = pa.Table.from_batches([batch])
                if beside is not None:
                    yield rows, np.array(beside[at : at + len(rows)])
                else:
                    stored = self.numbers.from_column(rows[EMBEDDING])
                    yield rows.drop_columns([EMBEDDING]), stored
                at += len(rows)


def record_file(folder: Path, name: str) -> Path:
    """Where the record of a finished file is."""
    return folder / RECORDS / f"{name}.json"


def _no_ids() -> Any:
    import pyarrow as pa

    return pa.table({ID: pa.array([], type=pa.int64())})
