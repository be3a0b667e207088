"""The board of runs: what each level writes, and that it changes neither the training nor a resume.

python -m pytest tests/test_board_run.py
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.board_runs import EIGHT, arguments, write_tasks
from tests.conftest import Run, command_in
from tests.test_resume import assert_equal_runs, losses, weights

SMALL = {"trainer__max_steps": 6, "trainer__val_check_interval": 3, "model__gradient_cosines_every_n_steps": 3}
SEARCHED = ("interest", "hashtag", "storyline", "search", "translation", "rewording")
Fit = Callable[..., Any]
FLIP = 0.03
"""Room for ties in these small pools that the last bit of a cosine decides otherwise: in two of some hundred runs, the
picture of the gains differed although the weights were bit-identical. The cause is not known.
"""


def shown(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0, "histograms": 0})
    return events.Reload()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write_tasks(demo_root, folder / "tasks")
    return folder


@pytest.fixture(scope="module")
def fit(place: Path, demo_root: Path, cache: Path, tiny_model: Path) -> Fit:
    run = command_in(place, cache)

    def call(name: str, *more: str, tasks: tuple[str, ...] = EIGHT, **changed: object) -> Any:
        done = run(
            "fit", *arguments(name, model=tiny_model, root=demo_root, tasks=tasks, **{**SMALL, **changed}), *more
        )
        assert done.returncode == 0, done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def full(fit: Fit, place: Path) -> Path:
    """The folder of a run of eight tasks with everything."""
    fit("full", model__eval_dims="[16]")
    return place / "runs" / "full"


def test_every_plugin_has_something(full: Path) -> None:
    tags = shown(full).Tags()
    pictures = {"summary/gain_by_task", "summary/exposure", "summary/gradient_cosines", "summary/similarity_of_tasks"}
    assert set(tags["images"]) == pictures
    for name in EIGHT:
        assert f"task_{name}/val_neighbours/text_summary" in tags["tensors"]
        assert f"task_{name}/val_drift_from_start" in tags["histograms"]
    for name in SEARCHED:
        kinds = {f"task_{name}/val_cosine_positives", f"task_{name}/val_cosine_hardest_negatives"}
        assert kinds <= set(tags["histograms"])
    assert {"task_same_topic/val_cosine_positives", "task_closeness/val_cosine_pairs"} <= set(tags["histograms"])
    assert {"task_same_topic/val_pr_curve", "task_closeness/val_pr_curve"} <= set(tags["tensors"])
    texts = {f"run/{name}/text_summary" for name in ("command", "configuration", "data")}
    assert texts | {"custom_scalars__config__"} <= set(tags["tensors"])
    assert (full / "projector_config.pbtxt").is_file()


def test_pictures_are_of_each_validation(full: Path) -> None:
    events = shown(full)
    for tag in events.Tags()["images"]:
        assert [image.step for image in events.Images(tag)] == [3, 6], tag


def test_hparams_read_the_charts_of_the_run(full: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = shown(full)
    content = events.PluginTagToContent("hparams")
    assert set(content) == {"_hparams_/experiment", "_hparams_/session_start_info"}
    columns = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    metrics = [info.name.tag for info in columns.metric_infos]
    assert metrics[:2] == ["summary/mean", "summary/mean_gain_on_base"]
    assert len(metrics) == 2 + len(EIGHT)
    assert set(metrics) <= set(events.Tags()["scalars"])
    values = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert values["max_steps"].number_value == 6


def test_gains_of_the_start_are_zero(full: Path) -> None:
    events = shown(full)
    for name in EIGHT:
        gains = events.Scalars(f"task_{name}/val_gain")
        assert [gain.step for gain in gains] == [0, 3, 6]
        assert gains[0].value == 0
        assert [g.value for g in events.Scalars(f"summary/task_gain_{name}")] == [g.value for g in gains]
    mean = sum(events.Scalars(f"task_{name}/val_gain")[-1].value for name in EIGHT) / len(EIGHT)
    assert events.Scalars("summary/mean_gain_on_base")[-1].value == pytest.approx(mean, abs=1e-5)


def test_the_drift_is_above_zero(full: Path) -> None:
    found = shown(full).Histograms("task_search/val_drift_from_start")
    assert [one.step for one in found] == [3, 6]
    assert all(one.histogram_value.max > 0 for one in found)


def pixels(png: bytes) -> np.ndarray:
    """(H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def text_of(events: EventAccumulator, tag: str) -> str:
    (value,) = events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val
    return str(value.decode())


def test_texts(full: Path) -> None:
    events = shown(full)
    assert "max_steps: 6" in text_of(events, "run/configuration")
    report = text_of(events, "run/data")
    assert all(f"| {name} | train |" in report for name in EIGHT)
    assert "- @mtcl owns interest" in report
    neighbours = text_of(events, "task_interest/val_neighbours")
    assert "not known" not in neighbours
    assert re.search("[✔✘]", neighbours)


def test_the_projector_has_the_same_points_twice(full: Path) -> None:
    """Before training and after it: unit vectors of the sampled texts, which have moved."""
    before, after = (
        torch.frombuffer(bytearray((full / "projector" / f"{name}.bytes").read_bytes()), dtype=torch.float32)
        for name in ("before", "after")
    )
    texts = (full / "projector" / "after.tsv").read_text().splitlines()
    assert texts == (full / "projector" / "before.tsv").read_text().splitlines()
    dim = len(before) // (len(texts) - 1)
    assert dim == 32
    assert before.reshape(-1, dim).norm(dim=1) == pytest.approx(torch.ones(len(texts) - 1), abs=1e-4)
    assert not torch.equal(before, after)


def test_lean_writes_little(fit: Fit, place: Path, full: Path) -> None:
    done = fit("lean", board="lean")
    events = shown(place / "runs" / "lean")
    tags = events.Tags()
    assert not tags["images"]
    assert not tags["histograms"]
    assert not (place / "runs" / "lean" / "projector_config.pbtxt").exists()
    of_search = {tag for tag in tags["scalars"] if tag.startswith("task_search/")}
    assert of_search == {"task_search/train_loss", "task_search/val_ndcg@10", "task_search/val_gain"}
    assert len(tags["scalars"]) < len(shown(full).Tags()["scalars"]) / 3
    assert "run/data/text_summary" in tags["tensors"]
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")
    assert "pinnedCards" in done.stderr
    assert_same_training(place / "runs" / "lean", full)


def test_null_writes_scalars_only(fit: Fit, place: Path, full: Path) -> None:
    done = fit("null", board="null")
    tags = shown(place / "runs" / "null").Tags()
    assert tags["tensors"] == ["custom_scalars__config__"]
    assert not tags["images"]
    assert set(tags["scalars"]) == {tag for tag in shown(full).Tags()["scalars"] if "_dim16" not in tag}
    assert "pinnedCards" not in done.stderr
    assert_same_training(place / "runs" / "null", full)


def assert_same_training(one: Path, other: Path) -> None:
    """Weights are bit-identical, and so are all losses that both log."""
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    first, second = losses(one), losses(other)
    common = [tag for tag in first if tag in second]
    assert any(tag.startswith("train_loss/") for tag in common)
    assert all(first[tag] == second[tag] for tag in common)


def last_scalars(events: EventAccumulator, prefix: str) -> dict[str, float]:
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith(prefix)}


def test_a_resumed_run_goes_on_with_the_board(fit: Fit, place: Path) -> None:
    """As if it had not been stopped: training, counts, what the start is compared with; HParams are written once."""
    runs = place / "runs"
    same: dict[str, Any] = {"tasks": ("search", "same_topic"), "model__optimizer__decay": "constant"}
    fit("whole", **same)
    fit("parts", **same, trainer__max_steps=4)
    stopped = {p.name: p.read_bytes() for p in (runs / "parts" / "board").iterdir()}
    fit("parts", "--resume", "runs/parts", **same)
    assert_equal_runs(runs / "whole", runs / "parts", at_least=0)
    assert {p.name: p.read_bytes() for p in (runs / "parts" / "board").iterdir()} == stopped
    whole, parts = shown(runs / "whole"), shown(runs / "parts")
    final = [last_scalars(events, "task_") for events in (whole, parts)]
    assert final[0] == pytest.approx(final[1], abs=FLIP)
    for tag in whole.Tags()["images"]:
        if tag != "summary/gradient_cosines":  # the mean since the last validation, or since the resume
            one, other = (pixels(events.Images(tag)[-1].encoded_image_string) for events in (whole, parts))
            assert one.shape == other.shape
            assert (one != other).any(axis=2).mean() < 0.05, f"{tag}: {final}"
    for tag in ("task_search/val_neighbours", "task_same_topic/val_neighbours"):
        assert text_of(whole, tag) == text_of(parts, tag)
    for name in ("before", "after"):
        files = (runs / run / "projector" / f"{name}.bytes" for run in ("whole", "parts"))
        one, other = (np.frombuffer(file.read_bytes(), dtype=np.float32) for file in files)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    raw = b"".join(p.read_bytes() for p in (runs / "parts").glob("events*"))
    assert raw.count(b"_hparams_/session_start_info") == 1


def test_without_a_base_there_is_no_start(fit: Fit, place: Path) -> None:
    done = fit("no_base", "--no_base", tasks=("search",))
    assert "the board has no start to compare with" in done.stderr
    tags = shown(place / "runs" / "no_base").Tags()
    assert "summary/gain_by_task" not in tags["images"]
    assert "summary/exposure" in tags["images"]
    assert not any("drift" in tag for tag in tags["histograms"])
    config = (place / "runs" / "no_base" / "projector_config.pbtxt").read_text()
    assert re.findall(r'tensor_name: "(\w+)"', config) == ["after"]


def test_a_run_from_weights_is_compared_with_its_start(fit: Fit, place: Path, full: Path) -> None:
    """`--init_from`: gains are over the start, which the run evaluates, and so is the drift."""
    fit("tuned", "--init_from", "runs/full")
    folder = place / "runs" / "tuned"
    assert set(json.loads((folder / "board" / "start.json").read_text())) == set(EIGHT)
    assert "task_search/val_drift_from_start" in shown(folder).Tags()["histograms"]
    assert "summary/gain_by_task" in shown(folder).Tags()["images"]


def test_a_task_with_a_head_has_points(fit: Fit, place: Path) -> None:
    """Its validation has vectors of its own; the projector shows the shared ones."""
    fit("head", "--tasks.search.head", "4", tasks=("search", "interest"))
    folder = place / "runs" / "head"
    shapes = re.findall(r"tensor_shape: (\d+)", (folder / "projector_config.pbtxt").read_text())
    assert shapes[1::2] == ["32", "32"]
    assert "task_search/val_drift_from_start" in shown(folder).Tags()["histograms"]


def test_other_loggers_get_the_same_values(fit: Fit, place: Path) -> None:
    """Under the names that callbacks monitor."""
    logger = '{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: csv, name: "", version: ""}}'
    fit("csv", "--trainer.logger", logger, tasks=("search", "interest"))
    with (place / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = {name: float(row[name]) for row in rows for name in row if row[name]}
    assert {"val_ndcg@10/search", "val_gain/search", "val/mean", "train_loss/interest", "train/loss"} <= last.keys()
    assert not [name for name in last if name.startswith(("summary", "task_"))]
    assert not list((place / "runs" / "csv").glob("events*"))
    assert not (place / "runs" / "csv" / "projector_config.pbtxt").exists()


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_trackers_get_the_same_values(fit: Fit, place: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline; MLflow does not allow @ in names, which Lightning leaves out."""
    pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    kind, arguments_ = {
        "wandb": ("WandbLogger", f"{{save_dir: {place}, offline: true}}"),
        "mlflow": ("MLFlowLogger", f"{{tracking_uri: 'sqlite:///{place}/ml.db'}}"),
    }[package]
    logger = f"{{class_path: lightning.pytorch.loggers.{kind}, init_args: {arguments_}}}"
    fit(package, "--trainer.logger", logger, tasks=("search", "interest"))
    if package == "mlflow":
        import mlflow

        (found,) = mlflow.MlflowClient(f"sqlite:///{place}/ml.db").search_runs(["1"])
        assert {"val_ndcg10/search", "val_gain/search", "val/mean", "train_loss/interest"} <= found.data.metrics.keys()
    else:
        import wandb

        wandb.finish()  # the test's process lives on, so nothing has written the file to its end
        (raw,) = [p.read_bytes() for p in place.rglob("*.wandb")]
        assert b"val_ndcg@10/search" in raw
        assert b"val_gain/search" in raw


def test_an_unknown_level_is_refused_at_once(mtcl_command: Run) -> None:
    done = mtcl_command("fit", "--board", "huge", "--tasks.search.weight", "1", "--trainer.max_steps", "1")
    assert done.returncode == 2
    assert "board is 'huge'" in done.stderr
    assert "lean" in done.stderr
