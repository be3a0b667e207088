"""A study of transfer: what each task gains from joint training, what it costs the others, and how sure that is.

config (what is compared) -> arms (each run of the study as a run configuration) -> runs (processes, skipped when done)
-> outcome (per-item scores, paired over arms) -> report (tables, plots, JSON, TensorBoard).
"""

from mtcl.studies.transfer.config import StudyConfig
from mtcl.studies.transfer.study import run_study

__all__ = ["StudyConfig", "run_study"]
