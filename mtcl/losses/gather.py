"""Turns a step's embeddings into the input of each task's loss: local rows against the rows of all ranks.

There are two gathers for all tasks and columns: one of the embeddings, with gradient, and one of everything else. Keys,
log frequencies, scores and teachers' vectors are sent as 64-bit words of one tensor. Letters: R rows of all parts and
columns, W words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.data.batch import Column, SubBatch
from mtcl.distributed import gather, world
from mtcl.losses.view import Embedded, Side, View


def gather_views(parts: tuple[SubBatch, ...], embeddings_TD: Tensor) -> list[View]:
    """A view for each sub-batch. All ranks must have the same tasks and numbers of rows."""
    rank, ranks = world()
    columns = [column for part in parts for column in part.columns]
    rows_RD = embeddings_TD[torch.cat([column.texts_N for column in columns])]
    all_RD = gather(rows_RD)
    scores = [part.scores_N if number == 0 else None for part in parts for number in range(len(part.columns))]
    all_RW = _gather_words(columns, scores) if ranks > 1 else None
    sides, all_scores, start = [], [], 0
    for column, score_N in zip(columns, scores, strict=True):
        end = start + len(column.texts_N)
        local = Embedded(rows_RD[start:end], column.keys_NK, column.log_q_N, column.teacher_NE)
        rows, score_C = local, score_N
        if all_RW is not None:
            places = torch.cat(
                [torch.arange(start, end, device=rows_RD.device) + r * len(rows_RD) for r in range(ranks)]
            )
            rows, score_C = _from_words(all_RW[places], all_RD[places], column, has_score=score_N is not None)
        sides.append(Side(local, rows))
        all_scores.append(score_C)
        start = end
    views, first = [], 0
    for part in parts:
        anchors, positives, *negatives = sides[first : first + len(part.columns)]
        own_N = torch.arange(len(part), device=rows_RD.device) + rank * len(part)
        views.append(View(anchors, positives, own_N, negatives[0] if negatives else None, all_scores[first]))
        first += len(part.columns)
    return views


def _gather_words(columns: list[Column], scores: list[Tensor | None]) -> Tensor:
    words = [_to_words(column, score) for column, score in zip(columns, scores, strict=True)]
    widest = max(word_NW.shape[1] for word_NW in words)
    return gather(torch.cat([F.pad(word_NW, (0, widest - word_NW.shape[1])) for word_NW in words]))


def _to_words(column: Column, score_N: Tensor | None) -> Tensor:
    """(n, W) int64: the keys, one word for log frequency and score, and the teacher's vectors, two values per word."""
    score_N = torch.zeros_like(column.log_q_N) if score_N is None else score_N
    words = [column.keys_NK, torch.stack([column.log_q_N, score_N], dim=1).view(torch.int64)]
    if column.teacher_NE is not None:
        words.append(F.pad(column.teacher_NE, (0, column.teacher_NE.shape[1] % 2)).view(torch.int64))
    return torch.cat(words, dim=1)


def _from_words(
    words_CW: Tensor, vectors_CD: Tensor, like: Column, *, has_score: bool
) -> tuple[Embedded, Tensor | None]:
    num_keys = like.keys_NK.shape[1]
    log_q_C, score_C = words_CW[:, num_keys : num_keys + 1].contiguous().view(torch.float32).unbind(dim=1)
    teacher_CE = None
    if like.teacher_NE is not None:
        size = like.teacher_NE.shape[1]
        taken = words_CW[:, num_keys + 1 : num_keys + 1 + -(-size // 2)]
        teacher_CE = taken.contiguous().view(torch.float32)[:, :size]
    return Embedded(vectors_CD, words_CW[:, :num_keys], log_q_C, teacher_CE), score_C if has_score else None
