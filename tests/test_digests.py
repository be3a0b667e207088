"""Digests of files: read once per node, and never an old digest of a new content.

python -m pytest tests/test_digests.py
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mtcl import MtclDataModule
from mtcl.task import digests
from mtcl.task.digests import digest_files
from mtcl.task.rows import pairs_fingerprint, row_digests, share_row_digests
from tests.conftest import ROOT

TICK_S = 0.05
"""Longer than the clock of any file system that tests run on stands still."""
Reads = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def own_memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and a process that knows nothing yet."""
    monkeypatch.setenv("MTCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_entries", {})
    return tmp_path / "cache" / "digests.json"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The names of the files that were hashed since the last call."""
    names: list[str] = []
    plain = digests._hash

    def kept(name: str) -> object:
        names.append(Path(name).name)
        return plain(name)

    monkeypatch.setattr(digests, "_hash", kept)

    def since() -> list[str]:
        found = list(names)
        names.clear()
        return found

    return since


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled after a tick of the clock, so that no test waits for two seconds."""
    monkeypatch.setattr(digests, "SETTLED_NS", int(TICK_S * 1e9 / 2))


def another_process() -> None:
    digests._entries.clear()


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    time.sleep(TICK_S)
    return path


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_by_all_processes(tmp_path: Path, reads: Reads) -> None:
    files = [written(tmp_path / name, name) for name in "abc"]
    first = digest_files(files)
    assert reads() == ["a", "b", "c"]
    another_process()
    assert digest_files(files) == first == digest_files(files)
    assert reads() == []
    files.append(written(tmp_path / "d", "d"))
    assert digest_files(files) != first
    assert reads() == ["d"]


@pytest.mark.usefixtures("settled")
def test_a_digest_is_of_the_contents_in_their_order_and_of_nothing_else(tmp_path: Path, reads: Reads) -> None:
    one, other = written(tmp_path / "one", "x"), written(tmp_path / "other", "y")
    (tmp_path / "moved").mkdir()
    copies = [written(tmp_path / "moved" / name, text) for name, text in (("z", "x"), ("a", "y"))]
    assert digest_files([one, other]) == digest_files(copies) != digest_files([other, one])
    reads()
    (tmp_path / "link").symlink_to(one)
    assert digest_files([tmp_path / "link"]) == digest_files([one])
    assert reads() == [], "a link leads to a file that is known"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("way", ["in place", "replaced", "in place, old time", "replaced, old time"])
def test_a_changed_file_is_read_again(tmp_path: Path, reads: Reads, way: str) -> None:
    """Of the same size, and with the time of modification put back, as by unpacking an archive."""
    path = written(tmp_path / "file", "old")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    time.sleep(TICK_S)
    before = digest_files([path])
    if way.startswith("replaced"):
        written(tmp_path / "new", "new").replace(path)
    else:
        path.write_text("new")
    if way.endswith("old time"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    reads()
    assert digest_files([path]) != before
    another_process()
    assert digest_files([path]) != before
    assert reads()


def test_a_file_that_was_written_just_now_is_not_remembered(
    tmp_path: Path, reads: Reads, own_memo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change again within one tick of the file system's clock."""
    path = written(tmp_path / "file", "old")
    digest_files([path])
    digest_files([path])
    assert reads() == ["file", "file"]
    assert not own_memo.exists()
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3_000_000_000)
    digest_files([path])
    digest_files([path])
    assert reads() == ["file"]


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, own_memo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "file", "old")
    plain = digests.hashlib.file_digest

    def slow(file: object, kind: str) -> object:
        found = plain(file, kind)  # type: ignore[arg-type]
        path.write_text("new")
        return found

    monkeypatch.setattr(digests.hashlib, "file_digest", slow)
    digest_files([path])
    assert not own_memo.exists()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 3}', '{"a": [1, 2, 3]}', "null"])
def test_a_damaged_memo_is_passed_over(tmp_path: Path, own_memo: Path, damage: str) -> None:
    path = written(tmp_path / "file", "x")
    expected = digest_files([path])
    own_memo.write_text(damage)
    another_process()
    assert digest_files([path]) == expected
    assert list(json.loads(own_memo.read_text())) == [str(path.resolve())]


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_costs_time_only_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MTCL_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(logging.getLogger("mtcl"), "propagate", True)
    paths = [written(tmp_path / name, name) for name in "ab"]
    assert digest_files(paths[:1]) != digest_files(paths[1:])
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("digests of data files cannot be saved to ")
    assert told[0].endswith("): each start reads all data")


@pytest.mark.usefixtures("settled")
def test_the_oldest_are_forgotten(tmp_path: Path, own_memo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_REMEMBERED", 2)
    for name in "abc":
        digest_files([written(tmp_path / name, name)])
    assert [Path(name).name for name in json.loads(own_memo.read_text())] == ["b", "c"]


HASH_ALL = """
import sys
from pathlib import Path

from mtcl.task import digests

digests.SETTLED_NS = 0
for path in sys.argv[1:]:
    digests.digest_files([Path(path)])
"""


@pytest.mark.usefixtures("starts_processes")
def test_processes_at_once_lose_nothing(tmp_path: Path, own_memo: Path) -> None:
    """Each imports no more than it needs: the three have as much time for the memo as for their start."""
    paths = [written(tmp_path / str(number), str(number)) for number in range(24)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    commands = [[sys.executable, "-c", HASH_ALL, *map(str, paths[start::3])] for start in range(3)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sorted(json.loads(own_memo.read_text())) == sorted(str(path.resolve()) for path in paths)


@pytest.mark.parametrize(("node", "num_calls"), [(0, 0), (1, 1)])
def test_rows_of_a_method_are_read_by_one_process_of_each_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: int, num_calls: int
) -> None:
    """A rank takes the digest that the first rank of its node has sent, and none of another node's."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "counted.py").write_text(
        "from mtcl import MRR, QueryDocument, Task\n\n\n"
        'class Counted(Task):\n    """Rows that are counted."""\n\n'
        '    name = "counted"\n    pairs = QueryDocument()\n    metric = MRR()\n'
        '    sample = [{"query": "a", "document": "b"}, {"query": "c", "document": "d"}]\n    _calls = []\n\n'
        "    def data(self, split, root):\n        self._calls.append(split)\n        return self.sample\n"
    )
    data = MtclDataModule(tasks={"counted": {}}, tasks_dir=str(tmp_path / "tasks"))
    task = data.tasks["counted"]
    expected = pairs_fingerprint(task, "train", None)
    sent = dict(row_digests(task))
    row_digests(task).clear()
    task._calls.clear()  # type: ignore[attr-defined]
    monkeypatch.setattr("mtcl.task.rows.of_all_ranks", lambda own: [(node, {"counted": sent}), own])
    share_row_digests([task], node=0)
    assert pairs_fingerprint(task, "train", None) == expected
    assert len(task._calls) == num_calls  # type: ignore[attr-defined]
