"""The Markdown pages as tests read them: headings, links, blocks of code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", flags=re.S | re.M)


def name_of(page: Path) -> str:
    """A page's path below the root, for the names of tests."""
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    """A page without its blocks of code and without code spans."""
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", text))


def links(page: Path) -> Iterator[str]:
    """The targets of all links and images."""
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN")
        slug = kept.strip().replace(" ", "-")
        number = sum(1 for one in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one))
        found.add(f"{slug}-{number}" if number else slug)
    return found


def blocks(page: Path, language: str) -> list[str]:
    """A page's blocks of code in a language."""
    return [text for given, text in FENCE.findall(page.read_text(encoding="utf-8")) if given == language]


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Every `mtcl` command of a page, and whether it is a line of a block and not a name in a sentence."""
    text = page.read_text(encoding="utf-8")
    lines = [(line, True) for block in [*blocks(page, "bash"), *blocks(page, "sh")] for line in joined(block)]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line, is_line in [*lines, *((span.replace("\\|", "|"), False) for span in spans)]:
        if found := re.search(r"(?:^|[\s'(])mtcl (?!COMMAND|import)([a-z]\w+ ?.*)", line):
            yield found[1], is_line


def joined(block: str) -> list[str]:
    """The lines of a block of shell, without comments; a line that ends with a backslash goes on in the next."""
    text = re.sub(r"\\\n\s*", "", block)
    return [re.sub(r"\s+#\s.*$", "", line).strip() for line in text.splitlines() if not line.startswith("#")]
