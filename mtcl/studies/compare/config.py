"""What `mtcl compare` compares, as its YAML file gives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.errors import ConfigError


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder: exactly one of `run`, `model` and `endpoint`.

    Attributes:
        run: A run folder of mtcl (its best checkpoint) or a .ckpt file.
        model: A Hugging Face or sentence-transformers model: a folder or a name on the Hub.
        endpoint: The name of a model behind an embedding endpoint of OpenAI's interface.
        base_url: Where the endpoint is; OpenAI's own if null.
        api_key_env: The environment variable that holds its key.
        dimensions: Ask the endpoint for so many dimensions; its own number if null.
        batch_size: Texts a request or forward.
        requests_per_minute: Pace of requests to the endpoint; as fast as it answers if null.
        timeout_s: Seconds to wait for an answer.
        max_retries: Times that a request is repeated after a time-out, a refusal for its pace or a fault of the server.
        prefix: Put before every text, for models that were trained with one.
        max_characters: Cut longer texts: endpoints refuse what their model cannot read, where local encoders cut it.
    """

    run: str | None = None
    model: str | None = None
    endpoint: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: int | None = None
    batch_size: int = 128
    requests_per_minute: float | None = None
    timeout_s: float = 60
    max_retries: int = 6
    prefix: str = ""
    max_characters: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("run", "model", "endpoint") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError(f"an encoder has {given or 'none of run, model, endpoint'}: give one of the three")
        if self.batch_size < 1 or (self.requests_per_minute is not None and self.requests_per_minute <= 0):
            raise ConfigError(
                f"{self.run or self.model or self.endpoint}: give positive batch_size and requests_per_minute"
            )
        if self.max_characters is not None and self.max_characters < 1:
            raise ConfigError(f"max_characters is {self.max_characters}: give at least 1, or null to cut nothing")

    def as_sent(self, text: str, prompt: str = "") -> str:
        """The text as the encoder gets it."""
        return (self.prefix + prompt + text)[: self.max_characters]


@dataclass(frozen=True)
class CompareConfig:
    """A comparison of encoders.

    Attributes:
        tasks: Names of tasks.
        encoders: Encoders by the name they have in the table; the first is the one others are compared with.
        dims: Dimensions to evaluate at, by cutting longer vectors; each encoder's own number is always among them.
        split: test or validation.
        root: Folder of the data; the environment's MTCL_DATA if null.
        tasks_dir: More folders of task files, beside ./tasks and MTCL_TASKS_DIR.
        cache: Folder of stores and of vectors from endpoints; MTCL_CACHE or ~/.cache/mtcl if null.
        tokenizer: Model whose tokenizer counts what is sent to endpoints.
        max_tokens: Refuse to send more tokens than this to endpoints.
    """

    tasks: list[str]
    encoders: dict[str, EncoderSpec]
    dims: list[int] = field(default_factory=list)
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
