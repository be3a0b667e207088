"""The computation from a pooled state to a vector, as a list of linear layers and normalisations.

An exported folder lists it as modules of sentence-transformers. Two parts have no module there, a cut to leading
dimensions and another order of concatenated poolings: they are merged into a neighbouring linear layer, or become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtcl.encoder.config import Pooling
from mtcl.encoder.declared import POOLINGS
from mtcl.encoder.dense import ACTIVATIONS, Dense, Norm, Normalize, Truncate, size_after
from mtcl.encoder.encoder import Encoder
from mtcl.errors import ConfigError

IDENTITY = "torch.nn.modules.linear.Identity"
ORDER: tuple[Pooling, ...] = tuple(POOLINGS.values())
"""The order in which sentence-transformers concatenates poolings."""


@dataclass(frozen=True)
class Linear:
    """A linear layer (out, in) with its activation, by its full name; `residual` (out, in) is added after it."""

    weight_OI: Tensor
    bias_O: Tensor | None
    activation: str = IDENTITY
    residual_OI: Tensor | None = None
    is_residual_identity: bool = False

    def select_outputs(self, rows: Tensor) -> Linear:
        """The layer with some of its outputs only."""
        return replace(self, weight_OI=self.weight_OI[rows], bias_O=None if self.bias_O is None else self.bias_O[rows])

    def take_inputs(self, columns: Tensor, size: int) -> Linear:
        """The layer on `size` inputs; `columns` are the places of its own inputs among them."""
        wide_OI = torch.zeros(len(self.weight_OI), size)
        wide_OI[:, columns] = self.weight_OI
        return replace(self, weight_OI=wide_OI)


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation with its weights."""

    norm: nn.LayerNorm


@dataclass(frozen=True)
class UnitLength:
    """Division by the length."""


@dataclass(frozen=True)
class Select:
    """Dimensions to keep, out of `size`, in their new order."""

    rows: Tensor
    size: int


Step = Linear | LayerNorm | UnitLength
Stage = Step | Select


def stages_of(model: Encoder, *, head: nn.Linear | None = None, dim: int | None = None) -> list[Step]:
    """From pooled states, concatenated in `ORDER`, to vectors of unit length.

    Args:
        model: The encoder.
        head: A task's projection of the encoder's vectors.
        dim: Leading dimensions of the vectors to keep.

    Raises `ConfigError` for a computation that linear layers cannot express.
    """
    stages: list[Stage] = [*_pooling(model)]
    size = model.pooled_dim
    for module in model.dense or ():
        stages += _stages(module, size)
        size = size_after(nn.Sequential(module), size)
    if model.projection is not None:
        stages.append(_linear(model.projection))
    if head is not None:
        stages += [UnitLength(), _linear(head)]
    size = model.dim if head is None else head.out_features
    if dim is not None and dim < size:
        stages.append(Select(torch.arange(dim), size))
    return [*_without_selections(stages), UnitLength()]


def _pooling(model: Encoder) -> Iterator[Stage]:
    """A selection if the encoder concatenates its poolings in another order than sentence-transformers."""
    given, size = model.poolings, model.pooled_dim // len(model.poolings)
    if len(set(given)) < len(given):
        raise ConfigError(
            f"model.encoder.pooling is {list(given)}: no layout has a pooling twice, so train with each once"
        )
    ordered = sorted(given, key=ORDER.index)
    if list(given) != ordered:
        blocks = torch.arange(model.pooled_dim).view(len(given), size)
        yield Select(torch.cat([blocks[ordered.index(one)] for one in given]), model.pooled_dim)


def _stages(module: nn.Module, size: int) -> Iterator[Stage]:
    """A layer of the base model on `size` inputs; dropout does nothing outside of training."""
    if isinstance(module, Dense):
        yield _dense(module)
    elif isinstance(module, Norm):
        yield LayerNorm(module.norm)
    elif isinstance(module, Normalize):
        yield UnitLength()
    elif isinstance(module, Truncate):
        yield Select(torch.arange(min(module.size, size)), size)
    elif not isinstance(module, nn.Dropout):
        raise ConfigError(f"a layer {type(module).__name__} cannot be exported: give model.encoder.dense false")


def _dense(module: Dense) -> Linear:
    """The layer; a residual connection around a layer without activation is added to its weights."""
    name = next(name for name, kind in ACTIVATIONS.items() if type(module.activation) is kind)
    layer = replace(_linear(module.linear), activation=name)
    if module.residual is None:
        return layer
    is_identity = isinstance(module.residual, nn.Identity)
    residual_OI = torch.eye(module.size) if is_identity else _values(module.residual.weight)
    if name == IDENTITY:
        return replace(layer, weight_OI=layer.weight_OI + residual_OI)
    return replace(layer, residual_OI=residual_OI, is_residual_identity=is_identity)


def _linear(module: nn.Linear) -> Linear:
    return Linear(_values(module.weight), None if module.bias is None else _values(module.bias))


def _values(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value.detach().float().cpu()


def _without_selections(stages: Sequence[Stage]) -> list[Step]:
    """Each selection becomes part of the linear layer before or after it, or a linear layer of its own."""
    found: list[Step] = []
    waiting: Select | None = None
    for stage in stages:
        if isinstance(stage, Select):
            assert waiting is None
            before = found[-1] if found else None
            if isinstance(before, Linear) and before.residual_OI is None:
                found[-1] = before.select_outputs(stage.rows)
            else:
                waiting = stage
        elif waiting is not None and isinstance(stage, Linear) and stage.residual_OI is None:
            found.append(stage.take_inputs(waiting.rows, waiting.size))
            waiting = None
        else:
            found += [] if waiting is None else [_as_linear(waiting)]
            found.append(stage)
            waiting = None
    return found + ([] if waiting is None else [_as_linear(waiting)])


def _as_linear(selection: Select) -> Linear:
    return Linear(torch.eye(selection.size)[selection.rows], None)
