"""Strict readers of an exported folder, after the code of text-embeddings-inference and of vLLM.

Each takes only the files that the server reads, refuses what it refuses, and leaves out what it leaves out; so a folder
that gives the right vectors here gives them there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

LEGACY = {f"sentence_transformers.models.{name}" for name in ("Dense", "Normalize", "Pooling", "Transformer")}
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": torch.tanh,
    "torch.nn.modules.linear.Identity": lambda values: values,
}


def typed(among: dict[str, Any], name: str, kind: type) -> Any:
    """A mandatory field, as serde reads it."""
    assert type(among[name]) is kind, f"Failed to parse: {name} is {among[name]!r}"
    return among[name]


class Reader:
    """What both have in common: the root's model, a pooling, dense layers, unit length."""

    pooling: str
    dense: list[Path]
    max_length: int

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self.read("config.json")
        self.model: Any = transformers.AutoModel.from_pretrained(folder).eval()

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def tokens(self, text: str) -> list[int]:
        raise NotImplementedError

    def encode(self, texts: list[str], dimensions: int | None = None) -> Tensor:
        """Text by text, without padding, as both servers do."""
        found = []
        for text in texts:
            with torch.no_grad():
                (states,) = self.model(input_ids=torch.tensor([self.tokens(text)])).last_hidden_state
            vector = {"mean": states.mean(dim=0), "cls": states[0], "lasttoken": states[-1]}[self.pooling]
            for folder in self.dense:
                vector = self.through(folder, vector)
            found.append(F.normalize(vector[:dimensions], dim=-1))
        return torch.stack(found)

    def through(self, folder: Path, vector: Tensor) -> Tensor:
        config, state = self.read(f"{folder}/config.json"), load_file(self.folder / folder / "model.safetensors")
        weight, bias = state["linear.weight"], state["linear.bias"] if typed(config, "bias", bool) else None
        assert weight.shape == (typed(config, "out_features", int), typed(config, "in_features", int))
        return ACTIVATIONS[config["activation_function"]](F.linear(vector, weight, bias))


class TextEmbeddingsInference(Reader):
    """TEI: `router/src/lib.rs` and `backends/src/lib.rs`. It reads `tokenizer.json` alone, and any dimension."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        typed(self.config, "architectures", list)
        typed(self.config, "model_type", str)
        typed(self.config, "max_position_embeddings", int)
        pooling = self.read("1_Pooling/config.json")
        is_cls, is_mean = (typed(pooling, f"pooling_mode_{name}", bool) for name in ("cls_token", "mean_tokens"))
        for name in ("max_tokens", "mean_sqrt_len_tokens"):
            typed(pooling, f"pooling_mode_{name}", bool)
        assert is_cls or is_mean, "Pooling config is not supported"
        self.pooling = "cls" if is_cls else "mean"
        self.max_length = typed(self.read("sentence_bert_config.json"), "max_seq_length", int)
        modules = self.read("modules.json")
        for module in modules:
            typed(module, "idx", int), typed(module, "name", str), typed(module, "path", str)
            assert module["type"] in LEGACY, "parsing the modules failed; so no Dense modules will be downloaded"
        self.dense = [Path(module["path"]) for module in modules if module["type"].endswith(".Dense")]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)


class Vllm(Reader):
    """vLLM: `transformers_utils/config.py` and `model_executor/models/adapters.py`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        modules = self.read("modules.json")
        self.dense = [Path(m["path"]) for m in modules if m["type"] == "sentence_transformers.models.Dense"]
        assert any(m["type"] == "sentence_transformers.models.Normalize" for m in modules)
        (path,) = (m["path"] for m in modules if m["type"] == "sentence_transformers.models.Pooling")
        names = [
            name.removeprefix("pooling_mode_")
            for name, value in self.read(f"{path}/config.json").items()
            if name.startswith("pooling_mode_") and value is True
        ]
        self.pooling = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "lasttoken"}[names[0]]
        about = self.read("sentence_bert_config.json")
        assert {"max_seq_length", "do_lower_case"} <= set(about), "otherwise the file is ignored"
        self.max_length, self.lower_case = about["max_seq_length"], about["do_lower_case"]
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def tokens(self, text: str) -> list[int]:
        text = text.lower() if self.lower_case else text
        return list(self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"])

    def encode(self, texts: list[str], dimensions: int | None = None) -> Tensor:
        if dimensions is not None and dimensions not in self.config.get("matryoshka_dimensions", []):
            raise ValueError(f"the model does not support {dimensions} dimensions")
        return super().encode(texts, dimensions)
