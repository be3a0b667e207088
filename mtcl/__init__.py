"""mtcl: multi-task contrastive learning of text embeddings.

The names that a task file needs are light and are imported immediately. Those for training and embedding (`MtclModule`,
`MtclDataModule`, `TextEncoder`, the losses) are imported on first use, so `import mtcl` takes a fraction of a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mtcl.errors import ConfigError, DataError, MtclError, TaskError
from mtcl.records.version import __version__ as __version__
from mtcl.task.contract import Task
from mtcl.task.kind import Kind
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
    Judgements,
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

if TYPE_CHECKING:
    from mtcl.configuration.replay import replayed
    from mtcl.encoder.config import EncoderConfig
    from mtcl.encoder.text_encoder import TextEncoder
    from mtcl.losses import (
        CoSENT,
        DistillKL,
        InfoNCE,
        Loss,
        MarginMSE,
        Matryoshka,
        PairBCE,
        SpreadOut,
        TeacherMSE,
        WeightedSum,
    )
    from mtcl.training.callbacks.averaging import AveragingConfig
    from mtcl.training.datamodule import MtclDataModule
    from mtcl.training.inspection import inspect_batch
    from mtcl.training.module import MtclModule
    from mtcl.training.optimizer import OptimizerConfig
    from mtcl.training.task_config import TaskConfig
    from mtcl.training.trainer_options import trainer_options
    from mtcl.weighting import GradientWeighting, Uncertainty, Weighting

LAZY = {
    "mtcl.configuration.replay": ("replayed",),
    "mtcl.encoder.config": ("EncoderConfig",),
    "mtcl.encoder.text_encoder": ("TextEncoder",),
    "mtcl.losses": (
        *("CoSENT", "DistillKL", "InfoNCE", "Loss", "MarginMSE", "Matryoshka", "PairBCE"),
        *("SpreadOut", "TeacherMSE", "WeightedSum"),
    ),
    "mtcl.training.callbacks.averaging": ("AveragingConfig",),
    "mtcl.training.datamodule": ("MtclDataModule",),
    "mtcl.training.inspection": ("inspect_batch",),
    "mtcl.training.module": ("MtclModule",),
    "mtcl.training.optimizer": ("OptimizerConfig",),
    "mtcl.training.task_config": ("TaskConfig",),
    "mtcl.training.trainer_options": ("trainer_options",),
    "mtcl.weighting": ("GradientWeighting", "Uncertainty", "Weighting"),
}
"""Names by the module that defines them, imported on first use (PEP 562)."""


def __getattr__(name: str) -> Any:
    for module, names in LAZY.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'mtcl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "MAP",
    "MRR",
    "NDCG",
    "Accuracy",
    "Augmented",
    "AveragePrecision",
    "AveragingConfig",
    "BitextAccuracy",
    "Cluster",
    "CoSENT",
    "ConfigError",
    "DataError",
    "DistillKL",
    "Duplicates",
    "EncoderConfig",
    "Files",
    "GradientWeighting",
    "Hub",
    "InfoNCE",
    "Judgements",
    "Kind",
    "LabelText",
    "Labelled",
    "Links",
    "Loss",
    "MarginMSE",
    "Matryoshka",
    "Metric",
    "MtclDataModule",
    "MtclError",
    "MtclModule",
    "OptimizerConfig",
    "PairBCE",
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
    "SpreadOut",
    "Tags",
    "Task",
    "TaskConfig",
    "TaskError",
    "TeacherMSE",
    "TextEncoder",
    "Uncertainty",
    "WeightedSum",
    "Weighting",
    "cluster_table",
    "inspect_batch",
    "label_table",
    "pair_table",
    "replayed",
    "trainer_options",
    "training_only",
]
