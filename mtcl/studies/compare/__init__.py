"""Compare encoders on the same tasks and dimensions: mtcl runs, models from the Hub, embedding endpoints.

config (which encoders) -> encoders, endpoint, vectors (texts to vectors, with a cache) -> comparison (scores with
intervals) -> report (table and plot).
"""

from mtcl.studies.compare.comparison import run_comparison
from mtcl.studies.compare.config import CompareConfig

__all__ = ["CompareConfig", "run_comparison"]
