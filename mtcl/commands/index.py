"""`mtcl index DIR`: build a FAISS index over a folder of vectors that `mtcl embed` wrote.

`mtcl search` uses it. The index is a file in the folder and replaces an earlier one. Build it again after `mtcl embed`
has added files.
"""

from __future__ import annotations

import argparse

from mtcl.commands.arguments import Parser
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.process import quiet_libraries
from mtcl.errors import DataError, at


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_args(arguments)
    quiet_libraries()
    from mtcl.deploy.search.index import INDEX, build_index
    from mtcl.deploy.search.plan import IndexOptions
    from mtcl.deploy.vectors import VectorFolder

    with at("--"):
        chosen = IndexOptions(
            options.kind,
            options.links,
            options.ef_construction,
            options.ef_search,
            options.lists,
            options.code_bytes,
            options.probes,
        )
    folder = VectorFolder.open(options.folder)
    if folder.unfinished and not options.partial:
        raise DataError(
            f"{folder.path} has {len(folder.unfinished)} unfinished files ({folder.unfinished[0]}): let `mtcl embed` "
            "finish them, or index the finished ones with --partial"
        )
    names = ("kind", "lists", "code_bytes", "probes")
    with (
        only_writer(folder.path, command, advice="wait for it"),
        at(num_queries="--queries", **{name: f"--{name}" for name in names}),
    ):
        record = build_index(folder, chosen, num_queries=options.queries, seed=options.seed)
    print(f"written {folder.path / INDEX}: {record.text()}")
    return 0


def _parser(command: str) -> argparse.ArgumentParser:
    from mtcl.deploy.search.plan import KINDS

    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("folder", metavar="DIR", help="folder of vectors that `mtcl embed` wrote")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="exact",
        help="exact compares every vector (default); hnsw is a graph, as large and much faster; ivfpq has short codes, "
        "so it is small and fast but less exact",
    )
    hnsw = parser.add_argument_group("hnsw")
    hnsw.add_argument("--links", type=int, help="neighbours of each vector in the graph (default: 32)")
    hnsw.add_argument("--ef_construction", type=int, help="candidates while building (default: 100)")
    hnsw.add_argument("--ef_search", type=int, help="candidates while searching (default: 64)")
    ivfpq = parser.add_argument_group("ivfpq")
    ivfpq.add_argument(
        "--lists", type=int, help="lists of vectors (default: about 4 times the square root of the rows)"
    )
    ivfpq.add_argument("--code_bytes", type=int, help="bytes per vector (default: a quarter of the dimensions or more)")
    ivfpq.add_argument("--probes", type=int, help="lists to search (default: a sixteenth, 8 to 128)")
    parser.add_argument(
        "--queries", type=int, default=200, help="vectors to measure the recall with (default: %(default)s)"
    )
    parser.add_argument("--partial", action="store_true", help="index a folder that `mtcl embed` has not finished")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed that chooses the sample of vectors (default: %(default)s)"
    )
    return parser
