"""Computes from keys which candidates are an anchor's positives, which are left out, and which are negatives.

Letters: N anchors, C candidates, K keys of a text (rows padded with 0, which is not a key).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtcl.data.batch import EMPTY_PLACE

POSITIVE, LEFT_OUT, NEGATIVE = 1, 0, -1
MOST_COMPARED = 64
"""The most pairs of key columns that are compared one by one; with more keys per text, a join is faster."""


def shares_key(anchor_keys_NK: Tensor, candidate_keys_CK: Tensor) -> Tensor:
    """(N, C) bool: whether anchor and candidate share a key. Uses the memory of one (N, C) mask, whatever K is."""
    shared_NC = torch.zeros(len(anchor_keys_NK), len(candidate_keys_CK), dtype=torch.bool, device=anchor_keys_NK.device)
    if anchor_keys_NK.shape[1] * candidate_keys_CK.shape[1] > MOST_COMPARED:
        anchors, candidates = _join(anchor_keys_NK, candidate_keys_CK)
        shared_NC[anchors, candidates] = True
        return shared_NC
    for anchor_key_N in anchor_keys_NK.unbind(1):
        present_N1 = (anchor_key_N != 0)[:, None]
        for candidate_key_C in candidate_keys_CK.unbind(1):
            shared_NC |= (anchor_key_N[:, None] == candidate_key_C) & present_N1
    return shared_NC


def is_empty(keys_CK: Tensor) -> Tensor:
    """(C,) bool: the places of hard negatives that a pair does not have."""
    return keys_CK[:, 0] == EMPTY_PLACE


def _join(anchor_keys_NK: Tensor, candidate_keys_CK: Tensor) -> tuple[Tensor, Tensor]:
    """Every (anchor, candidate) with a common key: the anchors' keys are looked up in the candidates' sorted keys."""
    keys, order = candidate_keys_CK.flatten().sort()
    wanted = anchor_keys_NK.flatten()
    first, behind = torch.searchsorted(keys, wanted), torch.searchsorted(keys, wanted, right=True)
    count = (behind - first).masked_fill(wanted == 0, 0)
    anchors = torch.arange(len(wanted), device=wanted.device).repeat_interleave(count)
    within = torch.arange(len(anchors), device=wanted.device) - (count.cumsum(0) - count).repeat_interleave(count)
    places = order[first[anchors] + within]
    return anchors // anchor_keys_NK.shape[1], places // candidate_keys_CK.shape[1]


def relation(
    anchor_keys_NK: Tensor, candidate_keys_CK: Tensor, own_N: Tensor | None, *, multi_positive: bool = False
) -> Tensor:
    """(N, C) int8: +1 is the anchor's own positive (candidate `own_N[n]`), 0 left out, -1 a negative.

    A candidate that shares a key with the anchor is never a negative: it is left out, or a positive if
    `multi_positive`. An empty place is left out for every anchor. Give None for `own_N` if the candidates contain no
    anchor's own positive: hard negatives, or the anchors' own side.
    """
    shared_NC = shares_key(anchor_keys_NK, candidate_keys_CK)
    related = POSITIVE if multi_positive else LEFT_OUT
    # arithmetic on the device: `torch.where` and assignment bring their numbers there, which the host waits for
    relation_NC = shared_NC.to(torch.int8).mul_(related - NEGATIVE).add_(NEGATIVE)
    relation_NC.masked_fill_(is_empty(candidate_keys_CK), LEFT_OUT)
    if own_N is not None:
        relation_NC.scatter_(1, own_N[:, None], POSITIVE)
    return relation_NC
