"""The two kinds of map, from pairs of vectors of the same texts.

Orthogonal (Procrustes; Schoenemann 1966): the rotation W with the least |X W - Y|. It keeps all cosines of the source's
vectors. With different numbers of dimensions, W has orthonormal rows or columns.

Linear: W and b with the least |X W + b - Y|^2 + strength * |W - W_orthogonal|^2, the strength in units of the mean
variance of a dimension times the number of rows. It can stretch, too. A strong pull makes it nearly the orthogonal map,
so it need not be worse on a small sample.

Letters: N pairs, S dimensions of the source, T of the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtcl.types import FloatArray

Float64 = npt.NDArray[np.float64]
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 10.0)


@dataclass(frozen=True)
class Fit:
    """A map: x W + b."""

    weight_ST: Float64
    bias_T: Float64

    def __call__(self, vectors_NS: FloatArray) -> npt.NDArray[np.float32]:
        """(N, T), not normalised."""
        found_NT: npt.NDArray[np.float32] = (vectors_NS @ self.weight_ST + self.bias_T).astype(np.float32)
        return found_NT


@dataclass(frozen=True)
class Moments:
    """All that a fit depends on: means and second moments of the pairs."""

    num: int
    mean_S: Float64
    mean_T: Float64
    source_SS: Float64
    cross_ST: Float64

    @classmethod
    def of(cls, source_NS: FloatArray, target_NT: FloatArray) -> Moments:
        x_NS, y_NT = source_NS.astype(np.float64), target_NT.astype(np.float64)
        return cls(len(x_NS), x_NS.mean(axis=0), y_NT.mean(axis=0), x_NS.T @ x_NS, x_NS.T @ y_NT)

    def orthogonal(self) -> Fit:
        """The best rotation, without a bias."""
        left_SK, _, right_KT = np.linalg.svd(self.cross_ST, full_matrices=False)
        return Fit(left_SK @ right_KT, np.zeros(len(self.mean_T)))

    def linear(self, strength: float) -> Fit:
        """The best linear map, pulled to the orthogonal one."""
        rotation_ST = self.orthogonal().weight_ST
        covariance_SS = self.source_SS / self.num - np.outer(self.mean_S, self.mean_S)
        crossed_ST = self.cross_ST / self.num - np.outer(self.mean_S, self.mean_T)
        pull = strength * np.trace(covariance_SS) / len(covariance_SS)
        change_ST = np.linalg.solve(
            covariance_SS + pull * np.eye(len(covariance_SS)), crossed_ST - covariance_SS @ rotation_ST
        )
        weight_ST = rotation_ST + change_ST
        return Fit(weight_ST, self.mean_T - self.mean_S @ weight_ST)
