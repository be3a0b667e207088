"""Reads rows of local files with pyarrow. A column's role determines its type; types are never guessed.

Paths are taken literally: no patterns, no `~`, no URLs. Nothing is copied to another folder.
"""

from mtcl.task.reading.part import Wanted
from mtcl.task.reading.split import FORMATS, read_split

__all__ = ["FORMATS", "Wanted", "read_split"]
