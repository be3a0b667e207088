"""Rows of local files, read by pyarrow: each column by its role, never by a guess from the first rows.

A path is a name and nothing else: no pattern, no `~`, no address. Nothing is copied to another folder.
"""

from mtcl.task.reading.part import Wanted
from mtcl.task.reading.split import FORMATS, read_split

__all__ = ["FORMATS", "Wanted", "read_split"]
