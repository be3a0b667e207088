"""`mtcl losses` says what each loss needs, and `mtcl losses NAME` all that its docstring and signature say.

python -m pytest tests/test_losses_command.py
"""

from __future__ import annotations

import inspect

import pytest
import yaml

from mtcl.__main__ import main
from mtcl.commands.losses import _kinds, parameters
from mtcl.configuration.checks import check
from mtcl.configuration.run_keys import run_keys

NAMES = sorted(_kinds())


def test_all_losses_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if "  for " in line} == set(NAMES)
    assert any(line.split() == ["CoSENT", "for", "graded", "or", "binary", "pairs"] for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_one_loss_with_its_parameters(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every parameter has a meaning, and the example is a configuration that is accepted."""
    assert main(["losses", name]) == 0
    shown = capsys.readouterr().out
    for one in parameters(_kinds()[name]):
        assert one.meaning, one.name
        default = f" = {one.default}" if one.default else ", required"
        assert f"  {one.name}: {one.type}{default}\n" in shown
    assert [one.name for one in parameters(_kinds()[name])] == list(inspect.signature(_kinds()[name]).parameters)
    check(yaml.safe_load(shown.split("In a configuration:\n")[1]), run_keys())


def test_names_that_are_no_loss_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "MultipleNegativesRankingLoss"]) == 2
    assert "give InfoNCE, its counterpart" in capsys.readouterr().err
    assert main(["losses", "InfoNC"]) == 2
    assert "no loss 'InfoNC'; did you mean 'InfoNCE'?" in capsys.readouterr().err
