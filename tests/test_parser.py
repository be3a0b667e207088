"""What is left to jsonargparse: the whole of its messages, as we show them. A change of its wording is seen here.

python -m pytest tests/test_parser.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtcl import ConfigError
from mtcl.configuration.cli import MtclCLI, _Parsed

OWN = """
from collections.abc import Callable

from lightning.pytorch.loggers import CSVLogger
from mtcl.losses import InfoNCE


class Handed(InfoNCE):
    def __init__(self, **rest):
        super().__init__(**rest)


class Function(InfoNCE):
    def __init__(self, function: Callable[[int], int]):
        super().__init__()


class Raises(InfoNCE):
    def __init__(self, scale: float = 1.0):
        raise ValueError(f"scale is {scale}: give 2")


class Tracker(CSVLogger):
    def __init__(self, project: str = "x"):
        raise ModuleNotFoundError("tracker is not installed: pip install tracker")


def make() -> InfoNCE:
    return InfoNCE(temperature=0.5)


def number() -> int:
    return 1
"""


@pytest.fixture(autouse=True)
def own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["mtcl"])  # LightningCLI warns where there is more


def with_loss(loss: str) -> dict[str, Any]:
    return {"tasks": {"topic": {"loss": yaml.safe_load(loss)}}}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            with_loss("{class_path: own_parts.Handed, init_args: {temperature: hot}}"),
            "tasks: loss: Problem with given class_path 'own_parts.Handed': temperature: Expected a <class 'float'>. "
            "Got value: hot",
        ),
        (
            with_loss("{class_path: own_parts.number}"),
            "tasks: loss: Import path own_parts.number does not correspond to a subclass of Loss",
        ),
        (
            with_loss("{class_path: own_parts.Function, init_args: {function: 3}}"),
            "tasks: loss: Problem with given class_path 'own_parts.Function': function: Type "
            "collections.abc.Callable[[int], int] expects a function or a callable class: Expected an import path or a "
            "subclass spec, but got 3. Got value: 3",
        ),
        (
            {"trainer": {"callbacks": [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": 3}}]}},
            "trainer.callbacks: Problem with given class_path 'lightning.pytorch.callbacks.LambdaCallback': "
            "on_fit_start: Type typing.Callable expects a function or a callable class: Expected an import path or a "
            "subclass spec, but got 3",
        ),
    ],
)
def test_a_message_of_jsonargparse_is_one_line(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        _Parsed([], config=config, run_dir=Path())
    assert str(error.value) == told


def test_what_a_class_of_the_user_s_raises_is_the_message(tiny_model: Path, tmp_path: Path) -> None:
    config = with_loss("{class_path: own_parts.Raises, init_args: {scale: 3}}")
    config["model"] = {"encoder": {"name": str(tiny_model)}}
    with pytest.raises(ConfigError, match=r"^scale is 3\.0: give 2$"):
        MtclCLI([], config=config, run_dir=tmp_path / "run")


@pytest.mark.parametrize("is_list", [True, False])
def test_a_logger_that_is_not_installed_says_so_and_no_more(tiny_model: Path, tmp_path: Path, is_list: bool) -> None:
    logger = {"class_path": "own_parts.Tracker", "init_args": {"project": "mine"}}
    config = {"tasks": {}, "model": {"encoder": {"name": str(tiny_model)}}}
    config["trainer"] = {"logger": [logger] if is_list else logger}
    with pytest.raises((ConfigError, ModuleNotFoundError)) as error:
        MtclCLI([], config=config, run_dir=tmp_path / "run")
    assert str(error.value).endswith("tracker is not installed: pip install tracker")


def test_a_function_that_makes_a_loss_may_stand_for_its_class() -> None:
    parsed = _Parsed([], config=with_loss("own_parts.make"), run_dir=Path())
    assert parsed.config.tasks["topic"].loss.class_path == "own_parts.make"
