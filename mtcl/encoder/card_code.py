"""The code blocks of a model card: how to embed a query and a document with each library.

Each runs unchanged in the parent of the exported folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtcl.encoder.config import Pooling
from mtcl.encoder.exported import Exported
from mtcl.encoder.parts import EncoderParts
from mtcl.encoder.stages import IDENTITY, ORDER, LayerNorm, Linear, Step, UnitLength
from mtcl.task.prompt import Prompt

EXAMPLE = ("How do I learn to cook?", "Ten recipes for beginners.")
"""A query and a document."""
POOLED: dict[Pooling, str] = {
    "mean": "(states * mask).sum(dim=1) / mask.sum(dim=1)",
    "cls": "states[:, 0]",
    "last": 'states[torch.arange(len(states)), batch["attention_mask"].sum(dim=1) - 1]',
    "max": 'states.masked_fill(mask == 0, float("-inf")).amax(dim=1)',
    "weighted_mean": "(states * (mask.cumsum(dim=1) * mask)).sum(dim=1) / (mask.cumsum(dim=1) * mask).sum(dim=1)",
    "sqrt_mean": "(states * mask).sum(dim=1) / mask.sum(dim=1).sqrt()",
}
"""Code of each pooling on right-padded `states` (n, L, H) and `mask` (n, L, 1)."""


@dataclass(frozen=True)
class Forms:
    """What a folder holds besides the layout: paths in it, and the table of `mtcl export --check` with its heading."""

    onnx: Path | None = None
    quantized: Sequence[Path] = ()
    static: Path | None = None
    has_token_types: bool = False
    costs: str = ""


@dataclass(frozen=True)
class Example:
    """What the card's code encodes: two texts of `task`, or of no particular one, with the model in the folder `name`.

    `max_length` is the task's, if it is not the folder's.
    """

    name: str
    task: str | None
    prompt: Prompt
    max_length: int | None

    @property
    def texts(self) -> list[str]:
        """A query and a document with their prompts."""
        return [self.prompt.query + EXAMPLE[0], self.prompt.document + EXAMPLE[1]]

    @property
    def cut(self) -> str:
        """An argument of a tokenizer."""
        return "" if self.max_length is None else f"max_length={self.max_length}, "


def code_blocks(exported: Exported, name: str, forms: Forms) -> Iterable[str]:
    """The blocks for the folder called `name`, each with a heading."""
    encoder, known = exported.encoder, exported.tasks
    task = exported.task or next((n for n, p in encoder.prompts.items() if n in known and p.differs), None)
    prompt = exported.prompt if task is None else encoder.prompts[task]
    length = None if task is None else encoder.lengths.get(task)
    shown = Example(
        name,
        None if exported.task is not None else task,
        prompt,
        None if length == exported.max_length else length,
    )
    yield _block("mtcl", _by_mtcl(shown))
    yield _block("sentence-transformers", _by_sentence_transformers(shown))
    yield _block("transformers", _by_hand(encoder, exported.stages, shown))
    if forms.onnx is not None:
        yield _block("onnxruntime", _by_onnxruntime(shown, forms))
    if forms.static is not None:
        yield _block(
            "sentence-transformers, as a table of token vectors (much faster, less exact)",
            "from sentence_transformers import SentenceTransformer\n\n"
            f'model = SentenceTransformer("{name}/{forms.static}")\n'
            f"vectors = model.encode({list(EXAMPLE)})  # no prompts",
        )


def _block(title: str, code: str) -> str:
    return f"With {title}:\n\n```python\n{code}\n```"


def _by_mtcl(shown: Example) -> str:
    chosen = f', task="{shown.task}"' if shown.task else ""
    return f"""from mtcl import TextEncoder

encoder = TextEncoder.load("{shown.name}")
query = encoder.encode({EXAMPLE[0]!r}{chosen}, role="query")
documents = encoder.encode([{EXAMPLE[1]!r}]{chosen}, role="document")
print(documents @ query)"""


def _by_sentence_transformers(shown: Example) -> str:
    task = shown.task
    sides = (f"{task}_query", f"{task}_document") if shown.prompt.differs else (task, task)
    names = sides if task else ("query", "document")
    cut = "" if shown.max_length is None else f"\nmodel.max_seq_length = {shown.max_length}  # of this task"
    return f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{shown.name}"){cut}
query = model.encode({EXAMPLE[0]!r}, prompt_name="{names[0]}")
documents = model.encode([{EXAMPLE[1]!r}], prompt_name="{names[1]}")
print(model.similarity(query, documents))"""


def _by_hand(encoder: EncoderParts, stages: Sequence[Step], shown: Example) -> str:
    name = shown.name
    is_encoder = type(encoder.model.backbone).__name__.endswith("EncoderModel")
    auto = "AutoModelForTextEncoding" if is_encoder else "AutoModel"
    pooled = [POOLED[one] for one in sorted(encoder.model.poolings, key=ORDER.index)]
    lines = [
        "import torch",
        *(
            ["from safetensors.torch import load_file"]
            if any(isinstance(s, Linear | LayerNorm) for s in stages)
            else []
        ),
        "from torch.nn import functional as F",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'model = {auto}.from_pretrained("{name}").eval()',
        f"texts = {shown.texts}  # with their prompts",
        f'batch = tokenizer(texts, padding=True, truncation=True, {shown.cut}return_tensors="pt")',
        *_given(encoder),
        "with torch.no_grad():",
        "    states = model(**batch).last_hidden_state",
        '    mask = batch["attention_mask"].unsqueeze(-1)',
        f"    vectors = {pooled[0]}" if len(pooled) == 1 else f"    vectors = torch.cat([{', '.join(pooled)}], dim=-1)",
    ]
    for number, stage in enumerate(stages, start=2):
        lines += [f"    {line}" for line in _stage(stage, f"{name}/{number}")]
    return "\n".join([*lines, "print(vectors[0] @ vectors[1])"])


def _given(encoder: EncoderParts) -> list[str]:
    """The inputs that the model was trained with."""
    if encoder.model.token_types is not None:
        return []
    return ['batch.pop("token_type_ids", None)']


def _stage(stage: Step, path: str) -> list[str]:
    if isinstance(stage, UnitLength):
        return ["vectors = F.normalize(vectors, dim=-1)"]
    if isinstance(stage, LayerNorm):
        size = stage.norm.normalized_shape[0]
        return [
            f'norm = load_file("{path}_LayerNorm/model.safetensors")',
            f'vectors = F.layer_norm(vectors, ({size},), norm["norm.weight"], norm["norm.bias"])',
        ]
    bias = "None" if stage.bias_O is None else 'dense["linear.bias"]'
    lines = [f'dense = load_file("{path}_Dense/model.safetensors")']
    linear = f'F.linear(vectors, dense["linear.weight"], {bias})'
    activated = (
        linear if stage.activation == IDENTITY else f"torch.nn.{stage.activation.rpartition('.')[2]}()({linear})"
    )
    if stage.residual_OI is not None:
        activated += " + vectors" if stage.is_residual_identity else ' + F.linear(vectors, dense["residual.weight"])'
    return [*lines, f"vectors = {activated}"]


def _by_onnxruntime(shown: Example, forms: Forms) -> str:
    name = shown.name
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "from tokenizers import Tokenizer",
        "",
        f'tokenizer = Tokenizer.from_file("{name}/tokenizer.json")  # cuts and pads, too',
        f'session = onnxruntime.InferenceSession("{name}/{forms.onnx}")',
        *([] if shown.max_length is None else [f"tokenizer.enable_truncation({shown.max_length})"]),
        f"found = tokenizer.encode_batch({shown.texts})  # with their prompts",
        "inputs = {",
        '    "input_ids": np.array([text.ids for text in found]),',
        '    "attention_mask": np.array([text.attention_mask for text in found]),',
        *(['    "token_type_ids": np.array([text.type_ids for text in found]),'] if forms.has_token_types else []),
        "}",
        '(vectors,) = session.run(["sentence_embedding"], inputs)',
        "print(vectors[0] @ vectors[1])",
    ]
    return "\n".join(lines)
