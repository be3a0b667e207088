"""Keys set by the command line and the environment, merged into a configuration so that both are checked together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mtcl.configuration.closest import closest_key, did_you_mean
from mtcl.configuration.keys import Section, full_names, section_of, set_by
from mtcl.configuration.types import Members
from mtcl.configuration.values import Text, fits, loaded
from mtcl.configuration.yaml_files import is_another_class, merge, read
from mtcl.errors import ConfigError

HELP = ("-h", "--help", "--print_config", "--print_shtab")


@dataclass(frozen=True)
class Override:
    """One key as it was given: `--model.optimizer.lr 1e-4`, or `MTCL_SET_MODEL__OPTIMIZER__LR=1e-4`.

    Attributes:
        key: Its full name.
        given_as: The option or the variable.
        text: The value as typed.
        appends: Whether it appends to a list, as in `--data.held_out+ jobs`.
    """

    key: str
    given_as: str
    text: str
    appends: bool = False


def from_arguments(arguments: list[str], keys: Section) -> list[Override]:
    """The options of a command line, in order. Raises `ConfigError` for an unknown option or one without a value."""
    found = []
    rest = list(arguments)
    while rest:
        option, is_joined, text = rest.pop(0).partition("=")
        if option in HELP or option.endswith(".help"):
            if option.endswith(".help") and rest and not rest[0].startswith("-"):
                rest.pop(0)  # the class whose help is asked for
            continue
        if not option.startswith("--") or option == "--":
            raise ConfigError(f"unexpected {option!r}: give options as --KEY VALUE")
        key = option.removeprefix("--").removesuffix("+")
        if not _is_known(key, keys):
            near = [f"--{name.removeprefix('--')}" for name in closest_key(key, keys)]
            told = did_you_mean(near) or ": it is neither an option of the command nor a key of the configuration"
            raise ConfigError(f"unknown option {option}{told}")
        if not is_joined:
            text = _next_value(option, rest)
        found.append(Override(key, option.removesuffix("+"), text, appends=option.endswith("+")))
    return found


def removed_tasks(arguments: list[str]) -> tuple[list[str], dict[str, bool]]:
    """A command line without `--tasks.NAME null` and without what it says about these tasks before that; and their
    names, each with whether it said anything. Options after the null define the task again.
    """
    rest, kept, removed = list(arguments), list[list[str]](), dict[str, bool]()
    while rest:
        given = [rest.pop(0)]
        if "=" not in given[0] and rest and not rest[0].startswith("--"):
            given.append(rest.pop(0))
        option, has_value, value = "=".join(given).partition("=")
        is_null = bool(has_value) and loaded(Text(value)) is None
        if option.startswith("--tasks.") and option.count(".") == 1 and is_null:
            name = option.removeprefix("--tasks.")
            before, kept = kept, [part for one in kept if (part := _without(one, name))]
            removed[name] = removed.get(name, False) or before != kept
        else:
            kept.append(given)
    return [part for one in kept for part in one], removed


def _without(given: list[str], task: str) -> list[str]:
    """An option without what it says about a task; empty if it says nothing else."""
    option, _, value = "=".join(given).partition("=")
    if f"{option}.".startswith(f"--tasks.{task}."):
        return []
    tasks = loaded(Text(value)) if option == "--tasks" else None
    if not isinstance(tasks, dict) or task not in tasks:
        return given
    left = {name: options for name, options in tasks.items() if name != task}
    return [f"--tasks={yaml.safe_dump(left, default_flow_style=True, width=math.inf, sort_keys=False).strip()}"]


def from_environment(environment: Mapping[str, str], prefix: str, keys: Section) -> list[Override]:
    """Keys set by variables such as `PREFIX_DATA__ROOT`. Raises `ConfigError` for a variable without such a key."""
    variables = {_variable(prefix, key): key for key in (*dict(full_names(keys)), *dict(set_by(keys)))}
    found = []
    for name, text in sorted(environment.items()):
        if not name.startswith(f"{prefix}_"):
            continue
        if name not in variables:
            key = name.removeprefix(f"{prefix}_").lower().replace("__", ".")
            near = [_variable(prefix, other) for other in closest_key(key, keys)]
            told = did_you_mean(near) or f": write a key of the configuration after {prefix}_"
            if _is_known(key, keys):  # on the command line, below a key whose names are free
                above = [other for other in variables if name.upper().startswith(f"{other}__")]
                whole = max(above, key=len, default=name.upper())
                told = f": give all that is below {variables[whole]} together, as {whole}='{{...}}'"
                told = f": write it in capitals, as {name.upper()}" if name.upper() in variables else told
            raise ConfigError(f"unknown environment variable {name}{told}")
        found.append(Override(variables[name], name, text))
    return found


def on_top(config: dict[str, Any], overrides: Iterable[Override], keys: Section) -> dict[str, Any]:
    """The configuration with the overrides, only for checking: the parser reads the overrides itself."""
    for override in overrides:
        config = _put(config, override.key.split("."), override, keys)
    return config


def drop_replaced(config: dict[str, Any], overrides: Iterable[Override]) -> bool:
    """Remove each object from the configuration that an override replaces with one of another class, because the parser
    would keep the arguments that both classes have. Returns whether there was one.
    """
    found = False
    for override in overrides:
        *path, last = override.key.removesuffix(".class_path").split(".")
        above: Any = config
        for name in path:
            above = above.get(name) if isinstance(above, dict) else None
        now = above.get(last) if isinstance(above, dict) else None
        given = loaded(Text(override.text))
        kind = given.get("class_path") if isinstance(given, dict) else given
        if isinstance(now, dict) and "class_path" in now and isinstance(kind, str) and is_another_class(kind, now):
            del above[last]
            found = True
    return found


def _put(now: Any, path: list[str], override: Override, hint: Any) -> Any:
    """The value `now` of a key of type `hint`, with the override at `path` below it."""
    now = loaded(now)
    if not path:
        return _value(now, override, hint)
    if isinstance(hint, Section):
        return _put_in(now, path, override, hint.keys)
    kinds = Members.of(hint)
    if isinstance(now, list):  # the override is about its last item
        return [*now[:-1], _put(now[-1], path, override, kinds.item or Any)] if now else now
    if kinds.record:
        return _put_in(now, path, override, section_of(kinds.record).keys)
    if not kinds.entry:
        return _put_in_object(now, path, override)
    of_key, of_value = kinds.entry
    whole = override.given_as.removesuffix("." + ".".join(path))
    if of_key is not str or whole.count(".") > 1:  # below an entry, the parser takes no keys of another mapping
        raise ConfigError(f"{override.given_as}: give all entries at once, as {whole} '{{{path[0]}: ...}}'")
    return _put_in(now, path, override, {path[0]: of_value})


def _put_in(now: Any, path: list[str], override: Override, hints: Mapping[str, Any]) -> dict[str, Any]:
    content = now if isinstance(now, dict) else {}
    first, *rest = path
    return content | {first: _put(content.get(first), rest, override, hints.get(first, Any))}


def _put_in_object(now: Any, path: list[str], override: Override) -> dict[str, Any]:
    """Put in an argument of an object, which may be given with or without `init_args`."""
    content = now if isinstance(now, dict) else {"class_path": now} if isinstance(now, str) else {}
    if path == ["class_path"]:
        return {"class_path": override.text}
    if path[0] not in ("init_args", "dict_kwargs"):
        path = ["init_args", *path]
    return _nested(content, path, override)


def _nested(content: dict[str, Any], path: list[str], override: Override) -> dict[str, Any]:
    first, *rest = path
    below = content.get(first)
    if not rest:
        return content | {first: _value(below, override, Any)}
    return content | {first: _nested(below if isinstance(below, dict) else {}, rest, override)}


def _value(now: Any, override: Override, hint: Any) -> Any:
    text = Text(override.text)
    if override.appends:
        items = loaded(text)
        return [*(now if isinstance(now, list) else []), *(items if isinstance(items, list) else [text])]
    if not isinstance(hint, Section):
        return text
    content = loaded(text)
    if isinstance(content, str):
        content = read([content])
    return merge(now, content) if isinstance(now, dict) and isinstance(content, dict) else content


def _is_known(key: str, keys: Section) -> bool:
    """Whether a full name, or the key that it starts with, can be set."""
    first, _, rest = key.partition(".")
    if first in keys.set_by:
        return True
    inner = keys.keys.get(first)
    if isinstance(inner, Section):
        return not rest or _is_known(rest, inner)
    return inner is not None and (not rest or not _is_single(inner))


def _is_single(hint: Any) -> bool:
    """Whether values of the type have no keys below them."""
    kinds = Members.of(hint)
    return not (kinds.classes or kinds.entry or kinds.is_open) and (kinds.item is None or _is_single(kinds.item))


def _next_value(option: str, rest: list[str]) -> str:
    """Remove an option's value from the rest of a command line and return it."""
    if not rest or rest[0].startswith("--"):
        raise ConfigError(f"{option} has no value: give one")
    if rest[0].startswith("-") and not fits(Text(rest[0]), [float]):
        raise ConfigError(f"{option} has no value: give one, as {option}={rest[0]} if it is {rest[0]!r}")
    return rest.pop(0)


def _variable(prefix: str, key: str) -> str:
    return f"{prefix}_{key.replace('.', '__').upper()}"
