"""Losses by name, as a configuration chooses them: `loss: InfoNCE`."""

from mtcl.losses.base import Loss, Side, View, row_blocks
from mtcl.losses.info_nce import InfoNCE, info_nce

__all__ = ["InfoNCE", "Loss", "Side", "View", "info_nce", "row_blocks"]
