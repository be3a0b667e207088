"""How the losses of a step's tasks become one: `model.weighting` of a configuration.

The weighted mean is the default: tuned fixed weights are not beaten by gradient methods in the large comparisons (Kurin
et al. 2022, arXiv 2201.04122; Xin et al. 2022, arXiv 2209.11379).
"""

from mtcl.weighting.base import Mean, Weighting
from mtcl.weighting.gramian import GradientWeighting, cosines, gramian_of
from mtcl.weighting.uncertainty import Uncertainty

__all__ = ["GradientWeighting", "Mean", "Uncertainty", "Weighting", "cosines", "gramian_of"]
