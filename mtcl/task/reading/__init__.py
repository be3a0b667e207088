"""Reads rows of local files with pyarrow. A column's role determines its type; types are never guessed.

Paths are taken literally: no patterns, no `~`, no URLs. Nothing is copied to another folder.
"""

from mtcl.task.reading.csv_file import read_csv
from mtcl.task.reading.json_file import is_nested_json, read_json
from mtcl.task.reading.parquet import read_parquet
from mtcl.task.reading.part import Part, Wanted
from mtcl.task.reading.split import FORMATS, Reader, read_split
from mtcl.task.reading.values import array_of

__all__ = [
    "FORMATS",
    "Part",
    "Reader",
    "Wanted",
    "array_of",
    "is_nested_json",
    "read_csv",
    "read_json",
    "read_parquet",
    "read_split",
]
