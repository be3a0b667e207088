"""The short help: its keys and defaults are those of the parser, and it fits on a screen.

python -m pytest tests/test_help.py
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtcl.__main__ import main
from mtcl.configuration.cli import _Parsed
from mtcl.configuration.help import BY_HARDWARE, CLASSES, GROUPS, WIDTH, Key, documented, first_sentence
from mtcl.encoder.precision import best_precision
from mtcl.training.task_config import TaskConfig

KEYS = [key for keys in GROUPS.values() for key in keys]
MAX_LINES = 62


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    """The configuration of a run that gives no key, as the parser has it."""
    parsed = yaml.safe_load(_Parsed([], config={}, run_dir=Path()).config_text())
    task = {field.name: field.default for field in dataclasses.fields(TaskConfig)}
    return {**parsed, "tasks": {"NAME": task}}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_has_the_default_of_the_parser(key: Key, defaults: dict[str, Any]) -> None:
    value: Any = defaults
    for part in key.name.split("."):
        value = value[part]
    if key.default == BY_HARDWARE:
        assert value == best_precision()
    else:
        assert yaml.safe_load(key.default) == value
        assert type(yaml.safe_load(key.default)) is type(value)


def test_no_key_is_shown_twice() -> None:
    assert len({key.name for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("section", CLASSES)
def test_docstrings_are_read_as_the_parser_reads_them(section: str) -> None:
    """Every field or argument of the class is found."""
    import importlib
    import inspect

    file, name = CLASSES[section]
    module = importlib.import_module("mtcl." + file.removesuffix(".py").replace("/", "."))
    assert documented(file, name).keys() == inspect.signature(getattr(module, name)).parameters.keys()


def test_a_sentence_ends_at_its_full_stop() -> None:
    assert first_sentence("mean of\n        1.5 tokens. And more.") == "Mean of 1.5 tokens"


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_it_fits_on_a_screen_and_names_the_whole(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(f"usage: mtcl {command} ")
    assert lines[-1] == f"`mtcl {command} --help_all` lists every key."
    shown = {key.name for key in KEYS if any(line.startswith(f"  {key.name} ") for line in lines)}
    assert shown == {key.name for key in KEYS if command == "fit" or key.in_evaluation}
    assert sum(line.startswith(f"  mtcl {command} --") for line in lines) == 2, "examples"


def test_the_examples_are_of_options_that_exist(defaults: dict[str, Any]) -> None:
    from mtcl.commands.run import _parser
    from mtcl.configuration.help import EXAMPLES
    from mtcl.configuration.overrides import from_arguments
    from mtcl.configuration.run_keys import run_keys

    for command, examples in EXAMPLES.items():
        for example in examples:
            program, own, *arguments = example.split()
            assert (program, own) == ("mtcl", command)
            _, rest = _parser(command).parse_known_args(arguments)
            from_arguments(rest, run_keys())
