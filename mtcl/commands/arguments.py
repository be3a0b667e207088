"""The argument parser of mtcl's own commands, and a reader for configurations that are a single dataclass."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_origin, get_type_hints

import yaml

from mtcl.configuration.yaml_files import merge, without_tasks
from mtcl.errors import ConfigError

Config = TypeVar("Config")
DESTINATIONS = {"data.root": "root"}
"""Options whose values have another name once they are parsed."""


class Parser(argparse.ArgumentParser):
    """Reports errors as one line, like the rest of mtcl, and does not accept abbreviated options."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see `{self.prog} --help`")

    def refuse(self, options: argparse.Namespace, *names: str, where: str) -> None:
        """Raise `ConfigError` for the first of these options that has another value than its default."""
        for name in names:
            if getattr(options, DESTINATIONS.get(name, name)) != self.get_default(DESTINATIONS.get(name, name)):
                raise ConfigError(f"--{name} has no effect {where}")


def user_path(text: str) -> Path:
    """The path that an option gives; `~` is the home folder, which a shell leaves as it is in `--option=~/folder`."""
    return Path(text).expanduser()


def parse(kind: type[Config], content: dict[str, Any], arguments: list[str]) -> Config:
    """Build a dataclass from the content of a configuration file and the keys given on the command line."""
    from mtcl.configuration.keys import section_of
    from mtcl.configuration.parser import MtclParser

    keys = section_of(cast("Any", kind))
    parser = MtclParser(keys, env_prefix=environment_prefix(kind))
    parser.add_argument("--config", action="config", help="YAML file; several merge key by key, later ones win.")
    parser.add_class_arguments(kind, as_group=False)
    content, arguments = _below_dicts(kind, content, arguments)
    text = yaml.safe_dump(content, sort_keys=False)
    values = parser.instantiate_classes(parser.parse_args([f"--config={text}", *arguments]))
    return kind(**{key: value for key, value in values.as_dict().items() if key != "config"})


def environment_prefix(kind: type) -> str:
    """How the variables of a configuration begin: MTCL_COMPARE for `CompareConfig`."""
    return f"MTCL_{kind.__name__.removesuffix('Config').upper()}"


def _below_dicts(kind: type, content: dict[str, Any], arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Merge arguments such as `--overrides.data.root X` into the content; the parser would replace the whole dict.

    Raises `ConfigError` if a dict is also given as a whole, for which the parser would leave them out.
    """
    dicts = {name for name, hint in get_type_hints(kind).items() if get_origin(hint) is dict}
    prefix = f"{environment_prefix(kind)}_"
    whole = {name: f"{prefix}{name.upper()}" for name in dicts if f"{prefix}{name.upper()}" in os.environ}
    whole |= {name: f"--{name}" for name in dicts for one in arguments if one.partition("=")[0] == f"--{name}"}
    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        key, is_joined, value = argument.removeprefix("--").partition("=")
        first, *below = key.split(".")
        if not (argument.startswith("--") and below and first in dicts):
            rest.append(argument)
            continue
        if first in whole:
            raise ConfigError(f"{whole[first]} gives all of {first}, so --{key} cannot be given too: write it in there")
        if key.endswith("+"):
            raise ConfigError(f"--{key} cannot append here: give the whole list as --{key.removesuffix('+')}")
        if not is_joined and (value := next(given, "")) == "":
            raise ConfigError(f"{argument} has no value: give one")
        nested: Any = _value(value)
        if nested is None and first == "tasks" and len(below) == 1:
            content = without_tasks(content, {below[0]: False})
            continue
        for name in reversed(below):
            nested = {name: nested}
        content = merge(content, {first: nested})
    return content, rest


def _value(text: str) -> Any:
    """Read a value as YAML; 1e-4 is also a number, as in the configuration of a run. What YAML would change is text: a
    space at its end, `query: `, 007.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return text if value == text.strip() else value
    is_changed = isinstance(value, dict | list) and not text.lstrip().startswith(("{", "["))
    has_zeros = isinstance(value, int) and text[:1] == "0" and text != "0"
    return text if is_changed or has_zeros else value
