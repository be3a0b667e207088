"""Encoders side by side: an endpoint on loopback gives what its weights give, whatever goes wrong on the way.

python -m pytest tests/test_compare.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError
from mtcl.studies.compare.comparison import Scores, report_of, run_comparison
from mtcl.studies.compare.config import CompareConfig, EncoderSpec
from mtcl.studies.compare.encoders import Local
from mtcl.studies.compare.endpoint import Endpoint, EndpointError, model_key
from mtcl.studies.compare.report import plot_groups, table, write_report
from mtcl.studies.compare.sample import first_rows
from mtcl.studies.compare.vectors import VectorCache
from mtcl.studies.item_scores import ItemScores
from mtcl.task.registry import discover
from mtcl.task.rows import pairs_fingerprint, pairs_of
from tests.conftest import Run
from tests.embedding_server import EmbeddingServer, Fault

pytest.importorskip("openai", reason="the extra `compare` is not installed")
TEXTS = ["red dog", "green cat", "blue bird", "a post", "red dog", "news of a job"]


def vectors_of(texts: Any) -> list[list[float]]:
    return [[float(len(text)), float(text.count("e")), float(text.count("d")), 1.0] for text in texts]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(vectors_of) as started:
        yield started


def endpoint_at(server: EmbeddingServer, folder: Path, **changed: Any) -> Endpoint:
    values: dict[str, Any] = {
        "endpoint": "m",
        "base_url": server.url,
        "batch_size": 2,
        "timeout_s": 30,
        "max_retries": 3,
    }
    spec = EncoderSpec(**values | changed)
    return Endpoint(spec, VectorCache(folder / "vectors.sqlite", model_key(spec)))


def patience(fault: Fault) -> int:
    """Seconds: well below a slow answer, else well above what any machine needs."""
    return 1 if fault == "slow" else 30


def test_vectors_come_in_order_and_each_text_once(server: EmbeddingServer, tmp_path: Path) -> None:
    found = endpoint_at(server, tmp_path).embed(TEXTS)
    assert found.tolist() == vectors_of(TEXTS)
    assert [len(body["input"]) for body in server.requests] == [2, 2, 1]


def test_nothing_is_paid_twice(server: EmbeddingServer, tmp_path: Path) -> None:
    endpoint_at(server, tmp_path).embed(TEXTS[:3])
    again = endpoint_at(server, tmp_path)
    assert again.missing(TEXTS) == ["a post", "news of a job"]
    again.embed(TEXTS)
    sent = [text for body in server.requests for text in body["input"]]
    assert sorted(sent) == sorted(set(TEXTS))
    assert endpoint_at(server, tmp_path, endpoint="other").missing(TEXTS[:1]) == TEXTS[:1]
    assert endpoint_at(server, tmp_path, dimensions=2).missing(TEXTS[:1]) == TEXTS[:1]


@pytest.mark.parametrize("fault", [429, 500, 503, "slow", "no json", "too few", "ragged", "not finite", "wrong order"])
def test_a_fault_is_overcome(server: EmbeddingServer, tmp_path: Path, fault: Fault) -> None:
    server.faults.extend([fault, fault])
    assert endpoint_at(server, tmp_path, timeout_s=patience(fault)).embed(TEXTS).tolist() == vectors_of(TEXTS)
    assert not server.faults
    assert len(server.requests) == (3 if fault == "wrong order" else 5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, "refused 2 texts.*injected 401"),
        (429, "refused 2 texts.*injected 429"),
        ("slow", "does not answer"),
        ("no json", "broken answers"),
        ("too few", "broken answers: 1 vectors"),
    ],
)
def test_a_lasting_fault_is_told_and_what_was_paid_for_is_kept(
    server: EmbeddingServer, tmp_path: Path, fault: Fault, message: str
) -> None:
    endpoint = endpoint_at(server, tmp_path, max_retries=1, timeout_s=patience(fault))
    endpoint.embed(TEXTS[:2])
    server.faults.extend([fault] * 8)
    with pytest.raises(EndpointError, match=f"endpoint 'm' at {re.escape(server.url)} .*{message}"):
        endpoint.embed(TEXTS)
    assert endpoint.missing(TEXTS[:2]) == []


class Clock:
    """In the place of `time`: only sleeping takes time."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.timed
def test_the_pace_is_kept(server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = Clock(), []
    monkeypatch.setattr("mtcl.studies.compare.endpoint.time", clock)
    endpoint = endpoint_at(server, tmp_path, requests_per_minute=300)
    request = endpoint._request
    monkeypatch.setattr(endpoint, "_request", lambda batch: sent.append(clock.now) or request(batch))
    endpoint.embed(TEXTS)
    assert len(sent) == len(server.times) > 2
    assert np.diff(sent) == pytest.approx(0.2)


def test_no_server_is_one_error(tmp_path: Path) -> None:
    spec = EncoderSpec(endpoint="m", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(EndpointError, match="does not answer"):
        Endpoint(spec, VectorCache(tmp_path / "v", "m")).embed(["a"])


def test_a_key_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint = Endpoint(EncoderSpec(endpoint="m"), VectorCache(tmp_path / "v", "m"))
    with pytest.raises(ConfigError, match="set the environment variable OPENAI_API_KEY"):
        endpoint.embed(["a"])
    endpoint.cache.put({"a": np.ones(2, dtype=np.float32)})
    assert endpoint.embed(["a"]).tolist() == [[1.0, 1.0]], "what is known needs no key"


def test_a_text_that_is_too_long_is_named_and_the_others_are_kept(server: EmbeddingServer, tmp_path: Path) -> None:
    server.most_characters = 50
    texts = [f"red dog {n}" for n in range(9)]
    texts[5] = "one very long post " * 10
    endpoint = endpoint_at(server, tmp_path, batch_size=4)
    with pytest.raises(EndpointError, match=r"a text of 190 characters \('one very long.*give max_characters"):
        endpoint.embed(texts)
    assert endpoint.missing(texts) == [texts[5], *texts[6:]]


@pytest.mark.parametrize("values", [{}, {"run": "a", "model": "b"}, {"endpoint": "b", "batch_size": 0}])
def test_wrong_encoders(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"give (one of|positive)"):
        EncoderSpec(**values)


@pytest.mark.parametrize("option", [{"batch_size": 4}, {"dimensions": 8}, {"timeout_s": 1.0}])
def test_options_of_endpoints_are_refused_elsewhere(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(option))} has no effect on m: it is an option of an endpoint"):
        EncoderSpec(model="m", **option)


def scored(*seeds: np.ndarray, tasks: tuple[str, ...] = ("t",)) -> Scores:
    """An encoder with the same item scores on each task."""
    items = {task: [ItemScores(np.arange(len(one)), None, one) for one in seeds] for task in tasks}
    return Scores(items, {task: [{"mrr": float(one.mean())} for one in seeds] for task in tasks})


def config_of(*encoders: str, tasks: tuple[str, ...] = ("t",), **changed: Any) -> CompareConfig:
    return CompareConfig(list(tasks), {name: EncoderSpec(model="m") for name in encoders}, **changed)


def test_rows_are_paired_with_the_first_encoder() -> None:
    items = np.random.default_rng(0).random(300)
    scores = {("a", 8): scored(items), ("a", 4): scored(items - 0.1), ("b", 8): scored(items + 0.01)}
    report = report_of(scores, {"t": "mrr"}, config_of("a", "b"))
    assert [row.macro.mean for row in report.gains] == pytest.approx([-0.1, 0.01])
    assert report.gains[1].macro.low > 0, "paired item by item, a small difference is certain"
    assert report.levels[2].macro.low < report.levels[0].macro.high
    assert report.levels[0].num_bytes == 32
    shown = table(report)
    assert "| b | 8 | 32 |" in shown
    figures, gains = shown.split("\nMinus a at 8 dimensions, item by item:\n\n")
    assert figures.count("\n") == 2 + 3
    assert "| b | 8 | +0.0100 [+0.0100, +0.0100] | +0.0100 [+0.0100, +0.0100] |" in gains
    assert "| a | 8 |" not in gains
    assert f"| t | mrr | {items.mean():.4f} | {items.mean() + 0.01:.4f} |" in gains


def test_several_runs_are_seeds_of_one_recipe() -> None:
    """The interval covers the seeds, and runs are compared seed by seed, or each with an encoder of one."""
    random = np.random.default_rng(0)
    base = random.random(200)
    seeds = [base + shift for shift in (0.01, 0.03, 0.05)]
    scores = {("base", 8): scored(base), ("a", 8): scored(*seeds), ("b", 8): scored(*(s + 0.001 for s in seeds))}
    report = report_of(scores, {"t": "mrr"}, config_of("base", "a", "b", differences=[["b", "a"], ["a", "base"]]))
    gain = report.gains[0].macro
    assert (gain.num_seeds, gain.mean) == (3, pytest.approx(0.03))
    assert gain.low < 0.0 < 0.06 < gain.high, "three seeds that differ"
    assert report.pairs[0].macro.low == pytest.approx(0.001)
    assert report.pairs[1].macro == gain
    assert "| b minus a at 8 dimensions | +0.0010" in table(report)
    scores["b", 8] = scored(*seeds[:2])
    with pytest.raises(ConfigError, match="of 2 runs is compared with one of 3: give as many runs"):
        report_of(scores, {"t": "mrr"}, config_of("base", "a", "b", differences=[["b", "a"]]))


def test_groups_have_means_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    base, tasks = random.random(100), ("own", "far", "farther")
    better = scored(base, tasks=tasks)
    better.items["own"] = [ItemScores(np.arange(100), None, base + 0.2)]
    better.items["far"] = [ItemScores(np.arange(100), None, base - 0.1)]
    config = config_of("a", "b", tasks=tasks, groups={"trained": ["own"], "unseen": ["far", "farther"]})
    report = report_of({("a", 8): scored(base, tasks=tasks), ("b", 8): better}, dict.fromkeys(tasks, "mrr"), config)
    assert {name: one.mean for name, one in report.gains[0].by_group.items()} == pytest.approx(
        {"trained": 0.2, "unseen": -0.05}
    )
    path = write_report(report, tmp_path)
    assert "| trained | unseen | macro mean |" in path.read_text()
    assert (tmp_path / "groups.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = plot_groups(report.gains).axes
    assert "unseen" not in axes.get_xlabel()
    assert axes.get_xlabel().startswith("trained: mean minus a at 8 dimensions")


def test_the_first_rows_of_a_split_and_the_whole_corpus(demo_root: Path) -> None:
    search = discover(None)["search"]
    cut = first_rows(search, "test", 5)
    assert len(pairs_of(cut, "test", demo_root).anchors) == 5
    documents = [
        {table.texts[int(row)].as_py() for row in np.asarray(table.candidates)}
        for table in (pairs_of(search, "test", demo_root), pairs_of(cut, "test", demo_root))
    ]
    assert documents[0] == documents[1]
    assert len(pairs_of(cut, "validation", demo_root).anchors) == len(pairs_of(search, "validation", demo_root).anchors)
    names = {pairs_fingerprint(one, "test", demo_root) for one in (search, cut, first_rows(search, "test", 6))}
    assert len(names) == 3


def test_vectors_of_runs_and_models_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    """By what they depend on: a second comparison embeds nothing again, another length or precision does."""
    encoder = TextEncoder.load(tiny_model)
    calls: list[int] = []

    class Counted(TextEncoder):
        def __call__(self, texts: Any, max_length: int | None = None, *, task: str | None = None) -> torch.Tensor:
            calls.append(len(texts))
            return super().__call__(texts, max_length, task=task)

    counted = Counted(encoder.model, encoder.tokenizer, encoder.max_length, encoder.tokens_per_chunk)
    local = Local(counted, tmp_path, "m")
    found = local(TEXTS, 16)
    torch.testing.assert_close(found, encoder(TEXTS, 16))
    assert calls == [5], "a text that occurs twice is embedded once"
    torch.testing.assert_close(Local(counted, tmp_path, "again")(TEXTS[::-1], 16), found.flip(0))
    assert calls == [5]
    local(TEXTS, 3)
    Local(replace(counted, precision="bf16"), tmp_path, "m")(TEXTS, 16)
    assert calls == [5, 5, 5]
    Local(replace(counted, tokenizer=replace(counted.tokenizer, digest="another")), tmp_path, "m")(TEXTS, 16)
    assert calls == [5, 5, 5, 5], "the same weights with another tokenizer"


def test_every_kind_of_encoder_in_one_table(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """A run of no steps, the model it began with, and a server with those weights: equal figures in three ways."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    options = {"trainer.max_steps": 1, "model.optimizer.lr": 0, "data.batch_size": 4, "data.max_length": 128}
    options |= {"tasks.search.weight": 1, "trainer.precision": "32-true", "model.encoder.name": tiny_model}
    flags = [x for key, value in options.items() for x in (f"--{key}", str(value))]
    fitted = mtcl_command("fit", "--run_dir", "run", "--data.root", str(demo_root), *flags)
    assert fitted.returncode == 0, fitted.stderr
    model = SentenceTransformer(str(tiny_model), device="cpu")
    with EmbeddingServer(lambda texts: model.encode(list(texts)).tolist()) as server:
        content = {
            "tasks": ["search", "storyline"],
            "encoders": {
                "ours": {"run": "run"},
                "theirs": {"model": str(tiny_model)},
                "served": {"endpoint": "tiny", "base_url": server.url},
            },
            "dims": [8],
            "precision": "32-true",
            "root": str(demo_root),
            "tokenizer": str(tiny_model),
        }
        (tmp_path / "compare.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        refused = mtcl_command("compare", "--config", "compare.yaml", "--max_tokens", "10")
        assert refused.returncode == 2
        assert "tokens would be sent, max_tokens is 10" in refused.stderr
        assert not server.requests
        done = mtcl_command("compare", "--config", "compare.yaml")
        assert done.returncode == 0, done.stderr
        assert re.search(r"served: sends (\d+) of \1 texts, about \d+ tokens", done.stderr)
        num_requests = len(server.requests)
        again = mtcl_command("compare", "--config", "compare.yaml", "--out", "again")
        assert "served: sends 0 of" in again.stderr
        assert len(server.requests) == num_requests
    rows = json.loads((tmp_path / "compare" / "compare.json").read_text())["levels"]
    assert [(row["encoder"], row["dim"]) for row in rows] == [(e, d) for e in content["encoders"] for d in (8, 32)]
    for own, other in zip(rows[:2] * 2, rows[2:], strict=True):
        for task in ("search", "storyline"):
            assert other["by_task"][task]["mean"] == pytest.approx(own["by_task"][task]["mean"], abs=1e-6)
    assert (tmp_path / "again" / "compare.json").read_text() == (tmp_path / "compare" / "compare.json").read_text()
    assert (tmp_path / "compare" / "compare.png").exists()


def test_wrong_comparisons() -> None:
    with pytest.raises(ConfigError, match="at least one of each"):
        CompareConfig([], {})
    for changed, words in (
        ({"dims": [0]}, "dims has 0"),
        ({"rows": 1}, "rows is 1: give at least 2"),
        ({"precision": "16"}, "precision is '16': give bf16-mixed or 32-true"),
        ({"groups": {"g": ["tt"]}}, "groups.g has 'tt', which is not in tasks; did you mean 't'"),
        ({"groups": {"g": []}}, "groups.g is empty"),
        ({"differences": [["b", "c"]]}, r"differences has \['b', 'c'\]: give pairs of names of encoders"),
        ({"differences": [["b"]]}, "give pairs of names"),
    ):
        with pytest.raises(ConfigError, match=words):
            config_of("b", **changed)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"run": "nowhere"}, "encoder last: no checkpoint 'nowhere'"),
        ({"run": "empty"}, "encoder last: no checkpoint 'empty/checkpoints/best.ckpt'"),
        ({"model": "empty"}, "encoder last: model folder 'empty' has no config.json"),
    ],
)
def test_a_missing_encoder_is_told_before_the_first_is_used(
    spec: dict[str, Any], words: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    encoders = {"first": EncoderSpec(model=str(tiny_model)), "last": EncoderSpec(**spec)}
    monkeypatch.setattr("mtcl.studies.compare.comparison.encoders_of", lambda *_: pytest.fail("an encoder was used"))
    with pytest.raises(ConfigError, match=re.escape(words)):
        run_comparison(CompareConfig(["search"], encoders, tokenizer=str(tiny_model)), tmp_path)


def test_vectors_survive_the_process(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(1200)]
    vectors = {text: torch.randn(3).numpy() for text in texts}
    VectorCache(tmp_path / "v", "m").put(vectors)
    found = VectorCache(tmp_path / "v", "m").get([*texts, "unknown"])
    assert found.keys() == vectors.keys()
    assert all(np.array_equal(found[text], vectors[text]) for text in texts)


def test_a_task_with_a_head_of_its_own(
    trained_run: Path, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    """It counts in the row of the encoder's whole size, and in those of fewer dimensions, with the ones it has."""
    pytest.importorskip("matplotlib")
    TextEncoder.load(trained_run, device="cpu").save_pretrained(tmp_path / "exported")
    content = {
        "tasks": ["search", "interest"],
        "encoders": {
            "ours": {"run": str(trained_run)},
            "base": {"model": str(tiny_model)},
            "same": {"model": str(tmp_path / "exported")},
        },
        "dims": [8, 64],
        "root": str(demo_root),
        "tokenizer": str(tiny_model),
        "rows": 30,
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = mtcl_command("compare", "--config", "compare.yaml")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "compare" / "compare.json").read_text())["levels"]
    sizes = [("ours", 8), ("ours", 16), ("base", 8), ("base", 32), ("same", 8), ("same", 16)]
    assert [(row["encoder"], row["dim"]) for row in rows] == sizes
    for ours, same in zip(rows[:2], rows[4:], strict=True):
        assert same["by_task"] == ours["by_task"]
    assert rows[0]["by_task"]["interest"] == rows[1]["by_task"]["interest"], "4 dimensions in both"
    assert rows[0]["by_task"]["search"] != rows[1]["by_task"]["search"]
    assert [row["fewer"] for row in rows] == [{} if row["encoder"] == "base" else {"interest": 4} for row in rows]
    assert "ours has a head for interest: its vectors have 4 dimensions" in done.stdout, "the rows say 8 and 16"
    assert "dims has 64, but no encoder has so many dimensions" in done.stderr
