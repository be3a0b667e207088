"""What all metrics have in common: a name, and the kinds of pairs they judge; higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mtcl.types import Kind


class Metric(ABC):
    """A task's figure of merit; higher is better.

    Example:
        >>> from mtcl import NDCG, Kind, Metric
        >>> isinstance(NDCG(k=10), Metric), Kind.POSITIVE in NDCG.kinds, NDCG(k=10).name
        (True, True, 'ndcg@10')
    """

    kinds: ClassVar[frozenset[Kind]]
    """Pairs it can judge."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As in logs and tables, for example `ndcg@10`."""
