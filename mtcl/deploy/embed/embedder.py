"""Embedding as a step of Ray Data, which does its own reading, writing and scheduling.

    from mtcl.deploy.embed import Embedder

    ray.data.read_parquet("posts").map_batches(
        Embedder,
        fn_constructor_kwargs={"checkpoint": "runs/demo", "text": "text"},
        batch_size=4096,
        compute=ray.data.ActorPoolStrategy(size=8),
        num_gpus=1,
    ).write_parquet("vectors")

Ray is not imported here, so other frameworks that map over batches of columns can use it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtcl.deploy.embed.computing import Choice, Computer
from mtcl.deploy.embed.numbers import Numbers, NumberType, Ranges
from mtcl.deploy.embed.rows import reason_against
from mtcl.deploy.embed.settings import EMBEDDING
from mtcl.encoder.precision import Precision
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, DataError, nearest
from mtcl.task.prompt import SideName


class Embedder:
    """Adds a column `embedding` to batches of columns.

    Args:
        checkpoint: A run folder, a .ckpt, or a model's folder or name, which every worker can read.
        text: The column of texts.
        task, role, dim, dtype, precision, any_dim: As in `mtcl embed`.
        ranges: For int8, two rows with the lowest and highest value of each dimension, for example from a folder's
            `_manifest.json`.
        device: To compute on; by default a GPU if there is one.
        trust_checkpoint: Run code from the base model's repository if the run did.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        text: str = "text",
        task: str | None = None,
        role: SideName = "document",
        dim: int | None = None,
        dtype: NumberType = "float32",
        precision: Precision = "float32",
        any_dim: bool = False,
        ranges: list[list[float]] | None = None,
        device: str | None = None,
        trust_checkpoint: bool = False,
    ) -> None:
        choice = Choice(task, role, dim, any_dim, dtype, precision)
        if dtype == "int8" and ranges is None:
            raise ConfigError("dtype int8 needs ranges, which must be the same for all batches: give ranges")
        self.text = text
        self.computer = Computer.of(
            TextEncoder.load(checkpoint, device=device, trust_checkpoint=trust_checkpoint), choice
        )
        own = None if ranges is None or dtype != "int8" else Ranges.of_plain(ranges, dim=self.computer.dim)
        self.numbers = Numbers(dtype, self.computer.dim, own)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The batch with a column `embedding` (n, D) more. Raises `DataError` for a row without text: filter these out
        before, since every row of the batch needs a vector.
        """
        if self.text not in batch:
            raise DataError(f"the batch has no column {self.text!r}{nearest(self.text, batch)}")
        texts = [text.item() if isinstance(text, np.generic) else text for text in batch[self.text]]
        for row, text in enumerate(texts):
            if reason := reason_against(text, self.text):
                raise DataError(f"row {row} of the batch: {reason}: filter such rows out before")
        return {**batch, EMBEDDING: self.numbers.encode(self.computer.encode(texts))}
