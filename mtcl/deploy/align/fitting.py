"""The two kinds of map, from pairs of vectors of the same texts.

Orthogonal (Procrustes; Schoenemann 1966): the rotation W and the shift b with the least |X W + b - Y|. It keeps all
distances. With different numbers of dimensions, W has orthonormal rows or columns. The shift matters for encoders whose
vectors all lie near their mean (E5): without it, fewer neighbours are found (docs/vectors.md).

Linear: W and b with the least |X W + b - Y|^2 + strength * |W - W_orthogonal|^2, the strength in units of the mean
variance of a dimension times the number of rows. It can stretch, too. With a large strength it is nearly the orthogonal
map, so it need not be worse on a small sample.

Letters: N pairs, S dimensions of the source, T of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mtcl.arrays import Float32Array, FloatArray

Float64 = npt.NDArray[np.float64]
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 10.0)


@dataclass(frozen=True)
class Fit:
    """A map: x W + b."""

    weight_ST: Float64
    bias_T: Float64

    def __call__(self, vectors_NS: FloatArray) -> Float32Array:
        """(N, T), not normalised."""
        found_NT: Float32Array = (vectors_NS @ self.weight_ST + self.bias_T).astype(np.float32)
        return found_NT


@dataclass(frozen=True)
class Moments:
    """The means and second moments of the pairs, which determine a fit."""

    num: int
    mean_S: Float64
    mean_T: Float64
    source_SS: Float64
    cross_ST: Float64

    @classmethod
    def of(cls, source_NS: FloatArray, target_NT: FloatArray) -> Moments:
        """Moments of N pairs, in float64."""
        x_NS, y_NT = source_NS.astype(np.float64), target_NT.astype(np.float64)
        return cls(len(x_NS), x_NS.mean(axis=0), y_NT.mean(axis=0), x_NS.T @ x_NS, x_NS.T @ y_NT)

    @property
    def covariance(self) -> Float64:
        """(S, S) the source's covariance."""
        found_SS: Float64 = self.source_SS / self.num - np.outer(self.mean_S, self.mean_S)
        return found_SS

    @property
    def centred(self) -> Float64:
        """(S, T) covariances of source and target."""
        found_ST: Float64 = self.cross_ST / self.num - np.outer(self.mean_S, self.mean_T)
        return found_ST

    @cached_property
    def rotation(self) -> Float64:
        """(S, T)."""
        left_SK, _, right_KT = np.linalg.svd(self.centred, full_matrices=False)
        found_ST: Float64 = left_SK @ right_KT
        return found_ST

    def orthogonal(self) -> Fit:
        """The best rotation and shift."""
        return self._with_shift(self.rotation)

    def linear(self, strength: float) -> Fit:
        """The best linear map, pulled to the orthogonal one."""
        rotation_ST, covariance_SS = self.rotation, self.covariance
        pull = strength * np.trace(covariance_SS) / len(covariance_SS)
        change_ST = np.linalg.solve(
            covariance_SS + pull * np.eye(len(covariance_SS)), self.centred - covariance_SS @ rotation_ST
        )
        return self._with_shift(rotation_ST + change_ST)

    def _with_shift(self, weight_ST: Float64) -> Fit:
        """Add the shift that maps mean to mean."""
        return Fit(weight_ST, self.mean_T - self.mean_S @ weight_ST)
