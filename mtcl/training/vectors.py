"""Vectors of stored texts in a run: for evaluation, for a teacher, and pooled hidden states of a frozen backbone.

All are computed in the Trainer's precision. The files are made once and kept next to the token stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mtcl.arrays import IntArray, Ragged
from mtcl.data.store import TokenStore
from mtcl.distributed import together
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.encoder.teacher import BASE, Teacher, vectors_file
from mtcl.encoder.vector_file import pooled_file
from mtcl.errors import ConfigError, at
from mtcl.evaluation import Pool, Result, embed_shared, score
from mtcl.evaluation.groups import check_installed
from mtcl.evaluation.pool import Vectors as PoolVectors
from mtcl.training.run import Run


@dataclass(frozen=True)
class Evaluated:
    """A pool's evaluation: its vectors, by the module's own encoder or by the base encoder, and through which head."""

    pool: Pool
    vectors: PoolVectors
    result: Result
    is_own: bool
    head: nn.Module | None


class Vectors:
    """The vectors of a run. Pools are also evaluated with each of `dims` leading dimensions, and by their
    groups if `groups` is set.
    """

    def __init__(self, run: Run, *, dims: Sequence[int] = (), groups: bool = False) -> None:
        if groups:
            with at(groups="model.eval_groups"):
                check_installed()
        full = run.model.encoder.dim
        if odd := [dim for dim in dims if not 0 < dim < full]:
            raise ConfigError(f"model.eval_dims has {odd[0]}: give 1 to {full - 1}; the encoder has {full}")
        if twice := [dim for dim in dims if dims.count(dim) > 1]:
            raise ConfigError(f"model.eval_dims has {twice[0]} twice: name each number once")
        self.run, self.dims, self.groups = run, tuple(dims), groups
        self.watchers: list[Callable[[Evaluated], None]] = []
        """Called after each evaluation of a pool, on this rank."""
        self._pooled_files: dict[Path, Path] = {}

    def embed(
        self,
        tokens: Ragged,
        encoder: Encoder | None = None,
        *,
        head: nn.Module | None = None,
        is_pooled: bool = False,
    ) -> Tensor:
        """(T, D) unit vectors of tokenised texts, on the CPU; by `encoder` if given, through `head` if given.

        With `is_pooled`, (T, H) pooled hidden states instead.
        """
        encoder, size = encoder or self.run.model.encoder, self.run.model.config.chunk_size()
        with self.run.trainer.precision_plugin.forward_context(), torch.no_grad():
            return through(head, encoder.embed(tokens, tokens_per_chunk=size, is_pooled=is_pooled))

    def evaluate(self, pool: Pool, encoder: Encoder, head: nn.Module | None = None) -> Result:
        """The result of a pool's evaluation. Call it on all ranks."""
        run, model, cached = self.run, self.run.model, None
        if encoder is model.encoder and encoder.is_frozen and run.trainer.state.fn == "fit":
            with together():
                cached = self.pooled_file(pool.store)

        def embed(texts: IntArray) -> Tensor:
            if cached is None:
                return self.embed(pool.store.tokens.take(texts), encoder, head=head)
            pooled_TH = torch.from_numpy(np.load(cached, mmap_mode="r")[texts]).to(run.module.device)
            with run.trainer.precision_plugin.forward_context(), torch.no_grad():
                return through(head, encoder.finish(pooled_TH)).cpu()

        dim = model.encoder.dim if head is None else model.dim_of(pool.name)
        dims = [d for d in self.dims if d < dim]
        vectors = embed_shared(pool.texts, embed)
        result = score(pool, vectors, dims=dims, groups=self.groups)
        for watch in self.watchers:
            watch(Evaluated(pool, vectors, result, encoder is model.encoder, head))
        return result

    def teacher_file(self, task: str) -> Path | None:
        """The file of the teacher's vectors of a task's training texts, made if missing; None if the task's loss has no
        teacher.
        """
        run, model, device = self.run, self.run.model, self.run.module.device
        loss = model.loss_of(task)
        if loss.teacher is None:
            return None
        if loss.teacher == BASE:
            teacher = Teacher(model.base.encoder(device))
        else:
            own = run.data.stores.tokenizer.digest
            teacher = Teacher.load(loss.teacher, like=model.config, own_tokenizer=own, device=device)
        dim = model.dim_of(task)
        if loss.matches_teacher and teacher.encoder.dim != dim:
            has_head = task in model.heads
            advice = f"leave out tasks.{task}.head" if has_head else "set model.encoder.dim"
            raise ConfigError(
                f"tasks.{task}.loss: the teacher {loss.teacher!r} has {teacher.encoder.dim} dimensions, the "
                f"{'head' if has_head else 'encoder'} {dim}: {advice}, or use the teacher {BASE!r}"
            )

        def embed(encoder: Encoder, tokens: Ragged) -> Tensor:
            return self.embed(tokens, encoder)

        precision = str(run.trainer.precision)
        return vectors_file(run.data.store(task, "train"), teacher, embed, precision=precision)

    def pooled_file(self, store: TokenStore) -> Path | None:
        """The file of the frozen backbone's pooled hidden states of a store's texts, made if missing; None if the
        backbone trains.
        """
        encoder = self.run.model.encoder
        if not encoder.is_frozen:
            return None

        def embed(tokens: Ragged) -> Tensor:
            return self.embed(tokens, is_pooled=True)

        if store.folder not in self._pooled_files:
            precision = str(self.run.trainer.precision)
            self._pooled_files[store.folder] = pooled_file(store, encoder, embed, precision=precision)
        return self._pooled_files[store.folder]
