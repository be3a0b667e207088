"""Several processes on one input: each window is computed once, and the bytes are those of one process.

A second process is played by a second job in the same one, at a chosen moment of the first: locks are per open file, so
they hold between the two. Real processes: tests/test_embed_kills.py.

python -m pytest tests/test_embed_shared.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtcl.deploy.embed.claims import Claim, claimed, input_lock
from mtcl.deploy.embed.computing import Choice, Computer
from mtcl.deploy.embed.run import Done, Job
from mtcl.deploy.embed.shards import Columns, find_shards
from mtcl.deploy.embed.writing import ShardFiles
from mtcl.deploy.vectors import VectorFolder
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import DataError
from tests.conftest import Run
from tests.test_embed import content, words, write_jsonl

NUM_ROWS, WINDOW = 46, 8
STARTS = list(range(0, NUM_ROWS, WINDOW))


class _CrashError(Exception):
    pass


@pytest.fixture(scope="module")
def computer(trained_run: Path) -> Computer:
    return Computer.of(TextEncoder.load(trained_run, device="cpu"), Choice())


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    rows = [{"id": f"{number:03d}", "text": text} for number, text in enumerate(words(NUM_ROWS - 1))]
    return write_jsonl(tmp_path / "in" / "a.jsonl", [*rows, "{damaged"])


@pytest.fixture
def embed(computer: Computer, inputs: Path, tmp_path: Path) -> Callable[[str], Done]:
    def run(out: str) -> Done:
        shards = tuple(find_shards([str(inputs.parent)]))
        job = Job(tmp_path / out, shards, Columns(id="id"), tokenize_apart=False)
        settings = job.agree(computer, computer.settings(job.columns, file_format="parquet", window=WINDOW))
        return job.embed(job.left(job.shards), computer, settings, lambda rows, read: None)

    return run


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Counts the parts by their first row; `before` and `after` are called with it around the writing."""
    found: dict[str, Any] = {"parts": Counter(), "before": lambda start: None, "after": lambda start: None}
    write_part = ShardFiles.write_part

    def watched(self: ShardFiles, window: Any, stored: Any, num_full: int) -> Any:
        found["parts"][window.start] += 1
        found["before"](window.start)
        part = write_part(self, window, stored, num_full)
        found["after"](window.start)
        return part

    monkeypatch.setattr(ShardFiles, "write_part", watched)
    return found


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("start", [STARTS[0], STARTS[2], STARTS[-1]])
def test_a_second_process_helps(
    embed: Callable[[str], Done], written: dict[str, Any], tmp_path: Path, moment: str, start: int
) -> None:
    """It comes while the first one computes the window at `start`: that one stays the first one's, all others are
    computed by the second, and the one that is last writes the file.
    """
    embed("whole")
    helped: list[Done] = []

    def help_once(now: int) -> None:
        if now == start and not helped:
            helped.append(Done())
            helped[0] = embed("out")

    written[moment] = help_once
    written["parts"].clear()
    first = embed("out")
    assert written["parts"] == Counter(STARTS), "each window once"
    second_writes = moment == "after"
    assert (first.shards, helped[0].shards) == ((0, 1) if second_writes else (1, 0))
    assert (first.elsewhere, helped[0].elsewhere) == ((1, 0) if second_writes else (0, 1))
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not (tmp_path / "out" / "_parts").exists()
    assert len(VectorFolder.open(tmp_path / "out")) == NUM_ROWS - 1


def test_windows_after_a_gap_are_kept(embed: Callable[[str], Done], written: dict[str, Any], tmp_path: Path) -> None:
    """The first process dies at a window when the second has computed all others."""
    embed("whole")

    def crash(start: int) -> None:
        if start == STARTS[2]:
            written["before"] = lambda start: None
            embed("out")
            raise _CrashError

    written["before"] = crash
    with pytest.raises(_CrashError):
        embed("out")
    written["parts"].clear()
    assert embed("out").shards == 1
    assert written["parts"] == Counter([STARTS[2]])
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_parts_of_another_content_are_not_used(
    embed: Callable[[str], Done], written: dict[str, Any], inputs: Path, tmp_path: Path
) -> None:
    """The input changes while one process works on it, and another one starts on the new content."""
    old = inputs.read_text()
    new = old.replace('"text": "', '"text": "dog ')

    def change(start: int) -> None:
        if start == STARTS[1]:
            written["before"] = lambda start: None
            inputs.write_text(new)
            embed("out")

    written["before"] = change
    with pytest.raises(DataError, match="has changed while it was read"):
        embed("out")
    written["before"] = lambda start: None
    embed("out")
    embed("whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_one_window_is_computed_once(embed: Callable[[str], Done], inputs: Path, tmp_path: Path) -> None:
    """An input of one window has no parts; a second process leaves it alone."""
    write_jsonl(inputs, [{"id": "1", "text": "dog"}])
    helped: list[Done] = []
    finish = ShardFiles.finish

    def helping(self: ShardFiles, *given: Any) -> Any:
        helped.append(embed("out"))
        return finish(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardFiles, "finish", helping)
        assert embed("out").shards == 1
    assert [one.shards for one in helped] == [0]
    assert len(VectorFolder.open(tmp_path / "out")) == 1
    assert not (tmp_path / "out" / "_parts").exists()


def test_inputs_below_a_folder_of_the_same_name(
    embed: Callable[[str], Done], written: dict[str, Any], inputs: Path, tmp_path: Path
) -> None:
    """Finishing `a` leaves the parts of `a/b`, which another process may work on."""
    write_jsonl(inputs.parent / "a" / "b.jsonl", inputs.read_text().splitlines())
    embed("whole")
    helped: list[Done] = []

    def help_once(start: int) -> None:
        if start == STARTS[2] and not helped:
            helped.append(Done())
            helped[0] = embed("out")

    written["before"] = help_once
    embed("out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_claim_is_exclusive_and_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    (shard,) = find_shards([str(inputs)])
    with claimed(tmp_path / "out", shard) as is_mine, claimed(tmp_path / "out", shard) as is_theirs:
        assert (is_mine, is_theirs) == (True, False)
    claim = Claim.take(input_lock(tmp_path / "out", shard))
    assert claim is not None, "it is free again"
    claim.release()
    assert list((tmp_path / "out").iterdir()) == []


def test_standard_input_has_one_reader(mtcl_command: Run, trained_run: Path) -> None:
    done = mtcl_command("embed", str(trained_run), "-", "--out", "out", "--processes", "2")
    assert done.returncode == 2
    assert "--processes is 2, and only one process can read standard input: give files" in done.stderr


@pytest.mark.parametrize(("suffix", "most"), [(".jsonl", 3), (".jsonl.gz", 40), (".parquet", 40)])
def test_processes_without_work_are_not_started(tmp_path: Path, suffix: str, most: int) -> None:
    """A file of 320 bytes has at most so many windows of 8 rows."""
    (tmp_path / f"a{suffix}").write_bytes(b"." * 320)
    (shard,) = find_shards([str(tmp_path / f"a{suffix}")])
    assert shard.most_windows(8) == most
