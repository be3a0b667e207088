"""Turns plain tensors into a `View`, so that losses work in a notebook or in another training loop.

A pure function in one process: it gathers nothing from other ranks. Letters: N pairs, H hard negatives per pair, D
dimensions, K keys, E dimensions of a teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.batch import EMPTY_PLACE
from mtcl.errors import ConfigError
from mtcl.losses.view import Embedded, Side, View

SIDES = ("anchors", "positives", "negatives")
PerSide: TypeAlias = Sequence[Tensor | None]
"""One tensor per side: anchors, positives and, if there are any, hard negatives. None if a side's is unknown."""

KEY_ZERO = torch.iinfo(torch.int64).min
"""Replaces the key 0 where each text has one key, because 0 is padding elsewhere."""


def view_of(
    anchors: Tensor,
    positives: Tensor,
    *,
    keys: Tensor | PerSide | None = None,
    negatives: Tensor | None = None,
    scores: Tensor | None = None,
    teacher: PerSide | None = None,
    log_q: Tensor | PerSide | None = None,
    num_negatives: Tensor | None = None,
) -> View:
    """The `View` of a batch of pairs, the input of a loss; row n of `positives` belongs to row n of `anchors`.

    Embeddings and a teacher's vectors are normalised to unit length, in at least float32, with gradient (unit vectors
    stay the same, apart from rounding). The other tensors are moved to the device of `anchors`.

    Without `keys`, each row's only positive is its own, and all other rows are negatives. Tensors do not show which
    texts are equal or related: if a label or a document can occur twice in a batch, give keys.

    Args:
        anchors: (N, D) embeddings.
        positives: (N, D) embeddings.
        keys: Integers; texts that share a key are never negatives of each other. (N,) for one key per text, for example
            a label's number, or (N, K) for up to K keys, padded with 0. One tensor applies to both texts of each pair.
            A tuple has one tensor for anchors, one for positives and optionally one for hard negatives, shaped like
            them without the last dimension or with K in the last dimension.
        negatives: Hard negatives (N, H, D), or (N * H, D) starting with the H negatives of the first pair. They are
            negatives of all anchors.
        scores: (N,) scores from 0 to 1 of judged pairs, or labels 0 and 1.
        teacher: Tuple of a teacher's vectors (N, E): anchors, positives and optionally hard negatives.
        log_q: (N,) log of how often each text is drawn, needed by `InfoNCE(correct_frequency=True)`; one tensor for
            both texts of a pair, or a tuple as for `keys`.
        num_negatives: (N,) integers from 0 to H: only the first so many hard negatives of each pair count, and its
            other rows may have any vectors. All count by default.

    Raises:
        ConfigError: Shapes or types do not fit; the message shows what was found.
    """
    _check_vectors(anchors, positives, negatives, scores)
    count, device = len(anchors), anchors.device
    rows = [anchors, positives, *([] if negatives is None else [negatives])]
    keys_of, log_q_of = _per_side("keys", keys, rows), _per_side("log_q", log_q, rows)
    teacher_of = _per_side("teacher", teacher, rows)
    dtype, teacher_dtype = _widest(rows), _widest(teacher_of)
    own = KEY_ZERO + 1 + torch.arange(count + sum(len(x.flatten(0, -2)) for x in rows[2:]), device=device)
    sides = []
    for number, vectors in enumerate(rows):
        own_key = own[:count] if number < 2 else own[count:]
        embedded = Embedded(
            _unit(vectors, dtype),
            _keys(SIDES[number], keys_of[number], vectors, own_key),
            _log_q(SIDES[number], log_q_of[number], vectors),
            _teacher(SIDES[number], teacher_of[number], vectors, teacher_dtype),
        )
        if number == 2 and num_negatives is not None:
            embedded = replace(embedded, keys_NK=_marked_empty(embedded.keys_NK, num_negatives, count))
        sides.append(Side(embedded, embedded))
    if num_negatives is not None and negatives is None:
        raise ConfigError("num_negatives is given without negatives: give both, or neither")
    sizes = {side.local.teacher_NE.shape[1] for side in sides if side.local.teacher_NE is not None}
    if len(sizes) > 1:
        raise ConfigError(f"teacher has vectors of {' and '.join(map(str, sorted(sizes)))} dimensions: give one number")
    scores_N = None if scores is None else _scores(scores, count).to(device)
    return View(sides[0], sides[1], torch.arange(count, device=device), sides[2] if sides[2:] else None, scores_N)


def _check_vectors(anchors: Tensor, positives: Tensor, negatives: Tensor | None, scores: Tensor | None) -> None:
    for side, vectors in zip(SIDES, (anchors, positives, negatives), strict=True):
        if vectors is None and side == "negatives":
            continue
        if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
            raise ConfigError(f"{side} are {_found(vectors)}: give a tensor of floating point embeddings")
    if anchors.ndim != 2 or anchors.shape != positives.shape or not anchors.numel():
        raise ConfigError(
            f"anchors are {_shape(anchors)} and positives {_shape(positives)}: give two tensors (N, D), one positive "
            "per anchor"
        )
    if negatives is None:
        return
    count, dim = anchors.shape
    per_pair = negatives.ndim == 3 and len(negatives) == count
    in_a_row = negatives.ndim == 2 and len(negatives) % count == 0
    if not (per_pair or in_a_row) or negatives.shape[-1] != dim or not negatives.numel():
        raise ConfigError(
            f"negatives are {_shape(negatives)} and anchors {_shape(anchors)}: give ({count}, H, {dim}) or "
            f"({count} * H, {dim}), the same number for each anchor"
        )
    if scores is not None:
        raise ConfigError("scores and negatives are both given, but judged pairs have no negatives: give only one")


def _per_side(name: str, given: Tensor | PerSide | None, rows: list[Tensor]) -> list[Tensor | None]:
    """The tensor given for each side; hard negatives have one only if it is in a tuple."""
    if given is None:
        return [None] * len(rows)
    if isinstance(given, Tensor):
        if name == "teacher":
            raise ConfigError(f"teacher is a tensor {_shape(given)}: give a tuple, one tensor (N, E) per side")
        return [given, given, *[None] * (len(rows) - 2)]
    found = list(given) if isinstance(given, tuple | list) else [given]
    odd = [x for x in found if not isinstance(x, Tensor | None)]
    if odd or not 2 <= len(found) <= len(rows):
        what = f"an entry {_found(odd[0])}" if odd else f"{len(found)} entries"
        wanted = "anchors and positives" if len(rows) == 2 else "anchors, positives and negatives"
        raise ConfigError(f"{name} has {what}: give a tuple with one tensor each for {wanted}")
    return [*cast("PerSide", found), *[None] * (len(rows) - len(found))]


def _widest(tensors: Sequence[Tensor | None]) -> torch.dtype:
    """The dtype that holds all tensors, at least float32."""
    return reduce(torch.promote_types, [x.dtype for x in tensors if x is not None], torch.float32)


def _unit(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, D) unit vectors."""
    return F.normalize(vectors.flatten(0, -2).to(dtype), dim=1)


def _keys(side: str, given: Tensor | None, vectors: Tensor, own_key: Tensor) -> Tensor:
    """(rows, 1 + K) int64: the pair's (or hard negative's) own key, followed by the given ones."""
    if given is None:
        return own_key[:, None]
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ConfigError(f"keys of {side} are {_found(given)}: give integers")
    shape = vectors.shape[:-1]
    if given.shape != shape and given.shape[:-1] != shape:
        raise ConfigError(f"keys of {side} are {_shape(given)}: give {_text(shape)} or {_text((*shape, 'K'))}")
    given = given.to(own_key)
    if given.shape == shape:
        given = given.masked_fill(given == 0, KEY_ZERO)[..., None]
    return torch.cat([own_key[:, None], given.flatten(0, -2)], dim=1)


def _marked_empty(keys_NK: Tensor, num_negatives: Tensor, count: int) -> Tensor:
    """The keys of hard negatives, where the places that a pair does not use are marked as empty."""
    each = len(keys_NK) // count
    is_whole = isinstance(num_negatives, Tensor) and not num_negatives.is_floating_point()
    if not is_whole or num_negatives.shape != (count,):
        raise ConfigError(f"num_negatives is {_found(num_negatives)}: give integers ({count},), one number per pair")
    if not bool(((num_negatives >= 0) & (num_negatives <= each)).all()):
        low, high = int(num_negatives.min()), int(num_negatives.max())
        raise ConfigError(f"num_negatives ranges from {low} to {high}: give 0 to {each}, the hard negatives per pair")
    is_used_NH = torch.arange(each, device=keys_NK.device) < num_negatives.to(keys_NK.device)[:, None]
    return keys_NK.masked_fill(~is_used_NH.flatten()[:, None], EMPTY_PLACE)


def _log_q(side: str, given: Tensor | None, vectors: Tensor) -> Tensor | None:
    if given is not None and given.shape != vectors.shape[:-1]:
        raise ConfigError(f"log_q of {side} is {_shape(given)}: give {_text(vectors.shape[:-1])}")
    return None if given is None else given.to(vectors.device).flatten()


def _teacher(side: str, given: Tensor | None, vectors: Tensor, dtype: torch.dtype) -> Tensor | None:
    if given is None:
        return None
    if given.shape[:-1] != vectors.shape[:-1] or not given.is_floating_point():
        wanted = _text((*vectors.shape[:-1], "E"))
        raise ConfigError(f"teacher of {side} is {_found(given)}: give floating point {wanted}")
    return _unit(given.to(vectors.device), dtype)


def _scores(scores: Tensor, count: int) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        raise ConfigError(f"scores are {_found(scores)}: give a tensor ({count},), one score per pair")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ConfigError(f"scores range from {float(scores.min()):g} to {float(scores.max()):g}: give 0 to 1")
    return scores if scores.is_floating_point() else scores.float()


def _found(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {_shape(value)}"
    return "None" if value is None else f"of type {type(value).__name__}"


def _shape(tensor: Tensor) -> str:
    return _text(tensor.shape)


def _text(shape: Sequence[int | str]) -> str:
    """The shape written as a Python tuple, with letters for free sizes."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
