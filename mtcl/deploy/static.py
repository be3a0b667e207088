"""An encoder as a table of token vectors, sentence-transformers' `StaticEmbedding`: much faster, less exact.

Each token of the vocabulary goes through the whole encoder between the special tokens, so the table has the task's head
or the run's projection inside. A text's vector is the mean of its tokens' vectors. Three things make that mean useful
(docs/log.md has the effect of each):

- the mean of the table is subtracted, because all vectors of an encoder have a large common part;
- directions of large variance are shrunk, each by the square root of its standard deviation;
- frequent tokens say little, so a token of frequency p is weighted by a / (a + p) (SIF: Arora et al. 2017, "A simple
  but tough-to-beat baseline"). A Unigram tokenizer knows p; otherwise it follows from the vocabulary's order by Zipf's
  law.

These vectors can be compared only with each other, since they are in a space of their own. Heads of tasks do not fit
them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mtcl.arrays import Ragged
from mtcl.console import track
from mtcl.encoder.layout import list_modules, write_json
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError

FOLDER = Path("static")
SMOOTHING = 1e-5
"""a in a / (a + p)."""
SMALLEST = 1e-6
"""Directions with less than this share of the largest variance are not enlarged further."""
TOKENS_AT_ONCE = 8192


def check(encoder: TextEncoder) -> None:
    """Raise `ConfigError` for a tokenizer that has no `tokenizer.json`."""
    if not encoder.tokenizer.backend.is_fast:
        raise ConfigError(
            f"--static needs a fast tokenizer, found {type(encoder.tokenizer.backend).__name__}: leave --static out"
        )


def write_static(folder: Path) -> None:
    """Write the table of the model in `folder` into its sub-folder `static`."""
    from safetensors.torch import save_file

    model = TextEncoder.base({"name": str(folder)})
    check(model)
    place = folder / FOLDER
    place.mkdir()
    tokenizer: Any = model.tokenizer.backend
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    fast.save(str(place / "tokenizer.json"))
    save_file({"embedding.weight": table(model)}, place / "model.safetensors")
    list_modules(place, [("", "StaticEmbedding"), ("1_Normalize", "Normalize")])
    write_json(place / "1_Normalize" / "config.json", {})
    about: dict[str, Any] = {
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    write_json(place / "config_sentence_transformers.json", about)


def table(model: TextEncoder) -> Tensor:
    """(V, D) weighted vectors of the vocabulary; zeros for special tokens, which carry no meaning."""
    vectors_VD = token_vectors(model)
    vectors_VD = half_whitened(vectors_VD, vectors_VD.norm(dim=1) > 0)
    weights_V = torch.from_numpy(SMOOTHING / (SMOOTHING + frequencies(model, len(vectors_VD)))).float()
    return (vectors_VD * weights_V[:, None]).contiguous()


def half_whitened(vectors_VD: Tensor, used_V: Tensor) -> Tensor:
    """The used rows minus their mean, each direction divided by the square root of its standard deviation."""
    centred_ND = vectors_VD[used_V] - vectors_VD[used_V].mean(dim=0)
    variances_D, directions_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    shrunk_D = (variances_D / variances_D[-1]).clamp(min=SMALLEST).pow(-0.25)
    found_VD = torch.zeros_like(vectors_VD)
    found_VD[used_V] = centred_ND @ (directions_DD * shrunk_D) @ directions_DD.T
    return found_VD


def token_vectors(model: TextEncoder) -> Tensor:
    """(V, D) unit vectors of the vocabulary; zeros for special tokens."""
    backend: Any = model.tokenizer.backend
    size = max(backend.get_vocab().values()) + 1
    before, after = _around(backend)
    ids = np.array(sorted(set(backend.get_vocab().values()) - set(backend.all_special_ids)))
    parts = []
    for start in track(range(0, len(ids), TOKENS_AT_ONCE), "static"):
        some = ids[start : start + TOKENS_AT_ONCE]
        rows = np.hstack([np.tile(before, (len(some), 1)), some[:, None], np.tile(after, (len(some), 1))])
        offsets = np.arange(len(some) + 1) * rows.shape[1]
        parts.append(model.embed(Ragged(offsets, rows.reshape(-1).astype(np.int64))))
    found_VD = torch.zeros(size, model.dim)
    found_VD[torch.from_numpy(ids)] = torch.cat(parts)
    return found_VD


def _around(backend: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    bare, whole = (backend("a", add_special_tokens=with_them)["input_ids"] for with_them in (False, True))
    places = range(len(whole) - len(bare) + 1)
    start = next((place for place in places if whole[place : place + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


def frequencies(model: TextEncoder, size: int) -> npt.NDArray[np.float64]:
    """(V,) shares of the tokens in texts, as the tokenizer knows them, or by Zipf's law of its order."""
    backend: Any = model.tokenizer.backend
    own = json.loads(backend.backend_tokenizer.to_str())["model"]
    found, special = np.zeros(size), set(backend.all_special_ids)
    if own.get("type") == "Unigram":
        scores = np.array([score for _, score in own["vocab"]], dtype=np.float64)
        found[: len(scores)] = np.exp(scores)
        found[list(special)] = 0  # their score is 0, which would be all of the tokens
    else:
        ids = np.array([i for i in range(size) if i not in special])
        found[ids] = 1 / np.arange(1, len(ids) + 1)
    found /= found.sum()
    return found


class Static:
    """Embeds texts with a folder's table, as sentence-transformers does."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self.weight_VD = load_file(folder / "model.safetensors")["embedding.weight"]
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def embed(self, texts: list[str]) -> Tensor:
        """(T, D) unit vectors of texts without prompts."""
        found = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = torch.tensor([i for one in found for i in one.ids], dtype=torch.long)
        starts = torch.tensor(np.cumsum([0, *(len(one.ids) for one in found[:-1])]))
        return F.normalize(F.embedding_bag(ids, self.weight_VD, starts, mode="mean"), dim=-1)
