"""Computes the ranks of chosen candidates by cosine, without sorting all candidates, which takes many times as long.

Of equal cosines, the candidate with the lower number has the better rank, so a ranking is a function of the cosines and
the order of the corpus. (trec_eval orders equal scores by document id, from the last to the first.) Letters: N queries,
C candidates, M queries with a further chosen candidate.
"""

from __future__ import annotations

import numpy as np

from mtcl.arrays import FloatArray, IntArray, Ragged

FEW = 8
"""Up to this many chosen candidates per query, counting the better ones is faster than sorting the cosines."""


def ranks_of(cosine_NC: FloatArray, chosen: Ragged) -> IntArray:
    """The rank, from 1, of each value of `chosen`, which has a row of distinct candidates for each query."""
    rows = chosen.owners()
    own = cosine_NC[rows, chosen.values]
    better, equal = (_counted if chosen.lengths().max(initial=0) <= FEW else _sorted)(cosine_NC, chosen, own)
    tied = np.flatnonzero(equal > 1)
    for place in tied:
        better[place] += np.count_nonzero(cosine_NC[rows[place], : chosen.values[place]] == own[place])
    return better + 1


def _counted(cosine_NC: FloatArray, chosen: Ragged, own: FloatArray) -> tuple[IntArray, IntArray]:
    """How many candidates have a higher cosine than each chosen one, and how many the same."""
    better, equal = np.empty(len(own), dtype=np.int64), np.empty(len(own), dtype=np.int64)
    lengths = chosen.lengths()
    for number in range(lengths.max(initial=0)):
        rows = np.flatnonzero(lengths > number)
        places = chosen.offsets[rows] + number
        cosine_MC, own_M1 = cosine_NC if len(rows) == len(lengths) else cosine_NC[rows], own[places, None]
        better[places] = np.count_nonzero(cosine_MC > own_M1, axis=1)
        equal[places] = np.count_nonzero(cosine_MC == own_M1, axis=1)
    return better, equal


def _sorted(cosine_NC: FloatArray, chosen: Ragged, own: FloatArray) -> tuple[IntArray, IntArray]:
    """The same from the sorted cosines of each query."""
    better, equal = np.empty(len(own), dtype=np.int64), np.empty(len(own), dtype=np.int64)
    for row, sorted_C in enumerate(np.sort(cosine_NC, axis=1)):
        here = slice(chosen.offsets[row], chosen.offsets[row + 1])
        up_to = np.searchsorted(sorted_C, own[here], side="right")
        better[here] = len(sorted_C) - up_to
        equal[here] = up_to - np.searchsorted(sorted_C, own[here], side="left")
    return better, equal
