"""Combines the losses of a step's tasks into one: `model.weighting` in a configuration.

The mean with fixed weights is the default, because gradient methods do not beat tuned fixed weights in the large
comparisons (Kurin et al. 2022, arXiv 2201.04122; Xin et al. 2022, arXiv 2209.11379).
"""

from mtcl.weighting.base import Mean, Weighting
from mtcl.weighting.gramian import GradientWeighting, gradient_cosines, gramian_of
from mtcl.weighting.uncertainty import Uncertainty

__all__ = ["GradientWeighting", "Mean", "Uncertainty", "Weighting", "gradient_cosines", "gramian_of"]
