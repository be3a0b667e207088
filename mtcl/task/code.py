"""Digests of a team's own code for a task's pairs, so that an edit rebuilds the pairs."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

from mtcl.errors import TaskError

KNOWN = {__name__.partition(".")[0], *sys.stdlib_module_names}
"""Packages whose code is not hashed: mtcl's own objects are identified by their `repr` and the store's format."""


def code_of(*declared: Any) -> list[str]:
    """Digests of the files that define these functions and the classes of these objects, except mtcl's own files.

    A digest covers the whole file except comments, spaces and line breaks, so it includes helper functions and
    constants. It does not cover imported modules: raise the task's `version` when one of those changes. The same file
    may have a different digest under a different version of Python. Raises `TaskError` for code that is not in a file,
    for example from an interactive session.
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
        told = "is not defined in a file, so a token store cannot track its code: write it to a file"
        raise TaskError(f"{made.__qualname__} {told}") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(ast.dump(ast.parse(path.read_bytes())).encode()).hexdigest()
