"""`mtcl index` and `mtcl search`: exact search and each kind of index against all cosines, ids, stale indices, output.

python -m pytest tests/test_index.py
"""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcl.deploy.embed.rows import Window
from mtcl.deploy.embed.settings import agree
from mtcl.deploy.embed.shards import Identity, Shard
from mtcl.deploy.embed.writing import ShardFiles
from mtcl.deploy.search import index as index_module
from mtcl.deploy.search.exact import ROWS, exact_search
from mtcl.deploy.search.index import (
    INDEX,
    RECORD,
    FolderIndex,
    IndexRecord,
    build_index,
    content_of,
    recall_of,
    vectors_at,
)
from mtcl.deploy.search.plan import FEWEST, IndexOptions, IndexPlan, default_lists
from mtcl.deploy.search.queries import found_rows, search
from mtcl.deploy.search.rows import rows_at
from mtcl.deploy.vectors import VectorFolder, record_file
from mtcl.errors import ConfigError, DataError
from mtcl.evaluation.nearest import Top
from tests.conftest import ROOT, Run
from tests.vector_folders import settings_of, unit_vectors, write_vectors

faiss = pytest.importorskip("faiss", reason="needs the extra `mine`")
DTYPES = ("float32", "float16", "int8", "binary")


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranked(queries: Any, vectors: Any, num: int) -> Any:
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :num]


def test_an_index_whose_end_cannot_be_written_is_no_index(tmp_path: Path) -> None:
    """FAISS only prints it, and the file would lack its end."""
    folder = write_vectors(tmp_path / "v", unit_vectors(20, 8), range(20))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            build_index(folder, IndexOptions("exact"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert error.value.filename == str(folder.path / INDEX)
    assert not (folder.path / INDEX).exists()
    build_index(folder, IndexOptions("exact"))
    assert faiss.read_index(str(folder.path / INDEX)).ntotal == 20


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_search_finds_what_all_cosines_show(dtype: str, file_format: str, tmp_path: Path) -> None:
    vectors, queries = unit_vectors(500, 24), unit_vectors(7, 24, seed=1)
    folder = write_vectors(tmp_path / "v", vectors, range(500), num_files=3, block=60, dtype=dtype, format=file_format)
    stored = unit(folder.vectors())
    hits = exact_search(folder, queries, 9)
    expected = np.sort(queries @ stored.T, axis=1)[:, ::-1][:, :9]
    np.testing.assert_allclose(hits.scores_NK, expected, atol=1e-6)
    np.testing.assert_allclose((queries[:, None] * stored[hits.rows_NK]).sum(axis=2), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_the_nearest_do_not_depend_on_the_blocks(levels: int, num: int, sizes: list[int], seed: int) -> None:
    """With many equal scores, too: the earlier row comes first."""
    scores = np.random.default_rng(seed).integers(levels, size=(3, sum(sizes))).astype(np.float32)
    top, start = Top(3, num), 0
    for size in sizes:
        top.add(slice(0, 3), scores[:, start : start + size], start)
        start += size
    expected = np.sort(scores, axis=1)[:, ::-1][:, :num]
    there = top.hits.rows_NK >= 0
    assert (there.sum(axis=1) == min(num, sum(sizes))).all()
    np.testing.assert_array_equal(top.hits.scores_NK[there].reshape(3, -1), expected)
    np.testing.assert_array_equal(np.take_along_axis(scores, top.hits.rows_NK, 1)[there].reshape(3, -1), expected)
    earliest = np.argsort(-scores, axis=1, kind="stable")[:, :num]
    np.testing.assert_array_equal(top.hits.rows_NK[there].reshape(3, -1), earliest)


@pytest.mark.parametrize("ids", ["text", "integers"])
def test_rows_are_found_by_number(ids: str, tmp_path: Path) -> None:
    given_ids = [f"post {n}" if ids == "text" else 7 * n for n in range(90)]
    texts = [f"text {n}" for n in range(90)]
    folder = write_vectors(tmp_path / "v", unit_vectors(90, 8), given_ids, num_files=4, block=7, texts=texts)
    wanted = [89, 0, 45, 45, 22, 23]
    found = rows_at(folder, np.array(wanted))
    assert found["id"].to_pylist() == [given_ids[row] for row in wanted]
    assert found["text"].to_pylist() == [texts[row] for row in wanted]
    assert rows_at(folder, np.array([], dtype=np.int64)).num_rows == 0


@pytest.mark.parametrize(
    "options",
    [
        IndexOptions("exact"),
        IndexOptions("hnsw"),
        IndexOptions("ivfpq", lists=16, code_bytes=2),
        pytest.param(IndexOptions("ivfpq"), marks=pytest.mark.nightly),
    ],
    ids=["exact", "hnsw", "small ivfpq", "ivfpq"],
)
def test_an_index_finds_the_nearest(options: IndexOptions, tmp_path: Path) -> None:
    kind, dim = options.kind, 4 if options.lists else 16
    rows = FEWEST if kind == "ivfpq" else 1500
    vectors = unit_vectors(rows, dim, groups=rows // 30)
    folder = write_vectors(tmp_path / "v", vectors, [f"p{n}" for n in range(rows)], num_files=2, block=4000)
    record = build_index(folder, options, num_queries=50)
    opened = FolderIndex.open(folder, record)
    queries = vectors[::97] * np.float32(1)
    hits = search(folder, queries, 10)
    if kind == "exact":
        np.testing.assert_array_equal(hits.rows_NK, ranked(queries, vectors, 10))
        assert record.recall == 1
    np.testing.assert_array_equal(hits.rows_NK, opened.search(queries, 10).rows_NK)
    assert record.recall is not None
    assert record.recall >= {"exact": 1, "hnsw": 0.95, "ivfpq": 0.3}[kind]
    assert (record.rows, record.dim, record.queries) == (rows, dim, 50)
    assert record.num_bytes == (folder.path / INDEX).stat().st_size
    assert IndexRecord.read(folder) == record
    found = found_rows(folder, hits)[0]
    assert [hit["id"] for hit in found] == [f"p{row}" for row in hits.rows_NK[0]]
    assert list(found[0]) == ["score", "id"]


def test_a_kept_column_called_score_is_not_taken_for_the_score(tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2], "score": [7, 8], "kept_score": ["x", "y"]})
    settings = agree(tmp_path, settings_of(2, keep=["score", "kept_score"]))
    files = ShardFiles(tmp_path, Shard("a", None, ".jsonl"), settings, Identity(2, "a", 0))
    stored = settings.numbers.encode(np.eye(2, dtype=np.float32))
    files.finish([files.write_part(Window(0, 2, [], rows, []), stored)], None)
    folder = VectorFolder.open(tmp_path)
    (found,) = found_rows(folder, search(folder, np.array([[0.6, 0.8]], dtype=np.float32), 2))
    assert found[0] == {"score": pytest.approx(0.8), "id": 2, "kept_kept_score": 8, "kept_score": "y"}


def test_the_recall_is_that_of_all_cosines(tmp_path: Path) -> None:
    """Of an index that misses many, against a loop; a vector is not its own neighbour."""
    vectors = unit_vectors(400, 16)
    folder = write_vectors(tmp_path / "v", vectors, range(400), num_files=3)
    index = faiss.index_factory(16, "IVF20,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    rows = np.arange(0, 400, 11)
    expected = []
    for row in rows:
        exact = [other for other in ranked(vectors[[row]], vectors, 20)[0] if other != row][:10]
        found = [other for other in index.search(vectors[[row]], 11)[1][0] if other != row][:10]
        expected.append(len(set(exact) & set(found)) / 10)
    assert 0.1 < np.mean(expected) < 0.9
    assert recall_of(FolderIndex(index), folder, rows) == pytest.approx(np.mean(expected))


def test_equal_vectors_cost_no_recall(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(20, 8), 30, axis=0)
    folder = write_vectors(tmp_path / "v", vectors, range(600))
    assert build_index(folder, IndexOptions("exact"), num_queries=100).recall == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_index_of_any_type_compares_unit_vectors(dtype: str, tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "v", unit_vectors(300, 16), range(300), dtype=dtype)
    build_index(folder, IndexOptions("exact"))
    queries = unit(folder.vectors())[:20]
    hits = search(folder, queries, 5)
    exact = search(folder, queries, 5, exact=True)
    np.testing.assert_allclose(hits.scores_NK, exact.scores_NK, atol=1e-5)
    np.testing.assert_allclose(hits.scores_NK[:, 0], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "enough", "too_many"),
    [
        (IndexOptions("hnsw"), 64, 65),
        (IndexOptions("hnsw", ef_search=300), 300, 1500),
        (IndexOptions("ivfpq", lists=64, code_bytes=2, probes=1), 1, 9_000),
    ],
    ids=["hnsw", "hnsw of 300", "ivfpq"],
)
def test_more_neighbours_than_an_index_gives(
    options: IndexOptions, enough: int, too_many: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A graph gave 534 of 1,500, and of 300 one in 15 was wrong."""
    rows = FEWEST if options.kind == "ivfpq" else 1500
    vectors = unit_vectors(rows, 4 if options.kind == "ivfpq" else 16)
    folder = write_vectors(tmp_path / "v", vectors, range(rows), block=4000)
    build_index(folder, options, num_queries=5)
    assert search(folder, vectors[:3], enough).rows_NK.shape == (3, enough)
    assert "searching without it" not in caplog.text
    hits = search(folder, vectors[:3], too_many)
    np.testing.assert_array_equal(hits.rows_NK, exact_search(folder, vectors[:3], too_many).rows_NK)
    assert f"the index ({options.kind}) does not give all of {too_many} neighbours" in caplog.text
    assert search(folder, vectors[:3], 2 * rows).rows_NK.shape == (3, rows)


def test_a_stale_index_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = unit_vectors(100, 8)
    folder = write_vectors(tmp_path / "v", vectors, range(100), num_files=2)
    build_index(folder, IndexOptions("hnsw"))
    before = content_of(folder)
    record_file(folder.path, "part-1").unlink()
    changed = VectorFolder.open(folder.path)
    assert content_of(changed) != before
    with caplog.at_level("WARNING", "mtcl"):
        hits = search(changed, vectors[:1], 5)
    assert "has changed since its index was built (100 vectors then, 50 now)" in caplog.text
    np.testing.assert_array_equal(hits.rows_NK, ranked(vectors[:1], vectors[:50], 5))


def test_without_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    vectors = unit_vectors(50, 8)
    folder = write_vectors(tmp_path / "v", vectors, range(50))
    build_index(folder, IndexOptions("exact"))
    monkeypatch.setattr(index_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'mtcl\\[mine\\]'"):
        build_index(folder, IndexOptions("exact"))
    with caplog.at_level("WARNING", "mtcl"):
        assert search(folder, vectors[:1], 3).rows_NK[0, 0] == 0
    assert "FAISS is not installed" in caplog.text


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "v", unit_vectors(50, 8), range(50))
    build_index(folder, IndexOptions("exact"))
    (folder.path / INDEX).write_bytes(b"damaged")
    with pytest.raises(DataError, match="build the index again"):
        search(folder, unit_vectors(1, 8), 3)
    (folder.path / RECORD).write_text("{")
    with pytest.raises(DataError, match="is malformed"):
        search(folder, unit_vectors(1, 8), 3)
    build_index(folder, IndexOptions("exact"))
    assert search(folder, unit_vectors(1, 8), 3).rows_NK.shape == (1, 3)


def test_options_fit_the_kind() -> None:
    with pytest.raises(ConfigError, match="links has no effect on kind ivfpq: it is an option of hnsw"):
        IndexOptions("ivfpq", links=3)
    with pytest.raises(ConfigError, match="ef_search is 0: give 1 or more"):
        IndexOptions("hnsw", ef_search=0)
    with pytest.raises(ConfigError, match="links is 1: give 2 or more"):  # FAISS would end the process
        IndexOptions("hnsw", links=1)
    with pytest.raises(ConfigError, match="kind is 'lsh': give exact, hnsw or ivfpq"):
        IndexOptions("lsh")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 9,984 vectors, and there are 100: give exact or hnsw"):
        IndexPlan.of(IndexOptions("ivfpq"), rows=100, dim=16)
    with pytest.raises(ConfigError, match="code_bytes is 5: give a divisor of 16"):
        IndexPlan.of(IndexOptions("ivfpq", code_bytes=5), rows=20_000, dim=16)
    with pytest.raises(ConfigError, match="probes is 9: give at most 8"):
        IndexPlan.of(IndexOptions("ivfpq", lists=8, probes=9), rows=20_000, dim=16)


@pytest.mark.parametrize("dim", [1, 16, 47, 50, 384, 768])
@pytest.mark.parametrize("rows", [FEWEST, 1_000_000, 10**9])
def test_the_defaults_can_be_trained(rows: int, dim: int) -> None:
    plan = IndexPlan.of(IndexOptions("ivfpq"), rows=rows, dim=dim)
    lists, code_bytes = (int(part.strip("IVFPQnp")) for part in plan.factory.split(","))
    assert dim % code_bytes == 0
    assert 39 * max(lists, 256) <= plan.training <= rows
    assert plan.training * dim * 4 <= 1 << 30
    assert plan.probes is not None
    assert 1 <= plan.probes <= lists
    assert lists == default_lists(rows, min(rows, (1 << 30) // (4 * dim)))


def test_vectors_of_given_rows(tmp_path: Path) -> None:
    vectors = unit_vectors(ROWS + 20, 4)
    folder = write_vectors(tmp_path / "v", vectors, range(len(vectors)), num_files=2, block=4000)
    rows = np.array([0, 1, ROWS // 2, ROWS - 1, ROWS, ROWS + 19])
    np.testing.assert_allclose(vectors_at(folder, rows), vectors[rows], atol=1e-6)


@pytest.fixture(scope="module")
def posts(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `mtcl embed` wrote with the run, of 40 posts."""
    from mtcl.__main__ import main

    base = tmp_path_factory.mktemp("posts")
    words = ["red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query"]
    rows = [{"id": f"p{n}", "text": f"{words[n % 10]} {words[n // 4]} {n} | " + "news " * 30} for n in range(40)]
    (base / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [str(base / "posts.jsonl"), "--out", str(base / "v"), "--id", "id", "--keep", "text"]
    assert main(["embed", str(trained_run), *arguments, "--tokenize", "here", "--role", "document"]) == 0
    return base / "v"


def test_numbers_that_json_does_not_have(trained_run: Path, mtcl_command: Run, tmp_path: Path) -> None:
    """A kept NaN or infinity, also inside of another value, is null: other readers of JSON refuse it."""
    nan, infinity = float("nan"), float("inf")
    table = pa.table(
        {"text": ["dog", "cat"], "x": [nan, 1.5], "y": [[1.0, infinity], [-infinity]], "z": [{"w": nan}] * 2}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    out = str(tmp_path / "v")
    done = mtcl_command("embed", str(trained_run), str(tmp_path / "a.parquet"), "--keep", "x", "y", "z", "--out", out)
    assert done.returncode == 0, done.stderr
    done = mtcl_command("search", out, "dog", "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    hits = json.loads(done.stdout, parse_constant=refuse)["hits"]
    assert sorted(([hit["x"], hit["y"], hit["z"]] for hit in hits), key=lambda one: one[0] is None) == [
        [1.5, [None], {"w": None}],
        [None, [1.0, None], {"w": None}],
    ]


def test_search_prints_the_neighbours(posts: Path, trained_run: Path, mtcl_command: Run, tmp_path: Path) -> None:
    from mtcl.encoder.text_encoder import TextEncoder

    done = mtcl_command("search", str(posts), "dog bird", "cat", "--ckpt", str(trained_run), "--num", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["text"] for one in found] == ["dog bird", "cat"]
    folder = VectorFolder.open(posts)
    queries = TextEncoder.load(trained_run).encode(["dog bird", "cat"], role="query", output="numpy")
    cosines = queries @ folder.vectors().T
    for one, cosine in zip(found, cosines, strict=True):
        order = np.argsort(-cosine)[:3]
        assert [hit["id"] for hit in one["hits"]] == [f"p{row}" for row in order]
        np.testing.assert_allclose([hit["score"] for hit in one["hits"]], cosine[order], atol=1e-5)
    table = mtcl_command("search", str(posts), "dog bird", "--ckpt", str(trained_run), "--num", "3").stdout
    lines = table.strip().splitlines()
    assert lines[0] == "dog bird"
    assert lines[2] == "| score | id | text |"
    assert len(lines) == 7
    assert lines[4].endswith("... |")
    assert r"\|" in lines[4]


def test_texts_may_follow_the_options(posts: Path, mtcl_command: Run) -> None:
    found = mtcl_command("search", str(posts), "--num", "3", "dog", "--exact", "cat", "--json")
    assert found.returncode == 0, found.stderr
    assert [json.loads(line)["text"] for line in found.stdout.splitlines()] == ["dog", "cat"]
    refused = mtcl_command("search", str(posts), "--nmu", "3", "dog")
    assert "unrecognized arguments: --nmu" in refused.stderr


def test_an_index_is_used(posts: Path, trained_run: Path, mtcl_command: Run) -> None:
    done = mtcl_command("index", str(posts), "--kind", "hnsw", "--links", "8")
    assert done.returncode == 0, done.stderr
    assert "hnsw (HNSW8) of 40 vectors of 16 dimensions" in done.stdout
    assert "recall@10 1.0000 (40 queries)" in done.stdout
    both = [
        mtcl_command("search", str(posts), "blue job", "--ckpt", str(trained_run), "--json", *more).stdout
        for more in ([], ["--exact"])
    ]
    hits = [json.loads(one)["hits"] for one in both]
    assert [hit["id"] for hit in hits[0]] == [hit["id"] for hit in hits[1]]
    assert len(hits[0]) == 10


def test_one_index_is_built_at_a_time(posts: Path, mtcl_command: Run) -> None:
    """The record of one index beside the file of another would end a search in a traceback."""
    from mtcl.commands.folder_lock import only_writer

    before = {path.name: path.read_bytes() for path in posts.iterdir() if path.is_file()}
    with only_writer(posts, "index", advice="wait for it"):
        done = mtcl_command("index", str(posts), "--kind", "hnsw")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in use by process" in done.stderr
    assert "(mtcl index, since" in done.stderr
    assert {path.name: path.read_bytes() for path in posts.iterdir() if path.is_file()} == before


def test_texts_from_standard_input(
    posts: Path, trained_run: Path, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("one dog\r\n\ntwo cats\n"))
    done = mtcl_command("search", str(posts), "--ckpt", str(trained_run), "--json")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["one dog", "two cats"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "there is no text to search for" in mtcl_command("search", str(posts), "--ckpt", str(trained_run)).stderr
    monkeypatch.setattr("sys.stdin", None)  # closed by the shell: `<&-`
    assert "there is no text to search for" in mtcl_command("search", str(posts), "--ckpt", str(trained_run)).stderr


@pytest.mark.parametrize("text", ["", " ", "\u200b"])
def test_a_text_without_anything_to_see_is_not_searched(
    posts: Path, trained_run: Path, mtcl_command: Run, text: str
) -> None:
    done = mtcl_command("search", str(posts), "dog", text, "--ckpt", str(trained_run))
    assert (done.returncode, done.stdout) == (2, "")
    assert "text is empty: give a text to search for" in done.stderr


def test_the_encoder_is_found_by_the_folder(
    trained_run: Path, tmp_path: Path, mtcl_command: Run, starts_processes: None
) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "dog bird"}\n{"text": "a red cat"}\n')
    run = shutil.copytree(trained_run, tmp_path / "run")
    done = mtcl_command("embed", "run", "p.jsonl", "--out", "v", "--tokenize", "here")
    assert done.returncode == 0, done.stderr
    found = mtcl_command("search", "v", "dog bird")
    assert found.returncode == 0, found.stderr
    assert "1.0000" in found.stdout
    run.rename(tmp_path / "moved")
    refused = mtcl_command("search", "v", "dog bird")
    assert refused.returncode == 2
    assert "is not known or is not on this machine: give it as --ckpt" in refused.stderr


def test_another_encoder_is_refused(posts: Path, tiny_model: Path, trained_run: Path, mtcl_command: Run) -> None:
    done = mtcl_command("search", str(posts), "dog", "--ckpt", str(tiny_model))
    assert done.returncode == 2
    assert "give the encoder that the vectors were made with, or a map" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    headed = mtcl_command("search", str(posts), "dog", "--ckpt", str(trained_run), "--task", "interest")
    assert "task 'interest' has another head" in headed.stderr
    other = mtcl_command("search", str(posts), "dog", "--ckpt", str(trained_run), "--task", "search")
    assert other.returncode == 0, "a prompt of its own is no other space"
    assert "--num is 0" in mtcl_command("search", str(posts), "dog", "--ckpt", str(trained_run), "--num", "0").stderr


def test_an_unfinished_folder_is_refused(tmp_path: Path, mtcl_command: Run) -> None:
    folder = write_vectors(tmp_path / "v", unit_vectors(50, 8), range(50))
    (folder.path / "_parts" / "more").mkdir(parents=True)
    (folder.path / "_parts" / "more" / "000000000000.parquet").write_bytes(b"")
    refused = mtcl_command("index", str(folder.path))
    assert refused.returncode == 2
    assert "has 1 unfinished files (more)" in refused.stderr
    assert mtcl_command("index", str(folder.path), "--partial").returncode == 0
    assert "--links has no effect on kind exact" in mtcl_command("index", str(folder.path), "--links", "4").stderr
    assert "is not a folder of vectors" in mtcl_command("index", str(tmp_path)).stderr


def test_the_page_names_options_that_exist() -> None:
    """docs/vectors.md: each command of a block or of a table is parsed."""
    import re
    import shlex

    from mtcl.commands import align, embed, index
    from mtcl.commands import search as search_command

    page = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    parsers = {"align": align, "embed": embed, "index": index, "search": search_command}
    found = re.findall(r"(?:^|`|\| )mtcl ((?:align|embed|index|search) [^`\n|>]*)", page, flags=re.M)
    commands = [shlex.split(one) for one in found if not one.startswith("embed --")]
    assert {command[0] for command in commands} == set(parsers)
    for command in commands:
        parsers[command[0]]._parser(command[0]).parse_args(command[1:])


def test_the_page_searches_from_python(posts: Path, trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    page = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "found_rows" in one]
    exec(block.replace('"vectors"', repr(str(posts))).replace('"runs/demo"', repr(str(trained_run))), {})
    assert capsys.readouterr().out.startswith("[{'score': ")
