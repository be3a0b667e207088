"""The first weights of a run: those of a checkpoint, and projections that start as the PCA of training texts.

A checkpoint's encoder may have adapters or not, and so may the run's. If both have the same ones, they are taken as
they are. Otherwise the checkpoint's adapters are added to its weights, and the run's own start at zero, so the run
starts from the same vectors. A projection or a task's head of another size starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
from torch import nn

from mtcl.arrays import Ragged
from mtcl.data.store import TokenStore
from mtcl.distributed import world
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.lora_state import as_named, has_adapters, is_adapter
from mtcl.encoder.module_state import ENCODER, HEADS, LOSSES, PROJECTION, SIZED, WEIGHTING, State
from mtcl.encoder.pca import start_as_pca
from mtcl.encoder.reading import tokenizer_of
from mtcl.errors import ConfigError
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.run import Run
from mtcl.training.run_encoder import RunEncoder

log = logging.getLogger("mtcl")
PCA_TEXTS = 8192


class Start:
    """The start of a run. `saved` is the checkpoint that it starts from, None for the base encoder."""

    def __init__(self, run: Run, run_encoder: RunEncoder) -> None:
        self.run, self.run_encoder = run, run_encoder
        self.saved: SavedRun | None = None
        self.has_new_projection = False
        """Whether the checkpoint's projection has another size than the model's."""
        self.new_heads: list[str] = []
        """Tasks whose heads the checkpoint does not have."""
        self._has_begun = False
        """Whether projections and heads have their first values, so that a later `trainer.test` leaves them alone."""

    def load(self, saved: SavedRun, *, is_compared: bool) -> None:
        """Start from a checkpoint. Raises `ConfigError` if it has a different encoder or tokenizer, or another base
        encoder if the run `is_compared` with it.
        """
        model = self.run.model
        if is_compared and saved.record.base_weights not in (None, model.base.weights):
            raise ConfigError(
                f"model.encoder.name is {model.config.name!r}, but the checkpoint was trained from other "
                f"weights: give the encoder it was trained from, {saved.encoder_config.name!r}, or --no_base"
            )
        probe = tokenizer_of(model.config, model.encoder.declared).probe
        pooling = model.encoder.pooling if model.config.pooling is None else None
        saved.check_base(model.config.name, tokenizer=probe, pooling=pooling)
        self.has_new_projection = starts_new_projection(saved, model.encoder)
        self.saved = saved
        self.take_weights()
        self.run.trained_before = saved.trained

    def take_weights(self) -> None:
        """Take the checkpoint's encoder, and the loss parameters and heads of the tasks that both have."""
        module, model, saved = self.run.module, self.run.model, self.saved
        self.new_heads = list(model.heads)
        if saved is None:
            return
        own, adapter = module.state_dict(), model.config.adapter
        given = weights_for(saved, own, alpha=None if adapter is None else adapter.alpha)
        new = (WEIGHTING, *self._changed_losses())
        wanted = {name: value for name, value in given.items() if name in own and not name.startswith(new)}
        if odd := [name for name, value in wanted.items() if value.shape != own[name].shape]:
            raise saved.malformed(f"{odd[0]} is {tuple(wanted[odd[0]].shape)}, not {tuple(own[odd[0]].shape)}")
        module.load_state_dict(wanted, strict=False)
        self.new_heads = [name for name in model.heads if f"{HEADS}{name}.weight" not in wanted]
        if model.tasks:
            warn_of_left_out(saved, model.heads.keys(), model.tasks)

    def _changed_losses(self) -> list[str]:
        """Prefixes of the parameters of losses whose arguments differ from the checkpoint's; these start as the run
        says.
        """
        model, saved = self.run.model, self.saved
        recipe = saved.record.recipe if saved else {}
        found = []
        for name, loss in model.losses.items():
            before = recipe.get(f"tasks.{name}.loss")
            if before not in (None, model.loss_of(name).words) and any(True for _ in loss.parameters()):
                log.info(
                    "task %r: its loss was %s, so the learned values of its loss are not taken",
                    name,
                    before,
                )
                found.append(f"{LOSSES}{name}.")
        return found

    def begin(self) -> None:
        """Give projection and heads their first values; called by all ranks, of which rank 0 computes them."""
        run, model = self.run, self.run.model
        if self.saved is None and run.trainer.ckpt_path is None and not self._has_begun:
            model.base.begin_with(model.encoder)
        if self.reads_training_texts and world()[0] == 0:
            model.encoder.to(run.trainer.strategy.root_device)  # Lightning moves the module only after `setup`
            if self.starts_projection:
                self._start_projection()
            for name in self.new_heads if self.starts_heads else ():
                self._start_head(name)
        self._has_begun = True

    @property
    def starts_projection(self) -> bool:
        """Whether the projection starts as the PCA of training texts."""
        model = self.run.model
        if self._has_begun or model.encoder.projection is None or self.run.trainer.ckpt_path is not None:
            return False
        return model.config.projection == "pca" and (self.saved is None or self.has_new_projection)

    @property
    def starts_heads(self) -> bool:
        """Whether tasks' heads start as the PCA of their training texts."""
        return bool(self.new_heads) and self.run.trainer.ckpt_path is None and not self._has_begun

    @property
    def reads_training_texts(self) -> bool:
        """Whether a projection or head starts as the PCA of training texts; if so, their stores must be open."""
        return self.starts_projection or self.starts_heads

    def _start_projection(self) -> None:
        """After the start from a checkpoint, the base encoder's projection starts as the PCA of its own vectors."""
        run, base_of, encoder = self.run, self.run.model.base, self.run.model.encoder
        texts = sample_of(run.data, PCA_TEXTS)
        encoder.init_projection_pca(self.run_encoder.embed(texts, encoder.without_projection()))
        base = encoder
        if self.has_new_projection:
            log.info(
                "model.encoder.dim is %d, another than the checkpoint's: the projection starts again, as the PCA of "
                "its encoder's vectors of training texts",
                encoder.dim,
            )
            base = base_of.encoder(run.trainer.strategy.root_device)
            base.init_projection_pca(self.run_encoder.embed(texts, base.without_projection()))
        base_of.begin_with(base)

    def _start_head(self, name: str) -> None:
        head, origin = self.run.model.heads[name], self.run.model.base_heads[name]
        assert isinstance(head, nn.Linear)
        start_as_pca(head, self.run_encoder.embed(sample_of(self.run.data, PCA_TEXTS, [name])))
        log.info("the head of %s starts as the PCA of its training texts, to %d dimensions", name, head.out_features)
        origin.load_state_dict(head.state_dict())


def sample_of(data: MtclDataModule, num_texts: int, names: Collection[str] | None = None) -> Ragged:
    """Tokens of about `num_texts` training texts, the same number per task, chosen by the seed; of all tasks, or of
    those named.
    """
    generator = np.random.default_rng(data.seed)
    names = list(data.tasks) if names is None else names
    share = -(-num_texts // len(names))

    def some(store: TokenStore) -> Ragged:
        texts = np.arange(len(store.tokens))
        if store.limit is not None:
            texts = np.delete(texts, store.limit.left_out)
        chosen = generator.choice(len(texts), min(share, len(texts)), replace=False)
        return store.tokens.take(texts[np.sort(chosen)])

    return Ragged.join([some(data.store(name, "train")) for name in names])


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
    """The weights without projections and heads of another size. Raises `ConfigError` if the encoders differ
    otherwise.
    """
    again = {
        name.rpartition(".")[0]
        for name, value in state.items()
        if name.startswith(SIZED) and (name not in own or value.shape != own[name].shape)
    }
    kept = {name: value for name, value in state.items() if name.rpartition(".")[0] not in again}
    _check_encoder(kept, own)
    return kept


def _check_encoder(state: State, own: State) -> None:
    shapes = [
        {n: v.shape for n, v in s.items() if n.startswith(ENCODER) and not n.startswith(PROJECTION)}
        for s in (state, own)
    ]
    missing = [n for n in shapes[1] if n not in shapes[0] and not is_adapter(n)]
    if missing or any(shapes[1].get(n) != shape for n, shape in shapes[0].items()):
        raise ConfigError("the checkpoint's encoder differs from model.encoder.name: give the same encoder")


def starts_new_projection(saved: SavedRun, encoder: Encoder) -> bool:
    """Whether the encoder's projection has another size than the checkpoint's, so that it starts again.

    Raises `ConfigError` if the encoder has none, but the checkpoint has.
    """
    weight, now = saved.state.get(f"{PROJECTION}weight"), encoder.projection
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
