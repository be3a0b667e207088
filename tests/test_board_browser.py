"""What a person sees in TensorBoard: every plugin, in a browser, for two runs of different tasks, one of them resumed.

python -m pytest tests/test_board_browser.py (nightly, since it waits for a browser)

Screenshots go to the folder that MTCL_SCREENSHOTS names, else to pytest's. Needs Chromium, chromedriver and selenium.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtcl.training.board.names import CHARTS, deep_link
from tests.board_runs import arguments, write_model, write_tasks
from tests.browser import Page, chromium, missing, squeezed, tensorboard
from tests.conftest import command_in

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(bool(missing()), reason=missing())]
FEWER = ("interest", "search", "translation", "same_topic")
FILTER = 1
"""The second field of a page of an older plugin filters tags; the first filters runs."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cache: Path, starts_processes: None) -> Path:
    """The folder of two runs: `one` of eight tasks, and `two` of four tasks and a held-out one, stopped and resumed."""
    from mtcl.demo import write_demo

    folder = tmp_path_factory.mktemp("browser")
    write_demo(folder / "data", posts=600, seed=0)
    write_tasks(folder / "data", folder / "tasks")
    write_model(folder / "data", folder / "model")
    run = command_in(folder, cache)
    two = {"tasks": FEWER, "data__held_out": "[storyline]", "model__optimizer__lr": 1e-3}
    for name, changed, more in (
        ("one", {}, []),
        ("two", {**two, "trainer__max_steps": 15}, []),
        ("two", two, ["--resume", "runs/two"]),
    ):
        given = arguments(name, model=folder / "model", root=folder / "data", **changed)  # type: ignore[arg-type]
        done = run("fit", *given, *more)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with tensorboard(place / "runs") as served:
        yield served


@pytest.fixture(scope="module")
def page(starts_processes: None) -> Iterator[Page]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(place: Path) -> Path:
    return Path(os.environ.get("MTCL_SCREENSHOTS") or place / "screenshots")


@pytest.mark.process
def test_the_link_opens_with_pins_and_the_summary_is_first(address: str, page: Page, pictures: Path) -> None:
    page.open(deep_link("one", level="full", address=address))
    text = page.wait("5 cards", "/gain_by_task", "/mean_gain_on_base", "task_translation", "Step 30")
    page.picture(pictures / "time_series.png", settle_s=4)
    groups = text.split("Clear all pins")[1]
    order = [groups.index(f"\n{name}\n") for name in ("summary", "task_hashtag", "throughput", "train", "val")]
    assert order == sorted(order)
    assert page.count("image-card img") >= 1


@pytest.mark.process
def test_the_summary(address: str, page: Page, pictures: Path) -> None:
    """Pictures first, of both runs, then the means; each task's gain on its own."""
    page.open(f"{address}/?tagFilter=summary&smoothing=0#timeseries")
    page.wait("summary/exposure", "summary/gain_by_task")
    page.picture(pictures / "summary.png", settle_s=4)
    page.open(f"{address}/?tagFilter=summary/mean&smoothing=0#timeseries")  # a page of cards has only twelve
    page.wait("summary/mean", "summary/mean_held_out")


@pytest.mark.process
def test_pictures(address: str, page: Page, pictures: Path) -> None:
    page.open(f"{address}/#images")
    page.wait(*(f"summary/{name}" for name in ("exposure", "gain_by_task", "gradient_cosines", "similarity_of_tasks")))
    assert page.count("tf-image-loader") == 8, "four of each run"
    page.picture(pictures / "images.png", settle_s=4)
    for name in ("gradient_cosines", "similarity_of_tasks"):
        page.type("input", name, number=FILTER)
        page.wait("Tags matching /")
        page.picture(pictures / f"images_{name}.png", settle_s=4)


@pytest.mark.process
def test_custom_charts_are_not_doubled(address: str, page: Page, pictures: Path) -> None:
    """Two runs of different tasks share each chart."""
    page.open(f"{address}/#custom_scalars")
    text = page.wait("all tasks, validation", "all tasks, training", "temperature", "Matches (13)")
    for category, charts in CHARTS.items():
        assert text.count(f"all tasks, {category}") == 1
        for title in charts:
            assert text.splitlines().count(title) == 1, title
    page.picture(pictures / "custom_scalars.png", settle_s=4)


@pytest.mark.process
@pytest.mark.parametrize("plugin", ["histograms", "distributions"])
def test_histograms(address: str, page: Page, pictures: Path, plugin: str) -> None:
    page.open(f"{address}/#{plugin}")
    page.wait("task_same_topic", "task_translation")
    page.type("input", "task_interest", number=FILTER)
    tags = [
        f"task_interest/val_{name}" for name in ("cosine_positives", "cosine_hardest_negatives", "drift_from_start")
    ]
    page.wait(*tags)
    page.picture(pictures / f"{plugin}.png", settle_s=4)


@pytest.mark.process
def test_curves_of_judged_pairs(address: str, page: Page, pictures: Path) -> None:
    page.open(f"{address}/#pr_curves")
    text = page.wait("task_closeness/val_pr_curve", "task_same_topic/val_pr_curve", "is at")
    assert squeezed(text).count("step30") >= 2, "of both runs"
    page.picture(pictures / "pr_curves.png", settle_s=4)


@pytest.mark.process
def test_texts(address: str, page: Page, pictures: Path) -> None:
    """Of the resumed run, both commands and configurations."""
    page.open(f"{address}/#text")
    page.wait("run/command/text_summary", "run/configuration/text_summary", "run/data/text_summary", "step 15")
    page.type("input", "run/data", number=FILTER)
    page.wait("passes", "LabelText", "QueryDocument", "held_out")
    page.picture(pictures / "text_data.png", settle_s=3)
    page.type("input", "task_interest/val_neighbours", number=FILTER)
    text = page.wait("nearest at the start", "nearest now")
    assert "✘" in text or "✔" in text
    assert "not known" not in text
    page.picture(pictures / "text_neighbours.png", settle_s=3)


@pytest.mark.process
def test_hparams_right_after_a_resume_too(address: str, page: Page, pictures: Path, place: Path) -> None:
    """A row per run with the last value of each chart: the resumed run has those of its last step."""
    page.open(f"{address}/#hparams")
    text = page.wait("batch_size", "lr", "summary/mean_gain_on_base", "task_interest/val_mrr", "TABLE VIEW")
    table = text.split("Trial ID")[1]
    assert "\none\n" in table
    assert "\ntwo\n" in table
    import torch

    saved = torch.load(place / "runs" / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    final = saved["mtcl"]["history"][30]
    mean = sum(final[name] for name in FEWER) / len(FEWER)
    assert f"{mean:.4f}" in table.split("\ntwo\n")[1]
    page.picture(pictures / "hparams.png", settle_s=4)


@pytest.mark.process
def test_the_projector(address: str, page: Page, pictures: Path) -> None:
    page.open(f"{address}/#projector")
    page.enter_frame()
    page.wait("2 runs found", "2 tensors found", "Dimension: 48", "Total variance described")
    page.picture(pictures / "projector.png", settle_s=4)
