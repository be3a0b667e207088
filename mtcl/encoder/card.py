"""The model card of an exported folder, `README.md`. It contains only known facts."""

from __future__ import annotations

import re

from mtcl.console import markdown_table
from mtcl.encoder.card_code import Forms, code_blocks
from mtcl.encoder.exported import Exported
from mtcl.encoder.facts import TaskFacts
from mtcl.task.prompt import Prompt

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def card(exported: Exported, name: str, forms: Forms | None = None) -> str:
    """The card of the folder called `name`."""
    forms = forms or Forms()
    parts = [
        _head(exported.facts.base),
        f"# {name}",
        _summary(exported),
        _tasks(exported),
        _prompts(exported),
        "## How to use it\n\n" + "\n\n".join(code_blocks(exported, name, forms)),
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
