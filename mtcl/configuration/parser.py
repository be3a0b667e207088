"""The parser of a configuration: files, environment and command line become one configuration (`overrides.py`), mtcl's
own check (`checks.py`) reports problems in it, then jsonargparse parses it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from mtcl.configuration.checks import check
from mtcl.configuration.keys import Section, section_of
from mtcl.configuration.overrides import applied, from_arguments, from_environment, is_question
from mtcl.configuration.types import Members
from mtcl.configuration.values import Text, loaded, plain
from mtcl.configuration.yaml_files import check_seed
from mtcl.errors import ConfigError

UNION = "Does not validate against any of the Union subtypes"
KEY = 'Parser key "'
OTHER_TYPE = re.compile(r"Expected a <class '[\w.]+'>")
"""A whole line: without the value found, it is about another type of a union, as a logger may also be true or false."""
NOISE = (
    UNION,
    "Subtypes: ",
    "Errors:",
    "Given value",
    "Expected a <class 'NoneType'>",
    "Problem with given class_path 'mtcl.TaskConfig'",
    "Not a valid subclass of ",
    "Subclass types expect one of:",
    "a class path (str)",
    "a dict with",
)
"""Starts of lines in jsonargparse's messages that do not name the problem, but explain why each type of a union failed.

Users rarely see these messages. `checks.py` finds all problems except those that only jsonargparse can find, such as a
function instead of a class, or an argument that a class passes to its base (`tests/test_parser.py` has one of each).
"""


class MtclParser(LightningArgumentParser):
    """Raises `ConfigError` with the wrong key and the closest right one, instead of printing pages of usage.

    Keys are not abbreviated, and the environment overrides files (in jsonargparse files override the environment).
    """

    def __init__(self, keys: Section | None = None, **options: Any) -> None:
        shown = {"description": "", "usage": argparse.SUPPRESS}  # each command prints its own before the keys
        super().__init__(allow_abbrev=False, **options | shown)
        self.keys = keys

    def parse_args(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """`args` starts with `--config FILE` or `--config=TEXT`; variables and then other options are applied to it."""
        if self.keys is None:  # a nested parser, for a class that the configuration names
            return super().parse_args(args, **options)
        first, *given = args
        file = [first, given.pop(0)] if first == "--config" else [first]
        text = first.partition("=")[2] if len(file) == 1 else Path(file[1]).read_text(encoding="utf-8")
        asked = [argument for argument in given if is_question(argument)]
        if any(not argument.startswith("--print") for argument in asked):
            return super().parse_args([*file, *given], **options)
        config = yaml.safe_load(text) or {}
        check(config, self.keys, is_whole=False, imports=True)
        overrides = [
            *from_environment(os.environ, str(self.env_prefix), self.keys),
            *from_arguments(given, self.keys),
        ]
        config = applied(config, overrides, self.keys)
        check(config, self.keys, names={override.key: override.given_as for override in overrides}, imports=True)
        check_seed(loaded(config.get("seed_everything")))
        text = yaml.safe_dump(plain(config), sort_keys=False)
        found = super().parse_args([f"--config={text}", *asked], env=False, **options)
        for (*path, name), given in _texts(config, self.keys):
            reduce(getitem, path, found)[name] = given
        return found

    def instantiate_classes(self, *args: Any, **options: Any) -> Any:
        try:
            return super().instantiate_classes(*args, **options)
        except ValueError as error:
            if UNION not in str(error):
                raise
            raise ConfigError(_in_one_line(str(error))) from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(_in_one_line(message)) from ex


def _texts(value: Any, hint: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Paths and values of texts that may be a text or a mapping, such as the prompt `Task: jobs`. jsonargparse reads
    each as a mapping.
    """
    if not isinstance(hint, Section):
        kinds = Members.of(hint)
        if isinstance(value, str) and kinds.entry and str in kinds.leaves and isinstance(loaded(Text(value)), dict):
            if not (isinstance(value, Text) and value.lstrip().startswith("{")):
                yield (), str(value)
            return
        hint = section_of(kinds.record) if kinds.record else kinds.entry
    if hint is None or not isinstance(value := loaded(value), dict) or "class_path" in value:
        return
    for name, inner in value.items():
        of_inner = hint.keys.get(name) if isinstance(hint, Section) else hint[1]
        if of_inner is not None:
            yield from (((name, *path), text) for path, text in _texts(inner, of_inner))


def _in_one_line(message: str) -> str:
    """The message of jsonargparse without noise and repeated lines."""
    lines = dict.fromkeys(line.strip().removeprefix("- ") for line in message.splitlines())
    telling = [line for line in lines if line and not line.startswith(NOISE) and not OTHER_TYPE.fullmatch(line)]
    return " ".join(
        line.replace(KEY, "", 1).replace('":', ":", 1) if line.startswith(KEY) else line for line in telling
    )
