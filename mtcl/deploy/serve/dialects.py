"""The two dialects of the server: bodies of requests, answers and errors of OpenAI's interface and of TEI.

OpenAI: https://platform.openai.com/docs/api-reference/embeddings; its client asks for base64 unless told otherwise.
TEI: Hugging Face's text-embeddings-inference, `router/src/http`. Both refuse an unknown field and suggest the nearest
name, because a misspelt `dimensions` would otherwise give vectors of another size.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mtcl.arrays import FloatArray
from mtcl.deploy.embed.rows import is_blank
from mtcl.deploy.serve.refusal import Reason, RefusedError
from mtcl.errors import nearest

Direction = Literal["left", "right"]
INVALID = "invalid_request_error"
SHOWN = 40
"""Characters up to which a message shows a wrong value."""
OPENAI_FIELDS = (
    *("input", "model", "encoding_format", "dimensions", "user"),
    *("task", "prompt_name", "role", "truncate"),
)
TEI_FIELDS = (
    *("inputs", "truncate", "truncation_direction", "prompt_name", "normalize", "dimensions"),
    *("task", "role"),
)


@dataclass(frozen=True)
class EmbedRequest:
    """A request of either dialect. It is checked, except for what depends on the encoder.

    Attributes:
        texts: What to embed, at least one text.
        is_single: Whether the client gave one text and not a list.
        name, name_field: Task or prompt name, and the field that gave it.
        role: query or document.
        dimensions: Leading dimensions to keep; None for all.
        truncate: Cut texts that are too long; otherwise such a text refuses the request.
        direction: The end at which texts are cut; the tokenizer's own if None.
        as_base64: Vectors as base64 of little-endian float32.
        model: The name of a model.
    """

    texts: list[str]
    is_single: bool
    name: str | None = None
    name_field: str = "prompt_name"
    role: str | None = None
    dimensions: int | None = None
    truncate: bool = True
    direction: Direction | None = None
    as_base64: bool = False
    model: str | None = None


@dataclass(frozen=True)
class Dialect:
    """How one interface reads requests and writes answers and errors."""

    name: str
    read: Callable[[bytes, int], EmbedRequest]
    write: Callable[[FloatArray, EmbedRequest, str, int], bytes]
    refuse: Callable[[RefusedError], tuple[int, dict[str, Any]]]


def content_of(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """The fields of a body that is a JSON object. Raises `RefusedError` for any other, and for unknown fields."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        what = f"the body is not JSON: {error}" if body.strip() else "the body is empty: send a JSON object"
        raise RefusedError(Reason.NOT_JSON, what) from error
    if not isinstance(content, dict):
        raise RefusedError(Reason.MALFORMED, f"the body is {_kind(content)}: send a JSON object")
    if odd := [name for name in content if name not in known]:
        raise RefusedError(Reason.MALFORMED, f"unknown field {odd[0]!r:.60}{nearest(odd[0], known)}", field=odd[0][:60])
    return content


def read_openai(body: bytes, max_items: int) -> EmbedRequest:
    """Read the body of `POST /v1/embeddings`."""
    content = content_of(body, OPENAI_FIELDS)
    form = _of(content, "encoding_format", str)
    if form not in (None, "float", "base64"):
        raise RefusedError(
            Reason.MALFORMED, f"encoding_format is {form!r:.60}: give float or base64", field="encoding_format"
        )
    _of(content, "user", str)
    return _request(content, "input", max_items, as_base64=form == "base64", model=_of(content, "model", str))


def read_tei(body: bytes, max_items: int) -> EmbedRequest:
    """Read the body of `POST /embed`."""
    content = content_of(body, TEI_FIELDS)
    direction = _of(content, "truncation_direction", str)
    if direction is not None and direction.lower() not in ("left", "right"):
        raise RefusedError(
            Reason.MALFORMED,
            f"truncation_direction is {direction!r:.60}: give Left or Right",
            field="truncation_direction",
        )
    if _of(content, "normalize", bool) is False:
        raise RefusedError(
            Reason.MALFORMED,
            "normalize is false: unit length is a part of this encoder, so there are no other vectors; leave it out",
            field="normalize",
        )
    return _request(content, "inputs", max_items, direction=None if direction is None else direction.lower())


def _request(content: Mapping[str, Any], field: str, max_items: int, **own: Any) -> EmbedRequest:
    """A request from the fields that both dialects have, the texts in `field`, and its dialect's `own` values."""
    name, name_field = _name(content)
    texts, is_single = _texts(content, field, max_items)
    return EmbedRequest(
        texts,
        is_single,
        name,
        name_field,
        role=_of(content, "role", str),
        dimensions=_of(content, "dimensions", int),
        truncate=_of(content, "truncate", bool) is not False,
        **own,
    )


def _name(content: Mapping[str, Any]) -> tuple[str | None, str]:
    """Task or prompt name, and its field; the two are the same thing under two names."""
    task, name = _of(content, "task", str), _of(content, "prompt_name", str)
    if task is not None and name is not None and task != name:
        raise RefusedError(
            Reason.MALFORMED, f"task is {task!r:.60} and prompt_name is {name!r:.60}: give one", field="prompt_name"
        )
    return (name, "prompt_name") if task is None else (task, "task")


def _texts(content: Mapping[str, Any], field: str, max_items: int) -> tuple[list[str], bool]:
    """The texts, and whether it was one and not a list."""
    given = content.get(field)
    if given is None:
        raise RefusedError(Reason.MALFORMED, f"`{field}` is missing: give a text or a list of texts", field=field)
    is_single = isinstance(given, str)
    texts = [given] if is_single else given
    if not isinstance(texts, list):
        raise RefusedError(
            Reason.MALFORMED, f"`{field}` is {_kind(given)}: give a text or a list of texts", field=field
        )
    if not texts:
        raise RefusedError(Reason.EMPTY, f"`{field}` cannot be empty", field=field)
    if len(texts) > max_items:
        raise RefusedError(
            Reason.TOO_MANY_ITEMS,
            f"batch size {len(texts)} > maximum allowed batch size {max_items}: send several requests",
            field=field,
        )
    for at, text in enumerate(texts):
        _check_text(text, field if is_single else f"{field}[{at}]", field)
    return texts, is_single


def _check_text(text: Any, name: str, field: str) -> None:
    if not isinstance(text, str):
        if isinstance(text, int | list):
            raise RefusedError(
                Reason.MALFORMED,
                f"`{name}` is {_kind(text)}: send texts. Token ids are refused, because most clients make them with "
                "another model's tokenizer (in LangChain, set check_embedding_ctx_length=False)",
                field=field,
            )
        raise RefusedError(Reason.MALFORMED, f"`{name}` is {_kind(text)}: give a text", field=field)
    if not text:
        raise RefusedError(Reason.EMPTY, f"`{name}` cannot be empty", field=field)
    if is_blank(text):
        raise RefusedError(
            Reason.EMPTY,
            f"`{name}` cannot be empty: it has only white space or characters without a glyph",
            field=field,
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RefusedError(
                Reason.MALFORMED, f"`{name}` has half of a surrogate pair at character {error.start}", field=field
            ) from error


def _of(content: Mapping[str, Any], field: str, kind: type) -> Any:
    """An optional field of a type; None if it is missing or null."""
    value = content.get(field)
    if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    wanted = {str: "a text", int: "a whole number", bool: "true or false"}[kind]
    raise RefusedError(Reason.MALFORMED, f"`{field}` is {_kind(value)}: give {wanted}", field=field)


def _kind(value: Any) -> str:
    """A JSON value in words: itself if it is short, otherwise what it is."""
    if not isinstance(value, list | dict) and len(text := json.dumps(value, ensure_ascii=False)) <= SHOWN:
        return text
    names = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names[type(value)]


def write_openai(vectors_TD: FloatArray, request: EmbedRequest, model: str, num_tokens: int) -> bytes:
    """The body of an answer of `POST /v1/embeddings`."""
    rows = _base64_rows(vectors_TD) if request.as_base64 else _float_rows(vectors_TD)
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, row) for index, row in enumerate(rows)
    )
    return b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        *(data, json.dumps(model).encode()),
        *(num_tokens, num_tokens),
    )


def write_tei(vectors_TD: FloatArray, request: EmbedRequest, model: str, num_tokens: int) -> bytes:  # noqa: ARG001
    """The body of an answer of `POST /embed`: a list of vectors, also for one text."""
    return b"[%b]" % b",".join(_float_rows(vectors_TD))


def _float_rows(vectors_TD: FloatArray) -> Iterable[bytes]:
    """Each vector as a JSON list. Nine digits give every float32 back, in half the time of Python's own `repr`."""
    row = b"[%b]" % b",".join([b"%.9g"] * vectors_TD.shape[1])
    return (row % tuple(vector) for vector in vectors_TD.tolist())


def _base64_rows(vectors_TD: FloatArray) -> Iterable[bytes]:
    return (b'"%b"' % base64.b64encode(vector) for vector in np.ascontiguousarray(vectors_TD, dtype="<f4"))


OPENAI_ERRORS: dict[Reason, tuple[int, str, str | int | None]] = {
    Reason.NOT_JSON: (400, INVALID, None),
    Reason.MALFORMED: (400, INVALID, None),
    Reason.EMPTY: (400, INVALID, None),
    Reason.DIMENSIONS: (400, "BadRequestError", 400),
    Reason.TOO_LONG: (400, INVALID, "context_length_exceeded"),
    Reason.NO_KEY: (401, INVALID, "invalid_api_key"),
    Reason.NO_MODEL: (404, INVALID, "model_not_found"),
    Reason.NO_ROUTE: (404, INVALID, "unknown_url"),
    Reason.NO_METHOD: (405, INVALID, "method_not_supported"),
    Reason.TOO_MANY_BYTES: (413, INVALID, "request_too_large"),
    Reason.TOO_MANY_ITEMS: (413, INVALID, "request_too_large"),
    Reason.ENCODED: (415, INVALID, "unsupported_content_encoding"),
    Reason.LEFT: (499, INVALID, "client_closed_request"),
    Reason.OVERLOADED: (429, "rate_limit_error", "rate_limit_exceeded"),
    Reason.BACKEND: (500, "server_error", "internal_error"),
    Reason.UNHEALTHY: (503, "server_error", "unavailable"),
}
"""Status, type and code. The type and code of `DIMENSIONS` are vLLM's, all others OpenAI's."""
TEI_ERRORS: dict[Reason, tuple[int, str]] = {
    Reason.NOT_JSON: (400, "Validation"),
    Reason.MALFORMED: (422, "Validation"),
    Reason.EMPTY: (400, "Empty"),
    Reason.DIMENSIONS: (422, "Validation"),
    Reason.TOO_LONG: (422, "Validation"),
    Reason.NO_KEY: (401, "Unauthorized"),
    Reason.NO_MODEL: (404, "Validation"),
    Reason.NO_ROUTE: (404, "NotFound"),
    Reason.NO_METHOD: (405, "NotFound"),
    Reason.TOO_MANY_BYTES: (413, "Validation"),
    Reason.TOO_MANY_ITEMS: (413, "Validation"),
    Reason.ENCODED: (415, "Validation"),
    Reason.LEFT: (499, "Validation"),
    Reason.OVERLOADED: (429, "Overloaded"),
    Reason.BACKEND: (424, "Backend"),
    Reason.UNHEALTHY: (503, "Unhealthy"),
}
"""Status and type; TEI itself has no type for a missing key, route or method. Nobody receives the answer to a client
that has left."""


def refuse_openai(error: RefusedError) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal."""
    status, kind, code = OPENAI_ERRORS[error.reason]
    return status, {"error": {"message": error.message, "type": kind, "param": error.field, "code": code}}


def refuse_tei(error: RefusedError) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal."""
    status, kind = TEI_ERRORS[error.reason]
    return status, {"error": error.message, "error_type": kind}


OPENAI = Dialect("openai", read_openai, write_openai, refuse_openai)
TEI = Dialect("tei", read_tei, write_tei, refuse_tei)


def dialect_of(path: str) -> Dialect:
    """The dialect of a route, whether or not it exists."""
    return OPENAI if path.startswith("/v1") else TEI
