"""Encoders side by side: an endpoint on loopback gives what its weights give, whatever goes wrong on the way.

python -m pytest tests/test_compare.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mtcl.errors import ConfigError
from mtcl.studies.compare.comparison import rows_of
from mtcl.studies.compare.config import CompareConfig, EncoderSpec
from mtcl.studies.compare.endpoint import Endpoint, EndpointError, model_key
from mtcl.studies.compare.report import table
from mtcl.studies.compare.vectors import VectorCache
from mtcl.studies.item_scores import ItemScores
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


@pytest.mark.parametrize("values", [{}, {"run": "a", "model": "b"}, {"model": "b", "batch_size": 0}])
def test_wrong_encoders(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"give (one of|positive)"):
        EncoderSpec(**values)


def test_rows_are_paired_with_the_first_encoder() -> None:
    items = np.random.default_rng(0).random(300)

    def scored(scores: np.ndarray) -> dict[str, ItemScores]:
        return {"t": ItemScores(np.arange(300), None, scores)}

    rows = rows_of({("a", 8): scored(items), ("a", 4): scored(items - 0.1), ("b", 8): scored(items + 0.01)})
    assert [row.macro_gain.mean for row in rows] == pytest.approx([0.0, -0.1, 0.01])
    assert rows[2].macro_gain.low > 0, "paired item by item, a small difference is certain"
    assert rows[2].macro.low < rows[0].macro.high
    assert rows[0].num_bytes == 32
    shown = table(rows, {"t": "mrr"})
    assert "| b | 8 | 32 |" in shown
    figures, gains = shown.split("\nMinus a at 8 dimensions, item by item:\n\n")
    assert figures.count("\n") == 2 + 3
    assert "| b | 8 | +0.0100 [+0.0100, +0.0100] | +0.0100 [+0.0100, +0.0100] |" in gains
    assert "| a | 8 |" not in gains


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
    rows = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert [(row["encoder"], row["dim"]) for row in rows] == [(e, d) for e in content["encoders"] for d in (8, 32)]
    for own, other in zip(rows[:2] * 2, rows[2:], strict=True):
        for task in ("search", "storyline"):
            assert other["by_task"][task]["mean"] == pytest.approx(own["by_task"][task]["mean"], abs=1e-6)
    assert (tmp_path / "again" / "compare.json").read_text() == (tmp_path / "compare" / "compare.json").read_text()
    assert (tmp_path / "compare" / "compare.png").exists()


def test_wrong_comparisons() -> None:
    with pytest.raises(ConfigError, match="at least one of each"):
        CompareConfig([], {})
    with pytest.raises(ConfigError, match="dims has 0"):
        CompareConfig(["a"], {"b": EncoderSpec(model="c")}, dims=[0])


def test_vectors_survive_the_process(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(1200)]
    vectors = {text: torch.randn(3).numpy() for text in texts}
    VectorCache(tmp_path / "v", "m").put(vectors)
    found = VectorCache(tmp_path / "v", "m").get([*texts, "unknown"])
    assert found.keys() == vectors.keys()
    assert all(np.array_equal(found[text], vectors[text]) for text in texts)
