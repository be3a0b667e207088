"""mtcl: multi-task contrastive learning of text embeddings.

The names a task file needs. Nothing heavy is imported here: `import mtcl` takes a fraction of a second.
"""

from mtcl.errors import ConfigError, DataError, MtclError, TaskError
from mtcl.metrics import MAP, MRR, NDCG, Accuracy, Metric, Recall
from mtcl.pairs import Cluster, Duplicates, LabelText, Links, Pairs, PairTable, QueryDocument, Tags, pair_table
from mtcl.sources import Files, Hub, Rows, Source
from mtcl.task import Task

__version__ = "0.1.0"

__all__ = [
    "MAP",
    "MRR",
    "NDCG",
    "Accuracy",
    "Cluster",
    "ConfigError",
    "DataError",
    "Duplicates",
    "Files",
    "Hub",
    "LabelText",
    "Links",
    "Metric",
    "MtclError",
    "PairTable",
    "Pairs",
    "QueryDocument",
    "Recall",
    "Rows",
    "Source",
    "Tags",
    "Task",
    "TaskError",
    "pair_table",
]
