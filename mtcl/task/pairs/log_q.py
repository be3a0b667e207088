"""How often each text is drawn, computed exactly from the table of all pairs that a task may draw. The logQ correction
of a softmax over sampled candidates needs it (Bengio and Senecal 2008; Yi et al. 2019, "Sampling-bias-corrected neural
modeling").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.task.pairs.table import DRAWN, PairTable


@dataclass(frozen=True)
class LogShares:
    """(T,), (T,) float32: log of the share of an epoch's pairs in which a text is the anchor, and the positive.

    A text that never has a role counts as if it had that role once.
    """

    anchor: FloatArray
    positive: FloatArray


def log_shares(table: PairTable) -> LogShares:
    """The shares of each of the table's texts."""
    size, num_pairs = len(table.texts), len(table.anchors)
    is_fixed = table.anchors != DRAWN
    as_anchor = np.bincount(table.anchors[is_fixed], minlength=size).astype(np.float64)
    as_positive: FloatArray
    if table.groups is None:
        as_positive = np.bincount(table.positives, minlength=size).astype(np.float64)
    else:
        members, lengths = table.groups.values, table.groups.lengths()
        fixed_g = np.bincount(table.positives[is_fixed], minlength=len(lengths))
        drawn_g = np.bincount(table.positives[~is_fixed], minlength=len(lengths))
        others_g, size_g = np.maximum(lengths - 1, 1), np.maximum(lengths, 1)
        as_positive = np.bincount(members, np.repeat(fixed_g / others_g + drawn_g / size_g, lengths), size).astype(
            np.float64
        )
        as_positive -= np.bincount(
            table.anchors[is_fixed], 1 / others_g[table.positives[is_fixed]], minlength=size
        )  # an anchor is not its own positive
        as_anchor += np.bincount(members, np.repeat(drawn_g / size_g, lengths), minlength=size)

    def log_of(drawn: FloatArray) -> FloatArray:
        return np.log(np.where(drawn > 1e-9, drawn, 1.0) / num_pairs).astype(np.float32)

    return LogShares(log_of(as_anchor), log_of(as_positive))
