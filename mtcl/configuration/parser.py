"""The parser of a run's configuration: no abbreviated keys, errors in one line with the nearest right name."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any, NoReturn, cast

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from mtcl.errors import ConfigError, nearest
from mtcl.losses import Loss
from mtcl.weighting import Weighting

UNION = "Does not validate against any of the Union subtypes"
PLAIN = [
    (r"""Parser key ["']tasks["']: Problem with given class_path '[\w.]+': """, "a task under `tasks`: "),
    (r"Problem with given class_path '([\w.]+)': Option '(\w+)' is not accepted", r"\1 has no '\2'"),
    (r"Option '(\w+)' is not accepted", r"unknown key '\1'"),
    (r"Option '([\w.]+)' is not accepted", r"unknown key '\1'"),
    (r"Group '([\w.]+)' does not accept option '([\w.]+)'", r"unknown key '\1.\2'"),
    (r"""Parser key ["']([\w.]+)["']: """, r"\1: "),
    (r"Expected an? <class '([\w.]+)'>", r"expected \1"),
    (r"Expected an? typing.Literal\[(.*?)\]", r"expected one of \1"),
    (r" or expected ", " or "),
    (r"\. Got value: ", ", found "),
]
"""Jsonargparse's wording -> ours, in this order."""


class MtclParser(LightningArgumentParser):
    """Raises `ConfigError` with the key at fault and the nearest right one, in the place of pages of usage.

    Keys are not abbreviated, and the environment wins over files (jsonargparse has it the other way round).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        shown = {"description": "", "usage": argparse.SUPPRESS}  # each command has said its own before the keys
        super().__init__(*args, allow_abbrev=False, **options | shown)

    def parse_args(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """`args` begins with `--config FILE`, or with `--config=TEXT`; what the environment sets comes behind it."""
        given = list(args or [])
        behind = 2 if given[:1] == ["--config"] else 1
        if behind == 2:
            _check_empty(yaml.safe_load(Path(given[1]).read_text(encoding="utf-8")) or {}, list(_keys(self)))
        return super().parse_args([*given[:behind], *self._environment(), *given[behind:]], **options)

    def instantiate_classes(self, *args: Any, **options: Any) -> Any:
        try:
            return super().instantiate_classes(*args, **options)
        except ValueError as error:
            if UNION not in str(error):
                raise
            raise ConfigError(_explain(str(error), list(_keys(self)))) from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(_explain(message, list(_keys(self)))) from ex

    def _environment(self) -> list[str]:
        names = {f"{self.env_prefix}_{key.replace('.', '__').upper()}": key for key in _keys(self)}
        given = {name: value for name, value in os.environ.items() if name.startswith(f"{self.env_prefix}_")}
        if unknown := sorted(given.keys() - names.keys()):
            raise ConfigError(f"unknown environment variable {unknown[0]}{nearest(unknown[0], names)}")
        return [f"--{names[name]}={value}" for name, value in sorted(given.items())]


def _check_empty(config: dict[str, Any], keys: list[str], group: str = "") -> None:
    """Raise `ConfigError` for an unknown key without a value, which jsonargparse passes over; `group` is where in the
    configuration we are, with its dot.
    """
    for key, value in config.items():
        name = f"{group}{key}"
        is_group = any(known.startswith(f"{name}.") for known in keys)
        if is_group and isinstance(value, dict):
            _check_empty(value, keys, f"{name}.")
        elif not value and not is_group and name not in keys:
            close = nearest(name, {".".join(known.split(".")[: name.count(".") + 1]) for known in keys})
            raise ConfigError(f"unknown key {name!r}{close}")


def _keys(parser: LightningArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest not in ("help", "==SUPPRESS==") and not action.dest.endswith(".help"):
            yield action.dest


def _explain(message: str, keys: list[str]) -> str:
    """Jsonargparse's message in one line, with the nearest right name where one is unknown."""
    line = " ".join(message.split())
    if UNION in line:
        line = _narrow(line)
    hint = _hint(line, keys)
    for pattern, plain in PLAIN:
        line = re.sub(pattern, plain, line)
    return line + hint


def _narrow(line: str) -> str:
    """Of the errors of a union's members those that tell: the value is seldom meant for all of them."""
    innermost = line.rpartition("Errors: - ")[2]
    errors, _, rest = innermost.partition(" Given value type: ")
    reasons = [reason for reason in errors.split(" - ") if "NoneType" not in reason]
    telling = [reason for reason in reasons if not reason.startswith("Expected a")]
    found = "" if telling else ". Got value: " + rest.partition("Given value: ")[2]
    return line.partition(UNION)[0] + " or ".join(telling or reasons) + found


def _hint(line: str, keys: list[str]) -> str:
    if found := re.search(r"class_path '([\w.]+)': Option '(\w+)' is not accepted", line):
        return nearest(found[2], inspect.signature(cast("type", locate(found[1]))).parameters)
    if found := re.search(r"has no attribute '(\w+)'|import path string: (\w+)", line):
        return nearest(
            found[1] or found[2], [kind.__name__ for kind in (*Loss.__subclasses__(), *Weighting.__subclasses__())]
        )
    found = re.search(r"(?:Group '(\w+)' does not accept option|Option|arguments?:) '?-*([\w.]+)", line)
    if found is None:
        return ""
    close = nearest(".".join(filter(None, found.groups())), keys)
    return close if "did you mean" in close else ""
