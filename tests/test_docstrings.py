"""The example in the docstring of each loss, weighting and metric runs and gives what it shows.

python -m pytest tests/test_docstrings.py
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

ROOMS = ("mtcl.losses", "mtcl.weighting", "mtcl.task.metrics")


def classes() -> Iterator[type]:
    """Every class that is defined in a module of these rooms."""
    for room in ROOMS:
        for module in pkgutil.iter_modules(importlib.import_module(room).__path__, f"{room}."):
            for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if found.__module__ == module.name:
                    yield found


@pytest.mark.parametrize("found", classes(), ids=lambda found: f"{found.__module__}.{found.__name__}")
def test_the_example_gives_what_it_shows(found: type) -> None:
    if found.__name__ == "GradientWeighting":
        pytest.importorskip("torchjd", reason="needs the extra `weighting`")
    source = inspect.getdoc(found) or ""
    example = doctest.DocTestParser().get_doctest(source, {}, found.__name__, inspect.getfile(found), 0)
    assert example.examples, f"{found.__name__} has no example"
    told: list[str] = []
    result = doctest.DocTestRunner().run(example, out=told.append)
    assert result.failed == 0, "".join(told)
