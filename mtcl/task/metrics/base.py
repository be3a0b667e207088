"""The base class of all metrics: a name, and the kinds of pairs the metric is for. Higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mtcl.task.kind import Kind


class Metric(ABC):
    """Base class of metrics; higher is better.

    Example:
        >>> from mtcl import NDCG, Kind, Metric
        >>> isinstance(NDCG(k=10), Metric), Kind.POSITIVE in NDCG.kinds, NDCG(k=10).name
        (True, True, 'ndcg@10')
    """

    kinds: ClassVar[frozenset[Kind]]
    """The kinds of pairs it can evaluate."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in logs and tables, for example `ndcg@10`."""
