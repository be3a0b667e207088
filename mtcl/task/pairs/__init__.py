"""Pair constructions: they turn rows into pairs, with keys that say which texts are never negatives of each other, and
judgements that say what is relevant in evaluation.

A pair construction is called with the rows of a split (and, for evaluation, its corpus) and returns a `PairTable`:
indices into a table of distinct texts, plus keys. A task may instead define a method
`pairs(self, rows, corpus=None)` that returns one; the easiest way is `pair_table`.
"""

from mtcl.task.pairs.augmented import Augmented
from mtcl.task.pairs.base import Pairs, training_only
from mtcl.task.pairs.clusters import Cluster, Duplicates
from mtcl.task.pairs.keys import Links
from mtcl.task.pairs.labels import LabelText, Tags
from mtcl.task.pairs.parallel import Parallel
from mtcl.task.pairs.relevance import Judgements
from mtcl.task.pairs.scored import Labelled, Scored
from mtcl.task.pairs.search import QueryDocument
from mtcl.task.pairs.table import PairTable, cluster_table, label_table, pair_table

__all__ = [
    "Augmented",
    "Cluster",
    "Duplicates",
    "Judgements",
    "LabelText",
    "Labelled",
    "Links",
    "PairTable",
    "Pairs",
    "Parallel",
    "QueryDocument",
    "Scored",
    "Tags",
    "cluster_table",
    "label_table",
    "pair_table",
    "training_only",
]
