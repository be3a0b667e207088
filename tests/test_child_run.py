"""A run of a study stops when the study stops.

python -m pytest tests/test_child_run.py
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtcl.commands import child_run


@pytest.fixture
def _as_before() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(("is_told", "expected"), [(False, (0, ["fit", "test"])), (True, (143, ["fit"]))])
def test_a_run_told_to_stop_at_its_end_is_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool, expected: tuple[int, list[str]]
) -> None:
    """Training notes a signal to save after the step; in its last validation, no step follows."""
    ran = []

    def command(arguments: list[str]) -> int:
        ran.append(arguments[0])
        signal.signal(signal.SIGTERM, lambda *_: None)
        if is_told:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(child_run, "mtcl", command)
    monkeypatch.setattr(child_run, "stop_with_starter", lambda: None)
    assert (child_run.main(str(tmp_path / "lock"), json.dumps([["fit"], ["test"]])), ran) == expected
