"""The space that vectors are in: encoder, head and number of dimensions. Only vectors of one space can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcl.arrays import Float32Array, FloatArray
from mtcl.deploy.embed.settings import Settings

MAPPED = "~"
"""Between the fingerprint of the target encoder and the digest of the map, in the fingerprint of mapped vectors."""


@dataclass(frozen=True)
class Space:
    """The space of some vectors.

    Attributes:
        fingerprint: The fingerprint of the encoder.
        head: The fingerprint of the task's head; None if it has none.
        task: The task whose prompt and head were used; None for the shared vectors.
        role: query or document.
        dim: Number of dimensions.
    """

    fingerprint: str
    head: str | None
    task: str | None
    role: str
    dim: int

    @classmethod
    def of(cls, settings: Settings) -> Space:
        """The space of a folder's vectors; of mapped vectors, the space that they were mapped to."""
        fingerprint = settings.fingerprint.partition(MAPPED)[0]
        return cls(fingerprint, settings.head, settings.task, settings.role, settings.dim)

    def is_same(self, other: Space) -> bool:
        """Whether vectors of both can be compared; prompts of tasks and roles may differ."""
        return (self.fingerprint, self.head, self.dim) == (other.fingerprint, other.head, other.dim)

    def __str__(self) -> str:
        task = f", task {self.task}" if self.task else ""
        return f"encoder {self.fingerprint}, {self.dim} dimensions{task}"


def unit(vectors_ND: FloatArray) -> Float32Array:
    """Rows of length 1 in float32; a row of zeros stays as it is."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    found_ND: Float32Array = (vectors_ND / np.where(lengths_N1 > 0, lengths_N1, 1)).astype(np.float32)
    return found_ND
