"""Merge configuration files into one plain dict, key by key; later files win.

jsonargparse replaces a whole dict (`tasks`) with the dict of a later file. Here dicts are merged at every depth, and a
task that a later file sets to null is removed. `configs/NAME.yaml` is also found where there is no checkout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtcl.errors import ConfigError, nearest, root_cause

HAVE_SHORT_NAMES = {"mtcl", "lightning", "torch"}
"""Packages whose classes a configuration may also name by a part of their path: `InfoNCE`, `mtcl.InfoNCE`."""


def load(paths: list[str], *, below: dict[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a run or study: `read` with dotted keys written out, and its sections checked.

    `below` is the configuration of a checkpoint. Raises `ConfigError` for a section that is not a mapping, a task that
    is null, a name that is not text and a seed out of range.
    """
    merged = below or {}
    for path in paths:
        merged = merge(merged, nested(_read(Path(path).expanduser())))
    if odd := [key for key in merged if not isinstance(key, str)]:
        raise ConfigError(f"the configuration has the key {odd[0]!r}: keys are names, so put it in quotes if it is one")
    check_seed(merged.get("seed_everything"))
    for section in ("model", "data", "trainer"):
        if not isinstance(values := merged.get(section, {}), dict):
            found = "null" if values is None else repr(values)
            raise ConfigError(f"{section} is {found}: give keys with values, or leave it out")
    tasks = merged.get("tasks") or {}
    if not isinstance(tasks, dict):
        raise ConfigError(f"tasks is {tasks!r}: give names with settings, for example `tasks: {{search: {{}}}}`")
    if odd := [name for name in tasks if not isinstance(name, str)]:
        raise ConfigError(f"tasks has the name {odd[0]!r}, which YAML does not read as text: put it in quotes")
    empty = [name for name, value in tasks.items() if value is None]
    if empty:
        raise ConfigError(
            f"tasks.{empty[0]} is null: write `{empty[0]}: {{}}` for a task with defaults (null removes an earlier one)"
        )
    return merged


def check_seed(seed: Any) -> None:
    """Raise `ConfigError` for a number that is out of range."""
    if isinstance(seed, int) and not isinstance(seed, bool) and not 0 <= seed < 1 << 32:
        raise ConfigError(f"seed_everything is {seed}: give 0 to {(1 << 32) - 1}")


def read(paths: list[str], *, below: dict[str, Any] | None = None) -> dict[str, Any]:
    """The merged content of YAML files, whatever their keys, on top of `below`. Raises `ConfigError` for bad YAML."""
    merged = below or {}
    for path in paths:
        merged = merge(merged, _read(Path(path).expanduser()))
    return merged


def nested(content: dict[str, Any]) -> dict[str, Any]:
    """The content with `model.encoder.dim: 8` written out as `model: {encoder: {dim: 8}}`, at every depth."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        first, *rest = str(key).split(".") if isinstance(key, str) else [key]
        inner = nested(value) if isinstance(value, dict) else value
        for name in reversed(rest):
            inner = {name: inner}
        result = merge(result, {first: inner})
    return result


def merge(below: dict[str, Any], above: dict[str, Any], *, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Deep merge into a new dict; `above` wins, and null removes a task that `below` has."""
    merged = dict(below)
    for key, value in above.items():
        now: Any = below.get(key)
        if isinstance(value, dict) and _is_object(now, (*path, key)):
            now, value = {"class_path": now} if isinstance(now, str) else now, _as_object(value)
        goes_on = isinstance(value, dict) and isinstance(now, dict)
        if goes_on and "class_path" in value:
            goes_on = not is_another_class(value["class_path"], now)
        if path == ("tasks",) and value is None and key in below:
            del merged[key]
        elif goes_on:
            merged[key] = merge(now, value, path=(*path, key))
        else:
            merged[key] = value
    return merged


def _is_object(value: Any, path: tuple[Any, ...]) -> bool:
    """Whether a value names a class: with its `class_path`, or as the text of a key that has an object."""
    is_key_of_object = (path[:1], path[2:]) == (("tasks",), ("loss",)) or path == ("model", "weighting")
    return "class_path" in value if isinstance(value, dict) else isinstance(value, str) and is_key_of_object


def _as_object(value: dict[str, Any]) -> dict[str, Any]:
    """Arguments that are given without the name of their class, as `loss.margin: 0.1`, below `init_args`."""
    if value.keys() & {"class_path", "init_args", "dict_kwargs"}:
        return value
    return {"init_args": value}


def is_another_class(name: Any, below: dict[str, Any]) -> bool:
    """Whether a name means a different class than `below` has, whose arguments it must not inherit."""
    one, other = str(name), str(below.get("class_path"))
    packages = {path.partition(".")[0] for path in (one, other) if "." in path}
    are_forms = one.rpartition(".")[2] == other.rpartition(".")[2] and packages <= HAVE_SHORT_NAMES
    return one != other and not are_forms


class _Loader(yaml.SafeLoader):
    """Rejects a duplicate key; YAML would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        given = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in given]
        for key_node, key in zip(given, keys, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _holds_itself(value: Any, *, inside: tuple[int, ...] = ()) -> bool:
    """Whether a mapping or list contains itself, through a recursive anchor."""
    if id(value) in inside:
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_itself(part, inside=(*inside, id(value))) for part in parts)


def reference_folder() -> Path:
    """The configurations that come with mtcl: in an installed wheel, or `configs/` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "reference_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def found(path: Path) -> Path:
    """The path; if it is `configs/NAME.yaml` and there is none here, that of the configurations that come with mtcl."""
    if path.parent == Path("configs") and not path.exists() and (own := reference_folder() / path.name).is_file():
        return own
    return path


def _read(path: Path) -> dict[str, Any]:
    path = found(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506, a SafeLoader
    except FileNotFoundError as error:
        there = [str(p) for p in path.parent.glob("[!.]*.yaml")] if path.parent.is_dir() else []
        if path.parent == Path("configs"):
            there += [f"configs/{p.name}" for p in reference_folder().glob("*.yaml")]
        raise ConfigError(f"no configuration file {str(path)!r}{nearest(str(path), there)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration file {str(path)!r}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {root_cause(error)}") from error
    if content is None:
        return {}
    if _holds_itself(content):
        raise ConfigError(f"{path}: an anchor (&) contains itself (*): write the value out")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, not {type(content).__name__}")
    return content
