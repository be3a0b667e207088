"""The rows that two folders of vectors have in common, by id.

A row's key is a 64-bit hash of its id as text, so 7 and "7" are the same. Where ids are row numbers (`mtcl embed`
without --id), the name of the file is part of the key, and both folders must have been made from the same files. Keys
depend on the seed, and the rows with the lowest common keys are the sample: it is random, and the same in every run.

Memory: 8 bytes for each row of the smaller folder, and the sample's vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Float32Array
from mtcl.deploy.search.exact import unit_blocks
from mtcl.deploy.search.rows import id_blocks
from mtcl.deploy.vectors import VectorFolder
from mtcl.errors import ConfigError, DataError

Keys = npt.NDArray[np.uint64]
log = logging.getLogger("mtcl")


@dataclass(frozen=True)
class VectorPairs:
    """Unit vectors of the same N texts by two encoders, in random order; the folders share `num_common` rows."""

    old_NO: Float32Array
    new_NW: Float32Array
    num_common: int

    def __len__(self) -> int:
        return len(self.old_NO)


def common_pairs(old: VectorFolder, new: VectorFolder, *, num: int, seed: int) -> VectorPairs:
    """At most `num` rows that both folders have. Of rows with equal ids, only the first one in a folder counts.

    Raises `DataError` if there are none, `ConfigError` if the ids cannot be compared.
    """
    by_number = old.settings.id is None
    if by_number != (new.settings.id is None):
        which = old if by_number else new
        raise ConfigError(
            f"{which.path} has row numbers as ids, and the other folder a column's: embed it with --id too"
        )
    if by_number:
        _check_same_inputs(old, new)
    smaller, larger = (old, new) if len(old) <= len(new) else (new, old)
    all_keys = _all_keys(smaller, seed)
    known = np.unique(all_keys)
    _tell_repeated(smaller, len(all_keys) - len(known))
    del all_keys
    repeated = 0
    is_common, taken = np.zeros(len(known), dtype=bool), np.empty(0, np.uint64)
    for keys in _keys(larger, seed):
        places = np.searchsorted(known, keys).clip(max=max(0, len(known) - 1))
        places = places[known[places] == keys] if len(known) else places[:0]
        first = np.unique(places)
        repeated += len(places) - len(first) + int(is_common[first].sum())
        is_common[places] = True
        taken = np.unique(np.concatenate([taken, known[places]]))[:num]
    _tell_repeated(larger, repeated)
    num_common = int(is_common.sum())
    if not num_common:
        raise DataError(f"{old.path} and {new.path} have no id in common: embed the same rows with both encoders")
    return VectorPairs(_vectors(old, taken, seed), _vectors(new, taken, seed), num_common)


def _tell_repeated(folder: VectorFolder, repeated: int) -> None:
    if repeated:
        log.warning(
            "%s: %s of %s rows have an id that an earlier row has: only the first row of an id is used, so it must be "
            "the same text in both folders",
            folder.path,
            f"{repeated:,}",
            f"{len(folder):,}",
        )


def _check_same_inputs(old: VectorFolder, new: VectorFolder) -> None:
    digests = {shard.name: shard.digest for shard in old.shards}
    for shard in new.shards:
        if digests.get(shard.name, shard.digest) != shard.digest:
            raise DataError(
                f"{shard.name!r} is not the same file in {old.path} and {new.path}, and ids are row numbers: embed the "
                "same file, or give --id"
            )


def _keys(folder: VectorFolder, seed: int) -> Iterator[Keys]:
    """The keys of each block of rows."""
    import xxhash

    for shard in folder.shards:
        prefix = f"{shard.name}\0" if folder.settings.id is None else ""
        for ids in id_blocks(folder, shard):
            texts = (f"{prefix}{one}" for one in ids.to_pylist())
            yield np.fromiter((xxhash.xxh64_intdigest(one.encode(), seed) for one in texts), np.uint64, len(ids))


def _all_keys(folder: VectorFolder, seed: int) -> Keys:
    return np.concatenate([np.empty(0, np.uint64), *_keys(folder, seed)])


def _vectors(folder: VectorFolder, taken: Keys, seed: int) -> Float32Array:
    """(len(taken), D) vectors of the first rows with these keys, in their order."""
    found_ND = np.empty((len(taken), folder.dim), dtype=np.float32)
    is_left = np.ones(len(taken), dtype=bool)
    for shard in folder.shards:
        one = replace(folder, shards=(shard,))
        keys = _all_keys(one, seed)
        for start, vectors_nD in unit_blocks(one):
            wanted, first = np.unique(keys[start : start + len(vectors_nD)], return_index=True)
            places = np.searchsorted(taken, wanted).clip(max=len(taken) - 1)
            is_new = (taken[places] == wanted) & is_left[places]
            found_ND[places[is_new]] = vectors_nD[first[is_new]]
            is_left[places[is_new]] = False
    assert not is_left.any()
    return found_ND
