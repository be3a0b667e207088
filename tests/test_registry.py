"""Where tasks are found, what shadows what, and that a broken file harms itself only.

python -m pytest tests/test_registry.py                      # MTCL_DATA=DIR adds the public data sets
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from mtcl import PairTable, Task, TaskError
from mtcl.task.as_table import as_table
from mtcl.task.registry import Registry, discover, reference_folder
from mtcl.task.rows import pairs_of

REFERENCE = sorted(p for p in reference_folder().rglob("*.py") if not p.name.startswith("_"))
PUBLIC = [p for p in REFERENCE if p.parent.name == "public"]
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in an empty folder without folders of tasks named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTCL_TASKS_DIR", raising=False)
    return tmp_path


def write_task(path: Path, *, name: str | None = None, owner: str = "", body: str = "") -> Path:
    """A right task file named as its stem, but for `name`; `body` comes at the end of the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'''from mtcl import MRR, Files, LabelText, Task


class Something(Task):
    """A post -> its label."""

    name = "{name or path.stem}"
    owner = "{owner}"
    data = Files("{name or path.stem}")
    pairs = LabelText(text="text", label="label")
    metric = MRR()
    sample = [{{"text": "a", "label": "b"}}, {{"text": "c", "label": "d"}}]
{body}''',
        encoding="utf-8",
    )
    return path


def write_distribution(folder: Path, *, points: dict[str, str], **modules: str) -> None:
    """What `pip install` leaves of a package `x` 1.0 with entry points of the group `mtcl.tasks`."""
    info = folder / "x-1.0.dist-info"
    info.mkdir(parents=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[mtcl.tasks]", *lines, ""]))


def own(registry: Registry) -> set[str]:
    """The names that are not those of the reference tasks."""
    return {name for name, entry in registry.entries.items() if not entry.is_reference}


def error_of(name: str, *, tasks_dir: str | None = None) -> str:
    entry = discover(tasks_dir).entries[name]
    assert entry.task is None
    assert entry.error
    return entry.error


def test_an_empty_folder_has_the_reference_tasks() -> None:
    registry = discover()
    assert set(registry.entries) == {p.stem for p in REFERENCE}
    assert not own(registry)


def test_files_are_found_at_any_depth_of_tasks(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "one.py")
    write_task(working_folder / "tasks" / "team" / "deep" / "two.py")
    write_task(working_folder / "three.py")
    assert own(discover()) == {"one", "two"}


def test_tasks_dir_and_the_environment_add_folders(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(working_folder / "tasks" / "here.py")
    for name in ("a", "b", "c", "d"):
        write_task(working_folder / name / f"task_{name}.py")
    monkeypatch.setenv("MTCL_TASKS_DIR", os.pathsep.join(["b", str(working_folder / "c")]))
    assert own(discover()) == {"here", "task_b", "task_c"}
    assert own(discover(f"a{os.pathsep}d")) == {"here", "task_a", "task_b", "task_c", "task_d"}


def test_a_folder_named_twice_is_read_once(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(working_folder / "tasks" / "one.py")
    monkeypatch.setenv("MTCL_TASKS_DIR", str(working_folder / "tasks"))
    assert discover("tasks")["one"].name == "one"


def test_a_users_task_replaces_a_reference_task_in_a_checkout_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference_folder().parent)
    own = write_task(tmp_path / "own" / f"{PUBLIC[0].stem}.py")
    found = discover(tmp_path / "own").entries[own.stem]
    assert (found.origin, found.error) == (str(own), None)


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_folder_that_is_none_is_an_error(by_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_environment:
        monkeypatch.setenv("MTCL_TASKS_DIR", "nowhere")
    with pytest.raises(TaskError, match="tasks_dir 'nowhere' is not a folder"):
        discover(None if by_environment else "nowhere")


def test_files_that_begin_with_an_underscore_are_no_tasks(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "one.py")
    (working_folder / "tasks" / "_helpers.py").write_text("raise RuntimeError('imported')")
    assert own(discover()) == {"one"}


def test_hidden_folders_and_folders_named_as_files_hold_no_tasks(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / ".ipynb_checkpoints" / "a-checkpoint.py")
    (working_folder / "tasks" / "b.py").mkdir()
    assert not {"a-checkpoint", "b"} & discover().entries.keys()


def test_a_task_that_cannot_be_made_says_so(working_folder: Path) -> None:
    write_task(
        working_folder / "tasks" / "made.py", body="\n    def __init__(self, root):\n        self._root = root\n"
    )
    with pytest.raises(TaskError, match=r"task 'made' cannot be made: .*missing 1 required positional argument"):
        discover()["made"]


def test_a_metric_whose_name_is_a_method_is_told(working_folder: Path) -> None:
    path = write_task(working_folder / "tasks" / "named.py")
    own = "class Own(MRR):\n    def name(self):\n        return 'own'\n\n\nclass Something"
    path.write_text(path.read_text().replace("class Something", own).replace("metric = MRR()", "metric = Own()"))
    with pytest.raises(TaskError, match=r"metric Own has a method `name`: put @property before it"):
        discover()["named"]


def test_a_syntax_error_is_told_by_file_and_line_and_isolated(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "good.py")
    write_task(working_folder / "tasks" / "typo.py", body="    version = = 2\n")
    registry = discover()
    assert error_of("typo") == f"{Path('tasks', 'typo.py')}:13: SyntaxError: invalid syntax"
    assert registry["good"].name == "good"
    with pytest.raises(TaskError, match=re.escape(f"task 'typo' cannot be loaded: {Path('tasks', 'typo.py')}:13: ")):
        registry["typo"]


@pytest.mark.parametrize("content", [b'x = "\xff"\n', b"x = 1\0\n"])
def test_a_file_that_is_no_text_is_an_error_of_its_own(working_folder: Path, content: bytes) -> None:
    write_task(working_folder / "tasks" / "good.py")
    (working_folder / "tasks" / "odd.py").write_bytes(content)
    assert re.match(r"tasks.odd\.py(:1)?: (Syntax|Value)Error: .", error_of("odd"))
    assert discover()["good"].name == "good"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("metrics = 1", "TaskError: task class Something: unknown attribute 'metrics': did you mean 'metric'?"),
    ],
)
def test_an_exception_at_import_is_told_by_its_line(working_folder: Path, statement: str, told: str) -> None:
    write_task(working_folder / "tasks" / "good.py")
    write_task(working_folder / "tasks" / "bad.py", body=f"    {statement}\n")
    line = 4 if "metrics" in statement else 13  # a class is checked where it begins
    assert error_of("bad") == f"{Path('tasks', 'bad.py')}:{line}: {told}"
    assert discover()["good"].name == "good"


def test_a_file_that_does_not_define_its_stem_says_what_it_defines(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "one.py", name="two")
    (working_folder / "tasks" / "nothing.py").write_text("x = 1\n")
    assert error_of("one").endswith("no task named 'one' (the file's stem); it defines 'two'")
    assert error_of("nothing").endswith("no task named 'nothing' (the file's stem); it defines none")


def test_an_imported_task_is_not_the_file_s_own(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "one.py")
    (working_folder / "tasks" / "two.py").write_text(
        "import sys\nOther = next(m for n, m in sys.modules.items() if n.startswith('mtcl_task_one')).Something\n"
    )
    assert "no task named 'two'" in error_of("two")


def test_two_files_of_one_name_are_an_error_that_names_both(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "a" / "same.py")
    write_task(working_folder / "more" / "same.py")
    message = error_of("same", tasks_dir="more")
    assert str(Path("tasks", "a", "same.py")) in message
    assert str(Path("more", "same.py")) in message
    assert "rename one" in message


def test_a_task_of_the_user_s_replaces_a_reference_task(working_folder: Path) -> None:
    assert discover()["search"].owner == "@mtcl"
    write_task(working_folder / "tasks" / "search.py", owner="@me")
    registry = discover()
    assert registry["search"].owner == "@me"
    assert set(registry.entries) == {p.stem for p in REFERENCE}


def test_a_broken_task_of_the_user_s_does_not_fall_back_to_the_reference_task(working_folder: Path) -> None:
    write_task(working_folder / "tasks" / "search.py", body="    1 / 0\n")
    assert "ZeroDivisionError" in error_of("search")


def test_an_installed_package_registers_tasks(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_task(working_folder / "packaged.py", owner="@package").read_text()
    write_distribution(
        working_folder / "site", points={"packaged": "x_tasks:Something", "gone": "x_gone:Gone"}, x_tasks=module
    )
    monkeypatch.syspath_prepend(working_folder / "site")
    registry = discover()
    assert registry["packaged"].owner == "@package"
    assert registry.entries["packaged"].origin == "x_tasks:Something (x)"
    assert error_of("gone") == "x_gone:Gone (x): ModuleNotFoundError: No module named 'x_gone'"


def test_an_entry_point_is_a_task_class_of_its_own_name(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_task(working_folder / "right.py").read_text()
    points = {"wrong": "y_tasks:Something", "number": "y_tasks:number", "broken": "y_broken:Task"}
    write_distribution(working_folder / "site", points=points, y_tasks=module + "number = 3\n", y_broken="x = = 1\n")
    monkeypatch.syspath_prepend(working_folder / "site")
    assert "entry point 'wrong' names the task 'right': give both the same name" in error_of("wrong")
    assert "entry point 'y_tasks:number' is not a task class" in error_of("number")
    assert re.search(r"y_broken\.py:1: SyntaxError: invalid syntax$", error_of("broken"))


def test_a_package_replaces_a_reference_task_but_not_a_file(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_task(working_folder / "search.py", owner="@package").read_text()
    write_distribution(working_folder / "site", points={"search": "z_tasks:Something"}, z_tasks=module)
    monkeypatch.syspath_prepend(working_folder / "site")
    assert discover()["search"].owner == "@package"
    write_task(working_folder / "tasks" / "search.py", owner="@me")
    message = error_of("search")
    assert str(Path("tasks", "search.py")) in message
    assert "z_tasks:Something (x)" in message


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(TaskError, match=r"unknown task 'hashtagz'; did you mean 'hashtag' or 'hashtags' or"):
        discover()["hashtagz"]
    with pytest.raises(TaskError, match=r"unknown task 'qqqq'; known: apart_occupation_duties, "):
        discover()["qqqq"]


@pytest.mark.parametrize("path", REFERENCE, ids=lambda p: p.stem)
def test_reference_tasks_keep_the_contract(path: Path) -> None:
    task = discover()[path.stem]
    assert task.name == path.stem
    assert (type(task).__doc__ or "").strip()
    assert task.owner
    assert task.license
    assert task.metric.name
    table = task.pairs(as_table(task.sample))
    assert len(table.anchors) >= 2
    assert not table.skipped, "a sample is clean"


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: p.stem)
@pytest.mark.skipif(not os.environ.get("MTCL_DATA"), reason="MTCL_DATA does not name the folder of the public data")
def test_each_anchor_of_the_public_data_shares_a_key_with_its_positive(path: Path) -> None:
    task: Task = discover()[path.stem]
    for split in SPLITS:
        table = pairs_of(task, split, Path(os.environ["MTCL_DATA"]))
        assert len(table.candidates) >= 2
        if table.scores is None:  # a judged pair may be of two texts that have nothing in common
            assert linked(table).all(), f"{task.name}, {split}"


def linked(table: PairTable) -> np.ndarray:
    """Whether each anchor shares a key with its positive, or with every member of its group."""
    anchors, positives = table.anchors, table.positives
    if table.groups is not None:
        lengths = table.groups.lengths()[positives]
        anchors, positives = np.repeat(anchors, lengths), table.groups.take(positives).values
    width = int(table.keys.lengths().max())
    found = np.zeros(len(anchors), dtype=bool)
    for start in range(0, len(anchors), 1 << 14):
        some = slice(start, start + (1 << 14))
        left_NK = table.keys.take(anchors[some]).padded(width, fill=0)
        right_NK = table.keys.take(positives[some]).padded(width, fill=0)
        for column in left_NK.T:
            found[some] |= ((column[:, None] == right_NK) & (column[:, None] != 0)).any(axis=1)
    return found
