"""Exports an encoder: one folder with all its forms, a model card, and what each form costs on the run's tasks.

from mtcl import TextEncoder
from mtcl.deploy.export import export

export(TextEncoder.load("runs/demo"), "model", onnx=True, quantize=["qint8"], static=True)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mtcl.deploy import onnx_graph
from mtcl.deploy import static as static_table
from mtcl.deploy.export_check import Check, Form, costs
from mtcl.encoder.card import card
from mtcl.encoder.card_code import Forms
from mtcl.encoder.exported import Exported
from mtcl.encoder.layout import new_folder, write_layout
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError

log = logging.getLogger("mtcl")


def export(
    encoder: TextEncoder,
    folder: str | Path,
    *,
    task: str | None = None,
    dim: int | None = None,
    onnx: bool = False,
    quantize: Sequence[str] = (),
    static: bool = False,
    check: Check | None = None,
) -> str:
    """Write the folder; returns the table of costs if `check` is given, otherwise an empty text.

    Args:
        encoder: What to export.
        folder: The folder to make. It appears as a whole at the end.
        task: Export the vectors of this task, with its head, prompt and max length.
        dim: Export this many leading dimensions.
        onnx: Write `onnx/model.onnx`.
        quantize: Write graphs with 8-bit weights for these kinds of CPU: `arm64`, `avx2`, `avx512`, `avx512_vnni`, or
            `qint8` for this machine's. It needs `onnx/model.onnx`, which is written too.
        static: Write a table of token vectors.
        check: Evaluate each form on the run's own tasks.

    Raises `ConfigError` if the folder exists, if a package is missing, or if the encoder has no such form;
    `DataError` if the tasks to check on have no rows here.
    """
    exported, path = Exported(encoder, task, dim), Path(folder).expanduser()
    if odd := [target for target in quantize if target not in (onnx_graph.THIS_CPU, *onnx_graph.TARGETS)]:
        known = ", ".join((onnx_graph.THIS_CPU, *onnx_graph.TARGETS))
        raise ConfigError(f"--quantize has {odd[0]!r}: give some of {known}")
    if onnx or quantize:
        onnx_graph.require()
    if static:
        static_table.check(encoder)
    pools = [] if check is None else check.pools(encoder, exported)  # before a graph is made, which takes minutes
    with new_folder(path) as aside:
        write_layout(exported, aside)
        forms, embeds = _write_forms(exported, aside, onnx=onnx, quantize=quantize, static=static)
        found = "" if check is None else costs(encoder, exported, embeds, pools).table()
        forms = forms if check is None else _with_costs(forms, found)
        (aside / "README.md").write_text(card(exported, path.name, forms), encoding="utf-8")
    return found


def _write_forms(
    exported: Exported, folder: Path, *, onnx: bool, quantize: Sequence[str], static: bool
) -> tuple[Forms, dict[str, Form]]:
    """Write the forms besides the layout; returns their paths and how each embeds."""
    embeds: dict[str, Form] = {}
    heads = exported.encoder.heads if exported.is_shared else {}

    def by_graph(path: Path, model: TextEncoder) -> Form:
        session = onnx_graph.Session(folder / path, model)
        return lambda asked: session.embed(asked.tokens(), heads.get(asked.task))

    quantized: list[Path] = []
    has_types = False
    if onnx or quantize:
        log.info("writing %s", onnx_graph.FILE)
        model = onnx_graph.write_graph(folder)
        has_types = model.model.token_types is not None
        embeds["ONNX"] = by_graph(onnx_graph.FILE, model)
        for target in dict.fromkeys(quantize):
            quantized.append(onnx_graph.quantize(folder, target))
            embeds[f"int8 ({quantized[-1].stem.removeprefix('model_qint8_')})"] = by_graph(quantized[-1], model)
    if static:
        log.info("writing %s", static_table.FOLDER)
        static_table.write_static(folder)
        read = static_table.Static(folder / static_table.FOLDER)
        embeds["static"] = lambda asked: read.embed(asked.texts())
    forms = Forms(
        onnx_graph.FILE if onnx or quantize else None,
        quantized,
        static_table.FOLDER if static else None,
        has_types,
    )
    return forms, embeds


def _with_costs(forms: Forms, table: str) -> Forms:
    text = (
        "Each task's metric on its validation split, by the forms of this model; in brackets, the difference from the "
        "whole vectors in float32.\n\n"
    )
    return replace(forms, costs=text + table)
