"""Bars are for terminals only; tables are read back as they were given.

python -m pytest tests/test_console.py
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mtcl.console import markdown_head, markdown_row, markdown_table, track

CELL = st.text(st.sampled_from("ab |\\\n"), max_size=6)


def cells_of(line: str) -> list[str]:
    """A line of a table as a reader of Markdown splits it: a bar behind a backslash is a character of the cell."""
    inner = line.removeprefix("| ").removesuffix(" |")
    return [cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", inner)]


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=4))
def test_a_table_has_a_line_a_row_and_a_cell_a_column(rows: list[list[str]]) -> None:
    head, rule, *lines = markdown_table(["x", "y", "z"], rows, numbers={1}).splitlines()
    assert cells_of(head) == ["x", "y", "z"]
    assert cells_of(rule) == ["---", "---:", "---"]
    assert [cells_of(line) for line in lines] == [[" ".join(cell.split()) for cell in row] for row in rows]


def test_a_table_printed_as_it_comes_is_the_same() -> None:
    rows = [["a", 1], ["b", 2.5]]
    printed = "\n".join([markdown_head(["name", "value"]), *(markdown_row(row) for row in rows)]) + "\n"
    assert printed == markdown_table(["name", "value"], rows)
    assert printed == "| name | value |\n| --- | --- |\n| a | 1 |\n| b | 2.5 |\n"


@pytest.mark.parametrize(("is_terminal", "steps", "is_shown"), [(True, 3, True), (True, 1, False), (False, 3, False)])
def test_a_bar_is_shown_on_a_terminal_only(
    is_terminal: bool, steps: int, is_shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(range(steps), "embed texts")) == list(range(steps))
    told = capsys.readouterr()
    assert told.out == ""
    assert ("embed texts" in told.err) == is_shown
    assert bool(told.err) == is_shown
