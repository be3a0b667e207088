"""`mtcl embed`: each row gets its vector once, in its order, whatever stops the command and however it is divided.

python -m pytest tests/test_embed.py
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl.deploy.vectors import VectorFolder
from mtcl.encoder.text_encoder import TextEncoder
from mtcl.errors import ConfigError, DataError
from tests.conftest import ROOT, WORDS, Run


def words(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 20 words, some of them equal."""
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(WORDS, k=1 + number % 20)) for number in range(count)]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder of vectors but the manifest's and the records' times."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("_shards")}


@pytest.fixture(scope="module")
def encoder(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


@pytest.fixture
def embed(mtcl_command: Run, trained_run: Path) -> Any:
    """The command, which succeeds; tokens are made in the same process."""

    def run(*arguments: str | Path, out: str | Path = "out", code: int = 0, **options: Any) -> Any:
        given = [word for key, value in options.items() for word in (f"--{key}", *map(str, _list(value)))]
        done = mtcl_command(
            "embed", str(trained_run), *map(str, arguments), "--out", str(out), "--tokenize", "here", *given
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def _list(value: Any) -> list[Any]:
    return [] if value is True else value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("task", "role", "dim"),
    [(None, "document", None), ("search", "query", None), ("search", "document", 8), ("interest", "document", None)],
)
def test_vectors_are_those_of_the_encoder(
    embed: Any, encoder: TextEncoder, tmp_path: Path, task: str | None, role: Any, dim: int | None
) -> None:
    """In the order of the rows, over several windows, with equal texts in one window."""
    texts = words(90)
    write_jsonl(tmp_path / "a.jsonl", [{"text": text, "other": 1} for text in texts])
    options = {key: value for key, value in (("task", task), ("role", role), ("dim", dim)) if value}
    embed("a.jsonl", window=40, **options)
    found = VectorFolder.open(tmp_path / "out")
    assert found.ids().to_pylist() == list(range(90))
    expected = encoder.encode(texts, task=task, role=role, dim=dim, output="numpy")
    np.testing.assert_allclose(found.vectors(), expected, atol=1e-5)
    assert found.dim == expected.shape[1]
    found.check_encoder(encoder)
    assert found.settings.prompt == ("" if task != "search" else {"query": "query: ", "document": "post: "}[role])
    assert pq.read_table(tmp_path / "out").num_rows == 90, "any Parquet reader takes the folder"


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.gz", "csv", "csv.gz", "txt", "txt.gz"])
def test_every_format_gives_the_same_vectors(embed: Any, encoder: TextEncoder, tmp_path: Path, suffix: str) -> None:
    texts = [*words(20), 'with "quotes", and a comma']
    ids = [f"{number:03d}" for number in range(len(texts))]
    table = pa.table({"text": texts, "key": ids, "more": ids})
    content = io.BytesIO()
    if suffix == "parquet":
        pq.write_table(table, content, row_group_size=6)
    elif suffix.startswith("csv"):
        lines = [
            "text,key,more",
            *(f'"{t.replace(chr(34), chr(34) * 2)}",{i},{i}' for t, i in zip(texts, ids, strict=True)),
        ]
        content.write("\n".join(lines).encode())
    elif suffix.startswith("jsonl"):
        content.write("\n\n".join(map(json.dumps, table.to_pylist())).encode())
    else:
        content.write("\r\n".join(texts).encode())
    whole = content.getvalue()
    (tmp_path / f"posts.{suffix}").write_bytes(gzip.compress(whole) if suffix.endswith("gz") else whole)
    has_ids = not suffix.startswith("txt")
    embed(f"posts.{suffix}", window=8, **({"id": "key", "keep": ["more"]} if has_ids else {}))
    found = VectorFolder.open(tmp_path / "out")
    np.testing.assert_allclose(found.vectors(), encoder.encode(texts, output="numpy"), atol=1e-5)
    assert found.ids().to_pylist() == (ids if has_ids else list(range(21)))
    if has_ids:
        assert pq.read_table(tmp_path / "out" / "posts.parquet")["more"].to_pylist() == ids


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_numbers_come_back_within_their_error(embed: Any, tmp_path: Path, dtype: str, file_format: str) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": text} for text in words(300)])
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": text} for text in words(25, seed=1)])
    embed("in", out="exact", window=200)
    embed("in", out="out", window=200, dtype=dtype, format=file_format)
    exact, found = (VectorFolder.open(tmp_path / name) for name in ("exact", "out"))
    assert found.dtype == dtype
    assert len(found) == 325
    assert found.ids().equals(exact.ids())
    given, own = exact.vectors(), found.vectors()
    if dtype == "binary":
        np.testing.assert_array_equal(own, np.where(given > 0, 1, -1))
        assert next(found.stored_blocks())[1].shape == (300, 2)
    elif dtype == "int8":
        step = found.numbers.ranges.step  # type: ignore[union-attr]
        assert (np.abs(own - given) <= step * 0.501 + 1e-6).all(), "all texts are in the sample, so nothing is cut"
    else:
        np.testing.assert_allclose(own, given, atol=0 if dtype == "float32" else 1e-3)
    if file_format == "npy":
        assert np.load(tmp_path / "out" / "a.npy").dtype == found.numbers.dtype
    else:
        metadata = json.loads(pq.read_schema(tmp_path / "out" / "a.parquet").metadata[b"mtcl"])
        assert metadata["ranges"] == found.settings.ranges


def test_int8_takes_its_ranges_from_enough_texts(embed: Any, tmp_path: Path) -> None:
    """The ranges of one text clip all others to the same corner of the cube."""
    write_jsonl(tmp_path / "few.jsonl", [{"text": text} for text in [*words(200), *words(200)]])
    refused = embed("few.jsonl", dtype="int8", code=2).stderr
    assert re.search(r"only (19\d|200) of them differ, fewer than 256: .*--dtype float16", refused)
    assert not (tmp_path / "out").exists(), "the same command with more inputs is not refused"
    write_jsonl(tmp_path / "many.jsonl", [{"text": text} for text in words(600)])
    done = embed("few.jsonl", "many.jsonl", dtype="int8")
    share = float(re.search(r"([\d.]+) % of the values are at an end of their int8 range", done.stdout)[1])  # type: ignore[index]
    assert 0 < share < 1
    assert "end of their int8 range" not in done.stderr


@pytest.mark.parametrize("window", [16_384, 20])
def test_texts_of_another_kind_are_beyond_the_ranges_of_int8(embed: Any, tmp_path: Path, window: int) -> None:
    write_jsonl(tmp_path / "words.jsonl", [{"text": f"{word} {word} {n}"} for n in range(60) for word in WORDS[:5]])
    embed("words.jsonl", dtype="int8", window=window)
    write_jsonl(tmp_path / "others.jsonl", [{"text": "!" * n} for n in range(1, 50)])
    done = embed("others.jsonl", dtype="int8", window=window)
    found = VectorFolder.open(tmp_path / "out")
    stored = next(values for rows, values in found.stored_blocks() if len(rows) == 49)
    clipped = int(np.isin(stored, [-128, 127]).sum())
    assert found.shards[0].clipped == clipped > 0.02 * 49 * found.dim
    warned = f"others.jsonl: {100 * clipped / (49 * found.dim):.1f} % of the values are at an end of their int8 range"
    assert warned in done.stderr


def test_int8_is_that_of_sentence_transformers() -> None:
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    from mtcl.deploy.embed.numbers import Numbers, Ranges

    vectors_nD = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    ranges = Ranges.of(vectors_nD)
    theirs = quantization.quantize_embeddings(vectors_nD, "int8", ranges=np.array(ranges.plain(), dtype=np.float32))
    ours = Numbers("int8", 24, ranges).encode(vectors_nD)
    assert np.abs(ours.astype(int) - theirs).max() <= 1, "they cut, we round"
    bits = Numbers("binary", 24).encode(vectors_nD)
    np.testing.assert_array_equal(bits, quantization.quantize_embeddings(vectors_nD, "ubinary"))


def test_bad_rows_are_left_out_with_the_reason(embed: Any, tmp_path: Path) -> None:
    rows = [{"text": "a", "id": 1}, {"text": ""}, {"text": None, "id": 3}, {"text": 7, "id": 4}, "{half", '"text"']
    rows += [
        {"text": "b", "id": 1.5},
        {"id": 8},
        {"text": "  ", "id": 9},
        '{"text": "\\ud800", "id": 1}',
        {"text": "c", "id": "x"},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    done = embed("a.jsonl", id="id", window=4)
    bad = [json.loads(line) for line in (tmp_path / "out" / "_bad" / "a.jsonl").read_text().splitlines()]
    assert [(one["row"], one["line"]) for one in bad] == [(n, n + 1) for n in range(1, 10)]
    reasons = " | ".join(one["reason"] for one in bad)
    for reason in (
        "text is empty",
        "no text",
        "text is 7, not text",
        "not JSON",
        "not a JSON object",
        "id is 1.5",
        "not UTF-8",
    ):
        assert reason in reasons
    assert bad[1]["id"] == 3
    found = VectorFolder.open(tmp_path / "out")
    assert found.ids().to_pylist() == ["1", "x"], "integers and text: all text"
    assert found.shards[0].bad == 9
    assert "9 bad rows left out" in done.stdout


def test_a_text_without_anything_to_see_is_empty(embed: Any, tmp_path: Path) -> None:
    """A zero-width space, a byte order mark, a soft hyphen: all such texts had one vector, near to any short text."""
    (tmp_path / "a.txt").write_text("dog\n\u200b\n \u2060\ufeff\n\u00ad\u3000\nd\u200bog\n", encoding="utf-8")
    assert "3 bad rows" in embed("a.txt").stdout
    texts = ["\0", "\x7f\x01 ", "\ufe0f", "\u0301", "\ue000", "!", "\0a"]
    write_jsonl(tmp_path / "b.jsonl", [{"text": text} for text in texts])
    assert "5 bad rows" in embed("b.jsonl", out="b").stdout
    bad = [json.loads(line) for line in (tmp_path / "out" / "_bad" / "a.jsonl").read_text().splitlines()]
    assert [(one["row"], one["reason"]) for one in bad] == [(row, "text is empty") for row in (1, 2, 3)]


def test_a_number_of_any_length_is_no_bad_row(embed: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ['{"text": "a", "id": "x", "views": ' + "1" * 5000 + "}"])
    embed("a.jsonl", id="id", keep=["views"])
    found = VectorFolder.open(tmp_path / "out")
    assert found.shards[0].bad == 0
    assert [value for block in found.blocks() for value in block.rows["views"].to_pylist()] == ["1" * 5000]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_file_in_utf_16_is_refused(embed: Any, tmp_path: Path, name: str) -> None:
    """Half of its lines are UTF-8 by chance, with zeros between the letters."""
    (tmp_path / name).write_bytes("text\ndog\ncat\n".encode("utf-16"))
    assert f"{name}: it is UTF-16: save it as UTF-8" in embed(name, code=2).stderr


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"body": "a"}\n'), ("a.csv", "body\na\n")])
def test_a_misspelt_column_leaves_no_settings(embed: Any, tmp_path: Path, name: str, content: str) -> None:
    """The right command would be refused as one of other settings."""
    (tmp_path / name).write_text(content)
    assert "has no column 'text'" in embed(name, code=2).stderr
    embed(name, text="body")
    assert len(VectorFolder.open(tmp_path / "out")) == 1


@pytest.mark.parametrize("window", [16_384, 2])
@pytest.mark.parametrize("row", ['{"text": "", "id": 2}', '{"id": 2}', '{"text": "a"}', "{half"])
def test_a_small_file_of_bad_rows_does_not_stop_the_others(embed: Any, tmp_path: Path, row: str, window: int) -> None:
    for name in ("1", "3"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [{"text": "dog", "id": name}])
    write_jsonl(tmp_path / "in" / "0.jsonl", [row] * 5)
    done = embed("in", id="id", window=window)
    assert "in/0.jsonl: 0 rows, 5 bad rows in _bad/0.jsonl" in done.stderr
    assert "3 files with 2 vectors" in done.stdout
    assert "; 5 bad rows" in done.stdout
    found = VectorFolder.open(tmp_path / "out")
    assert found.ids().to_pylist() == ["1", "3"]
    assert len((tmp_path / "out" / "_bad" / "0.jsonl").read_text().splitlines()) == 5
    assert "3 files were done before" in embed("in", id="id", window=window).stdout
    write_jsonl(tmp_path / "in" / "4.jsonl", [row])
    assert "1 files with 0 vectors" in embed("in", id="id", window=window, code=1).stdout, "nothing at all"
    write_jsonl(tmp_path / "only" / "4.jsonl", [row])
    embed("only", id="id", out="other", code=2)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("window", [16_384, 400])
def test_a_large_file_that_begins_with_bad_rows_stops_the_command(embed: Any, tmp_path: Path, window: int) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": ""}] * 1200)
    write_jsonl(tmp_path / "c.jsonl", [{"txt": "dog"}] * 1200)
    for _ in range(2):  # again, after the first windows were written
        assert re.search(
            r"b.jsonl: none of the first 1,200 rows can be embedded .*check --text and --id",
            embed("a.jsonl", "b.jsonl", window=window, code=2).stderr,
        )
    told = embed("c.jsonl", "a.jsonl", window=window, code=2).stderr
    assert "c.jsonl" in told
    assert "has no column 'text'; did you mean 'txt'?" in told or window < 1000


def test_row_numbers_count_bad_rows(embed: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": ""}, {"text": "b"}])
    embed("a.jsonl")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == [0, 2]


def test_plain_lines_are_texts_whatever_their_column_is_called(embed: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"dog\n\xff\ncat")
    embed("a.txt", text="body")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == [0, 2]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_lines_may_end_with_carriage_returns(embed: Any, tmp_path: Path, name: str, suffix: str) -> None:
    rows = {"a.txt": "dog\r\rcat\r", "a.jsonl": '{"text": "dog"}\r{"text": "cat"}', "a.csv": 'text\rdog\r"cat"\r'}
    content = b"\xef\xbb\xbf" + rows[name].encode()
    (tmp_path / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    assert "2 vectors" in embed(f"{name}{suffix}").stdout


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_line_ends_may_differ_within_a_file(embed: Any, tmp_path: Path, name: str, suffix: str) -> None:
    objects = [json.dumps({"text": word}) for word in ("dog", "cat", "bird", "x")]
    rows = {"a.jsonl": objects, "a.csv": ["text", *"abcd"]}
    first, second, *others = rows[name]
    for ends in ("\r", "\r\r\n", "\n"):
        content = f"{first}\n{second}\r{ends.join(others)}\n".encode()
        (tmp_path / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
        assert "4 vectors" in (told := embed(f"{name}{suffix}", "--replace_changed").stdout)
        assert "bad rows" not in told


def test_a_carriage_return_inside_a_line_is_kept(embed: Any, encoder: TextEncoder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"dog\rcat\nbird")
    embed("a.txt")
    expected = encoder.encode(["dog\rcat", "bird"], output="numpy")
    np.testing.assert_allclose(VectorFolder.open(tmp_path / "out").vectors(), expected, atol=1e-5)


def test_damaged_csv_rows(embed: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\n007,dog\n8,cat,more\n9\n\n10,"two\nlines"\n11,\xff\n,bird\n12,"open')
    embed("a.csv", id="id")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == ["007", "10"]
    bad = [json.loads(line) for line in (tmp_path / "out" / "_bad" / "a.jsonl").read_text().splitlines()]
    assert [one["line"] for one in bad] == [3, 4, 8, 9, 10]


def test_null_and_empty_texts_of_parquet(embed: Any, tmp_path: Path) -> None:
    texts = pa.array(["a", None, "", "b", "a"]).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "id": pa.array([1, 2, 3, None, 5], pa.int32())}), tmp_path / "a.parquet")
    embed("a.parquet", id="id")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == [1, 5]
    assert VectorFolder.open(tmp_path / "out").ids().type == pa.int32(), "an id keeps its type"


def test_ids_that_are_none_are_the_same_in_every_format(embed: Any, tmp_path: Path) -> None:
    rows = [{"text": "dog", "id": one} for one in ("x", "", " ", None, "y")]
    write_jsonl(tmp_path / "lines.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    embed("lines.jsonl", "table.parquet", id="id")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == ["x", "y"] * 2
    bad = [
        [json.loads(line) for line in (tmp_path / "out" / "_bad" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("lines", "table")
    ]
    assert [one["reason"] for one in bad[1]] == ["id is empty", "id is empty", "no id"]
    assert [{**one, "line": None} for one in bad[0]] == [{**one, "line": None} for one in bad[1]]


def test_an_id_of_parquet_that_is_not_utf_8(embed: Any, tmp_path: Path) -> None:
    ids = pa.array([b"x", b"\xff", b"y"]).view(pa.string())
    pq.write_table(pa.table({"text": ["dog"] * 3, "id": ids}), tmp_path / "a.parquet")
    embed("a.parquet", id="id")
    assert VectorFolder.open(tmp_path / "out").ids().to_pylist() == ["x", "y"]
    assert json.loads((tmp_path / "out" / "_bad" / "a.jsonl").read_text())["reason"] == "id is not UTF-8"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "txt"])
def test_an_empty_input_gives_an_empty_file(embed: Any, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    else:
        (tmp_path / f"a.{suffix}").write_text("text\n" if suffix == "csv" else "")
    for file_format in ("parquet", "npy"):
        embed(f"a.{suffix}", out=file_format, format=file_format)
        found = VectorFolder.open(tmp_path / file_format)
        assert (len(found), found.vectors().shape, len(found.ids())) == (0, (0, 16), 0)


def test_what_is_done_is_skipped(embed: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [{"text": text} for text in words(5)])
    embed("in")
    before = content(tmp_path / "out")
    written = (tmp_path / "out" / "a.parquet").stat().st_mtime_ns
    os.utime(tmp_path / "in" / "a.jsonl", ns=(1, 1))  # a copy of the same content
    write_jsonl(tmp_path / "in" / "c.jsonl", [{"text": "new"}])
    assert "2 files were done before" in embed("in").stdout
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == written
    assert before.items() <= content(tmp_path / "out").items()
    assert len(VectorFolder.open(tmp_path / "out")) == 11


def test_a_changed_input_is_noticed(embed: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    os.utime(path, ns=(1, 1))
    embed("a.jsonl")
    os.utime(write_jsonl(path, [{"text": "cat"}]), ns=(1, 1))  # of the same size, and no younger as it seems
    assert "a.jsonl is not the file that out has vectors of" in embed("a.jsonl", code=2).stderr
    embed("a.jsonl", replace_changed=True)
    write_jsonl(tmp_path / "b.jsonl", [{"text": "cat"}])
    embed("b.jsonl", out="other")
    np.testing.assert_array_equal(*(VectorFolder.open(tmp_path / out).vectors() for out in ("out", "other")))


def test_a_folder_of_other_settings_is_refused(embed: Any, tmp_path: Path, tiny_model: Path, mtcl_command: Run) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    embed("a.jsonl", task="search")
    refused = {"role": "query", "dim": 8, "dtype": "float16", "format": "npy", "task": "interest", "window": 9}
    for name, value in refused.items():
        error = embed("a.jsonl", code=2, **{"task": "search", name: value}).stderr
        assert error.count("\n") == 1
        assert f"{name} " in error
        assert "there and" in error
    done = mtcl_command("embed", str(tiny_model), "a.jsonl", "--out", "out")
    assert done.returncode == 2
    assert "fingerprint" in done.stderr
    assert len(VectorFolder.open(tmp_path / "out")) == 1


def test_shards_together_are_one_run(embed: Any, tmp_path: Path) -> None:
    """Also of int8, whose ranges must not depend on who begins."""
    for number in range(5):
        rows = [{"text": text} for text in words(80 + number, seed=number)]
        write_jsonl(tmp_path / "in" / f"{number}" / "part.jsonl", rows)
    embed("in", out="whole", dtype="int8", window=40)
    for part in ("1/2", "0/2"):
        embed("in", out="parts", dtype="int8", window=40, shard=part)
    assert content(tmp_path / "whole") == content(tmp_path / "parts")
    assert (tmp_path / "parts" / "3" / "part.parquet").is_file(), "names keep the path below the folder"


def test_standard_input(embed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = words(12)

    def stdin(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    stdin("\n".join(json.dumps({"text": text}) for text in texts))
    embed("-", out="jsonl", window=5)
    stdin("\n".join(texts))
    embed("-", out="lines", lines=True, window=5)
    found = [VectorFolder.open(tmp_path / out) for out in ("jsonl", "lines")]
    np.testing.assert_array_equal(found[0].vectors(), found[1].vectors())
    assert [shard.name for shard in found[0].shards] == ["stdin"]
    stdin("\n".join(texts))
    assert "int8 takes its ranges from a sample" in embed("-", out="int8", lines=True, dtype="int8", code=2).stderr
    assert "already has vectors of a standard input" in embed("-", out="lines", lines=True, window=5, code=2).stderr
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input is closed: give files" in embed("-", out="closed", code=2).stderr


def test_a_stream_that_is_stopped(embed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(io.BytesIO):
        def __next__(self) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Stopped(b"dog")))
    told = embed("-", lines=True, code=130).stderr
    assert told.splitlines()[-1] == (
        "mtcl: stopped; standard input cannot be continued: send it again from its beginning"
    )


def test_paths_are_literal(embed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "run[12]" / "a*.jsonl", [{"text": "dog"}])
    write_jsonl(tmp_path / "run1" / "ab.jsonl", [{"text": "cat"}])
    embed("run[12]")
    assert [shard.name for shard in VectorFolder.open(tmp_path / "out").shards] == ["a*"]
    assert "no file or folder run1/a*.jsonl" in embed("run1/a*.jsonl", code=2).stderr
    monkeypatch.setenv("HOME", str(tmp_path))
    embed("~/run[12]/a*.jsonl", out="~/home")
    assert len(VectorFolder.open("~/home")) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.jsonl", "a.csv"], "would both give the vectors 'a'"),
        (["x/a.jsonl", "y/a.jsonl"], "would both give the vectors 'a'"),
        (["a.jsonl", "A.csv"], "would both give"),
        (["a.xml"], "is not a data file"),
        (["nothing.jsonl"], "there is no file or folder"),
        (["empty"], "has no data files"),
    ],
)
def test_inputs_that_are_refused(embed: Any, tmp_path: Path, files: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    for file in files:
        if "." in file and "nothing" not in file:
            write_jsonl(tmp_path / file, [{"text": "dog"}])
    assert message in embed(*files, code=2).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 9}, "--dim is 9, and the encoder was trained at 16, 8"),
        ({"dim": 99}, "--dim is 99: give 1 to 16"),
        ({"task": "serch"}, "did you mean 'search'"),
        ({"shard": "2/2"}, "--shard is '2/2': give i/n with i from 0"),
        ({"text": "txt"}, "has no column 'txt'; did you mean 'text'?"),
        ({"id": "missing"}, "check --text and --id"),
        ({"window": 0}, "--window is 0"),
        ({"processes": 0}, "--processes is 0"),
        ({"keep": ["embedding"]}, "--keep has 'embedding'"),
    ],
)
def test_options_that_are_refused(embed: Any, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    assert message in embed("a.jsonl", code=2, **options).stderr


def test_inputs_are_never_replaced(embed: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["dog"]}), tmp_path / "a.parquet")
    before = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.parquet").write_bytes(before)
    assert "a.parquet is in ., where the vectors are written" in embed("a.parquet", out=".", code=2).stderr
    assert "is in in" in embed("in", out="in", code=2).stderr
    embed("in", out="in/out")
    assert "1 files were done before" in embed("in", out="in/out").stdout, "the command continues, as it says"
    assert "out/b.parquet is in in/out" in embed("in/out", out="in/out", code=2).stderr
    assert "out/b.parquet is in in/out" in embed("in/out/b.parquet", out="in/out", code=2).stderr
    (tmp_path / "in" / "more").mkdir()
    (tmp_path / "in" / "more" / "b.parquet").write_bytes(before)
    assert "more/b.parquet is in in/more" in embed("in", out="in/more", code=2).stderr
    assert (tmp_path / "a.parquet").read_bytes() == before


@pytest.mark.parametrize("window", [16_384, 2])
def test_a_quote_that_swallows_many_lines_is_told(embed: Any, tmp_path: Path, window: int) -> None:
    rows = [f"{n},dog" for n in range(2000)]
    (tmp_path / "pair.csv").write_text("\n".join(["id,text", "1,cat", '2,"open', *rows, '3,close"', '4,"a\nb"']))
    (tmp_path / "inch.csv").write_text("\n".join(["id,text", "1,cat", '2,"open', *rows]))
    (tmp_path / "last.csv").write_text('id,text\n1,cat\n2,"open')
    done = embed("pair.csv", "inch.csv", "last.csv", id="id", window=window)
    told = [line for line in done.stderr.splitlines() if "lines" in line]
    assert told == [
        "pair.csv: lines 3 to 2,004 are one row: if they should not be, a quote in line 3 is not closed",
        "inch.csv: lines 3 to 2,003 are left out as one row, because the quote that opens in the first is not closed",
    ]
    for name in ("inch", "last"):
        bad = json.loads((tmp_path / "out" / "_bad" / f"{name}.jsonl").read_text())
        assert bad == {"row": 1, "reason": "not CSV: the quote that opens in line 3 is never closed", "line": 3}


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
def test_vectors_of_inputs_that_are_gone(embed: Any, tmp_path: Path, file_format: str) -> None:
    for name in ("a", "b", "c/d", "other"):
        folder = "in" if name != "other" else "elsewhere"
        write_jsonl(tmp_path / folder / f"{name}.jsonl", [{"text": name}, {"text": ""}])
    embed("in", format=file_format)
    embed("elsewhere/other.jsonl", format=file_format)
    (tmp_path / "elsewhere" / "other.jsonl").unlink()  # of another command
    assert "gone" not in embed("in", format=file_format).stderr
    (tmp_path / "in" / "a.jsonl").unlink()
    (tmp_path / "in" / "c" / "d.jsonl").rename(tmp_path / "in" / "c" / "e.jsonl")
    told = embed("./in/", format=file_format).stderr
    assert "out has vectors of 2 inputs that are gone (a, c/d), which search still finds: --prune removes them" in told
    assert [one.name for one in VectorFolder.open(tmp_path / "out").shards] == ["a", "b", "c/d", "c/e", "other"]
    told = embed("in", format=file_format, prune=True).stderr
    assert "out: removed the vectors of 2 inputs that are gone: a, c/d" in told
    assert [one.name for one in VectorFolder.open(tmp_path / "out").shards] == ["b", "c/e", "other"]
    names = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [name for name in names if re.search(r"(^|/)(a|c/d)\.", name)]
    assert "gone" not in embed("in", format=file_format).stderr


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
def test_damaged_vectors_are_noticed(embed: Any, tmp_path: Path, file_format: str) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "dog"}])
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": "cat"}, {"text": "bird"}])
    embed("in", format=file_format)
    path = tmp_path / "out" / ("a.parquet" if file_format == "parquet" else "a.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    damaged = rf"{path.name} is damaged or another file: it has .* bytes, and .* were written: delete it"
    assert re.search(damaged, embed("in", format=file_format, code=2).stderr)
    with pytest.raises(DataError, match=damaged):
        VectorFolder.open(tmp_path / "out")
    path.unlink()
    embed("in", format=file_format)
    assert path.read_bytes() == whole
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(DataError, match="if the file is damaged, delete it, and the same `mtcl embed` writes it again"):
        VectorFolder.open(tmp_path / "out").vectors()


def test_a_file_of_vectors_with_other_rows_is_noticed(embed: Any, tmp_path: Path) -> None:
    """Also in a folder of an earlier version, whose records have no sizes."""
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "dog"}])
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": "cat"}, {"text": "bird"}])
    embed("in")
    for name in ("a", "b"):
        record = tmp_path / "out" / "_shards" / f"{name}.json"
        record.write_text(json.dumps({key: v for key, v in json.loads(record.read_text()).items() if key != "sizes"}))
    (tmp_path / "out" / "a.parquet").write_bytes((tmp_path / "out" / "b.parquet").read_bytes())
    with pytest.raises(DataError, match=r"a\.parquet has 2 rows, and 1 were written"):
        VectorFolder.open(tmp_path / "out").vectors()


def test_links_in_a_folder_are_followed(embed: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "dog"}])
    write_jsonl(tmp_path / "elsewhere" / "b.jsonl", [{"text": "cat"}])
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "in").symlink_to("../in")
    (tmp_path / "in" / "day").symlink_to("../elsewhere")
    (tmp_path / "in" / "round").symlink_to(tmp_path)
    (tmp_path / "in" / ".hidden").symlink_to("nowhere")
    done = embed("in")
    assert [shard.name for shard in VectorFolder.open(tmp_path / "out").shards] == ["a", "day/b"]
    assert "in/round: skipping this link to a folder above it" in done.stderr
    assert "in/day/back: skipping" in done.stderr


@pytest.mark.parametrize("name", ["c.jsonl", "day"])
def test_a_link_that_leads_nowhere_is_refused(embed: Any, tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / "in" / "more" / "a.jsonl", [{"text": "dog"}])
    link = tmp_path / "in" / "more" / name
    link.symlink_to("/mnt/gone/c.jsonl")
    for given in ("in", f"in/more/{name}"):
        told = embed(given, code=2).stderr
        assert f"in/more/{name} is a link to /mnt/gone/c.jsonl, which does not exist: mend or remove the link" in told
    link.unlink()
    os.mkfifo(link)
    assert f"in/more/{name} is neither a file nor a folder" in embed(f"in/more/{name}", code=2).stderr


def test_a_run_folder_is_no_place_for_vectors(embed: Any, tmp_path: Path) -> None:
    """But an input may be in a folder `checkpoints`, and then its vectors are too."""
    write_jsonl(tmp_path / "b" / "checkpoints" / "a.jsonl", [{"text": "dog"}])
    run = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run.parent.mkdir(parents=True)
    run.touch()
    assert (
        "run is a run folder: give the vectors a folder of their own" in embed("b", out=run.parents[1], code=2).stderr
    )
    assert [path.name for path in run.parents[1].iterdir()] == ["checkpoints"]
    for _ in range(2):
        embed("b")
    assert (tmp_path / "out" / "checkpoints" / "a.parquet").is_file()


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
def test_files_of_others_are_never_replaced(embed: Any, tmp_path: Path, file_format: str) -> None:
    write_jsonl(tmp_path / "b" / "a.jsonl", [{"text": "dog"}])
    suffixes = [".parquet"] if file_format == "parquet" else [".npy", ".rows.parquet"]
    for suffix in suffixes:
        own = tmp_path / f"out{suffix}" / f"a{suffix}"
        own.parent.mkdir()
        pq.write_table(pa.table({"price": [1]}), own)
        before = own.read_bytes()
        refused = embed("b", out=own.parent, format=file_format, code=2).stderr
        assert f"the vectors of b/a.jsonl would replace {own}, which mtcl has not written" in refused
        assert [path.name for path in own.parent.iterdir()] == [own.name], "no settings either"
        assert own.read_bytes() == before
    embed("b", format=file_format)
    write_jsonl(tmp_path / "b" / "c.jsonl", [{"text": "dog"}])
    (tmp_path / "out" / f"c{suffixes[0]}").write_bytes(b"of another program")
    assert f"would replace out/c{suffixes[0]}" in embed("b", format=file_format, code=2).stderr, "also later"
    (tmp_path / "out" / f"c{suffixes[0]}").unlink()
    (tmp_path / "out" / "_shards" / "a.json").unlink()
    embed("b", format=file_format)
    assert len(VectorFolder.open(tmp_path / "out")) == 2, "a file without a record was left by a killed command"


@pytest.mark.parametrize("window", [2, 100])
def test_texts_that_are_cut_are_counted(embed: Any, tmp_path: Path, window: int) -> None:
    """By row, also from windows that a killed command has left; the run's maximum is 32 tokens, two of them special."""
    texts = ["dog", "dog " * 31, "cat " * 30, "cat " * 29, "dog " * 31]
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    write_jsonl(tmp_path / "b.jsonl", [{"text": "bird"}])
    told = embed("a.jsonl", "b.jsonl", window=window).stdout
    assert "; 3 texts fill 32 tokens, and what is longer was cut off" in told
    assert [shard.full for shard in VectorFolder.open(tmp_path / "out").shards] == [3, 0]
    assert "fill" not in embed("b.jsonl", out="other").stdout


def test_an_input_that_changes_while_it_is_read(embed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtcl.deploy.embed import shard_run

    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    opened, calls = shard_run.opened, []

    def changing(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:  # the first time, only the columns are looked at
            write_jsonl(path, [{"text": "dog"}, {"text": "cat"}])
        return opened(*given)

    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "opened", changing)
        assert "has changed while it was read" in embed("a.jsonl", code=2).stderr
    embed("a.jsonl")
    assert len(VectorFolder.open(tmp_path / "out")) == 2


def test_the_time_left() -> None:
    from mtcl.deploy.embed.progress import Pace

    now = [10.0]
    pace = Pace(1000, clock=lambda: now[0])
    now[0] = 20.0
    pace.add(5000, 250)
    assert pace.text() == "5,000 rows, 500 rows/s, 25%, 0:00:30 left"
    stream = Pace(0, clock=lambda: now[0])
    now[0] = 21.0
    stream.add(7, 0)
    assert stream.text() == "7 rows, 7 rows/s", "of a stream, the end is not known"


def test_options_without_effect_are_refused(embed: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    assert "--lines has no effect without standard input (-)" in embed("a.jsonl", lines=True, code=2).stderr
    assert "--any_dim has no effect without --dim" in embed("a.jsonl", any_dim=True, code=2).stderr


def test_bf16_is_near_float32_and_not_mixed_with_it(embed: Any, encoder: TextEncoder, tmp_path: Path) -> None:
    texts = words(40)
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    embed("a.jsonl", precision="bf16")
    found, exact = VectorFolder.open(tmp_path / "out").vectors(), encoder.encode(texts, output="numpy")
    np.testing.assert_allclose(found, exact, atol=0.03)
    assert np.abs(found - exact).max() > 1e-5, "else it was float32"
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert "precision 'bf16' there and 'float32' now" in embed("a.jsonl", code=2).stderr


def test_any_dim(embed: Any, encoder: TextEncoder, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog cat"}])
    embed("a.jsonl", dim=9, any_dim=True)
    expected = encoder.encode(["dog cat"], dim=9, output="numpy")
    np.testing.assert_allclose(VectorFolder.open(tmp_path / "out").vectors(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "options"),
    [(["text", "text"], {}), (["text", "k", "k"], {"keep": ["k"]}), (["text", "k", "k"], {"id": "k"})],
)
def test_columns_of_one_name_are_refused(embed: Any, tmp_path: Path, names: list[str], options: dict[str, Any]) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * len(names), names=names), tmp_path / "a.parquet")
    told = embed("a.parquet", code=2, **options).stderr
    assert f"a.parquet has two columns with the same name: {names[-1]}" in told
    if options:
        embed("a.parquet")


def test_a_column_of_another_type_is_refused(embed: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    told = embed("a.parquet", code=2).stderr
    assert "column 'text' holds int64, not text: name a column of texts with --text" in told
    when = pa.array([0, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["dog", "cat"], "when": when}), tmp_path / "when.parquet")
    told = embed("when.parquet", id="when", code=2).stderr
    assert "column 'when' holds timestamp[us], not text or whole numbers: save it as text" in told
    (tmp_path / "b.parquet").write_bytes(b"PAR1 damaged")
    assert "cannot read b.parquet" in embed("b.parquet", code=2).stderr
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "dog"}\n' * 1000)[:-20])
    assert "cannot read c.jsonl.gz" in embed("c.jsonl.gz", code=2).stderr


def test_kept_columns_of_mixed_types(embed: Any, tmp_path: Path) -> None:
    """Types differ between windows; what all have in common is found at the end."""
    values = [1, 2, None, 2.5, True, "x", {"a": 1}, [1, 2]]
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog", "n": n, "v": v} for n, v in enumerate(values)])
    embed("a.jsonl", keep=["v", "n"], window=2)
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table["n"].to_pylist() == list(range(8))
    assert table["v"].to_pylist()[5:] == ["x", '{"a": 1}', "[1, 2]"]
    assert table.column_names == ["id", "v", "n", "embedding"]


@pytest.mark.parametrize("file_format", ["parquet", "npy"])
def test_kept_integers_are_never_rounded(embed: Any, tmp_path: Path, file_format: str) -> None:
    """Beyond 2^53 they are no floating-point numbers, which other windows have; the whole column becomes text."""
    for name, large, expected in (("a", 2**53 - 1, float(2**53 - 1)), ("b", 2**53 + 1, str(2**53 + 1))):
        values = [large, large, 1.5, None, 7, 2.5]
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": "dog", "v": v} for v in values])
        embed(f"{name}.jsonl", keep=["v"], window=2, format=file_format)
        suffix = ".parquet" if file_format == "parquet" else ".rows.parquet"
        found = pq.read_table(tmp_path / "out" / f"{name}{suffix}")["v"].to_pylist()
        assert found[:2] == [expected, expected]
        assert [value and float(value) for value in found[2:]] == [1.5, None, 7, 2.5]


def test_a_reader_refuses_other_folders(tmp_path: Path, embed: Any, tiny_model: Path) -> None:
    with pytest.raises(DataError, match="is not a folder of vectors"):
        VectorFolder.open(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", [{"text": "dog"}])
    embed("a.jsonl")
    with pytest.raises(ConfigError, match="vectors of another encoder"):
        VectorFolder.open(tmp_path / "out").check_encoder(TextEncoder.load(tiny_model))
    (tmp_path / "out" / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"a\.parquet is missing"):
        VectorFolder.open(tmp_path / "out")
    embed("a.jsonl")
    assert len(VectorFolder.open(tmp_path / "out")) == 1, "a missing file is written again"
    manifest = tmp_path / "out" / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"layout": 1', '"layout": 2'))
    with pytest.raises(DataError, match="has layout 2"):
        VectorFolder.open(tmp_path / "out")
    manifest.write_text("{}")
    with pytest.raises(DataError, match="malformed"):
        VectorFolder.open(tmp_path / "out")


def test_the_page_names_every_option() -> None:
    from mtcl.commands.embed import _parser

    page = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8").split("## Measured")[0]
    options = {name for action in _parser("embed")._actions for name in action.option_strings if name.startswith("--")}
    assert set(re.findall(r"--[a-z_]+", page)) == options - {"--help"}
