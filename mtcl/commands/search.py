"""`mtcl search DIR TEXT...`: show the nearest neighbours of texts in a folder that `mtcl embed` wrote.

Without TEXT, texts are read from standard input, one per line. An index of `mtcl index` is used if there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from mtcl.commands.arguments import Parser
from mtcl.commands.process import quiet_libraries
from mtcl.console import markdown_table, one_line
from mtcl.errors import ConfigError, at

WIDTH = 80
"""Characters of a kept column that the table shows."""


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_intermixed_args(arguments)
    quiet_libraries()
    from mtcl.deploy.align.alignment import Alignment
    from mtcl.deploy.embed.rows import reason_against
    from mtcl.deploy.embed.settings import encoder_of
    from mtcl.deploy.search.queries import Queries, found_rows, search
    from mtcl.deploy.vectors import VectorFolder
    from mtcl.encoder.text_encoder import TextEncoder

    folder = VectorFolder.open(options.folder)
    texts = options.texts or [line.rstrip("\r\n") for line in sys.stdin or () if line.strip()]
    if not texts:
        raise ConfigError("there is no text to search for: give one, or lines on standard input")
    if reasons := [reason for text in texts if (reason := reason_against(text, "text"))]:
        raise ConfigError(f"{reasons[0]}: give a text to search for")
    alignment = None if options.map is None else Alignment.load(options.map)
    path = options.ckpt or (encoder_of(folder.path) if alignment is None else None)
    if path is None and alignment is not None:
        raise ConfigError("--map maps the queries of another encoder: give it as --ckpt")
    if path is None:
        raise ConfigError(f"the encoder of {folder.path} is not known or is not on this machine: give it as --ckpt")
    encoder = TextEncoder.load(path, trust_checkpoint=options.trust_checkpoint)
    with at(num="--num", role="--role", task="--task"):
        queries = Queries.of(folder, encoder, task=options.task, role=options.role, alignment=alignment)
        hits = search(folder, queries.vectors(texts), options.num, exact=options.exact)
    for text, found in zip(texts, found_rows(folder, hits), strict=True):
        print(
            json.dumps({"text": text, "hits": _finite(found)}, ensure_ascii=False, default=str)
            if options.json
            else _table(text, found)
        )
    return 0


def _finite(value: Any) -> Any:
    """A plain value with null for numbers that JSON does not have: NaN and infinity of kept columns."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _table(text: str, found: list[dict[str, Any]]) -> str:
    """The neighbours as a table, with the beginning of long values."""
    kept = [name for name in (found[0] if found else {}) if name not in ("score", "id")]
    rows = [[f"{row['score']:.4f}", row["id"], *(_short(row[name]) for name in kept)] for row in found]
    return f"{_short(text)}\n\n{markdown_table(['score', 'id', *kept], rows, numbers={0})}"


def _short(value: object) -> str:
    return "" if value is None else one_line(str(value), WIDTH, end="...")


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("folder", metavar="DIR", help="folder of vectors that `mtcl embed` wrote")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts (default: the lines of standard input)")
    parser.add_argument(
        "--ckpt",
        help="the vectors' encoder: run folder, .ckpt or model's folder or name (default: where `mtcl embed` found it)",
    )
    parser.add_argument("--num", type=int, default=10, help="neighbours of each text (default: %(default)s)")
    parser.add_argument(
        "--role",
        choices=["query", "document"],
        default="query",
        help="role whose prompt the texts get (default: %(default)s)",
    )
    parser.add_argument("--task", help="task whose prompt and length the texts get (default: that of the vectors)")
    parser.add_argument(
        "--map", metavar="MAP", help="folder of `mtcl align`: --ckpt is the new encoder, the vectors are of the old one"
    )
    parser.add_argument("--exact", action="store_true", help="compare all vectors even if there is an index")
    parser.add_argument("--json", action="store_true", help="print a JSON object per text instead of a table")
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="let a base model run code from its repository if the run did"
    )
    return parser
