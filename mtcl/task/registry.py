"""Finds tasks: files, then installed packages, then the reference tasks that come with mtcl.

Files are `tasks/**/*.py` in the working folder and in `--tasks_dir`/`MTCL_TASKS_DIR` (several are joined as in PATH),
loaded in sorted order of their paths. Files whose name starts with an underscore are not tasks. Packages register
their tasks under the entry-point group `mtcl.tasks`. A file that fails to load stays in the list with its error, which
is raised only if the task is used. A name found twice is an error that names both files, but a user's task may replace
a reference task.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mtcl.errors import TaskError, located, nearest
from mtcl.task.contract import Task

GROUP = "mtcl.tasks"


@dataclass(frozen=True)
class Entry:
    """A task, or the reason why it could not be loaded."""

    name: str
    origin: str
    task: type[Task] | None = None
    error: str | None = None
    is_reference: bool = False


class Registry:
    """All tasks by name. `registry[name]` returns an instance or raises `TaskError`."""

    def __init__(self, entries: list[Entry], looked_in: Sequence[str] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self.looked_in = looked_in
        for entry in entries:
            self._add(entry)

    def __getitem__(self, name: str) -> Task:
        if name not in self.entries:
            where = f" (looked in {', '.join(self.looked_in)})" if self.looked_in else ""
            raise TaskError(f"unknown task {name!r}{nearest(name, self.entries)}{where}")
        entry = self.entries[name]
        if entry.task is None:
            raise TaskError(f"task {name!r} cannot be loaded: {entry.error}")
        try:
            return entry.task()
        except Exception as error:  # a task's __init__ is user code
            raise TaskError(f"task {name!r} cannot be made: {located(error, Path(entry.origin))}") from error

    def _add(self, entry: Entry) -> None:
        other = self.entries.get(entry.name)
        if other is None:
            self.entries[entry.name] = entry
        elif entry.is_reference == other.is_reference:
            error = f"task name {entry.name!r} is taken twice: {other.origin} and {entry.origin}; rename one"
            self.entries[entry.name] = Entry(entry.name, other.origin, error=error)


def discover(tasks_dir: str | Path | None = None) -> Registry:
    """The registry for this working folder. `tasks_dir` adds to `MTCL_TASKS_DIR`."""
    folders = [Path("tasks")]
    for named in (str(tasks_dir or ""), os.environ.get("MTCL_TASKS_DIR", "")):
        for given in filter(None, named.split(os.pathsep)):
            folder = Path(given).expanduser()
            if not folder.is_dir():
                raise TaskError(f"tasks_dir {given!r} is not a folder")
            folders.append(folder)
    entries: list[Entry] = []
    seen: set[Path] = set()
    reference = reference_folder().resolve()
    for folder in [*folders, reference]:
        for path in sorted(folder.rglob("*.py")):
            is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if not is_hidden and not path.is_dir() and not path.name.startswith("_") and path.resolve() not in seen:
                seen.add(path.resolve())
                entries.append(_load_file(path, is_reference=path.resolve().is_relative_to(reference)))
    packaged = [_load_entry_point(point) for point in sorted(importlib.metadata.entry_points(group=GROUP))]
    own = [e for e in entries if not e.is_reference]
    looked_in = [str(folder) if folder.is_dir() else f"{folder} (not found)" for folder in folders]
    looked_in += [f"{len(packaged)} of installed packages"] * bool(packaged) + ["mtcl's own tasks"]
    return Registry([*own, *packaged, *(e for e in entries if e.is_reference)], looked_in)


def reference_folder() -> Path:
    """The folder of the tasks that come with mtcl: in an installed wheel, or `tasks/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "reference_tasks"
    return packaged if packaged.is_dir() else package.parent / "tasks"


def _load_file(path: Path, *, is_reference: bool) -> Entry:
    name = path.stem
    module_name = f"mtcl_task_{name}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        return Entry(name, str(path), task=_task_of(module, path), is_reference=is_reference)
    except (Exception, SystemExit) as error:  # a task file is user code: its errors must not affect other tasks
        del sys.modules[module_name]
        return Entry(name, str(path), error=located(error, path), is_reference=is_reference)


def _task_of(module: ModuleType, path: Path) -> type[Task]:
    tasks = [
        t
        for t in vars(module).values()
        if isinstance(t, type) and issubclass(t, Task) and t.__module__ == module.__name__
    ]
    names = [getattr(t, "name", None) for t in tasks]
    if path.stem not in names:
        raise TaskError(
            f"no task named {path.stem!r} (the file's stem); it defines {', '.join(map(repr, names)) or 'none'}"
        )
    if len(named := [name for name in names if name]) > 1:
        raise TaskError(f"it defines the tasks {', '.join(map(repr, named))}: give each a file of its own")
    return tasks[names.index(path.stem)]


def _load_entry_point(point: importlib.metadata.EntryPoint) -> Entry:
    origin = f"{point.value} ({point.dist.name})" if point.dist else point.value
    try:
        task = point.load()
        if not (isinstance(task, type) and issubclass(task, Task)):
            raise TaskError(f"entry point {point.value!r} is not a task class")
        if task.name != point.name:
            raise TaskError(f"entry point {point.name!r} names the task {task.name!r}: give both the same name")
        return Entry(point.name, origin, task=task)
    except (Exception, SystemExit) as error:  # user code, as above
        return Entry(point.name, origin, error=located(error, Path(origin)))
