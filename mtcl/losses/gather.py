"""Turns a step's embeddings into the input of each task's loss: local rows against the rows of all ranks.

There are two gathers for all tasks and columns: one of the embeddings, with gradient, and one of everything else. Keys,
log frequencies, scores and teachers' vectors are sent as 64-bit words of one tensor. Letters: R rows of all parts and
columns, n rows of one column, C rows of one column on all ranks, W words.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.batch import RoleTexts, SubBatch
from mtcl.distributed import gather, world
from mtcl.losses.view import Embedded, Side, View

Rows: TypeAlias = tuple[Embedded, Tensor | None]
"""A column's rows, and their scores if they are the anchors of judged pairs."""


def gather_views(parts: tuple[SubBatch, ...], embeddings_TD: Tensor) -> list[View]:
    """A view for each sub-batch. All ranks must have the same tasks and numbers of rows."""
    rank, ranks = world()
    columns = [column for part in parts for column in part.columns]
    rows_RD = embeddings_TD[torch.cat([column.texts_N for column in columns])]
    sizes = [len(column.texts_N) for column in columns]
    local: list[Rows] = [
        (Embedded(vectors_nD, column.keys_NK, column.log_q_N, column.teacher_NE), column.scores_N)
        for vectors_nD, column in zip(torch.split(rows_RD, sizes), columns, strict=True)
    ]
    everywhere = local if ranks == 1 else _of_all_ranks(columns, rows_RD, sizes, ranks)
    sides = ((Side(own, rows), score_C) for (own, _), (rows, score_C) in zip(local, everywhere, strict=True))
    views = []
    for part in parts:
        (anchors, score_C), (positives, _), *negatives = islice(sides, len(part.columns))
        own_N = torch.arange(len(part), device=rows_RD.device) + rank * len(part)
        views.append(View(anchors, positives, own_N, negatives[0][0] if negatives else None, score_C))
    return views


def _of_all_ranks(columns: list[RoleTexts], rows_RD: Tensor, sizes: list[int], ranks: int) -> list[Rows]:
    words = [_to_words(column) for column in columns]
    widest = max(word_nW.shape[1] for word_nW in words)
    words_RW = torch.cat([F.pad(word_nW, (0, widest - word_nW.shape[1])) for word_nW in words])
    vectors_CD, words_CW = (
        [torch.cat(by_rank.unbind()) for by_rank in torch.split(gather(rows).view(ranks, len(rows), -1), sizes, dim=1)]
        for rows in (rows_RD, words_RW)
    )
    return list(map(_from_words, vectors_CD, words_CW, columns))


def _to_words(column: RoleTexts) -> Tensor:
    """(n, W) int64: the keys, one word for log frequency and score, and the teacher's vectors, two values per word."""
    score_N = torch.zeros_like(column.log_q_N) if column.scores_N is None else column.scores_N
    words = [column.keys_NK, torch.stack([column.log_q_N, score_N], dim=1).view(torch.int64)]
    if column.teacher_NE is not None:
        words.append(F.pad(column.teacher_NE, (0, column.teacher_NE.shape[1] % 2)).view(torch.int64))
    return torch.cat(words, dim=1)


def _from_words(vectors_CD: Tensor, words_CW: Tensor, like: RoleTexts) -> Rows:
    num_keys = like.keys_NK.shape[1]
    log_q_C, score_C = words_CW[:, num_keys : num_keys + 1].contiguous().view(torch.float32).unbind(dim=1)
    teacher_CE = None
    if like.teacher_NE is not None:
        size = like.teacher_NE.shape[1]
        taken = words_CW[:, num_keys + 1 : num_keys + 1 + -(-size // 2)]
        teacher_CE = taken.contiguous().view(torch.float32)[:, :size]
    rows = Embedded(vectors_CD, words_CW[:, :num_keys], log_q_C, teacher_CE)
    return rows, None if like.scores_N is None else score_C
