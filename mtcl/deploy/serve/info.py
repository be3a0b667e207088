"""What `GET /info` and `GET /v1/models` say about the served encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtcl.deploy.serve.limits import Limits
from mtcl.deploy.serve.prompts import Prompts
from mtcl.encoder.paths import is_hub_name
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.records.version import __version__


def info_of(encoder: TextEncoder, name: str, prompts: Prompts, limits: Limits) -> dict[str, Any]:
    """TEI's fields, as far as they apply, and further ones: fingerprint, dimensions, tasks, prompts."""
    fingerprint, base = encoder.fingerprint(), encoder.facts.base
    of_weights = str(next(encoder.model.parameters()).dtype).removeprefix("torch.")
    return {
        "model_id": name,
        "model_sha": fingerprint,
        "model_dtype": "bfloat16" if encoder.precision == "bf16" else of_weights,
        "model_type": {"embedding": {"pooling": encoder.model.pooling}},
        "max_concurrent_requests": limits.max_queue,
        "max_input_length": encoder.max_length,
        "max_batch_tokens": limits.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": limits.max_items,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "fingerprint": fingerprint,
        "base": base if is_hub_name(base) else Path(base).name,  # a path of the server is nobody's business
        "trained_by": encoder.facts.version,
        "step": encoder.facts.step,
        "dimensions": encoder.dims_of(None),
        "prompt": encoder.prompt.plain(),
        "prompt_names": prompts.names,
        "tasks": {task: _task(encoder, task) for task in encoder.prompts},
    }


def _task(encoder: TextEncoder, task: str) -> dict[str, Any]:
    facts = encoder.facts.tasks.get(task)
    return {
        "about": facts.about if facts else "",
        "is_trained": facts.is_trained if facts else True,
        "prompt": encoder.prompts[task].plain(),
        "max_length": encoder.lengths.get(task, encoder.max_length),
        "dimensions": encoder.dims_of(task),
        "head_fingerprint": encoder.head_fingerprint(task),
        "metric": facts.metric if facts else "",
        "validation": {"base": facts.base, "now": facts.now} if facts else None,
    }


def model_of(name: str, created: int) -> dict[str, Any]:
    """The model as OpenAI's interface describes it; `created` in seconds since 1970."""
    return {"id": name, "object": "model", "created": created, "owned_by": "mtcl"}
