"""The configuration of `mtcl compare`, given as a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from mtcl.data.store import TokenStore
from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.errors import ConfigError, nearest
from mtcl.task.prompt import NO_PROMPT, Prompt

PRECISIONS = ("bf16-mixed", "32-true")
OF_ENDPOINTS = {
    "base_url",
    "api_key_env",
    "dimensions",
    "batch_size",
    "requests_per_minute",
    "timeout_s",
    "max_retries",
}
"""Options that an encoder on this machine does not use."""


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder: exactly one of `run`, `model` and `endpoint`.

    Attributes:
        run: A run folder of mtcl (its best checkpoint) or a .ckpt file. A list has runs of one recipe with different
            seeds; the intervals then cover the seeds.
        model: A Hugging Face or sentence-transformers model, or an exported run: a folder or a name on the Hub.
        endpoint: The name of a model behind an OpenAI-compatible embedding endpoint.
        base_url: URL of the endpoint; OpenAI's own if null.
        api_key_env: The environment variable with the API key.
        dimensions: Number of dimensions to request from the endpoint; the model's own number if null.
        batch_size: Texts per request to the endpoint.
        requests_per_minute: Maximum rate of requests to the endpoint; unlimited if null.
        timeout_s: Seconds to wait for an answer.
        max_retries: How often to repeat a request after a time-out, a rate limit or a server error.
        prompt: Put before every text: one text, or {query: ..., document: ...}. Null takes a run's own prompts or
            what a model declares, and nothing for an endpoint.
        max_characters: Cut longer texts: endpoints reject texts that are too long, while local encoders truncate them.
    """

    run: str | list[str] | None = None
    model: str | None = None
    endpoint: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: int | None = None
    batch_size: int = 128
    requests_per_minute: float | None = None
    timeout_s: float = 60
    max_retries: int = 6
    prompt: str | dict[str, str] | None = None
    max_characters: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("run", "model", "endpoint") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError(f"an encoder has {given or 'none of run, model, endpoint'}: give one of the three")
        for one in fields(self):
            if not self.endpoint and one.name in OF_ENDPOINTS and getattr(self, one.name) != one.default:
                raise ConfigError(
                    f"{one.name} has no effect on {self.run or self.model}: it is an option of an endpoint"
                )
        if self.batch_size < 1 or (self.requests_per_minute is not None and self.requests_per_minute <= 0):
            raise ConfigError(f"{self.endpoint}: give positive batch_size and requests_per_minute")
        if self.prompt is not None:
            Prompt.of(self.prompt)
        if self.max_characters is not None and self.max_characters < 1:
            raise ConfigError(f"max_characters is {self.max_characters}: give at least 1, or null to cut nothing")

    @property
    def runs(self) -> list[str]:
        """The runs, one per seed."""
        return [self.run] if isinstance(self.run, str) else list(self.run or ())

    def as_sent(self, store: TokenStore, prompt: Prompt = NO_PROMPT) -> list[str]:
        """The texts of a store as they are sent to the encoder, after `prompt` or the configured one."""
        prompt = prompt if self.prompt is None else Prompt.of(self.prompt)
        sides = np.asarray(store.sides).tolist()
        texts = zip(store.pairs.texts.to_pylist(), sides, strict=True)
        return [(prompt[side] + text)[: self.max_characters] for text, side in texts]


@dataclass(frozen=True)
class CompareConfig:
    """A comparison of encoders.

    Attributes:
        tasks: Names of tasks.
        encoders: Encoders by their name in the table; the others are compared with the first one.
        groups: Tasks by the name of their group, which has a mean of its own. With two groups, such as trained and
            unseen tasks, the gains of one are also drawn against those of the other.
        differences: More pairs of encoders to compare, such as [[joint, single]]: the first minus the second.
        dims: Dimensions to evaluate at, by cutting longer vectors; each encoder's full size is always included.
        split: test or validation.
        rows: Take this many rows of each split, the first ones; all if null. A corpus is searched whole.
        precision: bf16-mixed or 32-true for runs and models; bf16-mixed if null and the hardware has it.
        root: Folder of the data; MTCL_DATA if null.
        tasks_dir: Additional folders of task files, besides ./tasks and MTCL_TASKS_DIR.
        cache: Folder for stores and vectors; MTCL_CACHE or ~/.cache/mtcl if null.
        tokenizer: Model whose tokenizer counts the tokens sent to endpoints.
        max_tokens: Stop with an error instead of sending more tokens than this to endpoints.
    """

    tasks: list[str]
    encoders: dict[str, EncoderSpec]
    groups: dict[str, list[str]] = field(default_factory=dict)
    differences: list[list[str]] = field(default_factory=list)
    dims: list[int] = field(default_factory=list)
    rows: int | None = None
    precision: str | None = None
    split: str = "test"
    root: str | None = None
    tasks_dir: str | None = None
    cache: str | None = None
    tokenizer: str = DEFAULT_MODEL
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.tasks or not self.encoders:
            raise ConfigError("a comparison needs tasks and encoders: give at least one of each")
        if self.split not in ("test", "validation"):
            raise ConfigError(f"split is {self.split!r}: give test or validation")
        if wrong := [dim for dim in self.dims if dim < 1]:
            raise ConfigError(f"dims has {wrong[0]}: give positive numbers of dimensions")
        if self.rows is not None and self.rows < 2:
            raise ConfigError(f"rows is {self.rows}: give at least 2, or null for all")
        if self.precision not in (None, *PRECISIONS):
            raise ConfigError(f"precision is {self.precision!r}: give {' or '.join(PRECISIONS)}, or null")
        for group, tasks in self.groups.items():
            if odd := [name for name in tasks if name not in self.tasks]:
                raise ConfigError(f"groups.{group} has {odd[0]!r}, which is not in tasks{nearest(odd[0], self.tasks)}")
            if not tasks:
                raise ConfigError(f"groups.{group} is empty: give at least one task")
        for pair in self.differences:
            if len(pair) != 2 or (odd := [name for name in pair if name not in self.encoders]):
                hint = nearest(odd[0], self.encoders) if len(pair) == 2 else ""
                raise ConfigError(f"differences has {pair}: give pairs of names of encoders{hint}")
