"""Writing a checkpoint: the file is whole or not there, written beside its place and renamed over the earlier one.

Lightning's own way writes to the system's temporary folder and moves the file. Where that is another file system the
move is a copy: a kill or a full disk in the midst of it leaves neither the earlier checkpoint nor the new one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mtcl.errors import DataError, root_cause


class WholeFile(TorchCheckpointIO):
    """Writes local files. Raises `DataError` if the disk is full; the earlier checkpoint then stands."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        place = Path(path)
        write_whole(checkpoint, place, advice=_advice(place))


def write_whole(checkpoint: dict[str, Any], place: Path, *, advice: str) -> None:
    """Raises `DataError`, with `advice`, if the file cannot be written."""
    aside = place.with_name(f".{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(place)
    except (OSError, RuntimeError) as error:  # of a failed write torch makes a RuntimeError
        raise DataError(f"cannot write checkpoint {place} ({root_cause(error)}): {advice}") from error
    finally:
        aside.unlink(missing_ok=True)


def _advice(place: Path) -> str:
    if not place.exists():
        return "make space there or give another --run_dir"
    return f"the earlier one stands; make space and go on with: mtcl fit --resume {place.parent.parent}"
