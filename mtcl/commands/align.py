"""`mtcl align OLD NEW --out MAP`: a map between the vector spaces of an old and a new encoder.

OLD and NEW are folders of vectors that `mtcl embed` wrote with the two encoders. Some thousand rows must be in both.
The map is fitted on most of these rows, and the share of nearest neighbours that it keeps is measured on the others.

    mtcl align OLD NEW --out MAP                       queries of the new encoder search the old vectors:
    mtcl search OLD "text" --ckpt NEW_RUN --map MAP

    mtcl align OLD NEW --map old_to_new --out MAP      all old vectors are converted, without the texts:
    mtcl align --apply MAP OLD --out CONVERTED
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mtcl.commands.arguments import Parser
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.process import quiet_libraries
from mtcl.errors import ConfigError, at
from mtcl.files import write_text

REPORT = "report.md"


def main(command: str, arguments: list[str]) -> int:
    parser = _parser(command)
    options = parser.parse_args(arguments)
    quiet_libraries()
    num = len(options.folders)
    if options.apply is not None:
        parser.refuse(options, "map", "kind", "sample", "held_out", "seed", where="with --apply: the map is given")
        if num != 1:
            raise ConfigError(f"--apply maps one folder of vectors, and {num} are given")
        return _apply(options)
    if num != 2:
        raise ConfigError(f"{num} folders are given: give OLD and NEW, or one with --apply MAP")
    parser.refuse(options, "dtype", "replace_changed", where="without --apply")
    return _align(command, options)


def _align(command: str, options: argparse.Namespace) -> int:
    from mtcl.deploy.align.alignment import RECORD
    from mtcl.deploy.align.choosing import choose_map
    from mtcl.deploy.align.pairs import common_pairs
    from mtcl.deploy.space import Space
    from mtcl.deploy.vectors import VectorFolder

    out = Path(options.out).expanduser()
    if options.sample < 1:
        raise ConfigError(f"--sample is {options.sample}: give 1 or more")
    old, new = (VectorFolder.open(folder) for folder in options.folders)
    spaces = (Space.of(old.settings), Space.of(new.settings))
    if spaces[0].is_same(spaces[1]):
        raise ConfigError(f"{old.path} and {new.path} have vectors of one encoder, which compare without a map")
    if spaces[0].role != spaces[1].role:
        raise ConfigError(
            f"OLD has vectors of the role {spaces[0].role}, and NEW of {spaces[1].role}: embed with one role"
        )
    with only_writer(out, command, advice="wait for it, or give another --out"):
        if (out / RECORD).exists():
            raise ConfigError(f"{out} has a map: give another --out")
        pairs = common_pairs(old, new, num=options.sample, seed=options.seed)
        with at(held_out="--held_out"):
            chosen = choose_map(
                pairs,
                spaces,
                direction=options.map,
                kind=None if options.kind == "auto" else options.kind,
                held_out=options.held_out,
                seed=options.seed,
            )
        write_text(out / REPORT, chosen.text())
        chosen.alignment.save(out)
    print(f"{chosen.text()}written {out}")
    return 0


def _apply(options: argparse.Namespace) -> int:
    from mtcl.deploy.align.alignment import Alignment
    from mtcl.deploy.align.applying import apply_map
    from mtcl.deploy.vectors import VectorFolder

    out = Path(options.out).expanduser()
    with at(out="--out"):
        done = apply_map(
            Alignment.load(options.apply),
            VectorFolder.open(options.folders[0]),
            out,
            dtype=options.dtype,
            replace_changed=options.replace_changed,
        )
    skipped = f"; {done.skipped:,} files are done already, or other processes work on them" if done.skipped else ""
    print(f"written {out}: {done.files:,} files with {done.rows:,} mapped vectors{skipped}")
    return 0


def _parser(command: str) -> Parser:
    from mtcl.deploy.embed.numbers import NUMBER_TYPES

    parser = Parser(prog=f"mtcl {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="OLD and NEW; with --apply, the folder to map")
    parser.add_argument("--out", required=True, help="folder to write: the map, or with --apply the mapped vectors")
    parser.add_argument(
        "--map",
        choices=["new_to_old", "old_to_new"],
        default="new_to_old",
        help="from the new encoder's space to the old one's (default), or the other way round",
    )
    parser.add_argument(
        "--kind",
        choices=["auto", "orthogonal", "linear"],
        default="auto",
        help="orthogonal is a rotation and a shift, linear fits more closely; auto takes the better one (default)",
    )
    parser.add_argument(
        "--sample", type=int, default=20_000, help="number of common rows to use (default: %(default)s)"
    )
    parser.add_argument(
        "--held_out",
        type=float,
        default=0.2,
        help="share of these rows that the map is not fitted on (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed that chooses the rows (default: %(default)s)")
    parser.add_argument("--apply", metavar="MAP", help="map the vectors of DIR with this map")
    parser.add_argument(
        "--dtype", choices=NUMBER_TYPES, help="with --apply: type of the stored numbers (default: as in DIR)"
    )
    parser.add_argument(
        "--replace_changed",
        action="store_true",
        help="with --apply: map files again that have changed since they were mapped, instead of refusing them",
    )
    return parser
