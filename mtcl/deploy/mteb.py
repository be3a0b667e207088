"""Wraps a checkpoint in mteb's EncoderProtocol, so that mteb's own runner can evaluate it.

    import mteb
    from mtcl.deploy.mteb import MtebEncoder

    mteb.evaluate(MtebEncoder.load("runs/demo"), tasks=mteb.get_tasks(["Banking77Classification"]))

Queries and documents get the run's prompts, which by default are those of its base encoder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from mtcl.arrays import Float32Array
from mtcl.encoder.backbone import function_digest
from mtcl.encoder.text_encoder import AT_ONCE, TextEncoder
from mtcl.errors import ConfigError
from mtcl.task.prompt import SIDES_BY_NAME, PromptSide

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
except ImportError as error:
    raise ConfigError("the MTEB adapter needs mteb: pip install 'mtcl[mteb]'") from error


class MtebEncoder(AbsEncoder):
    """Uses cosine similarity; mteb files results under `name`."""

    def __init__(self, encoder: TextEncoder, *, name: str = "mtcl/checkpoint", revision: str = "local") -> None:
        self.model = encoder
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": revision,
                "embed_dim": encoder.dim,
                "max_tokens": encoder.max_length,
                "similarity_fn_name": ScoringFunction.COSINE,
                "framework": ["PyTorch"],
                "use_instructions": any(encoder.prompt[side] for side in PromptSide),
            }
        )

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> MtebEncoder:
        """`path` is a run folder (its best checkpoint) or a .ckpt file. Results are filed under mtcl/<its name> and a
        digest of the weights, because mteb reuses stored results of the same name and revision.
        """
        encoder = TextEncoder.load(path, device=device)
        weights = (function_digest(encoder.model), encoder.model.pooling, encoder.tokenizer.digest)
        facts = (*weights, encoder.max_length, encoder.prompt.plain())
        revision = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        return cls(encoder, name=f"mtcl/{Path(path).name.removesuffix('.ckpt')}", revision=revision)

    def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Float32Array:
        """(T, D) vectors of `inputs`, in order.

        `inputs` is mteb's loader of batches with a column `text`; `prompt_type` is query, document or None, for tasks
        in which all texts are of one kind.
        """
        role = getattr(prompt_type, "value", prompt_type)
        side = PromptSide.EITHER if role is None else SIDES_BY_NAME[role]
        texts = [self.model.prompt[side] + text for batch in inputs for text in batch["text"]]
        parts = [self.model(texts[start : start + AT_ONCE]) for start in range(0, max(1, len(texts)), AT_ONCE)]
        vectors: Float32Array = torch.cat(parts).numpy()
        return vectors
