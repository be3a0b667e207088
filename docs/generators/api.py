"""The public names of `mtcl`, sorted by the room that defines them, as directives for Sphinx's autodoc."""

from __future__ import annotations

from collections.abc import Iterator

import mtcl
import mtcl.losses
import mtcl.weighting

TITLES = {
    "mtcl.task.contract": "Tasks",
    "mtcl.task.pairs": "Pairs",
    "mtcl.task.sources": "Where rows are",
    "mtcl.task": "Tasks",
    "mtcl.training": "Training",
    "mtcl.configuration": "Training",
    "mtcl.encoder": "Encoders",
    "mtcl.errors": "Errors",
    "mtcl.task.metrics": "Metrics",
    "mtcl.losses": "Losses",
    "mtcl.weighting": "Weightings",
}
"""Module or package -> the heading of its names; the longest one that fits counts."""
ON_THEIR_OWN_PAGE = ("Losses", "Weightings", "Metrics")


def title_of(name: str) -> str:
    """The heading for a public name."""
    module = getattr(mtcl, name).__module__
    return TITLES[max((one for one in TITLES if f"{module}.".startswith(f"{one}.")), key=len)]


def api() -> str:
    """Every public name but losses, weightings and metrics."""
    return _sections(name for name in dict.fromkeys(TITLES.values()) if name not in ON_THEIR_OWN_PAGE)


def losses() -> str:
    """Losses, weightings and metrics, with formulas, shapes and examples."""
    return _sections(iter(ON_THEIR_OWN_PAGE))


def _sections(titles: Iterator[str]) -> str:
    parts = []
    for title in titles:
        parts.append(f"## {title}")
        parts += [_directive(name) for name in mtcl.__all__ if title_of(name) == title]
    return "\n\n".join(parts)


def _directive(name: str) -> str:
    found = getattr(mtcl, name)
    kind = "autoexception" if isinstance(found, type) and issubclass(found, Exception) else "autofunction"
    if isinstance(found, type) and kind == "autofunction":
        kind = "autoclass"
    heading = f"### {name}\n\n" if kind != "autoexception" else ""
    return f"{heading}```{{eval-rst}}\n.. {kind}:: mtcl.{name}\n```"
