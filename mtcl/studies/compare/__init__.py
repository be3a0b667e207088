"""Encoders side by side on the same tasks and dimensions: ours, models of the Hub, embedding endpoints.

config (which) -> encoders, endpoint, vectors (texts to vectors, nothing paid twice) -> comparison (scores with
intervals, table and plot).
"""

from mtcl.studies.compare.comparison import run_comparison
from mtcl.studies.compare.config import CompareConfig

__all__ = ["CompareConfig", "run_comparison"]
