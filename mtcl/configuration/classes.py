"""Resolve the class names of a configuration: `InfoNCE`, `mtcl.losses.InfoNCE`, `my_package.MyLoss`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from mtcl.configuration.closest import closest, did_you_mean
from mtcl.errors import ConfigError
from mtcl.losses import Loss
from mtcl.losses.counterparts import COUNTERPARTS, no_loss_of_ours
from mtcl.weighting import Weighting

NOUNS: dict[type, tuple[str, str]] = {Loss: ("loss", "losses"), Weighting: ("weighting", "weightings")}

LIBRARIES = ("sentence_transformers", "torch", "pytorch_metric_learning")


def noun(kinds: tuple[type, ...]) -> str:
    """The word for the kinds in a message: `loss`, or the name of the class."""
    return " or ".join(NOUNS[kind][0] if kind in NOUNS else getattr(kind, "__name__", str(kind)) for kind in kinds)


def with_article(word: str) -> str:
    """`a loss`, `an Accelerator`."""
    return f"an {word}" if word[0] in "AEIOUaeiou" else f"a {word}"


def resolve(name: str, kinds: tuple[type, ...], *, imports: bool) -> type | None:
    """The class with this name, a subclass of one of `kinds`; None if only the parser can resolve it.

    A module that is not loaded yet is imported only with `imports`. Raises `ConfigError` if there is no such class.
    """
    package, short = name.partition(".")[0], name.rpartition(".")[2]
    is_short = short == name
    named = [kind for kind in _concrete(kinds) if kind.__name__ == name]
    if not named and Loss in kinds and short in COUNTERPARTS and (is_short or package in LIBRARIES):
        raise ConfigError(no_loss_of_ours(short))
    is_path = all(part.isidentifier() for part in name.split("."))
    found = named[0] if named else _look_up(name, kinds, imports=imports) if is_path else None
    if isinstance(found, type):
        if issubclass(found, kinds) and not inspect.isabstract(found):
            return found
        raise ConfigError(f"{name!r} is {_what_it_is(found)}: give {with_article(noun(kinds))}{_offer(kinds)}")
    if found is not None or (is_path and not is_short and not _is_loaded(name)):
        return None
    for kind in NOUNS:
        if any(other.__name__ == short for other in _concrete((kind,))):
            raise ConfigError(f"{name!r} is a {noun((kind,))}: give {with_article(noun(kinds))}{_offer(kinds)}")
    near = closest(short, _names(kinds))
    raise ConfigError(f"unknown {noun(kinds)} {name!r}" + (did_you_mean(near) if near else _offer(kinds)))


def _what_it_is(found: type) -> str:
    if inspect.isabstract(found):
        return "only the interface"
    return next((f"a {noun((kind,))}" for kind in NOUNS if issubclass(found, kind)), "another kind of class")


def _look_up(name: str, kinds: tuple[type, ...], *, imports: bool) -> Any:
    module, _, attribute = name.rpartition(".")
    if imports and module and module not in sys.modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a user's module can raise anything
            near = did_you_mean(closest(attribute, _names(kinds)))
            raise ConfigError(f"cannot import {module!r}: {type(error).__name__}: {error}{near}") from error
    return vars(sys.modules[module]).get(attribute) if module in sys.modules else None


def _is_loaded(name: str) -> bool:
    """Whether the module of a dotted name is loaded and defines no names on demand."""
    module = sys.modules.get(name.rpartition(".")[0])
    return module is not None and not hasattr(module, "__getattr__")


def _concrete(kinds: tuple[type, ...]) -> Iterator[type]:
    """All loaded subclasses that can be instantiated."""
    for kind in kinds:
        if not inspect.isabstract(kind):
            yield kind
        yield from _concrete(tuple(kind.__subclasses__()))


def _names(kinds: tuple[type, ...]) -> list[str]:
    return sorted({kind.__name__ for kind in _concrete(kinds) if not kind.__name__.startswith("_")})


def _offer(kinds: tuple[type, ...]) -> str:
    names = _names(kinds)
    return f"; known: {', '.join(names[:12])}" + (", ..." if len(names) > 12 else "")
