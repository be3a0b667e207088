"""A study of transfer: how much each task gains from joint training or costs the others, with intervals.

config (the study) -> arms (each run of the study as a run configuration) -> runs (processes, skipped when done)
-> outcome (per-item scores, paired over arms) -> report (tables, plots, JSON, TensorBoard).
"""

from mtcl.studies.transfer.config import StudyConfig
from mtcl.studies.transfer.study import run_study

__all__ = ["StudyConfig", "run_study"]
