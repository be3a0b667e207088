"""`mtcl align`: maps that are known are found again, figures against a loop, common rows, files, whole folders.

python -m pytest tests/test_align.py
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcl.deploy.align import Alignment
from mtcl.deploy.align.alignment import RECORD, WEIGHTS, About
from mtcl.deploy.align.applying import MAP, apply_map
from mtcl.deploy.align.choosing import FEWEST, NUM, Split, choose_map, nearest, overlap
from mtcl.deploy.align.fitting import Moments
from mtcl.deploy.align.pairs import VectorPairs, common_pairs
from mtcl.deploy.search.queries import Queries, search
from mtcl.deploy.space import Space, unit
from mtcl.deploy.vectors import VectorFolder
from mtcl.errors import ConfigError, DataError
from tests.conftest import ROOT, Run
from tests.vector_folders import unit_vectors, write_vectors

OLD, NEW = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"


def rotation(dim: int, other: int | None = None, *, seed: int = 0) -> Any:
    """Random orthonormal columns, or rows if there are fewer of them."""
    shape = (max(dim, other or dim), min(dim, other or dim))
    found = np.linalg.qr(np.random.default_rng(seed).normal(size=shape))[0]
    return found if dim >= (other or dim) else found.T


def space(fingerprint: str, dim: int) -> Space:
    return Space(fingerprint, None, None, "document", dim)


def pairs_of(old: Any, new: Any) -> VectorPairs:
    return VectorPairs(old.astype(np.float32), new.astype(np.float32), len(old))


def by_loop(queries: Any, vectors: Any, rows: Any) -> list[set[int]]:
    """The definition, a query at a time."""
    ranked = [[int(c) for c in np.argsort(-(vectors @ queries[row])) if c != row] for row in rows]
    return [set(one[:NUM]) for one in ranked]


@pytest.mark.parametrize(("source", "target"), [(12, 12), (12, 8), (8, 12)])
def test_a_rotation_is_found_exactly(source: int, target: int) -> None:
    """Between different numbers of dimensions, of vectors that lie in the smaller space."""
    turn = rotation(source, target)
    x = unit_vectors(300, source)
    if target < source:
        x = unit(x @ turn @ turn.T)
    fit = Moments.of(x, x @ turn).orthogonal()
    np.testing.assert_allclose(fit(x), x @ turn, atol=1e-5)
    small = fit.weight_ST.T @ fit.weight_ST if target <= source else fit.weight_ST @ fit.weight_ST.T
    np.testing.assert_allclose(small, np.eye(min(source, target)), atol=1e-6)


def test_a_rotation_is_found_in_noise() -> None:
    turn, x = rotation(16), unit_vectors(2000, 16)
    noisy = unit(x @ turn + 0.05 * np.random.default_rng(1).normal(size=x.shape))
    fit = Moments.of(x, noisy).orthogonal()
    np.testing.assert_allclose(fit.weight_ST, turn, atol=0.02)


def test_a_linear_map_is_found_exactly() -> None:
    generator = np.random.default_rng(0)
    weight, bias, x = generator.normal(size=(10, 7)), generator.normal(size=7), unit_vectors(400, 10)
    fit = Moments.of(x, x @ weight + bias).linear(1e-9)
    np.testing.assert_allclose(fit.weight_ST, weight, atol=1e-5)
    np.testing.assert_allclose(fit.bias_T, bias, atol=1e-5)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_the_linear_map_is_that_of_the_normal_equations(strength: float) -> None:
    """The least of the loss in the docstring, by its gradient."""
    x, y = unit_vectors(200, 6), unit_vectors(200, 5, seed=1)
    moments = Moments.of(x, y)
    fit, turn = moments.linear(strength), moments.orthogonal().weight_ST
    left_NT = x @ fit.weight_ST + fit.bias_T - y
    pull = strength * len(x) * np.var(x.astype(np.float64), axis=0).mean()
    np.testing.assert_allclose(x.T @ left_NT + pull * (fit.weight_ST - turn), 0, atol=1e-4)
    np.testing.assert_allclose(left_NT.sum(axis=0), 0, atol=1e-4)


def test_equal_spaces_give_the_identity() -> None:
    x = unit_vectors(500, 12, groups=20)
    moments = Moments.of(x, x)
    for fit in (moments.orthogonal(), moments.linear(1e-3), moments.linear(10.0)):
        np.testing.assert_allclose(fit.weight_ST, np.eye(12), atol=1e-6)
        np.testing.assert_allclose(fit.bias_T, 0, atol=1e-6)


def test_a_strong_pull_gives_the_orthogonal_map() -> None:
    x, y = unit_vectors(50, 12), unit_vectors(50, 12, seed=1)
    moments = Moments.of(x, y)
    np.testing.assert_allclose(moments.linear(1e9).weight_ST, moments.orthogonal().weight_ST, atol=1e-6)


@pytest.mark.parametrize("direction", ["new_to_old", "old_to_new"])
def test_the_figures_are_those_of_a_loop(direction: Any) -> None:
    old = unit_vectors(400, 12, groups=25)
    new = unit(old @ rotation(12) + 0.2 * unit_vectors(400, 12, seed=3))
    chosen = choose_map(pairs_of(old, new), (space(OLD, 12), space(NEW, 12)), direction=direction, held_out=0.3)
    rows = Split.of(400, 0.3).judge
    of_old, of_new = by_loop(old, old, rows), by_loop(new, new, rows)
    best = next(c for c in chosen.candidates if c.kind == chosen.alignment.about.kind)
    assert chosen.alignment.about.recall == best.recall
    is_to_old = direction == "new_to_old"
    mapped = chosen.alignment(new if is_to_old else old)
    kind = best.kind
    expected = {
        ("old", "old"): (old, old),
        ("old", "new, not mapped"): (old, new),
        ("new, not mapped", "old"): (new, old),
        ("new", "new (all embedded again)"): (new, new),
    }
    expected |= (
        {(f"new, {kind} map", "old"): (mapped, old), ("old", f"new, {kind} map"): (old, mapped)}
        if is_to_old
        else {("new", f"old, {kind} map"): (new, mapped), (f"old, {kind} map", "new"): (mapped, new)}
    )
    figures = {(one.queries, one.vectors): one for one in chosen.figures}
    assert len(figures) == 4 + 2 * len(chosen.candidates)
    for key, (queries, vectors) in expected.items():
        found = by_loop(queries, vectors, rows)
        for truth, value in ((of_old, figures[key].of_old), (of_new, figures[key].of_new)):
            mean = np.mean([len(a & b) / NUM for a, b in zip(found, truth, strict=True)])
            assert value == pytest.approx(mean), key
    assert figures["old", "old"].of_old == 1
    assert figures["new", "new (all embedded again)"].of_new == 1
    assert best.recall > 3 * figures["old", "new, not mapped"].of_old, "a map helps"
    assert f"use {kind}" in chosen.text()


def test_the_linear_map_is_chosen_where_the_spaces_are_stretched() -> None:
    old = unit_vectors(1000, 8, groups=40)
    stretched = unit(old @ (rotation(8) * np.geomspace(0.2, 3, 8)))
    spaces = (space(OLD, 8), space(NEW, 8))
    chosen = choose_map(pairs_of(old, stretched), spaces)
    assert chosen.alignment.about.kind == "linear"
    only = choose_map(pairs_of(old, stretched), spaces, kind="orthogonal")
    assert [one.kind for one in only.candidates] == ["orthogonal"]
    assert only.alignment.about.recall is not None
    assert chosen.alignment.about.recall is not None
    assert chosen.alignment.about.recall > only.alignment.about.recall + 0.05


def test_neighbours_and_overlap() -> None:
    vectors = unit_vectors(60, 6)
    found = nearest(vectors[:3], vectors, np.arange(3), num=5)
    for row in range(3):
        cosine = vectors @ vectors[row]
        cosine[row] = -2
        assert set(found[row]) == set(np.argsort(-cosine)[:5])
    assert overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 5], [3, 4]])) == 0.75


def test_common_rows_by_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ids in another order, as integers here and text there, of which the first of equal ones counts. Equal ones are
    told, since their first rows may have different texts.
    """
    caplog.set_level(logging.WARNING, "mtcl")
    logging.getLogger("mtcl").propagate = True
    vectors = unit_vectors(300, 6)
    ids = [*range(299), 5]
    old = write_vectors(tmp_path / "old", vectors, ids, num_files=3, block=40, fingerprint=OLD)
    order = np.random.default_rng(1).permutation(250)
    other = unit_vectors(260, 4, seed=2)
    new_ids = [*(str(i) for i in order), *(f"x{n}" for n in range(10))]
    new = write_vectors(tmp_path / "new", other, new_ids, num_files=2, fingerprint=NEW)
    place = {one: row for row, one in reversed(list(enumerate(map(int, order))))}
    everything = common_pairs(old, new, num=1000, seed=0)
    assert len(everything) == everything.num_common == 250
    sample = common_pairs(old, new, num=90, seed=0)
    assert (len(sample), sample.num_common) == (90, 250)
    for old_D, new_D in zip(sample.old_NO, sample.new_NW, strict=True):
        row = int(np.argmax(vectors[:299] @ old_D))
        np.testing.assert_allclose(new_D, other[place[row]], atol=1e-6)
    again = common_pairs(new, old, num=90, seed=0)
    np.testing.assert_array_equal(again.new_NW, sample.old_NO)
    different = common_pairs(old, new, num=90, seed=1)
    assert not np.array_equal(different.old_NO, sample.old_NO)
    twice = "old: 1 of 300 rows have an id that an earlier row has"
    assert caplog.text.count(twice) == len(caplog.records) == 4, "in the larger folder too, at each call"
    caplog.clear()
    common_pairs(old, old, num=90, seed=0)
    assert caplog.text.count(twice) == len(caplog.records) == 2


@pytest.mark.parametrize(("is_right", "recall"), [(True, 0.9), (False, 0.1)])
def test_a_map_between_other_texts_is_told(is_right: bool, recall: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mtcl")
    logging.getLogger("mtcl").propagate = True
    x = unit_vectors(1000, 8)
    y = x if is_right else x[np.random.default_rng(0).permutation(1000)]
    chosen = choose_map(VectorPairs(x, y, 1000), (alignment(8, 8).source, alignment(8, 8).target))
    assert (chosen.alignment.about.recall > recall) is is_right
    assert ("are rows of equal id the same text in both folders?" in caplog.text) is not is_right


def test_row_numbers_belong_to_their_file(tmp_path: Path) -> None:
    """Without a column of ids, row 7 of one file is not row 7 of another one."""
    vectors = unit_vectors(200, 6)
    numbers = [*range(100), *range(100)]
    old = write_vectors(tmp_path / "old", vectors, numbers, num_files=2, fingerprint=OLD, id=None)
    new = write_vectors(tmp_path / "new", -vectors, numbers, num_files=2, fingerprint=NEW, id=None)
    pairs = common_pairs(old, new, num=500, seed=0)
    assert len(pairs) == 200
    np.testing.assert_allclose(pairs.old_NO, -pairs.new_NW, atol=1e-6)
    named = write_vectors(tmp_path / "named", vectors, numbers, fingerprint=NEW)
    with pytest.raises(ConfigError, match="has row numbers as ids"):
        common_pairs(old, named, num=500, seed=0)
    other = replace(new, shards=(replace(new.shards[0], digest="other"),))
    with pytest.raises(DataError, match="'part-0' is not the same file"):
        common_pairs(old, other, num=500, seed=0)


def test_no_common_rows(tmp_path: Path) -> None:
    old = write_vectors(tmp_path / "old", unit_vectors(50, 6), range(50), fingerprint=OLD)
    new = write_vectors(tmp_path / "new", unit_vectors(50, 6), range(50, 100), fingerprint=NEW)
    with pytest.raises(DataError, match="have no id in common"):
        common_pairs(old, new, num=10, seed=0)
    empty = replace(new, shards=())
    with pytest.raises(DataError, match="have no id in common"):
        common_pairs(old, empty, num=10, seed=0)


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match="50 common rows are too few for a map: embed at least 100"):
        Split.of(50, 0.2)
    with pytest.raises(ConfigError, match=r"held_out is 0.95, which leaves 5 rows to fit on"):
        Split.of(FEWEST, 0.95)
    with pytest.raises(ConfigError, match=r"held_out is 1.5: give a share"):
        Split.of(1000, 1.5)
    split = Split.of(1000, 0.2)
    assert split.fit.stop == 800
    assert not set(split.choose) & set(split.judge)
    assert min(split.choose) == 800


def alignment(source: int = 6, target: int = 6, *, seed: int = 0) -> Alignment:
    about = About("old_to_new", "orthogonal", None, 100, 20, 0.5, 0)
    weight = rotation(source, target, seed=seed).astype(np.float32)
    return Alignment(weight, np.zeros(target, np.float32), space(OLD, source), space(NEW, target), about)


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = alignment(6, 4)
    made.save(tmp_path / "map")
    read = Alignment.load(tmp_path / "map")
    x = unit_vectors(20, 6)
    np.testing.assert_array_equal(read(x), made(x))
    np.testing.assert_allclose(read(x), unit(x @ made.weight_ST), atol=1e-6)
    np.testing.assert_allclose(read(x[3]), read(x)[3], atol=1e-6)
    assert (read.source, read.target, read.about, read.digest) == (made.source, made.target, made.about, made.digest)
    with pytest.raises(ConfigError, match=r"shape \(20, 4\): the map takes 6 dimensions"):
        read(unit_vectors(20, 4))
    with pytest.raises(ConfigError, match="is not the folder of a map"):
        Alignment.load(tmp_path)
    alignment(6, 4, seed=1).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, tmp_path / "map" / WEIGHTS)
    with pytest.raises(DataError, match=r"is not the map that map\.json describes"):
        Alignment.load(tmp_path / "map")
    (tmp_path / "map" / WEIGHTS).write_bytes(b"x")
    with pytest.raises(DataError, match="is malformed"):
        Alignment.load(tmp_path / "map")


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_a_folder_is_mapped(dtype: str, file_format: str, tmp_path: Path) -> None:
    x, made = unit_vectors(300, 16), alignment(16, 16)
    texts = [f"text {n}" for n in range(300)]
    source = write_vectors(
        tmp_path / "v",
        x,
        [f"p{n}" for n in range(300)],
        num_files=3,
        texts=texts,
        fingerprint=OLD,
        dtype=dtype,
        format=file_format,
    )
    done = apply_map(made, source, tmp_path / "out")
    assert (done.files, done.rows, done.skipped) == (3, 300, 0)
    mapped = VectorFolder.open(tmp_path / "out")
    assert (mapped.dtype, mapped.settings.format) == (dtype, file_format)
    assert mapped.ids().to_pylist() == source.ids().to_pylist()
    expected = made(source.vectors())
    got = unit(mapped.vectors())
    if dtype == "binary":
        np.testing.assert_array_equal(mapped.vectors(), np.where(expected > 0, 1, -1))
    else:
        assert (got * expected).sum(axis=1).min() > (0.999 if dtype == "int8" else 0.99999)
    assert Space.of(mapped.settings) == replace(made.target, role="document")
    assert mapped.settings.fingerprint == f"{NEW}~{made.digest}"
    assert Alignment.load(tmp_path / "out" / MAP).digest == made.digest
    again = apply_map(made, source, tmp_path / "out")
    assert (again.files, again.skipped) == (0, 3)


def test_mapped_int8_takes_its_ranges_from_enough_vectors(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v", unit_vectors(200, 16), list(range(200)), fingerprint=OLD)
    with pytest.raises(DataError, match="only 200 of them differ, fewer than 256"):
        apply_map(alignment(16, 16), source, tmp_path / "out", dtype="int8")
    assert not (tmp_path / "out").exists()


def test_mapped_vectors_replace_no_file_of_others(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v", unit_vectors(20, 16), list(range(20)), fingerprint=OLD)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-0.parquet").write_bytes(b"of another program")
    with pytest.raises(ConfigError, match=r"would replace .*part-0\.parquet, which mtcl has not written"):
        apply_map(alignment(16, 16), source, tmp_path / "out")
    assert (tmp_path / "out" / "part-0.parquet").read_bytes() == b"of another program"


def test_mapping_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.deploy.align import applying
    from mtcl.deploy.embed.writing import ShardFiles

    monkeypatch.setattr(applying, "WINDOW", 20)
    x, made = unit_vectors(150, 16), alignment(16, 8)
    source = write_vectors(tmp_path / "v", x, range(150), num_files=2, fingerprint=OLD)
    apply_map(made, source, tmp_path / "whole")
    written = 0

    def stops(self: ShardFiles, *arguments: Any, own: Any = ShardFiles.write_part) -> Any:
        nonlocal written
        written += 1
        if written == 6:
            raise KeyboardInterrupt
        return own(self, *arguments)

    monkeypatch.setattr(ShardFiles, "write_part", stops)
    with pytest.raises(KeyboardInterrupt):
        apply_map(made, source, tmp_path / "out")
    done = apply_map(made, source, tmp_path / "out")
    assert (done.files, done.skipped) == (1, 1)
    assert written == 2 * 4 + 1, "four parts of each file, and the one that was not finished"
    for name in ("part-0.parquet", "part-1.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_file_of_the_same_name_is_not_mapped_over_the_first(tmp_path: Path) -> None:
    made = alignment(16, 8)
    first = write_vectors(tmp_path / "a", unit_vectors(60, 16), range(60), num_files=2, fingerprint=OLD)
    second = write_vectors(tmp_path / "b", unit_vectors(20, 16), range(20), fingerprint=OLD)
    out = tmp_path / "out"
    apply_map(made, first, out)
    before = VectorFolder.open(out).vectors()
    with pytest.raises(DataError, match=r"is not the file .* \(then 30 rows, now 20\): --replace_changed"):
        apply_map(made, second, out)
    np.testing.assert_array_equal(VectorFolder.open(out).vectors(), before)
    assert apply_map(made, second, out, replace_changed=True).rows == 20
    assert len(VectorFolder.open(out)) == 50


def test_a_map_of_other_vectors_is_refused(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v", unit_vectors(50, 6), range(50), fingerprint=OLD)
    with pytest.raises(ConfigError, match="the map takes vectors of encoder"):
        apply_map(replace(alignment(), source=space(NEW, 6)), source, tmp_path / "out")
    with pytest.raises(ConfigError, match="the folder of the vectors itself"):
        apply_map(alignment(), source, tmp_path / "v")
    apply_map(alignment(), source, tmp_path / "out")
    with pytest.raises(ConfigError, match="has mapped vectors already"):
        apply_map(alignment(), VectorFolder.open(tmp_path / "out"), tmp_path / "more")
    with pytest.raises(ConfigError, match="has vectors of other settings"):
        apply_map(alignment(seed=3), source, tmp_path / "out")


@pytest.fixture(scope="module")
def embedded(trained_run: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """300 texts by the run (16 dimensions), and by its base encoder (32 dimensions), the old one."""
    from mtcl.__main__ import main

    base = tmp_path_factory.mktemp("embedded")
    words = ["red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query"]
    generator = np.random.default_rng(0)
    rows = [{"id": n, "text": " ".join(generator.choice(words, 6))} for n in range(300)]
    (base / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, encoder in (("old", tiny_model), ("new", trained_run)):
        arguments = [str(base / "posts.jsonl"), "--out", str(base / name), "--id", "id", "--tokenize", "here"]
        assert main(["embed", str(encoder), *arguments]) == 0
    return base / "old", base / "new"


def test_the_commands(
    embedded: tuple[Path, Path], trained_run: Path, tiny_model: Path, mtcl_command: Run, tmp_path: Path
) -> None:
    """Queries of the new encoder search the old vectors, and the converted ones."""
    old, new = map(str, embedded)
    done = mtcl_command("align", old, new, "--out", "to_old")
    assert done.returncode == 0, done.stderr
    assert "300 common rows; fitted on 240, judged by 30 others" in done.stdout
    assert "not mapped" not in done.stdout, "the numbers of dimensions differ"
    assert (tmp_path / "to_old" / "report.md").read_text() in done.stdout
    assert mtcl_command("align", old, new, "--out", "again").returncode == 0
    for name in (RECORD, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "to_old" / name).read_bytes()
    search_old = ["search", old, "red dog", "--json", "--ckpt", str(trained_run)]
    refused = mtcl_command(*search_old)
    assert refused.returncode == 2
    assert "or a map from the one to the other" in refused.stderr
    found = mtcl_command(*search_old, "--map", "to_old")
    assert found.returncode == 0, found.stderr

    assert mtcl_command("align", old, new, "--map", "old_to_new", "--out", "to_new").returncode == 0
    applied = mtcl_command("align", "--apply", "to_new", old, "--out", "converted", "--dtype", "float16")
    assert applied.returncode == 0, applied.stderr
    assert "1 files with 300 mapped vectors" in applied.stdout
    assert mtcl_command("search", "converted", "red dog", "--ckpt", str(trained_run)).returncode == 0
    wrong = mtcl_command("search", "converted", "red dog", "--ckpt", str(tiny_model))
    assert "the encoder has the fingerprint" in wrong.stderr
    grown = mtcl_command(
        *("embed", str(trained_run), str(embedded[0].parent / "posts.jsonl"), "--out", "converted"),
        *("--id", "id", "--dtype", "float16", "--tokenize", "here"),
    )
    assert "has vectors of other settings" in grown.stderr


def test_mapped_queries_are_those_of_the_map(embedded: tuple[Path, Path], trained_run: Path) -> None:
    from mtcl.encoder.text_encoder import TextEncoder

    old, new = (VectorFolder.open(one) for one in embedded)
    spaces = (Space.of(old.settings), Space.of(new.settings))
    made = choose_map(common_pairs(old, new, num=300, seed=0), spaces).alignment
    encoder = TextEncoder.load(trained_run)
    queries = Queries.of(old, encoder, alignment=made).vectors(["red dog", "blue cat"])
    expected = made(encoder.encode(["red dog", "blue cat"], role="query", output="numpy"))
    np.testing.assert_allclose(queries, expected, atol=1e-6)
    assert search(old, queries, 5).rows_NK.shape == (2, 5)
    with pytest.raises(ConfigError, match="the map leads to"):
        Queries.of(new, encoder, alignment=made)
    made.save(embedded[0].parent / "map")
    page = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "Alignment.load" in one]
    names: dict[str, Any] = {"encoder": encoder}
    exec(block.replace('"maps/to_old"', repr(str(embedded[0].parent / "map"))), names)
    assert names["vector"].shape == (old.dim,)


def test_errors_of_the_command(embedded: tuple[Path, Path], mtcl_command: Run) -> None:
    old, new = map(str, embedded)
    told = {
        ("align", old, "--out", "m"): "1 folders are given: give OLD and NEW",
        ("align", old, old, "--out", "m"): "have vectors of one encoder, which compare without a map",
        ("align", old, new, "--out", "m", "--dtype", "int8"): "--dtype has no effect without --apply",
        ("align", "--apply", "none", old, "--out", "m", "--seed", "1"): "--seed has no effect with --apply",
        ("align", "--apply", "none", old, "--out", "m", "--kind", "linear"): "--kind has no effect with --apply",
        ("align", old, new, "--out", "m", "--held_out", "0"): "--held_out is 0.0: give a share",
        ("align", old, new, "--out", "m", "--sample", "20"): "20 common rows are too few",
        ("align", "--apply", "none", old, "--out", "m"): "is not the folder of a map",
        ("align", "--apply", "none", old, new, "--out", "m"): "--apply maps one folder of vectors, and 2 are given",
    }
    for arguments, message in told.items():
        done = mtcl_command(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_the_figures_of_the_benchmark() -> None:
    """Task metrics of `tests.benchmarks.align` against a loop, with documents to fit on that no query asks for."""
    from tests.benchmarks.align import Measured, Texts, divided

    right = np.arange(20) * 2
    texts = Texts([f"d{n}" for n in range(60)], [f"q{n}" for n in range(20)], right)
    fitted, searched = divided(texts, texts, 15, is_apart=True)
    assert len(fitted) == 15
    assert not set(fitted) & set(right)
    assert sorted([*fitted, *searched]) == list(range(60))
    documents = unit_vectors(60, 6)
    queries = unit(documents[right] + 2 * unit_vectors(20, 6, seed=1))
    own = np.searchsorted(searched, right)
    np.testing.assert_array_equal(searched[own], right)
    old = (queries, documents[searched])
    new = (unit_vectors(20, 5, seed=2), unit_vectors(60, 5, seed=3)[searched])
    measured = Measured((old[0], new[0]), (old[1], new[1]), own)
    of_old, of_new, recall, ndcg = map(float, measured.figures(*old))
    ranks = [list(np.argsort(-(old[1] @ query))).index(own[row]) for row, query in enumerate(queries)]
    assert recall == pytest.approx(np.mean([rank < NUM for rank in ranks]), abs=1e-3)
    assert ndcg == pytest.approx(np.mean([1 / np.log2(r + 2) if r < NUM else 0 for r in ranks]), abs=1e-3)
    assert 0 < recall < 1
    assert of_old == 1
    assert of_new == pytest.approx(overlap(nearest(*old), nearest(*new)), abs=1e-3)
    assert [row[1:3] for row in measured.without_maps()] == [["old", "old"], ["new", "new (embedded again)"]]
