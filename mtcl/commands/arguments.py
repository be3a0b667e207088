"""The argument parser of mtcl's own commands, and a reader for configurations that are a single dataclass."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml

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
    text = yaml.safe_dump(content, sort_keys=False)
    values = parser.instantiate_classes(parser.parse_args([f"--config={text}", *arguments]))
    return kind(**{key: value for key, value in values.as_dict().items() if key != "config"})


def environment_prefix(kind: type) -> str:
    """How the variables of a configuration begin: MTCL_COMPARE for `CompareConfig`."""
    return f"MTCL_{kind.__name__.removesuffix('Config').upper()}"
