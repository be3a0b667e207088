"""Two nodes of two processes under torchrun, on loopback addresses: the run of one process, also when a node dies.

python -m pytest tests/test_nodes.py
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, Run
from tests.test_resume import losses, options, weights

pytestmark = [pytest.mark.usefixtures("starts_processes"), pytest.mark.nightly]

STEPS = 30
SETTINGS = {
    "model.encoder.dropout": 0.0,
    "model.optimizer.lr": 0.0001,
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": STEPS,
    "trainer.accelerator": "cpu",
    "checkpoint_every_n_steps": 10,
    "data.num_workers": 0,
}
Nodes = list[subprocess.Popen[str]]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start_nodes(command: list[str], folder: Path, *, nodes: int = 2) -> Nodes:
    """A torchrun for each node, in process groups of their own; all share one folder and one cache, empty at first."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc-per-node", "2"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "--no-python"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MTCL_")}
    own = {"MTCL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(node), "--local-addr", f"127.0.0.{node + 1}", *command],
            cwd=folder,
            env=inherited | own | {"GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for node in range(nodes)
    ]


def kill_group(process: subprocess.Popen[str]) -> None:
    """All of a node at once, its torchrun as well: what a machine that is gone leaves of itself."""
    for line in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
        os.kill(int(line), signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def running() -> Iterator[Nodes]:
    """Nodes that a test has started; what is left of them in the end is killed."""
    started: Nodes = []
    yield started
    for process in started:
        if process.poll() is None:
            kill_group(process)


def fit(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mtcl", "fit", *arguments]


@pytest.fixture(scope="module")
def alone(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.test_resume import start

    folder = tmp_path_factory.mktemp("alone")
    assert start(options(tiny_model, demo_root, "alone", **SETTINGS), folder, cache).wait(120) == 0
    return folder / "runs" / "alone"


def assert_equal_to_rounding(one: Path, other: Path) -> None:
    expected, found = losses(one), losses(other)
    for tag in (tag for tag in expected if tag.startswith("train_loss/")):
        assert found[tag] == pytest.approx(expected[tag], rel=1e-5), tag
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_two_nodes_equal_one_process(
    alone: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, running: Nodes
) -> None:
    """Neither devices nor num_nodes is given: torchrun's numbers are taken."""
    running += start_nodes(fit(*options(tiny_model, demo_root, "nodes", **SETTINGS)), tmp_path)
    errors = [process.communicate(timeout=180)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert_equal_to_rounding(alone, tmp_path / "runs" / "nodes")


@pytest.mark.parametrize("dies", [0, 1])
def test_a_node_that_dies(
    alone: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, running: Nodes, mtcl_process: Run, dies: int
) -> None:
    """The other node leaves within a minute, says why, and the run goes on from its checkpoint, here on one process."""
    endless = {**SETTINGS, "model.optimizer.decay": "constant", "trainer.max_steps": 10**6}
    endless["trainer.val_check_interval"] = 10**6
    running += start_nodes(fit(*options(tiny_model, demo_root, "nodes", **endless)), tmp_path)
    last = tmp_path / "runs" / "nodes" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists():
        assert all(process.poll() is None for process in running)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kill_group(running[dies])
    errors = running[1 - dies].communicate(timeout=60)[1]
    assert running[1 - dies].returncode != 0
    said = [line for line in errors.splitlines() if "mtcl: RankError" in line]
    assert len(said) == 1, errors
    assert "another process of the run has ended; continue with: mtcl fit --resume runs/nodes" in said[0]
    reached = torch.load(last, weights_only=True)["global_step"]
    ends = {"trainer.max_steps": reached + 10, "trainer.val_check_interval": reached + 10}
    given = [x for key, value in ends.items() for x in (f"--{key}", str(value))]
    done = mtcl_process("fit", "--resume", "runs/nodes", *given)
    assert done.returncode == 0, done.stderr
    assert torch.load(last, weights_only=True)["global_step"] == reached + 10


@pytest.mark.parametrize("differs", ["data", "configuration", "no data"])
def test_a_rank_with_something_else_ends_the_run(
    tiny_model: Path, demo_root: Path, tmp_path: Path, running: Nodes, differs: str
) -> None:
    """Rank 1 has other files of search, another batch size, or no files: one line, and no rank waits."""
    shutil.copytree(demo_root, tmp_path / "data0")
    if differs != "no data":
        search = shutil.copytree(demo_root, tmp_path / "data1") / "search"
        if differs == "data":
            shutil.copy(search / "validation.parquet", search / "train.parquet")
    arguments = options(tiny_model, demo_root, "run", **SETTINGS)
    arguments[arguments.index("--data.root") + 1] = "data$LOCAL_RANK"
    if differs == "configuration":
        arguments[arguments.index("--data.batch_size") + 1] = "$((8 + 4 * LOCAL_RANK))"
    running += start_nodes(["bash", "-c", " ".join(fit(*arguments))], tmp_path, nodes=1)
    errors = running[0].communicate(timeout=90)[1]
    assert running[0].returncode != 0
    (line,) = [line for line in errors.splitlines() if "mtcl: " in line]
    told = {
        "data": "ranks differ (tasks.search.num_pairs: 93 on rank 0, 13 on rank 1; tasks.search.data: ",
        "configuration": "ranks differ (tasks.search.batch_size: 8 on rank 0, 12 on rank 1; ",
        "no data": "rank 1: task 'search', train: data root 'data1' is not a folder",
    }
    assert told[differs] in line
    assert not (tmp_path / "runs" / "run" / "checkpoints").exists()
