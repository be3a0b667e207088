"""How Sphinx builds this documentation: `make docs`.

A page may contain `<!-- generated: NAME -->`; while Sphinx reads it, what a generator writes takes that place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.generators import api, cli, keys
from mtcl.records.version import __version__

project = "mtcl"
release = version = __version__
author = "the authors of mtcl"
html_theme = "furo"
html_title = f"mtcl {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generators"]
nb_execution_mode = "off"  # tests/test_first_notebook.py runs it
myst_heading_anchors = 4  # anchors as on GitHub
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "__init__, __new__"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "literal"  # `code` in a docstring
autodoc_inherit_docstrings = False  # Lightning's hooks are not ours to describe
GENERATED = {"api": api.api(), "losses": api.losses(), "cli": cli.cli(), "keys": keys.keys()}
"""Written before autodoc, which imports modules again, so that classes are not what they were."""


LINK = re.compile(r"^- \[[^\]]*\]\(([^)#:]+)\.\w+\)", flags=re.M)


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what the generators write where a page asks for it, and the contents below the first page."""
    source[0] = re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]], source[0])
    if page == "index":
        source[0] += contents(source[0])


def contents(page: str) -> str:
    """The contents of the site: the links that each section of the first page lists."""
    parts = []
    for section in page.split("\n## ")[1:]:
        listed = "\n".join(LINK.findall(section))
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{listed}\n```\n")
    return "".join(parts)


AS_WRITTEN: dict[str, list[str]] = {}
"""The docstrings of attributes, by name."""


def before_napoleon(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """An indented block after a line with a colon is a formula: it is shown as it is written."""
    for number, (line, after, block) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        if line.endswith(":") and not line.endswith("::") and not after and block[:4].isspace():
            lines[number] = f"{line}:"
    if what == "attribute":
        AS_WRITTEN[name] = lines.copy()


def after_napoleon(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Napoleon takes what is before the first colon of an attribute's docstring for a type, which ours do not have."""
    lines[:] = AS_WRITTEN.pop(name, lines)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-docstring", before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", after_napoleon, priority=900)
