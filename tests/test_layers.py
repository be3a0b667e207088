"""Imports inside `mtcl/` point down only, from folder to folder, and never in a circle (docs/design.md, "The folders").

python -m pytest tests/test_layers.py
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"errors", "arrays", "distributed", "files", "console", "processes", "records"},
    {"task", "demo"},
    {"data"},
    {"encoder"},
    {"weighting"},
    {"losses"},
    {"evaluation"},
    {"mining"},
    {"training"},
    {"configuration"},
    {"deploy"},
    {"studies"},
    {"commands", "__main__"},
]
"""Folders, bottom to top. Those of one level know nothing of each other, apart from the files at the bottom."""
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
FILES = sorted(p for p in (ROOT / "mtcl").rglob("*.py") if p != ROOT / "mtcl" / "__init__.py")


def imported(path: Path) -> set[str]:
    """Modules of mtcl that a file imports, at any depth of the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "mtcl"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mtcl":
            found |= {f"mtcl.{alias.name}" for alias in node.names} if node.module == "mtcl" else {node.module}
    return found


def test_every_room_has_a_floor() -> None:
    assert {p.relative_to(ROOT / "mtcl").parts[0].removesuffix(".py") for p in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(ROOT / "mtcl").parts[0].removesuffix(".py")
    for module in imported(path):
        parts = module.split(".")
        assert len(parts) > 1, f"{path.name} imports from mtcl itself: import the module that defines the name"
        assert LEVEL[parts[1]] <= LEVEL[own], f"{path.name} ({own}) imports upward: {module}"


def test_no_import_is_part_of_a_circle() -> None:
    """Module by module, wherever an import is: at the top, in a function, or for annotations only."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    graph = {name: (modules_imported(path) & modules.keys()) - {name} for name, path in modules.items()}
    assert "mtcl.training.datamodule" in graph["mtcl.training.run"]
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def modules_imported(path: Path) -> set[str]:
    """Modules that a file imports, at any depth; `from package import name` may be of a module of the package."""
    found = imported(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mtcl."):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import mtcl.b", "from mtcl.a import A"),
        ("from mtcl import b", "def f():\n    from mtcl import a"),
        ("from mtcl.b import B", "if TYPE_CHECKING:\n    from mtcl.a import A"),
    ],
)
def test_every_form_of_import_counts(one: str, other: str, tmp_path: Path) -> None:
    for name, text in (("a", one), ("b", other)):
        (tmp_path / f"{name}.py").write_text(text)
    graph = {f"mtcl.{name}": modules_imported(tmp_path / f"{name}.py") & {"mtcl.a", "mtcl.b"} for name in "ab"}
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph).static_order())


def test_few_files_are_flat() -> None:
    assert len(list((ROOT / "mtcl").glob("*.py"))) <= 8


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda p: p.stem)
def test_tasks_import_public_names_only(path: Path) -> None:
    assert imported(path)
    assert all(name.count(".") == 1 for name in imported(path)), "a task file imports `from mtcl import ...`"
