"""The first weights of a run: those of a checkpoint, and projections that start as the PCA of training texts.

A checkpoint's encoder may have adapters or not, and so may the run's. If both have the same ones, they are taken as
they are. Otherwise the checkpoint's adapters are added to its weights, and the run's own start at zero, so the run
starts from the same vectors. A projection or a task's head of another size starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mtcl.distributed import world
from mtcl.encoder.checkpoint import PREFIX, SavedRun
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import PREFIX as HEADS
from mtcl.encoder.lora_state import as_named, has_adapters, is_adapter
from mtcl.encoder.pca import start_as_pca
from mtcl.errors import ConfigError

if TYPE_CHECKING:
    from mtcl.training.module import MtclModule

log = logging.getLogger("mtcl")
PCA_TEXTS = 8192
PROJECTIONS = ("encoder.projection.", "base_projection.")
OF_HEADS = (HEADS, "base_heads.")
State = dict[str, Tensor]


def weights_for(saved: SavedRun, own: State, *, alpha: float | None) -> State:
    """A checkpoint's weights under the names of a module's state `own`, without projections and heads of another size.

    `alpha` is the scale of the module's adapters, None if it has none. Raises `ConfigError` if the encoders differ.
    """
    if alpha is None and not has_adapters(saved.state):
        return _without_other_sizes(saved.state, own)
    has_same = {n: v.shape for n, v in saved.state.items() if is_adapter(n)} == {
        n: v.shape for n, v in own.items() if is_adapter(n)
    }
    if has_same and saved.alpha == alpha:
        state = saved.state
    else:
        state = as_named(saved.plain_state, own)
        if has_adapters(saved.state) and world()[0] == 0:
            log.info("the adapters of %s are added to its weights", saved.path)
    return _without_other_sizes(state, own)


def _without_other_sizes(state: State, own: State) -> State:
    """Without projections and heads whose size differs. Raises `ConfigError` if the encoders differ otherwise."""
    again = {
        name.rpartition(".")[0]
        for name, value in state.items()
        if name.startswith((*PROJECTIONS, *OF_HEADS)) and (name not in own or value.shape != own[name].shape)
    }
    kept = {name: value for name, value in state.items() if name.rpartition(".")[0] not in again}
    _check_encoder(kept, own)
    return kept


def _check_encoder(state: State, own: State) -> None:
    shapes = [
        {n: v.shape for n, v in s.items() if n.startswith(PREFIX) and not n.startswith(PROJECTIONS)}
        for s in (state, own)
    ]
    missing = [n for n in shapes[1] if n not in shapes[0] and not is_adapter(n)]
    if missing or any(shapes[1].get(n) != shape for n, shape in shapes[0].items()):
        raise ConfigError("the checkpoint's encoder differs from model.encoder.name: give the same encoder")


def starts_new_projection(saved: SavedRun, encoder: Encoder) -> bool:
    """Whether the encoder's projection has another size than the checkpoint's, so that it starts again.

    Raises `ConfigError` if the encoder has none, but the checkpoint has.
    """
    weight, now = saved.state.get("encoder.projection.weight"), encoder.projection
    if now is None and weight is not None:
        raise ConfigError(
            f"the checkpoint has model.encoder.dim {len(weight)}, the configuration None: give {len(weight)}, or "
            "another size, to which a new projection is started"
        )
    return now is not None and (weight is None or len(weight) != now.out_features)


def warn_of_left_out(saved: SavedRun, heads: Collection[str], tasks: Collection[str]) -> None:
    """Log the tasks whose head in the checkpoint is left out, because the run configures none."""
    for name, head in saved.heads.items():
        if name in tasks and name not in heads and world()[0] == 0:
            log.warning(
                "the checkpoint has a head for task %r, which is left out: give tasks.%s.head %d to use it",
                name,
                name,
                head.out_features,
            )


def start_projections(module: MtclModule) -> None:
    """Start projection and heads that no checkpoint has, as the PCA of vectors of training texts; called by rank 0.

    After the start from a checkpoint, the base encoder's projection also starts as the PCA of its own vectors.
    """
    module.encoder.to(module.trainer.strategy.root_device)  # Lightning moves the module only after `setup`
    if module.starts_projection:
        texts, encoder = module.data.sample(PCA_TEXTS), module.encoder
        encoder.init_projection_pca(module.embed(texts, encoder.without_projection()))
        if module.has_new_projection:
            log.info(
                "model.encoder.dim is %d, another than the checkpoint's: the projection starts again, as the PCA of "
                "its encoder's vectors of training texts",
                encoder.dim,
            )
            base = module.base.encoder(module.trainer.strategy.root_device)
            base.init_projection_pca(module.embed(texts, base.without_projection()))
            module.base.begin_with(base)
        else:
            module.base.begin_with(encoder)
    for name in module.starting_heads if module.trainer.ckpt_path is None else ():
        head, origin = module.heads[name], module.base_heads[name]
        assert isinstance(head, nn.Linear)
        start_as_pca(head, module.embed(module.data.sample(PCA_TEXTS, [name])))
        log.info("the head of %s starts as the PCA of its training texts, to %d dimensions", name, head.out_features)
        origin.load_state_dict(head.state_dict())
