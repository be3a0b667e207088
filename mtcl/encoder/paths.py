"""What the path of an encoder means: a checkpoint of a run, a model's folder, or a model on the Hub."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from mtcl.errors import ConfigError

BEST, LAST = "best.ckpt", "last.ckpt"
"""Checkpoints of a run, in its folder `checkpoints/`: the best by `val/mean`, and the latest, to resume from."""


class PathKind(Enum):
    """What a path leads to."""

    MODEL_FOLDER = auto()
    """A model in the layout of sentence-transformers or Hugging Face."""
    HUB_NAME = auto()
    """A model on the Hub."""
    CHECKPOINT = auto()
    """A run folder or a .ckpt file: `checkpoint_at` finds it, or says that there is none."""


def kind_of_path(path: str | Path) -> PathKind:
    """The kind of an encoder's path. A path where there is nothing is taken for a checkpoint's."""
    folder = Path(path).expanduser()
    if not is_checkpoint(folder) and any((folder / name).is_file() for name in ("modules.json", "config.json")):
        return PathKind.MODEL_FOLDER
    return PathKind.HUB_NAME if is_hub_name(str(path)) else PathKind.CHECKPOINT


def checkpoint_at(path: Path, default: str = BEST) -> Path:
    """The path of a .ckpt file, or of a run folder's checkpoint `default`, or of its only checkpoint if another Trainer
    wrote it.

    Raises `ConfigError` if there is none.
    """
    path = path.expanduser()
    if path.is_file():
        return path
    folder = path / "checkpoints"
    if (folder / default).is_file():
        return folder / default
    if default == LAST and (folder / BEST).is_file():
        raise ConfigError(
            f"{path} has weights only, no {LAST} to resume: start from its weights with --init_from {path}"
        )
    there = sorted(folder.glob("*.ckpt")) if folder.is_dir() else []
    if len(there) == 1:
        return there[0]
    if there:
        raise ConfigError(f"{folder} has several checkpoints: give one of {', '.join(p.name for p in there[:8])}")
    missing = folder / default if path.is_dir() else path
    if path == Path():  # of the present folder or an empty name, a relative path would not say where this is
        missing = missing.absolute()
    raise ConfigError(f"no checkpoint {str(missing)!r}: give a run folder or a .ckpt file")


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder or a .ckpt file, rather than a model's folder or name."""
    return path.is_file() if path.suffix == ".ckpt" else (path / "checkpoints").is_dir()


def is_hub_name(name: str) -> bool:
    """Whether a name reads OWNER/MODEL, and there is no folder or file OWNER that it could be a path in."""
    owner, _, model = name.partition("/")
    is_pair = bool(owner and model) and "/" not in model and not owner.startswith((".", "~"))
    return is_pair and not model.endswith(".ckpt") and not Path(owner).exists()
