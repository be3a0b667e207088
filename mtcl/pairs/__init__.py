"""From rows to pairs: which texts belong together, and the keys that say which are never negatives.

A pair construction is called with the rows of a split (and, for evaluation, its corpus) and returns a `PairTable`:
integers into a table of distinct texts, plus keys. A task may instead define `pairs(self, rows, corpus=None)` that
returns one, most easily through `pair_table`.
"""

from mtcl.pairs.keys import Links
from mtcl.pairs.kinds import Cluster, Duplicates, LabelText, Pairs, QueryDocument, Tags
from mtcl.pairs.table import PairTable, pair_table

__all__ = ["Cluster", "Duplicates", "LabelText", "Links", "PairTable", "Pairs", "QueryDocument", "Tags", "pair_table"]
