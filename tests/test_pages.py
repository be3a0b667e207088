"""Every Markdown page: no dead link, every command parsed by the real parser, every block of Python compiled.

python -m pytest tests/test_pages.py
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from docs.generators.cli import parser_of
from mtcl.__main__ import COMMANDS
from mtcl.configuration.keys import Section, section_of
from mtcl.configuration.overrides import from_arguments
from mtcl.errors import ConfigError
from tests.conftest import ROOT
from tests.pages import PAGES, anchors, blocks, commands, joined, links, name_of

HISTORY = ("CHANGELOG.md", "docs/log.md")
"""Pages that may name commands that are gone."""
COMMAND_LINES = sorted({(name_of(p), *found) for p in PAGES if name_of(p) not in HISTORY for found in commands(p)})
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=name_of)


@EACH_PAGE
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links to {link}, outside of the repository"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}; {path} has {sorted(anchors(target))}"


def test_a_dead_link_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` (c)\n\n## A `b` (c)\n\n[x](y.md#z) `[no](link)` ![p](q.png)\n\n```\n[no](link)\n# no\n```\n"
    )
    assert list(links(page)) == ["y.md#z", "q.png"]
    assert anchors(page) == {"a-b-c", "a-b-c-1"}


def test_every_page_of_the_site_is_in_its_contents() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs" / "index.md") if ":" not in link}
    pages = {page for page in PAGES if page.parent != ROOT and page.name != "index.md"}
    assert {page.resolve() for page in pages} <= listed, "docs/index.md lists every page"


@pytest.mark.parametrize(("question", "answer"), [
    ("embed my own table", "mtcl embed runs/demo posts/ --id post_id --out vectors"),
    ("which negatives were left out", "mtcl tasks batch search --config configs/demo.yaml --data.root data/demo"),
    ("keep the others", "mtcl fit --config configs/finetune.yaml --init_from runs/joint --run_dir runs/jobs"),
    ("BGE", "--model.encoder.name BAAI/bge-small-en-v1.5"),
    ("four GPUs", "mtcl fit --resume runs/demo --trainer.devices 4 --trainer.strategy ddp"),
])  # fmt: skip
@pytest.mark.parametrize("first", [ROOT / "docs" / "index.md", ROOT / "README.md"], ids=name_of)
def test_a_question_is_answered_one_click_from_the_first_page(first: Path, question: str, answer: str) -> None:
    (line,) = [line for line in first.read_text(encoding="utf-8").splitlines() if question in line and "](" in line]
    (target,) = re.findall(r"\]\(([^)#]+)", line)
    assert answer in (first.parent / target).read_text(encoding="utf-8")


@cache
def keys_of(command: str) -> Section | None:
    """The keys of a configuration that a command takes as options; None for the other commands."""
    from mtcl.configuration.run_keys import run_keys
    from mtcl.studies.compare import CompareConfig
    from mtcl.studies.transfer import StudyConfig

    if command in ("fit", "validate", "test", "predict"):
        return run_keys()
    return {"transfer": section_of(StudyConfig), "compare": section_of(CompareConfig)}.get(command)


def check_command(line: str, *, is_line: bool = True) -> None:
    """Raise `ConfigError` for a command, an option or a key that does not exist. A name in a sentence, such as `mtcl
    embed --keep`, may lack what the command needs.
    """
    line = re.sub(r"(--\w+) \.\.\.", r"\1 FILE", re.split(r" [>|;] ?|'$", line)[0])
    command, *words = (word for word in shlex.split(line) if word != "...")
    if command not in COMMANDS:
        raise ConfigError(f"no command {command!r}")
    parser = parser_of(command)
    try:
        options, rest = parser.parse_known_args(words)
    except ConfigError as error:
        if not is_line and re.search("are required|expected (one|at least one) argument", str(error)):
            return
        raise
    if (keys := keys_of(command)) is not None:
        from_arguments(rest, keys)
    elif rest:
        raise ConfigError(f"mtcl {command} has no {rest[0]}")
    for name in getattr(options, "config", None) or []:
        if name.startswith("configs/") and not (ROOT / name).is_file():
            raise ConfigError(f"no {name}")


@pytest.mark.parametrize(
    ("page", "line", "is_line"), COMMAND_LINES, ids=[f"{page}: {line}" for page, line, _ in COMMAND_LINES]
)
def test_a_command_has_the_options_that_it_is_given(page: str, line: str, is_line: bool) -> None:
    check_command(line, is_line=is_line)


@pytest.mark.parametrize(
    "line",
    [
        *("fitt", "fit --model.optimizer.lrr 1", "embed a --out b --keeep c", "tasks chek x", "index a --kind"),
        *("fit --config configs/no.yaml", "serve a --prt 1", "merge a b"),
    ],
)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    with pytest.raises((ConfigError, SystemExit)):
        check_command(line)


@EACH_PAGE
def test_its_python_compiles_and_imports_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mtcl"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{name_of(page)}: {node.module} has no {alias.name}"


@EACH_PAGE
def test_its_modules_exist(page: Path) -> None:
    """`python -m tests.benchmarks.NAME` and `python FILE`."""
    for line in (one for block in blocks(page, "bash") for one in joined(block)):
        for module in re.findall(r"python -m ((?:tests|mtcl)[\w.]*)", line):
            assert importlib.util.find_spec(module), f"{name_of(page)}: no module {module}"
        for file in re.findall(r"python (docs/\w+\.py)", line):
            assert (ROOT / file).is_file()
