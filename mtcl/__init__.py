"""mtcl: multi-task contrastive learning of text embeddings.

The names a task file needs. Nothing heavy is imported here: `import mtcl` takes a fraction of a second.
"""

from mtcl.errors import ConfigError, DataError, MtclError, TaskError
from mtcl.task.contract import Task
from mtcl.task.metrics import (
    MAP,
    MRR,
    NDCG,
    Accuracy,
    AveragePrecision,
    BitextAccuracy,
    Metric,
    Recall,
    RocAuc,
    Spearman,
)
from mtcl.task.pairs import (
    Augmented,
    Cluster,
    Duplicates,
    Labelled,
    LabelText,
    Links,
    Pairs,
    PairTable,
    Parallel,
    QueryDocument,
    Scored,
    Tags,
    cluster_table,
    label_table,
    pair_table,
    training_only,
)
from mtcl.task.roles import Role
from mtcl.task.sources import Files, Hub, Rows, Source
from mtcl.types import Kind

__version__ = "0.1.0"

__all__ = [
    "MAP",
    "MRR",
    "NDCG",
    "Accuracy",
    "Augmented",
    "AveragePrecision",
    "BitextAccuracy",
    "Cluster",
    "ConfigError",
    "DataError",
    "Duplicates",
    "Files",
    "Hub",
    "Kind",
    "LabelText",
    "Labelled",
    "Links",
    "Metric",
    "MtclError",
    "PairTable",
    "Pairs",
    "Parallel",
    "QueryDocument",
    "Recall",
    "RocAuc",
    "Role",
    "Rows",
    "Scored",
    "Source",
    "Spearman",
    "Tags",
    "Task",
    "TaskError",
    "cluster_table",
    "label_table",
    "pair_table",
    "training_only",
]
