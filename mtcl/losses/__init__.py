"""The losses that a configuration can choose by name, as in `loss: InfoNCE`.

Each also works on plain tensors: `InfoNCE()(anchors, positives)` (see `Loss` and `view_of`).
"""

from mtcl.errors import ConfigError, nearest
from mtcl.losses.base import Loss
from mtcl.losses.composed import Matryoshka, SpreadOut, WeightedSum
from mtcl.losses.cosent import CoSENT
from mtcl.losses.counterparts import COUNTERPARTS, no_loss_of_ours
from mtcl.losses.distill import DistillKL, MarginMSE, TeacherMSE
from mtcl.losses.info_nce import InfoNCE
from mtcl.losses.pair_bce import PairBCE
from mtcl.losses.tensors import view_of
from mtcl.losses.view import Embedded, Side, View
from mtcl.task.kind import Kind


def default_loss(kind: Kind) -> Loss:
    """The loss of a task whose configuration names none."""
    if kind is Kind.GRADED:
        return CoSENT()
    if kind is Kind.BINARY:
        return PairBCE(bias=-5.0)
    if kind is Kind.PARALLEL:
        return InfoNCE(directions="both", margin=0.3)
    return InfoNCE()


def loss_named(name: str) -> Loss:
    """A loss of this package with its defaults, for a configuration with `loss: InfoNCE`.

    Raises `ConfigError` for an unknown name.
    """
    known = {kind.__name__: kind for kind in (CoSENT, DistillKL, InfoNCE, MarginMSE, PairBCE, TeacherMSE)}
    if name in COUNTERPARTS:
        raise ConfigError(no_loss_of_ours(name))
    if name not in known:
        raise ConfigError(f"no loss {name!r}{nearest(name, known)}")
    return known[name]()


__all__ = [
    "CoSENT",
    "DistillKL",
    "Embedded",
    "InfoNCE",
    "Loss",
    "MarginMSE",
    "Matryoshka",
    "PairBCE",
    "Side",
    "SpreadOut",
    "TeacherMSE",
    "View",
    "WeightedSum",
    "default_loss",
    "loss_named",
    "view_of",
]
