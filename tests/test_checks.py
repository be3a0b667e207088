"""The check of a configuration: it knows the parser's keys, agrees with it on values, and imports nothing.

python -m pytest tests/test_checks.py

`tests/test_broken_input.py` has the messages as a user sees them.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from mtcl import ConfigError
from mtcl.configuration import yaml_files
from mtcl.configuration.checks import check, problems
from mtcl.configuration.classes import COUNTERPARTS, LIBRARIES
from mtcl.configuration.cli import _Parsed
from mtcl.configuration.closest import closest, closest_key
from mtcl.configuration.keys import Section, full_names, section_of
from mtcl.configuration.overrides import applied, from_arguments
from mtcl.configuration.run_keys import SET_BY, run_keys
from mtcl.configuration.types import Members
from mtcl.configuration.values import Text, fits
from mtcl.configuration.words import expected
from mtcl.losses import Loss
from mtcl.training.task_config import TaskConfig
from tests.conftest import ROOT

PARSED = _Parsed(["--seed_everything", "1"], config={"tasks": {"a": {}}}, run_dir=Path())
RUNS = [p for p in (ROOT / "configs").glob("*.yaml") if not p.name.startswith(("transfer", "zero_shot"))]


def nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def found(config: dict[str, Any]) -> list[str]:
    return list(problems(config, run_keys()))


def test_the_keys_are_those_of_the_parser_with_their_types() -> None:
    actions = {a.dest: getattr(a, "_typehint", None) for a in PARSED.parser._actions if not a.dest.endswith("help")}
    theirs = {name: hint for name, hint in actions.items() if hint is not None and name not in SET_BY}
    ours = {name: hint for name, hint in full_names(run_keys()) if not isinstance(hint, Section)}
    assert ours == theirs
    assert SET_BY.keys() < actions.keys()


VALUES = [True, 1, -1, 1.5, "x", "7", "1e-4", "true", "null", "", [1], ["x"], [], {}, {"x": 1}]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | dict[str, Any]], bool]:
    """Whether jsonargparse alone takes an option or a configuration."""
    monkeypatch.setattr(PARSED.parser, "keys", None)
    defaults = PARSED.parser.get_defaults()

    def run(given: str | dict[str, Any]) -> bool:
        try:
            if isinstance(given, str):
                PARSED.parser.parse_args([given])
            else:  # `parse_object(given)` would collect the defaults and the environment again for each value
                PARSED.parser.parse_object(given, namespace=defaults.clone(), defaults=False, env=False)
        except ConfigError:
            return False
        return True

    return run


@pytest.mark.parametrize("name", [n for n, hint in full_names(run_keys()) if not isinstance(hint, Section)])
def test_a_value_is_wrong_where_the_parser_says_so(name: str, taken: Callable[[Any], bool]) -> None:
    """Null is the exception: jsonargparse takes it for any key, and we for those only that can be null and the seed."""
    for value in VALUES:
        if (name, value) == ("seed_everything", "null"):
            continue
        config = nested(name, value)
        assert taken(config) == (not found(config)), value


@pytest.mark.parametrize("name", ["model.optimizer.lr", "model.encoder.name", "model.encoder.dim", "data.held_out"])
@pytest.mark.parametrize("text", ["1", "1e-4", "x", "[x]", "true", "[", "{", "1:30:00"])
def test_what_is_typed_is_wrong_where_the_parser_says_so(name: str, text: str, taken: Callable[[Any], bool]) -> None:
    option = f"--{name}={text}"
    assert taken(option) == (not found(applied({}, from_arguments([option], run_keys()), run_keys())))


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_configurations_of_the_repository_have_no_problem(path: Path) -> None:
    check(yaml_files.load([str(path)]), run_keys())


def test_a_configuration_as_a_checkpoint_holds_it_has_no_problem() -> None:
    loss = (
        "{class_path: WeightedSum, init_args: {losses: [InfoNCE, {class_path: SpreadOut, init_args: {loss: InfoNCE}}]}}"
    )
    given = yaml.safe_load(
        f"tasks: {{a: {{loss: {loss}, weight_schedule: {{3: 0.5}}}}}}\naveraging: {{decay: 0.9}}\n"
        "model: {weighting: Uncertainty, eval_dims: [8]}\ntrainer: {callbacks: [ModelSummary], max_time: 00:01:00:00}\n"
    )
    saved = yaml.safe_load(_Parsed([], config=given, run_dir=Path()).config_text())
    assert saved["optimizer"] is None, "a key of Lightning's that is not given"
    check(saved, run_keys())


def test_nothing_is_imported_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bomb.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "tasks": {"a": {"loss": {"class_path": "bomb.Loss", "init_args": {"x": 1}}}},
        "model": {"weighting": "bomb.Other"},
        "trainer": {"callbacks": [{"class_path": "bomb.third.Callback"}]},
    }
    before = set(sys.modules)
    assert not found(config)
    assert set(sys.modules) == before
    with pytest.raises(ConfigError, match=r"^model\.weighting: cannot import 'bomb': RuntimeError: imported$"):
        check({"model": config["model"]}, run_keys(), imports=True)


def test_a_class_of_the_user_s_is_checked_by_its_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(
        "from mtcl.losses import InfoNCE\n\n\nclass Own(InfoNCE):\n"
        "    def __init__(self, scale: int, **rest):\n        super().__init__(**rest)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def told(**arguments: Any) -> list[str]:
        loss = {"class_path": "own_losses.Own", "init_args": arguments}
        return list(problems({"tasks": {"a": {"loss": loss}}}, run_keys(), imports=True))

    assert told(scale=1, temperature=0.1) == []
    assert told(scale="x") == ["tasks.a.loss.scale is 'x': give a whole number"]
    assert told() == ["tasks.a.loss: Own needs scale: give a whole number"]
    assert told(scale=1, margn=1) == ["tasks.a.loss: Own has no 'margn'; did you mean 'margin'?"]


def test_all_problems_are_found() -> None:
    config = yaml.safe_load("{lr: 1, data: {root: 3, cap: x}, tasks: {a: {wieght: 2, loss: Mean}, b: 3}}")
    assert [problem.partition(":")[0] for problem in found(config)] == [
        "unknown key 'lr'; did you mean 'model.optimizer.lr'?",
        "data.root is 3",
        "data.cap is 'x'",
        "tasks.a",
        "tasks.a.loss",
        "tasks.b is 3",
    ]


@dataclass
class Needs:
    """A configuration with a key that has no default."""

    steps: int
    inner: TaskConfig | None = None
    price: Decimal = Decimal(1)


def test_a_key_without_a_default_has_to_be_there() -> None:
    keys = section_of(Needs)
    assert list(problems({}, keys)) == ["steps is missing: give a whole number"]
    assert list(problems({}, keys, is_whole=False)) == []
    assert list(problems({"steps": 1, "price": "1.5"}, keys)) == [], "a type that only the parser knows"


@pytest.mark.parametrize("theirs", COUNTERPARTS)
def test_a_loss_of_another_library_has_a_counterpart_that_can_be_given(theirs: str) -> None:
    assert found({"tasks": {"a": {"loss": yaml.safe_load(COUNTERPARTS[theirs])}}}) == []
    (told,) = found({"tasks": {"a": {"loss": theirs}}})
    assert told == f"tasks.a.loss: {theirs!r} is not a loss of mtcl: give {COUNTERPARTS[theirs]}, its counterpart"


def test_the_losses_of_other_libraries_are_there() -> None:
    files = []
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            pytest.skip(f"{name} is not installed")
        folder = Path(spec.origin).parent
        files += [*(folder / "nn" / "modules").glob("loss.py"), *folder.rglob("losses/*.py")]
    classes = {name for file in files for name in re.findall(r"^class (\w+)", file.read_text("utf-8"), flags=re.M)}
    assert set(COUNTERPARTS) <= classes


def test_the_nearest_key_is_the_same_one_elsewhere_then_one_beside_it() -> None:
    def near(key: str) -> list[str]:
        return closest_key(key, run_keys())

    assert near("lr") == near("model.lr") == ["model.optimizer.lr"]
    assert near("trainer.loss") == ["tasks.NAME.loss"]
    assert near("trainer.max_step") == near("max_step") == ["trainer.max_steps"]
    assert near("data.encoder.dim") == ["model.encoder.dim"]
    assert near("qqqq") == []
    assert closest("INFONCE", ["InfoNCE", "CoSENT"]) == ["InfoNCE"]


def test_types_in_words() -> None:
    assert expected(bool | int | None) == "true, false, a whole number or null"
    assert expected(int | float) == "a number"
    assert expected(list[int | None]) == "a list of whole numbers or nulls"
    assert expected(dict[str, int]) == "keys with values"
    assert expected(Literal["a", "b"] | None) == "a, b or null"
    assert expected(list[Loss]) == "a list of losses"
    assert expected(str | Path) == "a string"


def test_text_of_digits_is_text_where_it_is_typed_and_a_number_where_yaml_reads_it() -> None:
    assert fits(Text("3"), (str,))
    assert not fits(3, (str,))
    assert fits(Text("3"), (int,))
    assert Members.of(str | None).leaves == (str, type(None))


@pytest.mark.parametrize(
    ("arguments", "merged"),
    [
        (["--a.loss", "InfoNCE", "--a.loss.margin=1"], {"class_path": "InfoNCE", "init_args": {"margin": "1"}}),
        (["--a.loss.class_path", "InfoNCE"], {"class_path": "InfoNCE"}),
        (["--a.loss.init_args.margin", "1"], {"class_path": "CoSENT", "init_args": {"x": 2, "margin": "1"}}),
        (["--a.loss", "{class_path: X}", "--a.loss.y", "1"], {"class_path": "X", "init_args": {"y": "1"}}),
        (["--a.loss.list+", "1", "--a.loss.list+", "[2, 3]"], {"x": 2, "list": ["1", 2, 3]}),
    ],
)
def test_options_lie_on_top_of_the_file(arguments: list[str], merged: dict[str, Any]) -> None:
    keys = Section({"a": Section({"loss": Loss | None})})
    config = {"a": {"loss": {"class_path": "CoSENT", "init_args": {"x": 2}}}}
    loss = applied(config, from_arguments(arguments, keys), keys)["a"]["loss"]
    assert loss == merged or loss["init_args"] == merged
    assert config["a"]["loss"] == {"class_path": "CoSENT", "init_args": {"x": 2}}, "the file's content is left alone"
