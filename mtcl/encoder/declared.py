"""What a model's folder declares about its use: pooling, layers after it, prompts, maximum length, tokenizer options.

Models are trained with these settings and give wrong vectors with others. sentence-transformers keeps them in
`modules.json`, `config_sentence_transformers.json`, `sentence_bert_config.json` and one folder per module. Its
versions 2 to 6 are read, which write two forms of a pooling. Declared modules that mtcl does not support are refused by
name. A folder without these files is treated as sentence-transformers does: mean pooling, or the last token's state for
a causal decoder.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mtcl.encoder.config import Pooling
from mtcl.errors import ConfigError
from mtcl.task.prompt import NO_PROMPT, Prompt

log = logging.getLogger("mtcl")
POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "sqrt_mean",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
"""sentence-transformers' names -> mtcl's, in the order in which several poolings are concatenated."""
AS_BOOLEANS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The older form of a pooling: a boolean for each."""
LAYERS = ("Dense", "LayerNorm", "Dropout", "Normalize")
DOCUMENT = ("document", "passage", "corpus")
"""Names of the document's prompt; the first that a model has is used, as in sentence-transformers."""
TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
ARGUMENTS = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}
"""Arguments of transformers' loaders, by their present and their earlier names."""
OURS = {"dtype", "torch_dtype", "attn_implementation", "add_pooling_layer", "use_safetensors", "device_map"}
"""Arguments for loading a model that mtcl sets itself."""


@dataclass(frozen=True)
class Layer:
    """A module after the pooling: its class (one of `LAYERS`), its folder and its options."""

    kind: str
    folder: Path
    options: dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """How a model is to be used.

    Attributes:
        folder: The folder of the transformer and its tokenizer.
        pooling: The poolings whose results are concatenated.
        layers: The modules after the pooling, in order.
        max_length: Tokens a text is cut to; None if the folder does not say.
        prompt: The prompts of queries and documents.
        pools_prompt: Whether a prompt's tokens take part in the pooling.
        lower_case: Whether texts are turned to lower case first.
        truncate_dim: Leading dimensions of the vectors to keep; None for all.
        vocab_size: Tokens that the model has a vector for; None if the folder does not say.
        config_options, tokenizer_options: Options that differ from those in the files of transformers.
    """

    folder: Path
    pooling: tuple[Pooling, ...] = ("mean",)
    layers: tuple[Layer, ...] = ()
    max_length: int | None = None
    prompt: Prompt = NO_PROMPT
    pools_prompt: bool = True
    lower_case: bool = False
    truncate_dim: int | None = None
    vocab_size: int | None = None
    config_options: dict[str, Any] = field(default_factory=dict)
    tokenizer_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, name: str = "") -> Declared:
        """Read a model's folder.

        Raises `ConfigError`, which calls the model `name`, for what cannot be applied and for malformed files.
        """
        name = name or str(folder)
        try:
            return _Reader(folder, name).read()
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise ConfigError(f"model {name!r}: its sentence-transformers files are malformed ({error})") from error


@dataclass(frozen=True)
class _Reader:
    folder: Path
    name: str

    def refuse(self, what: str) -> NoReturn:
        raise ConfigError(f"model {self.name!r} {what}, which mtcl cannot apply: give another model")

    def load(self, path: Path, kind: type = dict) -> Any:
        """A JSON file's content; empty if there is no such file."""
        if not path.is_file():
            return kind()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"model {self.name!r}: {path} is not readable as JSON ({error})") from error
        if not isinstance(content, kind):
            raise ConfigError(f"model {self.name!r}: {path} holds {content!r:.60}: a {kind.__name__} is expected")
        return content

    def read(self) -> Declared:
        modules = self.load(self.folder / "modules.json", list)
        if not modules:
            return self._plain()
        for module in modules:
            if not isinstance(module, dict) or not all(isinstance(module.get(key), str) for key in ("path", "type")):
                raise ConfigError(f"model {self.name!r}: modules.json has {module!r:.60}: path and type are expected")
        kinds = [self._kind(module["type"]) for module in modules]
        folders = [self.folder / module["path"] for module in modules]
        if kinds[0] != "Transformer":
            self.refuse(f"begins with a module {kinds[0]}")
        if kinds[1:2] != ["Pooling"]:
            self.refuse(f"has {f'a module {kinds[1]}' if kinds[1:] else 'no module'} after its transformer")
        if odd := [kind for kind in kinds[2:] if kind not in LAYERS]:
            self.refuse(f"has a module {odd[0]} after its pooling")
        pooling, pools_prompt = self._pooling(folders[1])
        own = self.load(self.folder / "config_sentence_transformers.json")
        layers = tuple(self._layer(*each) for each in zip(kinds[2:], folders[2:], strict=True))
        self._check_similarity(own, layers)
        return Declared(
            folder=folders[0],
            pooling=pooling,
            layers=layers,
            prompt=self._prompt(own),
            pools_prompt=pools_prompt,
            truncate_dim=self._size(own, "truncate_dim"),
            **self._transformer(folders[0]),
        )

    def _plain(self) -> Declared:
        """A folder without `modules.json`; a pooling file in it is used."""
        if (self.folder / "1_Pooling" / "config.json").is_file():
            pooling, pools_prompt = self._pooling(self.folder / "1_Pooling")
            return Declared(self.folder, pooling, pools_prompt=pools_prompt, **self._transformer(self.folder))
        config = self.load(self.folder / "config.json")
        architecture = str((config.get("architectures") or [""])[0])
        is_causal = architecture.endswith("ForCausalLM") and config.get("is_causal", True)
        return Declared(self.folder, ("last",) if is_causal else ("mean",), **self._transformer(self.folder))

    def _kind(self, path: str) -> str:
        if not path.startswith("sentence_transformers."):
            self.refuse(f"has a module of its own code ({path})")
        return path.rpartition(".")[2]

    def _pooling(self, folder: Path) -> tuple[tuple[Pooling, ...], bool]:
        found = self.load(folder / "config.json")
        names = found.get("pooling_mode")
        if names is None:
            names = [name for key, name in AS_BOOLEANS.items() if found.get(key)] or ["mean"]
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not names or (odd := [name for name in names if str(name) not in POOLINGS]):
            self.refuse(f"declares the pooling {odd[0] if isinstance(names, list) and names else names!r}")
        return tuple(POOLINGS[name] for name in names), bool(found.get("include_prompt", True))

    def _layer(self, kind: str, folder: Path) -> Layer:
        options = self.load(folder / "config.json")
        for key in ("module_input_name", "module_output_name"):
            if options.get(key) not in (None, "sentence_embedding"):
                self.refuse(f"applies a module {kind} to its {options[key]}")
        return Layer(kind, folder, options)

    def _prompt(self, own: dict[str, Any]) -> Prompt:
        """The prompts of both sides; the default one where a side has none of its own.

        sentence-transformers saves an empty prompt for a side that had none, so empty ones count as absent.
        """
        prompts = own.get("prompts") or {}
        if not isinstance(prompts, dict):
            raise ConfigError(f"model {self.name!r} declares the prompts {prompts!r:.60}: names to texts are expected")
        default = prompts.get(own.get("default_prompt_name")) or ""

        def first(*names: str) -> str:
            return next((str(prompts[name]) for name in names if prompts.get(name)), default)

        return Prompt(first("query"), first(*DOCUMENT))

    def _transformer(self, folder: Path) -> dict[str, Any]:
        files = [folder / name for name in TRANSFORMER_FILES if (folder / name).is_file()]
        own = self.load(files[0]) if files else {}
        if own.get("transformer_task", "feature-extraction") != "feature-extraction":
            self.refuse(f"is a model for {own['transformer_task']}")
        output = (own.get("modality_config") or {}).get("text", {}).get("method_output_name", "last_hidden_state")
        if output not in ("last_hidden_state", ["last_hidden_state"]):
            self.refuse(f"takes {output} from its transformer")
        if asked := [key for key in ("query_expansion", "query_length", "document_length") if own.get(key)]:
            self.refuse(f"declares {asked[0]} {own[asked[0]]!r:.40}")
        options = {new: own.get(new) or own.get(old) or {} for new, old in ARGUMENTS.items()}
        if odd := sorted(set(options["model_kwargs"]) - OURS - {"trust_remote_code"}):
            self.refuse(f"is loaded with {odd[0]}={options['model_kwargs'][odd[0]]!r:.40}")
        tokenizer = {k: v for k, v in options["processor_kwargs"].items() if k != "trust_remote_code"}
        return {
            "max_length": self._size(own, "max_seq_length") or self._size(tokenizer, "model_max_length"),
            "lower_case": bool(own.get("do_lower_case", False)),
            "vocab_size": self._size(self.load(folder / "config.json"), "vocab_size"),
            "config_options": {k: v for k, v in options["config_kwargs"].items() if k != "trust_remote_code"},
            "tokenizer_options": tokenizer,
        }

    def _size(self, among: dict[str, Any], key: str) -> int | None:
        """A positive number, or None."""
        found = among.get(key)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
            raise ConfigError(f"model {self.name!r} declares {key} {found!r:.40}: a positive number is expected")
        return found

    def _check_similarity(self, own: dict[str, Any], layers: tuple[Layer, ...]) -> None:
        similarity = own.get("similarity_fn_name")
        if similarity not in (None, "cosine") and (not layers or layers[-1].kind != "Normalize"):
            log.warning(
                "model %r declares the similarity %r; mtcl compares vectors of unit length (cosine)",
                self.name,
                similarity,
            )
