"""The code that a team wrote for a task's pairs: an edit of it must not be answered with pairs from before."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

from mtcl.errors import TaskError

KNOWN = {__name__.partition(".")[0], *sys.stdlib_module_names}
"""Packages whose code does not count: what mtcl declares is known by its `repr`, and by the format of the store."""


def code_of(*declared: Any) -> list[str]:
    """Digests of the files that define these functions, and the classes of these objects; none of mtcl's own files.

    Of a file everything counts but comments, spaces and line breaks: also the functions that a method calls, and the
    constants that they read. What a file imports does not count: raise the task's `version` where that changes. Another
    version of Python can give another digest of the same file. Raises `TaskError` for code that is in no file, as in an
    interactive session.
    """
    definitions: list[Any] = []
    for one in declared:
        definitions += [inspect.unwrap(one)] if inspect.isroutine(one) else type(one).__mro__
    foreign = [made for made in definitions if made.__module__.partition(".")[0] not in KNOWN]
    return sorted({_digest(path) for path in {_file_of(made) for made in foreign}})


def _file_of(made: Any) -> Path:
    try:
        return Path(inspect.getfile(made))
    except (TypeError, OSError) as error:
        told = "is defined in no file, so a token store cannot follow its code: write it to a file"
        raise TaskError(f"{made.__qualname__} {told}") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(ast.dump(ast.parse(path.read_bytes())).encode()).hexdigest()
