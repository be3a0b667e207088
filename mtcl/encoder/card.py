"""The model card of an exported folder, `README.md`. It contains only known facts.

Each code block of the card runs unchanged in the parent of the exported folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtcl.console import markdown_table
from mtcl.encoder.config import Pooling
from mtcl.encoder.exported import Exported
from mtcl.encoder.facts import TaskFacts
from mtcl.encoder.parts import EncoderParts
from mtcl.encoder.stages import IDENTITY, ORDER, LayerNorm, Linear, Step, UnitLength
from mtcl.task.prompt import Prompt

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
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


def card(exported: Exported, name: str, forms: Forms | None = None) -> str:
    """The card of the folder called `name`."""
    forms = forms or Forms()
    parts = [
        _head(exported.facts.base),
        f"# {name}",
        _summary(exported),
        _tasks(exported),
        _prompts(exported),
        "## How to use it\n\n" + "\n\n".join(_uses(exported, name, forms)),
        forms.costs and f"## What each form costs\n\n{forms.costs.strip()}",
        _files(forms),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _head(base: str) -> str:
    lines = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    lines += [f"base_model: {base}"] if HUB_NAME.fullmatch(base) else []
    lines += [
        "tags:",
        *(f"- {tag}" for tag in ("sentence-transformers", "sentence-similarity", "feature-extraction", "mtcl")),
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(exported: Exported) -> str:
    encoder, facts = exported.encoder, exported.facts
    own, *trained = exported.dims
    what = "texts" if exported.task is None else f"texts of the task `{exported.task}`"
    by = f" It was trained with mtcl {facts.version}." if facts.version else ""
    text = f"Turns {what} into vectors of {own} dimensions and unit length, which are compared by their cosine.{by}"
    rows: list[tuple[str, object]] = [("dimensions", own)]
    rows += [("also trained at", f"{', '.join(map(str, trained))} leading dimensions")] if trained else []
    rows += [("max length", f"{exported.max_length} tokens"), ("pooling", encoder.model.pooling)]
    known = {"base model": facts.base, "optimizer steps": facts.step, "seed": facts.seed}
    rows += [(key, value) for key, value in known.items() if value not in (None, "")]
    if exported.task not in encoder.heads and own == encoder.dim:
        rows.append(("fingerprint of the weights", f"`{encoder.fingerprint()}`"))
    return f"{text}\n\n{markdown_table(['', ''], rows)}"


def _tasks(exported: Exported) -> str:
    """The tasks; a column of which nothing is known is left out."""
    if not (tasks := exported.tasks):
        return ""
    columns = {
        "task": [f"`{name}`" + ("" if task.is_trained else " (only evaluated)") for name, task in tasks.items()],
        "about": [task.about for task in tasks.values()],
        "training pairs": [_known(task.num_pairs) for task in tasks.values()],
        "loss": [f"`{task.loss}`" if task.loss else "" for task in tasks.values()],
        "metric": [task.metric for task in tasks.values()],
        "base": [_figure(task.base) for task in tasks.values()],
        "now": [_figure(task.now) for task in tasks.values()],
        "difference": [_difference(task) for task in tasks.values()],
        "owner": [task.owner for task in tasks.values()],
        "licence of the data": [task.license for task in tasks.values()],
    }
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    text = f"## Tasks\n\n{markdown_table(list(shown), zip(*shown.values(), strict=True))}"
    if "now" in shown:
        text += "\n`base` and `now` are the metric on the task's validation split, of the base model and of this one"
        text += "." if exported.dim is None else f", before its vectors were cut to {exported.dim} dimensions."
    return text


def _known(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _difference(task: TaskFacts) -> str:
    return "" if task.base is None or task.now is None else f"{task.now - task.base:+.4f}"


def _prompts(exported: Exported) -> str:
    """What to put before a text, if anything."""
    encoder, length = exported.encoder, exported.max_length
    found: dict[str, Prompt] = {"any other text" if exported.task is None else exported.task: exported.prompt}
    found |= {name: encoder.prompts[name] for name in exported.tasks}
    if not any(prompt.query or prompt.document for prompt in found.values()):
        return "## Prompts\n\nNone: texts are encoded as they are."
    rows = [
        (
            name if name == "any other text" else f"`{name}`",
            _code(prompt.query),
            _code(prompt.document),
            encoder.lengths.get(name, length),
        )
        for name, prompt in found.items()
    ]
    table = markdown_table(["texts of", "prompt of a query", "prompt of a document", "max length"], rows)
    return f"## Prompts\n\nThe model was trained with these words before each text:\n\n{table}"


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


def _uses(exported: Exported, name: str, forms: Forms) -> Iterable[str]:
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


def _files(forms: Forms) -> str:
    rows = [("`.`", "the Hugging Face model, and modules for sentence-transformers, TEI and vLLM")]
    rows += (
        [(f"`{forms.onnx}`", "one graph with pooling, layers and normalisation: output `sentence_embedding`")]
        if forms.onnx
        else []
    )
    rows += [
        (f"`{path}`", "the same with weights of 8 bits; a text's vector depends a little on its batch")
        for path in forms.quantized
    ]
    rows += [(f"`{forms.static}`", "a table of token vectors")] if forms.static else []
    rows.append(("`mtcl.json`", "what mtcl knows about the run"))
    return f"## Files\n\n{markdown_table(['path', 'what'], rows)}"
