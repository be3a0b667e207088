"""Errors that a user can fix, and helpers for their wording.

Each message says what is wrong, the value found and what to do. The command line prints it as one line and exits with
code 2; `--debug` adds the traceback. `assert` is only for mtcl's own invariants.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class MtclError(Exception):
    """Base of all errors that the user can fix."""

    on_all_ranks = False
    """Every rank raises it (`mtcl.distributed.together`), so one rank per node prints it."""


class TaskError(MtclError):
    """A task file or a task class breaks the contract of `mtcl.Task`."""


class ConfigError(MtclError):
    """A value in the configuration or on the command line cannot be used."""


class DataError(MtclError):
    """Rows, files or stores do not have the expected content."""


class RankError(MtclError):
    """Another process of the run has ended, and this one cannot continue without it."""


class DivergedError(MtclError):
    """Weights or gradients are no longer finite."""

    advice = "training has diverged; start again from an earlier checkpoint, with a lower learning rate"


@contextmanager
def at(prefix: str = "", kind: type[MtclError] = ConfigError, /, **names: str) -> Iterator[None]:
    """Replace a function's parameter name in error messages by the option or key that the user wrote.

    If a message of this `kind` begins with one of `names`, that name is replaced by its value; otherwise `prefix` is
    prepended:

        with at("--"):  # "num is 0: give at least 1" becomes "--num is 0: give at least 1"
            limits = Limits(num=options.num)
    """
    try:
        yield
    except kind as error:
        parameter, space, rest = str(error).partition(" ")
        error.args = (names.get(parameter, prefix + parameter) + space + rest,)
        raise


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the names that are equal but for case and spacing, else with similar ones, if any."""
    names = sorted(known)
    same = [other for other in names if other.strip().casefold() == name.strip().casefold()]
    close = same or difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def nearest(name: str, known: Iterable[str], *, most: int = 12) -> str:
    """A hint to append to a message: `did_you_mean`, or else up to `most` of the known names, if any."""
    names = sorted(known)
    if close := did_you_mean(name, names):
        return close
    if not names:
        return ""
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"; known: {shown}"


def listed(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def root_cause(error: BaseException) -> str:
    """The first line of the innermost cause; libraries wrap the useful message in several others."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
    text, kind = str(error).strip(), type(error).__name__
    if not text:
        return kind
    return text.splitlines()[0] if " " in text else f"{kind}: {text}"  # a KeyError says no more than the key


def path_fault(error: Exception, arguments: Iterable[str]) -> str | None:
    """What is wrong with a path that Python itself refuses, and what to do; None for any other error.

    Such paths are those of a home folder that does not exist, links that lead in a circle, and names that are not
    UTF-8: libraries and mtcl's own files need UTF-8.
    """
    if isinstance(error, UnicodeEncodeError):
        if "surrogates" not in error.reason:
            return None
        name = error.object[max(0, error.start - 60) : error.end + 60]
        encoding = sys.getfilesystemencoding()
        advice = "rename the file" if encoding == "utf-8" else f"set PYTHONUTF8=1, since the locale's is {encoding}"
        return f"{name!r} is not UTF-8: {advice}"
    if str(error).startswith("Could not determine home directory"):
        given = next((argument for argument in arguments if "~" in argument), None)
        advice = "give the whole path" if given else "set HOME, or MTCL_CACHE and whole paths"
        return f"there is no home folder for {given or '~'}: {advice}"
    return str(error) if str(error).startswith("Symlink loop") else None


def advised(text: str) -> str:
    """A message of the system with what to do: about too many open files, with the limit, or a folder that cannot be
    written. Any other message as it is.
    """
    if os.strerror(errno.EROFS) in text:
        return f"{text}: give a folder that can be written (MTCL_CACHE is that of the cache)"
    if os.strerror(errno.EMFILE) not in text or "ulimit" in text:
        return text
    try:
        import resource
    except ImportError:  # Windows
        return text
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"{text}: the limit is {most}: raise it, for example with ulimit -n {max(1024, 4 * most)}"


def located(error: BaseException, path: Path) -> str:
    """`file:line: Error: message`, with the last line of the traceback that is in the file."""
    if isinstance(error, SyntaxError):
        elsewhere = error.filename is not None and Path(error.filename).resolve() != path.resolve()
        line = f":{error.lineno}" if error.lineno else ""
        return f"{error.filename if elsewhere else path}{line}: {type(error).__name__}: {error.msg}"
    lines = lines_in(path, error)
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{place}: {type(error).__name__}: {error}"


def lines_in(path: Path, error: BaseException) -> list[int | None]:
    """The lines of the file that the error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
