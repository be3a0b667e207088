"""What several tests share: a tiny BERT of random weights, a small data root, a command line in its own process."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several tests run at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest

from tests.forks import Command

ROOT = Path(__file__).resolve().parents[1]
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query"]
INTEREST = '''
class Interest(Task):
    """A post -> its topic."""

    name = "{name}"
    data = Files("interest")
    pairs = LabelText(text="text", label="topic")
    metric = {metric}()
    sample = [{{"text": "a", "topic": "b"}}]
'''
"""The end of a file with a task on the posts of the demo corpus."""
Run = Callable[..., subprocess.CompletedProcess[str]]


def quiet_trainer(**options: Any) -> Any:
    """Lightning's Trainer with its own defaults, but on a CPU and without files and bars."""
    from lightning.pytorch import Trainer

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", **quiet, **options})


PROCESS_FIXTURES = {"mtcl_process", "starts_processes"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark `process` the tests that start one and `command` those that run whole commands, by their fixtures."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if PROCESS_FIXTURES & fixtures:
            item.add_marker("process")
        if "mtcl_command" in fixtures:
            item.add_marker("command")


def pytest_collection_finish() -> None:
    """Python's collector need not look through the libraries and thousands of tests again and again."""
    gc.collect()
    gc.freeze()


processes_allowed = True
"""Whether Python may be started by the test that runs."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing is patched, so that what libraries find out about `subprocess` is as ever."""
    if event == "subprocess.Popen" and not processes_allowed:
        words = [arguments[1]] if isinstance(arguments[1], str) else arguments[1]
        if sys.executable in words:
            raise AssertionError("take the fixture `mtcl_process` or `starts_processes`: the test starts a process")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def no_process_unannounced(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that starts Python without saying so would make `make quick` slow without anybody seeing why."""
    global processes_allowed
    processes_allowed = request.node.get_closest_marker("process") is not None
    yield
    processes_allowed = True


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """What a command does to mtcl's logger ends with its test: pytest attaches its handlers to a logger that does not
    propagate, so a later test that lets it propagate would see each message twice.
    """
    yield
    log = logging.getLogger("mtcl")
    log.handlers, log.propagate = [], True


@pytest.fixture(scope="session")
def starts_processes() -> None:
    """For tests that start processes in ways of their own."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of 2 layers and 32 dimensions (dropout 0.1) and a WordPiece tokenizer of some 50 words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), *(f"##{c}" for c in WORDS[:26])]
    pieces += [str(n) for n in range(10)] + [f"##{n}" for n in range(10)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root as `mtcl demo` writes it, of 300 posts."""
    from mtcl.demo import write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, posts=300, seed=0)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for token stores, shared by the session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained_run(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 4 steps: 16 dimensions of 32, also trained at 8; a prompt on each side of `search`, a head
    of 4 dimensions for `interest`; `storyline` is only watched. Read it, and copy it to change it.
    """
    from mtcl.__main__ import main

    folder = tmp_path_factory.mktemp("trained_run") / "run"
    loss = "{class_path: Matryoshka, init_args: {loss: {class_path: InfoNCE}, dims: [8]}}"
    arguments = {
        "run_dir": folder,
        "model.encoder.name": tiny_model,
        "model.encoder.dim": 16,
        "data.root": demo_root,
        "data.cache": cache,
        "data.batch_size": 8,
        "data.max_length": 32,
        "data.num_workers": 0,
        "tasks.search": f'{{prompt: {{query: "query: ", document: "post: "}}, max_length: 24, loss: {loss}}}',
        "tasks.interest": "{head: 4}",
        "tasks.storyline": "{watch: true}",
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 4,
        "trainer.enable_progress_bar": False,
    }
    with _as_it_was():
        assert main(["fit", *(part for key, value in arguments.items() for part in (f"--{key}", str(value)))]) == 0
    return folder


@pytest.fixture
def mtcl_command(tmp_path: Path, cache: Path) -> Run:
    """`mtcl` in this process, in `tmp_path`: nothing of it is left afterwards but files."""
    return command_in(tmp_path, cache)


def command_in(folder: Path, cache: Path) -> Run:
    """`mtcl` in this process, in `folder`; several seconds faster than in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        from mtcl.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        with _as_it_was(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            os.chdir(folder)
            for name in [name for name in os.environ if name.startswith(("MTCL_", "PL_"))]:
                del os.environ[name]
            os.environ |= {"MTCL_CACHE": str(cache), "COLUMNS": "200"}
            try:
                code = main(list(arguments))
            except SystemExit as leaving:
                code = int(leaving.code or 0)
            except Exception:  # as the interpreter would
                traceback.print_exc()
                code = 1
        return subprocess.CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())

    return run


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """What a command changes in its process is put back: folder, environment, signals, our logger, random numbers."""
    log, kept = logging.getLogger("mtcl"), (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = (Path.cwd(), dict(os.environ), [signal.getsignal(number) for number in kept])
    logger = (log.handlers, log.propagate, log.level)
    state = random.getstate()
    try:
        yield
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ |= before[1]
        for number, handler in zip(kept, before[2], strict=True):
            signal.signal(number, handler)
        log.handlers, log.propagate, level = logger
        log.setLevel(level)
        random.setstate(state)


@pytest.fixture
def mtcl_process(tmp_path: Path, cache: Path) -> Run:
    """`mtcl` in a process of its own, in `tmp_path`, with one thread; options in capitals are its environment."""

    def run(*arguments: str, timeout_s: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"MTCL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MTCL_", "PL_"))}
        command = Command(list(arguments), folder=tmp_path, environment=inherited | own | environment)
        try:
            out, err = command.communicate(timeout_s)
        except subprocess.TimeoutExpired:
            os.kill(command.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command.args, command.wait(0), out, err)

    return run
