"""Embed texts through an OpenAI-compatible endpoint, with the `openai` client.

The client repeats a request after time-outs, 408, 409, 429 and 5xx, with growing pauses or the pause that the server
requests. It does not check the body, so this module repeats the request if the answer is not JSON or has too few,
ragged or non-finite vectors. Answers are written to disk at once.
"""

from __future__ import annotations

import logging
import os
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtcl.arrays import Float32Array
from mtcl.errors import ConfigError, MtclError, root_cause
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.vectors import VectorCache

log = logging.getLogger("mtcl")
BROKEN_RETRIES = 3
OPENAI_URL = "https://api.openai.com/v1"


class EndpointError(MtclError):
    """An embedding endpoint gave no usable answer."""


class _RefusedError(Exception):
    """The server rejects a request; one bad text in it is enough, for example one that is too long."""


class _BrokenAnswerError(Exception):
    """The body of an answer is not usable."""


def model_key(spec: EncoderSpec) -> str:
    """Everything besides the text that determines an endpoint's vectors."""
    return f"{spec.base_url or OPENAI_URL}|{spec.endpoint}|{spec.dimensions}"


@dataclass
class Endpoint:
    """Embeds texts that are not in the cache. Not thread-safe."""

    spec: EncoderSpec
    cache: VectorCache
    _last_request: float = field(default=-float("inf"))

    def __post_init__(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError("endpoints need the openai client: pip install 'mtcl[compare]'") from error
        self._errors: Any = openai
        self._client = openai.OpenAI(
            base_url=self.spec.base_url or OPENAI_URL,
            api_key=os.environ.get(self.spec.api_key_env) or "none",
            timeout=self.spec.timeout_s,
            max_retries=self.spec.max_retries,
        )

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The distinct texts that are not cached and must be sent."""
        known = self.cache.get(texts)
        return [text for text in dict.fromkeys(texts) if text not in known]

    def check_key(self) -> None:
        """Raise `ConfigError` if a request to OpenAI would have no key."""
        if self.spec.base_url is None and not os.environ.get(self.spec.api_key_env):
            raise ConfigError(f"no key for {OPENAI_URL}: set the environment variable {self.spec.api_key_env}")

    def embed(self, texts: Sequence[str]) -> Float32Array:
        """(T, D) vectors in the order of the texts. Raises `EndpointError`; answers received before it are kept."""
        missing = self.missing(texts)
        if missing:
            self.check_key()
        for batch in _batches(missing, self.spec.batch_size):
            self._keep_vectors_of(batch)
        known = self.cache.get(texts)
        return np.stack([known[text] for text in texts])

    def _keep_vectors_of(self, batch: list[str]) -> None:
        """Request a batch. A rejected one is halved repeatedly, which finds the bad text in a few requests."""
        try:
            self.cache.put(dict(zip(batch, self._answer(batch), strict=True)))
        except _RefusedError as error:
            if len(batch) == 1:
                text = textwrap.shorten(batch[0], 60, placeholder=" ...")
                raise EndpointError(
                    f"{self._name} refused a text of {len(batch[0]):,} characters ({text!r}): {error}; if it is too "
                    "long, give max_characters"
                ) from error
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._keep_vectors_of(half)

    def _answer(self, batch: list[str]) -> Float32Array:
        for attempt in range(BROKEN_RETRIES + 1):
            self._keep_pace()
            try:
                return self._request(batch)
            except _BrokenAnswerError as error:
                log.warning("%s: broken answer (%s), attempt %d", self.spec.endpoint, error, attempt + 1)
                reason = str(error)
                time.sleep(min(0.5 * 2**attempt, 8.0))
            except self._errors.APIStatusError as error:
                message = " ".join(str(error).split())[:300]
                if error.status_code in (400, 413, 422):
                    raise _RefusedError(message) from error
                raise EndpointError(f"{self._name} refused {len(batch)} texts: {message}") from error
            except self._errors.APIError as error:
                raise EndpointError(f"{self._name} does not answer ({root_cause(error)}): check base_url") from error
        raise EndpointError(f"{self._name} gave {BROKEN_RETRIES + 1} broken answers: {reason}")

    def _request(self, batch: list[str]) -> Float32Array:
        options: dict[str, Any] = {"dimensions": self.spec.dimensions} if self.spec.dimensions else {}
        try:
            answer: Any = self._client.embeddings.create(
                model=str(self.spec.endpoint), input=batch, encoding_format="float", **options
            )
            rows = sorted(answer.data, key=lambda row: row.index)
            vectors = np.array([row.embedding for row in rows], dtype=np.float32)
        except self._errors.APIResponseValidationError as error:
            raise _BrokenAnswerError(root_cause(error)) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise _BrokenAnswerError(root_cause(error)) from error
        if [row.index for row in rows] != list(range(len(batch))) or vectors.ndim != 2 or not vectors.shape[1]:
            raise _BrokenAnswerError(f"{len(rows)} vectors of shape {vectors.shape} for {len(batch)} texts")
        if not np.isfinite(vectors).all():
            raise _BrokenAnswerError("values that are not finite")
        return vectors

    def _keep_pace(self) -> None:
        if self.spec.requests_per_minute is not None:
            time.sleep(max(0.0, self._last_request + 60 / self.spec.requests_per_minute - time.monotonic()))
        self._last_request = time.monotonic()

    @property
    def _name(self) -> str:
        return f"endpoint {self.spec.endpoint!r} at {self.spec.base_url or OPENAI_URL}"


def _batches(texts: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]
