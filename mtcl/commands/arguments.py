"""The argument parser of our own commands."""

from __future__ import annotations

import argparse
from typing import NoReturn

from mtcl.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Its errors are one line, as all of ours; options are not abbreviated."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; `{self.prog} --help` tells more")
