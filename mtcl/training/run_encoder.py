"""Embeds stored texts in a run: for evaluation, by a teacher, and as pooled hidden states of a frozen backbone.

All vectors are computed in the Trainer's precision. The files are made once and kept next to the token stores.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mtcl.arrays import Ragged
from mtcl.data.store import TokenStore
from mtcl.encoder.encoder import Encoder
from mtcl.encoder.heads import through
from mtcl.encoder.teacher import BASE, Teacher, vectors_file
from mtcl.encoder.vector_file import pooled_file
from mtcl.errors import ConfigError
from mtcl.training.run import Run


class RunEncoder:
    """Embeds a run's stored texts, and keeps the files of vectors that losses and frozen backbones need."""

    def __init__(self, run: Run) -> None:
        self.run = run
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
