"""Keys set by the command line and the environment, and the configuration that they make of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtcl.configuration.closest import closest_key, did_you_mean
from mtcl.configuration.keys import Section, full_names, section_of, set_by
from mtcl.configuration.types import Members
from mtcl.configuration.values import Text, fits, loaded, untyped
from mtcl.configuration.yaml_files import is_another_class, merge, read
from mtcl.errors import ConfigError, nearest

QUESTIONS = ("-h", "--help", "--print_config", "--print_shtab")


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
        if is_question(option):
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


def is_question(argument: str) -> bool:
    """Whether an argument asks for help or for the configuration instead of setting a key."""
    option = argument.partition("=")[0]
    return option in QUESTIONS or option.endswith(".help")


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


def applied(config: dict[str, Any], overrides: Iterable[Override], keys: Section) -> dict[str, Any]:
    """A new configuration with the overrides, in their order; `--tasks.NAME null` removes a task.

    Values stay as typed (`Text`) where a key's type decides how to read them. Raises `ConfigError` for a task to remove
    that is not there.
    """
    for override in overrides:
        config = _put(config, override.key.split("."), override, keys)
    return config


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
    if hint is Any:  # below a mapping of any content, such as the overrides of a study
        return _put_in(now, path, override, {})
    if not kinds.entry:
        return _put_in_object(now, path, override)
    first, *rest = path
    if not rest and override.key == f"tasks.{first}" and loaded(Text(override.text)) is None:
        return _without(first, now, override)
    if isinstance(now, str) and now and str in kinds.leaves:
        whole = override.key.removesuffix("." + ".".join(path))
        raise ConfigError(
            f"{override.given_as} is one of the values of {whole}, which is the one text {now!r} so far and would be "
            f"lost: give {whole} as a whole, for example as {{{first}: {override.text}}}"
        )
    of_key, of_value = kinds.entry
    entry = first if of_key is str else loaded(Text(first))
    return _put_in(now, [entry, *rest], override, {entry: of_value})


def _without(task: str, tasks: Any, override: Override) -> dict[str, Any]:
    if not isinstance(tasks, dict) or task not in tasks:
        told = nearest(task, tasks if isinstance(tasks, dict) else ())
        raise ConfigError(f"{override.given_as} is null, but there is no such task to leave out{told}")
    return {name: options for name, options in tasks.items() if name != task}


def _put_in(now: Any, path: list[Any], override: Override, hints: Mapping[Any, Any]) -> dict[Any, Any]:
    content = now if isinstance(now, dict) else {}
    first, *rest = path
    return content | {first: _put(content.get(first), rest, override, hints.get(first, Any))}


def _put_in_object(now: Any, path: list[str], override: Override) -> dict[str, Any]:
    """Put in an argument of an object, which may be given with or without `init_args`."""
    content = now if isinstance(now, dict) else {"class_path": now} if isinstance(now, str) else {}
    if path == ["class_path"]:
        return _merged(content, {"class_path": override.text}) or {"class_path": override.text}
    are_arguments = bool(content) and not content.keys() & {"class_path", "init_args"}  # of the key's own class
    if path[0] not in ("init_args", "dict_kwargs") and not are_arguments:
        path = ["init_args", *path]
    return _nested(content, path, override)


def _merged(now: Any, above: Any) -> dict[str, Any] | None:
    """An object with the arguments of another of the same class; None if one is no object, or of another class."""
    above = {"class_path": above} if isinstance(above, str) else above
    are_objects = isinstance(now, dict) and isinstance(above, dict) and "class_path" in above
    return merge(now, above) if are_objects and not is_another_class(above["class_path"], now) else None


def _nested(content: dict[str, Any], path: list[str], override: Override) -> dict[str, Any]:
    first, *rest = path
    below = content.get(first)
    if not rest:
        return content | {first: _value(below, override, None)}
    return content | {first: _put_in_argument(loaded(below), rest, override)}


def _put_in_argument(now: Any, path: list[str], override: Override) -> Any:
    """Put in below an object's argument: an object too, or a list of objects, of which the override sets the last."""
    if isinstance(now, list) and now:
        return [*now[:-1], _put_in_argument(loaded(now[-1]), path, override)]
    if isinstance(now, str) or (isinstance(now, dict) and "class_path" in now):
        return _put_in_object(now, path, override)
    return _nested(now if isinstance(now, dict) else {}, path, override)


def _value(now: Any, override: Override, hint: Any) -> Any:
    """The override's value for a key of type `hint`; None where the type is not known yet."""
    text = Text(override.text)
    if override.appends:
        items, now = loaded(text), loaded(now)
        before = now if isinstance(now, list) else [] if now is None else [now]
        return [*before, *(items if isinstance(items, list) else [untyped(text) if hint is Any else text])]
    if hint is Any:
        return untyped(text)
    content = loaded(text)
    if not isinstance(hint, Section):
        return _merged(now, content) or (content if hint is not None and _is_container(text, hint) else text)
    if isinstance(content, str) and content.endswith((".yaml", ".yml", ".json")):
        content = read([content])
    return merge(now, content) if isinstance(now, dict) and isinstance(content, dict) else content


def _is_container(text: Text, hint: Any) -> bool:
    """Whether a text is a mapping or a list for a type that has one. Below a mapping, the parser does not read text."""
    kinds = Members.of(hint)
    is_one = isinstance(loaded(text), dict | list)
    return kinds.is_nested and is_one and (str not in kinds.leaves or text.lstrip().startswith(("{", "[")))


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
