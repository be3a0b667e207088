"""The files of TensorBoard's projector: the sample of points before training and as of the last validation.

`SummaryWriter.add_embedding` writes vectors as text, makes a folder per step, and forgets earlier entries when a run is
resumed. Here a file of raw little-endian floats, which TensorBoard reads as such because the shape is in the
configuration, is replaced at each validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtcl.files import write_text, written_whole
from mtcl.training.board.points import COLUMNS, Point

CONFIG = "projector_config.pbtxt"
FOLDER = "projector"
BEFORE, AFTER = "before", "after"


class Projector:
    """The files in a run's folder; TensorBoard refuses paths outside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, vectors_ND: Tensor, points: Sequence[Point]) -> None:
        """Write the vectors under a name, `before` or `after`, and list what there is."""
        own = self.folder / FOLDER
        lines = ["\t".join(COLUMNS), *("\t".join(astuple(point)) for point in points)]
        write_text(own / f"{name}.tsv", "\n".join(lines) + "\n")
        with written_whole(own / f"{name}.bytes") as aside:
            aside.write_bytes(vectors_ND.numpy().astype("<f4").tobytes())
        listed = [_entry(one, len(points), vectors_ND.shape[1]) for one in (BEFORE, AFTER) if self._path(one).is_file()]
        write_text(self.folder / CONFIG, "".join(listed))

    def read(self, name: str, points: Sequence[Point]) -> Tensor | None:
        """The vectors (N, D) that were written for these points; None if there are none, or for other points."""
        path = self._path(name)
        texts = path.with_suffix(".tsv")
        if not path.is_file() or not texts.is_file():
            return None
        if texts.read_text(encoding="utf-8").splitlines()[1:] != ["\t".join(astuple(point)) for point in points]:
            return None
        values = np.fromfile(path, dtype="<f4")
        return torch.from_numpy(values.astype(np.float32).reshape(len(points), -1)) if len(values) else None

    def _path(self, name: str) -> Path:
        return self.folder / FOLDER / f"{name}.bytes"


def _entry(name: str, rows: int, dim: int) -> str:
    return (
        "embeddings {\n"
        f'  tensor_name: "{name}"\n'
        f"  tensor_shape: {rows}\n"
        f"  tensor_shape: {dim}\n"
        f'  tensor_path: "{FOLDER}/{name}.bytes"\n'
        f'  metadata_path: "{FOLDER}/{name}.tsv"\n'
        "}\n"
    )
