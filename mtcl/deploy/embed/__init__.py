"""`mtcl embed`: bulk embedding of files, and `Embedder`, the same for Ray Data.

    reading -> windows of rows -> tokens (in another process) -> vectors -> parts -> one file per input file

`settings` is what a folder of vectors is made with, `numbers` the types of numbers, `shards` the inputs by name,
`reading` their rows (`rows`, `line_rows`, `parquet_rows`), `tokens` the tokenising process, `computing` the vectors,
`writing` the files, `shard_run` one input, `run` all of them, `workers` several processes, `progress` the output on a
terminal, `embedder` Ray's class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtcl.deploy.embed.embedder import Embedder

__all__ = ["Embedder"]


def __getattr__(name: str) -> Any:
    """Import `Embedder`, and torch with it, when it is asked for: readers of vectors need neither."""
    if name == "Embedder":
        from mtcl.deploy.embed.embedder import Embedder

        return Embedder
    raise AttributeError(name)
