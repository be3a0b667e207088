"""Rows of a folder of vectors by number: the ids and the kept columns, without the vectors.

Only the row groups that contain the wanted rows are read. `pre_buffer=False` is needed because pyarrow otherwise keeps
all that it has read of a file in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtcl.arrays import IntArray, offsets_of
from mtcl.deploy.embed.settings import ID
from mtcl.deploy.vectors import BLOCK, ShardRecord, VectorFolder
from mtcl.errors import DataError, root_cause

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def rows_at(folder: VectorFolder, numbers: IntArray) -> pa.Table:
    """The columns `id` and the kept ones of the given rows, in their order.

    Raises `DataError` if a file cannot be read.
    """
    from mtcl.task.reading.joined import joined

    numbers = np.asarray(numbers, dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    starts = offsets_of(np.array([shard.rows for shard in folder.shards], dtype=np.int64))
    owners = np.searchsorted(starts, numbers[order], side="right") - 1
    parts = []
    for owner in np.unique(owners):
        shard = folder.shards[int(owner)]
        within = numbers[order][owners == owner] - starts[owner]
        parts.append(_rows_of(folder, shard, within))
    if not parts:
        return _empty(folder)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return joined(parts).take(places)


def id_blocks(folder: VectorFolder, shard: ShardRecord) -> Iterator[pa.ChunkedArray]:
    """The ids of one file, block by block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rows_path(folder, shard)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=BLOCK, columns=[ID]):
                yield pa.Table.from_batches([batch])[ID]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read ids of {path}: {root_cause(error)}") from error


def rows_path(folder: VectorFolder, shard: ShardRecord) -> Path:
    """The file with the ids and the kept columns."""
    return folder.path / next(name for name in shard.files if name.endswith(".parquet"))


def columns_of(folder: VectorFolder) -> list[str]:
    """`id` and the kept columns."""
    return [ID, *folder.settings.keep]


def _rows_of(folder: VectorFolder, shard: ShardRecord, within: Sequence[int] | IntArray) -> pa.Table:
    """Rows of one file; their numbers rise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rows_path(folder, shard)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            starts = offsets_of(np.array(sizes, dtype=np.int64))
            owners = np.searchsorted(starts, within, side="right") - 1
            return pa.concat_tables(
                file.read_row_group(int(group), columns=columns_of(folder)).take(
                    np.asarray(within)[owners == group] - starts[group]
                )
                for group in np.unique(owners)
            )
    except (pa.ArrowException, OSError, IndexError) as error:
        raise DataError(f"cannot read rows of {path}: {root_cause(error)}") from error


def _empty(folder: VectorFolder) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array([], type=pa.null()) for name in columns_of(folder)})
