"""Writing a checkpoint: the file is whole or absent.

Lightning writes to the system's temporary folder and moves the file. Where that is another file system the move is a
copy, and a kill or a full disk half-way leaves neither the earlier checkpoint nor the new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mtcl.encoder.paths import BEST, LAST
from mtcl.errors import DataError, root_cause
from mtcl.files import written_whole

OF_WEIGHTS = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "mtcl")
"""The content of a checkpoint that is not the state of a run. Adam's state alone is twice the size of the weights."""


class WholeFile(TorchCheckpointIO):
    """Writes local files, and of the best checkpoint only the weights and the run's record.

    Lightning's `save_weights_only` would also leave out what callbacks add: the configuration, and averaged weights.
    Raises `DataError` if the disk is full; the earlier checkpoint is then still there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        place = Path(path)
        if place.name == BEST:
            checkpoint = {name: checkpoint[name] for name in OF_WEIGHTS if name in checkpoint}
        write_whole(checkpoint, place, advice=_advice(place))


def write_whole(checkpoint: dict[str, Any], place: Path, *, advice: str) -> None:
    """Raises `DataError`, with `advice`, if the file cannot be written."""
    try:
        # to a file, whose error names the cause, as that of a path does not
        with written_whole(place, alone=True) as aside, aside.open("wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # of a failed write torch makes a RuntimeError
        raise DataError(f"cannot write checkpoint {place} ({root_cause(error)}): {advice}") from error


def _advice(place: Path) -> str:
    if not (place.parent / LAST).exists():
        return "free some disk space or give another --run_dir"
    kept = "the earlier one is intact; " if place.exists() else ""
    return f"{kept}free some disk space and continue with: mtcl fit --resume {place.parent.parent}"
