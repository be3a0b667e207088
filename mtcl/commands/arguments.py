"""The argument parser of our own commands, and the reader of configurations that are one dataclass."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TypeVar

import yaml

from mtcl.errors import ConfigError

Config = TypeVar("Config")


class Parser(argparse.ArgumentParser):
    """Its errors are one line, as all of ours; options are not abbreviated."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; `{self.prog} --help` tells more")


def parse(kind: type[Config], content: dict[str, Any], arguments: list[str]) -> Config:
    """A dataclass from a configuration file's content and the keys that the command line gives after it."""
    from mtcl.parser import MtclParser

    parser = MtclParser(env_prefix=f"MTCL_{kind.__name__.removesuffix('Config').upper()}")
    parser.add_argument("--config", action="config", help="YAML file; several merge key by key, later ones win.")
    parser.add_class_arguments(kind, as_group=False)
    text = yaml.safe_dump(content, sort_keys=False)
    values = parser.instantiate_classes(parser.parse_args([f"--config={text}", *arguments]))
    return kind(**{key: value for key, value in values.as_dict().items() if key != "config"})
