"""The help of every command, as Markdown. Commands are those of `mtcl.__main__.COMMANDS`."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from unittest.mock import patch

from mtcl.__main__ import COMMANDS
from mtcl.commands.run import DESCRIPTIONS
from mtcl.configuration.help import WIDTH, short_help


class _Found(BaseException):
    """Carries a parser out of the command that has built it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _found(parser: argparse.ArgumentParser) -> str:
    raise _Found(parser)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of `mtcl COMMAND`, caught when the command is about to print its help."""
    with patch.object(argparse.ArgumentParser, "format_help", _found):
        try:
            importlib.import_module(COMMANDS[command][0]).main(command, ["--help"])
        except _Found as found:
            return found.parser
    raise AssertionError(f"mtcl {command} --help prints no help of a parser")


def subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of a command's own commands, as in `mtcl tasks list`."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            yield from (one for one in action.choices.values() if isinstance(one, argparse.ArgumentParser))


def cli() -> str:
    """A section per command with its help."""
    parts = []
    with patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}):
        for command, (_, what) in COMMANDS.items():
            parser = parser_of(command)
            text = short_help(command, parser) if command in DESCRIPTIONS else parser.format_help()
            parts += [f"## mtcl {command}", f"{what[0].upper()}{what[1:]}.", _block(text)]
            for one in subcommands(parser):
                parts += [f"### {one.prog}", _block(one.format_help())]
    return "\n\n".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
