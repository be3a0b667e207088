"""What the path of an encoder means: a run folder, a checkpoint, or a model's folder."""

from __future__ import annotations

from pathlib import Path

from mtcl.errors import ConfigError

BEST, LAST = "best.ckpt", "last.ckpt"
"""Checkpoints of a run, in its folder `checkpoints/`: the best by `val/mean`, and the latest, to resume from."""


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
    raise ConfigError(f"no checkpoint {str(missing)!r}: give a run folder or a .ckpt file")


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder or a .ckpt file, rather than a model's folder or name."""
    return path.is_file() if path.suffix == ".ckpt" else (path / "checkpoints").is_dir()


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a model's folder in the layout of sentence-transformers or Hugging Face."""
    return not is_checkpoint(path) and any((path / name).is_file() for name in ("modules.json", "config.json"))
