"""Every key of a configuration with its type, default and meaning, as Markdown tables.

Keys and types come from the signatures that also check a configuration (`mtcl.configuration.keys`), defaults from the
parser, meanings from the short help and from the docstrings of the classes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import docstring_parser
import yaml
from lightning.pytorch import Trainer

from mtcl.configuration.cli import _Parsed
from mtcl.configuration.help import BY_HARDWARE, GROUPS
from mtcl.configuration.keys import Section
from mtcl.configuration.run_keys import run_keys
from mtcl.encoder.config import EncoderConfig
from mtcl.studies.compare import CompareConfig
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.transfer import StudyConfig
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.module import MtclModule
from mtcl.training.optimizer import OptimizerConfig

CLASSES: dict[str, type] = {
    "model": MtclModule,
    "model.encoder": EncoderConfig,
    "model.optimizer": OptimizerConfig,
    "data": MtclDataModule,
    "trainer": Trainer,
}
"""Sections of a run's configuration that are no keys by themselves -> the class that describes their keys."""

GIVEN = {key.name: key for group in GROUPS.values() for key in group}
"""The keys of the short help."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A key as a line of a table."""

    name: str
    type: Any
    default: Any
    meaning: str


def keys() -> str:
    """Tables for the configuration of a run, then for those of `mtcl transfer` and `mtcl compare`."""
    with warnings.catch_warnings(action="ignore"):  # Lightning's, that this process has arguments of its own
        parsed = _Parsed(["--seed_everything", "false"], config={}, run_dir=Path())
    defaults = yaml.safe_load(parsed.config_text())
    defaults |= {"seed_everything": int(GIVEN["seed_everything"].default)}
    defaults["trainer"]["precision"] = BY_HARDWARE
    helps = {action.dest: action.help or "" for action in parsed.parser._actions}
    helps["seed_everything"] = f"{GIVEN['seed_everything'].text}; true draws one."
    top = [
        Row(key, hint, defaults[key], helps[key])
        for key, hint in run_keys().keys.items()
        if key not in ("trainer", "model", "data")
    ]
    parts = ["## A run", table(top)]
    for name, kind in sections("", run_keys()):
        parts += [f"### `{name}`", table(rows(kind, below(defaults, name), name))]
    parts += ["## A study of `mtcl transfer`", table(rows(StudyConfig))]
    parts += ["## A comparison by `mtcl compare`", table(rows(CompareConfig))]
    parts += ["### `encoders.NAME`", table(rows(EncoderSpec))]
    return "\n\n".join(parts)


def sections(prefix: str, section: Section) -> Iterator[tuple[str, type]]:
    """The full name of every section below one, with its class: also `NAME: {...}` and those that may be null."""
    for key, hint in section.keys.items():
        name = f"{prefix}{key}"
        if isinstance(hint, Section):
            yield name, CLASSES[name]
            yield from sections(f"{name}.", hint)
        for kind in (hint, *typing.get_args(hint)):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield f"{name}.NAME" if typing.get_origin(hint) is dict else name, kind


def rows(kind: type, defaults: Mapping[str, Any] = {}, section: str = "") -> Iterator[Row]:
    """The keys of a class; with a section of a run, only those that a user may set there."""
    settable = below(run_keys(), section) if section in CLASSES else None
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)  # type: ignore[misc]
    described = meanings(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        hint = hints.get(name, parameter.annotation)
        is_section = f"{section}.{name}" in CLASSES
        if parameter.kind is parameter.VAR_KEYWORD or is_section or (settable is not None and name not in settable):
            continue
        default = defaults.get(name, default_of(kind, parameter))
        of_trainer = GIVEN.get(f"trainer.{name}") if section == "trainer" else None
        yield Row(name, hint, default, of_trainer.sentence() if of_trainer else described.get(name, ""))


def below(whole: Any, name: str) -> Mapping[str, Any]:
    """What a configuration or a section has under a full name; nothing if it is null or has no such name."""
    for part in name.split("."):
        whole = whole.keys if isinstance(whole, Section) else whole
        whole = whole.get(part) or {}
    return whole.keys if isinstance(whole, Section) else typing.cast("Mapping[str, Any]", whole)


def default_of(kind: type, parameter: inspect.Parameter) -> Any:
    """The default of an argument, made by the dataclass's factory if it has one."""
    fields = {one.name: one for one in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    if parameter.name in fields and callable(factory := fields[parameter.name].default_factory):
        return factory()
    return parameter.default


def meanings(kind: type) -> dict[str, str]:
    """The description of each argument, from the docstrings of the class and of its constructor."""
    texts = (kind.__init__.__doc__, kind.__doc__)  # type: ignore[misc]
    found = [one for text in texts for one in docstring_parser.parse(text or "").params]
    return {one.arg_name: one.description or "" for one in found}


def table(lines: typing.Iterable[Row]) -> str:
    """A Markdown table of keys."""
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join(
        [
            *head,
            *(f"| `{r.name}` | {code(type_name(r.type))} | {value(r.default)} | {cell(r.meaning)} |" for r in lines),
        ]
    )


def type_name(hint: Any) -> str:
    """A type as YAML readers know it: `null` for None, the values of a Literal, no modules."""
    if isinstance(hint, Section):
        return "section"
    if hint in (None, type(None)):
        return "null"
    inner = [type_name(one) for one in typing.get_args(hint) if one is not ...]
    origin = typing.get_origin(hint)
    if origin is Literal:
        return " | ".join(str(one) for one in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(inner))
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{name}[{', '.join(inner)}]" if inner else name


def value(default: Any) -> str:
    """A default as YAML."""
    if default is inspect.Parameter.empty:
        return "required"
    if default == BY_HARDWARE:
        return BY_HARDWARE
    return code(yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("\n...\n").strip())


def code(text: str) -> str:
    """A code span inside a table."""
    return "`" + text.replace("|", "\\|") + "`"


def cell(text: str) -> str:
    """A docstring's text in one line of Markdown. Lightning's own defaults are left out, since mtcl has others."""
    line = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", " ".join(text.replace("``", "`").split()))
    line = re.sub(r"\s*Default: (?:`[^`]*`|\S+)\.?$", "", line)
    line = line.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"(?<!`)(\{[^}`]*\})(?!`)", r"`\1`", line)
