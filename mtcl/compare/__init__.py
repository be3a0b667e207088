"""Encoders side by side on the same tasks and dimensions: ours, models of the Hub, embedding endpoints.

config (which) -> encoders, endpoint, vectors (texts to vectors, nothing paid twice) -> comparison (scores with
intervals, table and plot).
"""

from mtcl.compare.comparison import run_comparison
from mtcl.compare.config import CompareConfig

__all__ = ["CompareConfig", "run_comparison"]
