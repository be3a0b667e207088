"""Windows of rows do not depend on how a file is read, and each row is in one of them.

python -m pytest tests/test_embed_windows.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtcl.deploy.embed import parquet_rows, rows
from mtcl.deploy.embed.reading import opened
from mtcl.deploy.embed.rows import Window
from mtcl.deploy.embed.shards import Columns, find_shards

LIMIT = 40
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.lists(st.one_of(st.none(), st.text("ab ", max_size=60)), max_size=40)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WINDOW_CHARACTERS", LIMIT)
    monkeypatch.setattr(parquet_rows, "ROWS_AT_ONCE", 7)


def windows(path: Path, size: int, skip: int = 0) -> list[Window]:
    (shard,) = find_shards([str(path)])
    found = []
    with opened(shard, Columns(id="id")) as source:
        source.skip(skip)
        while (window := source.take(size)) is not None:
            found.append(window)
    return found


def plain(window: Window) -> tuple[int, int, list[str], list[int], list[int]]:
    return window.start, window.stop, window.texts, window.rows["id"].to_pylist(), [bad.row for bad in window.bad]


@SETTINGS
@given(texts=TEXTS, size=st.integers(1, 12), group=st.integers(1, 15), suffix=st.sampled_from(["jsonl", "parquet"]))
def test_windows_hold_each_row_once(
    tmp_path: Path, texts: list[str | None], size: int, group: int, suffix: str
) -> None:
    table = pa.table({"text": pa.array(texts, pa.string()), "id": range(100, 100 + len(texts))})
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path, row_group_size=group)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    whole = [plain(window) for window in windows(path, size)]
    assert [start for start, *_ in whole] == [0, *(stop for _, stop, *_ in whole)][: len(whole)]
    good = [(100 + row, text) for row, text in enumerate(texts) if text and not text.isspace()]
    assert [id_ for window in whole for id_ in window[3]] == [id_ for id_, _ in good]
    assert [text for window in whole for text in window[2]] == [text for _, text in good]
    assert [row for window in whole for row in window[4]] == sorted(set(range(len(texts))) - {i - 100 for i, _ in good})
    for start, stop, found, *_ in whole:
        assert 0 < stop - start <= size
        assert sum(map(len, found[:-1])) < LIMIT, "a window ends with the text that reaches the limit"
    for number, (start, *_) in enumerate(whole):
        assert [plain(window) for window in windows(path, size, skip=start)] == whole[number:]


@pytest.mark.parametrize("suffix", ["txt", "parquet"])
def test_a_long_text_loses_its_middle(tmp_path: Path, suffix: str) -> None:
    """A tokenizer may cut at either end."""
    text, path = "a" * 150_000 + "b" * 150_000, tmp_path / f"a.{suffix}"
    if suffix == "txt":
        path.write_text(text)
    else:
        pq.write_table(pa.table({"text": [text]}), path)
    (shard,) = find_shards([str(path)])
    with opened(shard, Columns()) as source:
        window = source.take(5)
    assert window is not None
    assert window.texts == ["a" * 100_000 + "b" * 100_000]
