"""Rows of local files by role: equal from every format and every Arrow type, never a guess from the first rows.

python -m pytest tests/test_reading.py
"""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtcl import DataError, Files, LabelText, QueryDocument, Scored, Tags
from mtcl.task.reading import Wanted, csv_file, jsonl, parquet, read_split
from mtcl.task.roles import Role, as_role

ROLES = [Role.TEXT, Role.ID, Role.NUMBER, Role.TEXTS, Role.TEXT_OR_TEXTS]
Values = list[Any]


def lines_of(path: Path, rows: list[Any], **options: Any) -> Path:
    path.write_text("".join(json.dumps(row, **options) + "\n" for row in rows), encoding="utf-8")
    return path


def by_role(path: Path, **roles: Role) -> dict[str, Values]:
    found: dict[str, Values] = read_split([path], Wanted(roles)).rows.to_pydict()
    return found


def natural(*paths: Path) -> pa.Table:
    return read_split(list(paths), Wanted({}, rest=True)).rows


def told(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# Arrow types


DECIMALS = [decimal.Decimal("1.0"), decimal.Decimal("0.5"), None]
TEXT = ["a", None, "é"]
LISTS = [["a", "b"], None, ["é", None]]


@pytest.mark.parametrize(
    ("role", "column", "expected"),
    [
        *[(Role.TEXT, pa.array(TEXT, kind), TEXT) for kind in (pa.string(), pa.large_string(), pa.string_view())],
        (Role.TEXT, pa.array(TEXT).dictionary_encode(), TEXT),
        (Role.TEXT, pa.array(TEXT, pa.dictionary(pa.int8(), pa.large_string())), TEXT),
        (Role.TEXT, pa.nulls(2), [None, None]),
        (Role.ID, pa.array(TEXT), TEXT),
        *[(Role.ID, pa.array([7, None, 0], kind), ["7", None, "0"]) for kind in (pa.int8(), pa.uint32(), pa.int64())],
        (Role.ID, pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (Role.ID, pa.array([7, None, 7]).dictionary_encode(), ["7", None, "7"]),
        (Role.ID, pa.array([decimal.Decimal(7)], pa.decimal128(38, 0)), ["7"]),
        *[
            (Role.NUMBER, pa.array([1, None, 0], kind), [1.0, None, 0.0])
            for kind in (pa.int64(), pa.uint8(), pa.float16(), pa.float32(), pa.float64())
        ],
        (Role.NUMBER, pa.array([True, None, False]), [1.0, None, 0.0]),
        (Role.NUMBER, pa.array(DECIMALS, pa.decimal128(5, 2)), [1.0, 0.5, None]),
        (Role.NUMBER, pa.array(DECIMALS, pa.decimal256(50, 2)), [1.0, 0.5, None]),
        (Role.NUMBER, pa.array([2**60 + 1]), [float(2**60 + 1)]),
        *[
            (Role.TEXTS, pa.array(LISTS, kind), LISTS)
            for kind in (
                pa.list_(pa.string()),
                pa.large_list(pa.large_string()),
                pa.list_(pa.string(), 2),
                pa.list_(pa.string_view()),
                pa.list_view(pa.string()),
                pa.large_list_view(pa.string()),
            )
        ],
        (Role.TEXT_OR_TEXTS, pa.array(LISTS, pa.list_(pa.string(), 2)), LISTS),
        (Role.TEXT_OR_TEXTS, pa.array(LISTS, pa.list_view(pa.string())), LISTS),
        (Role.TEXTS, pa.array([["a"], []], pa.list_(pa.dictionary(pa.int32(), pa.string()))), [["a"], []]),
        (Role.TEXTS, pa.array([[], []]), [[], []]),
        (Role.TEXTS, pa.nulls(1), [None]),
        (Role.TEXT_OR_TEXTS, pa.array(LISTS), LISTS),
        (Role.TEXT_OR_TEXTS, pa.array(TEXT, pa.string_view()), [["a"], None, ["é"]]),
        (Role.TEXT_OR_TEXTS, pa.nulls(1), [None]),
    ],
    ids=str,
)
def test_every_arrow_type_that_says_the_same_is_the_same(
    role: Role, column: pa.Array, expected: Values, tmp_path: Path
) -> None:
    found = as_role(pa.chunked_array([column, column[:1]]), role)
    assert found is not None
    assert found.to_pylist() == expected + expected[:1]
    empty = as_role(pa.chunked_array([], type=column.type), role)
    assert empty is not None
    assert empty.type == found.type
    pq.write_table(pa.table({"it": column}), tmp_path / "t.parquet")
    assert by_role(tmp_path / "t.parquet", it=role) == {"it": expected}


@pytest.mark.parametrize(
    ("role", "column"),
    [
        (Role.TEXT, pa.array([1])),
        (Role.TEXT, pa.array([["a"]])),
        (Role.ID, pa.array([1.5])),
        (Role.ID, pa.array([True])),
        (Role.ID, pa.array([decimal.Decimal("1.5")])),
        (Role.NUMBER, pa.array(["1"])),
        (Role.TEXTS, pa.array(["a"])),
        (Role.TEXTS, pa.array([[1]])),
        (Role.TEXT_OR_TEXTS, pa.array([{"a": "b"}])),
    ],
    ids=str,
)
def test_another_meaning_is_refused(role: Role, column: pa.Array, tmp_path: Path) -> None:
    assert as_role(pa.chunked_array([column]), role) is None
    pq.write_table(pa.table({"it": column}), tmp_path / "t.parquet")
    message = told(lambda: by_role(tmp_path / "t.parquet", it=role))
    stored = str(column.type).replace("item", "element")
    assert message.startswith(f"{tmp_path / 't.parquet'}: column 'it' holds {stored}, not {role}")


# Parquet


def shards(folder: Path, *tables: pa.Table) -> list[Path]:
    paths = [folder / f"part-{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path)
    return paths


def test_shards_may_differ_in_columns_order_and_types(tmp_path: Path) -> None:
    paths = shards(
        tmp_path,
        pa.table({"id": [7], "text": ["a"], "note": [1]}),
        pa.table({"note": [["unlike"]], "text": pa.array(["b"]).dictionary_encode(), "id": ["a17"]}),
        pa.table({"text": pa.nulls(0), "other": pa.nulls(0)}),
        pa.table({"text": pa.array(["c"], pa.string_view()), "more": [{"x": 1}], "id": pa.array([9], pa.uint8())}),
    )
    found = read_split(paths, Wanted({"text": Role.TEXT, "id": Role.ID})).rows
    assert found.to_pydict() == {"text": ["a", "b", "c"], "id": ["7", "a17", "9"]}


def test_a_shard_that_lacks_a_column_is_named_and_one_without_negatives_has_none(tmp_path: Path) -> None:
    paths = shards(tmp_path, pa.table({"text": ["a"], "bad": ["b"]}), pa.table({"text": ["c"]}))
    roles = {"text": Role.TEXT, "bad": Role.TEXT_OR_TEXTS}
    assert read_split(paths, Wanted(roles)).rows["bad"].to_pylist() == [["b"], None]
    message = told(lambda: read_split(paths, Wanted({"bad": Role.TEXT})))
    assert message == f"{paths[1]}: no column 'bad' (columns: text): give the name of yours in the task's pairs"
    message = told(lambda: read_split(paths, Wanted({"bda": Role.TEXT_OR_TEXTS})))
    assert message == f"{paths[0]}: no column 'bda' (columns: text, bad); did you mean 'bad'?"


def test_a_shard_of_another_type_is_named(tmp_path: Path) -> None:
    paths = shards(tmp_path, pa.table({"text": ["a"]}), pa.table({"text": [1]}))
    message = told(lambda: read_split(paths, Wanted({"text": Role.TEXT})))
    assert message.startswith(f"{paths[1]}: column 'text' holds int64, not text: save it as text, ")


def test_without_roles_columns_of_shards_get_the_widest_type(tmp_path: Path) -> None:
    paths = shards(
        tmp_path,
        pa.table({"n": [1], "mixed": [7], "text": ["a"], "lists": [[]], "kind": pa.array(["x"]).dictionary_encode()}),
        pa.table({"text": ["b"], "n": [0.5], "mixed": ["a17"], "lists": [["c"]], "late": [True], "kind": ["y"]}),
    )
    assert natural(*paths).to_pydict() == {
        "n": [1.0, 0.5],
        "mixed": ["7", "a17"],
        "text": ["a", "b"],
        "lists": [[], ["c"]],
        "kind": ["x", "y"],
        "late": [None, True],
    }


def test_one_parquet_file_without_roles_is_as_it_was_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "category": pa.array(["a", "b"]).dictionary_encode(),
            "when": pa.array([1, 2], pa.timestamp("us", tz="UTC")),
            "price": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(9, 2)),
            "nested": [{"x": [1]}, {"x": None}],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert natural(tmp_path / "t.parquet").equals(table)


def test_with_all_other_columns_a_large_parquet_file_is_as_it_was_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mined data root differs in one column, whatever the size of the table."""
    table = pa.table({"id": pa.array([1, 2, 3], pa.int32()), "no": ["a", None, "b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    monkeypatch.setattr(parquet, "ROWS", 2)
    wanted = Wanted({"id": Role.ID, "no": Role.TEXT_OR_TEXTS}, rest=True)
    assert parquet.read_parquet(tmp_path / "t.parquet", wanted).rows.equals(table)
    in_roles = parquet.read_parquet(tmp_path / "t.parquet", Wanted(wanted.roles, rest=False)).rows
    assert in_roles["id"].type == pa.large_string()


def test_only_the_wanted_columns_of_a_parquet_file_are_read(tmp_path: Path) -> None:
    """Bytes of another column can be damaged, and two columns of one name do not matter unless they are wanted."""
    table = pa.Table.from_arrays([pa.array(["a" * 50]), pa.array(["b" * 50]), pa.array(["c"])], ["x", "y", "y"])
    pq.write_table(table, tmp_path / "t.parquet")
    assert "two columns with the same name: y" in told(lambda: by_role(tmp_path / "t.parquet", y=Role.TEXT))
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    place = pq.read_metadata(tmp_path / "t.parquet").row_group(0).column(1).dictionary_page_offset
    content[place : place + 8] = b"\xff" * 8
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises((OSError, pa.ArrowException)):
        pq.ParquetFile(tmp_path / "t.parquet").read()
    assert by_role(tmp_path / "t.parquet", x=Role.TEXT) == {"x": ["a" * 50]}


def test_a_column_whose_name_has_a_dot_is_no_path(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["1"], "a.b": ["2"], "c": [{"d": "3"}]}), tmp_path / "t.parquet")
    assert by_role(tmp_path / "t.parquet", **{"a.b": Role.TEXT}) == {"a.b": ["2"]}
    assert by_role(tmp_path / "t.parquet", a=Role.TEXT) == {"a": ["1"]}
    assert "no column 'c.d'" in told(lambda: by_role(tmp_path / "t.parquet", **{"c.d": Role.TEXT}))


def test_text_of_a_parquet_file_that_is_not_utf_8_is_named_by_its_column(tmp_path: Path) -> None:
    latin = pa.array(["Köln".encode("latin-1")]).view(pa.string())
    pq.write_table(pa.table({"query": latin, "document": ["d"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'query' cannot be read .*: is the file saved as UTF-8\?"):
        QueryDocument()(natural(tmp_path / "t.parquet"))


# JSONL


SCALARS = st.sampled_from([None, "a", "é", "2020-01-01", "7", 7, 0, -3, 2**70, 0.5, 1.0, True, {"x": 1}])
ANYTHING = st.one_of(SCALARS, st.lists(st.sampled_from(["a", "é", None, 3]), max_size=2))


def expected_of(value: Any, role: Role) -> Any:
    """What a role makes of a value of JSON, in plain words. Raises `ValueError` where it must be refused."""
    is_texts = isinstance(value, list) and all(one is None or isinstance(one, str) for one in value)
    match role:
        case _ if value is None:
            return None
        case Role.TEXT | Role.ID if isinstance(value, str):
            return value
        case Role.ID if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        case Role.NUMBER if isinstance(value, bool | int | float):
            return float(value)
        case Role.TEXTS | Role.TEXT_OR_TEXTS if is_texts:
            return value
        case Role.TEXT_OR_TEXTS if isinstance(value, str):
            return [value]
    raise ValueError


@given(st.lists(ANYTHING, min_size=1, max_size=12), st.sampled_from(ROLES), st.sampled_from([20, 60, 1 << 24]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jsonl_is_read_by_role_whatever_came_before(tmp_path: Path, values: Values, role: Role, block: int) -> None:
    """In blocks of any size, values are as the role wants them, or the first line that cannot be is named."""
    path = lines_of(
        tmp_path / "t.jsonl", [{"it": value, "other": [n] if n % 2 else "x"} for n, value in enumerate(values)]
    )
    wrong = None
    expected = []
    for line, value in enumerate(values, 1):
        try:
            expected.append(expected_of(value, role))
        except ValueError:
            wrong = line
            break
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK", block)
        if wrong:
            assert told(lambda: by_role(path, it=role)).startswith(f"{path}:{wrong}: column 'it' holds ")
        else:
            assert by_role(path, it=role)["it"] == expected


@pytest.mark.parametrize(
    ("role", "values"),
    [
        (Role.TEXT, ["a", None, "2020-01-01", 'é\n\t"', "\U0001f600"]),
        (Role.ID, [7, None, 8]),
        (Role.ID, ["a", "7"]),
        (Role.NUMBER, [0, 1, 0.5, None, -1e-3]),
        (Role.TEXTS, [[], None, ["a"], [None, "b"]]),
        (Role.TEXT_OR_TEXTS, [["a"], None, []]),
        (Role.TEXT_OR_TEXTS, ["a", None]),
    ],
)
def test_plain_columns_take_the_fast_way_and_both_ways_are_equal(tmp_path: Path, role: Role, values: Values) -> None:
    path = lines_of(tmp_path / "t.jsonl", [{"it": value, "other": {"n": n}} for n, value in enumerate(values)])
    [block] = jsonl._blocks(path)
    fast, slow = jsonl._parsed_at_once(block, {"it": role}, {}), jsonl._parsed_by_line(block, Wanted({"it": role}), {})
    assert fast is not None
    assert fast["it"].to_pylist() == slow["it"].to_pylist()
    assert as_role(slow["it"], role).type == fast["it"].type  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": ', "as JSON: "),
        ("{'text': 'a'}", "as JSON: "),
        ('{"text": "a"} {"text": "b"}', "as JSON: "),
        ('{"text": "a"}null', "as JSON: "),
        ("null", ": it is null, not an object"),
        ("  null", ": it is null, not an object"),
        ('[{"text": "a"}]', ": it is a list, not an object: write one object per line"),
        ('"text"', ": it is text, not an object"),
        ("[" * 100_000, "as JSON: "),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 40])
@pytest.mark.parametrize("rest", [False, True])
def test_a_damaged_line_is_named_with_its_file(tmp_path: Path, line: str, what: str, before: int, rest: bool) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n' * before + "\n" + line + "\n" + '{"text": "a"}\n')
    message = told(lambda: read_split([path], Wanted({"text": Role.TEXT}, rest=rest)))
    assert message.startswith(f"cannot read {path}:{before + 2}")
    assert what in message


def test_a_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + '{"text": "Köln"}\n'.encode("latin-1"))
    for wanted in (Wanted({"text": Role.TEXT}), Wanted({}, rest=True)):
        message = told(lambda wanted=wanted: read_split([path], wanted))  # type: ignore[misc]
        assert message.startswith(f"cannot read {path}:2 (")
        assert message.endswith("): save the file as UTF-8")


def test_half_a_character_is_named_by_its_line(tmp_path: Path) -> None:
    """Texts that were cut within an emoji; in a column that is not read they do not matter."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "note": "\\ud83d"}\n{"text": "b \\ud83d", "note": ""}\n')
    told_by_role = told(lambda: by_role(path, text=Role.TEXT))
    assert told_by_role == f"{path}:2: column 'text' has half of a character ('b \\ud83d'): fix or remove it"
    path.write_text('{"text": "a", "note": "\\ud83d"}\n')
    assert by_role(path, text=Role.TEXT) == {"text": ["a"]}
    assert f"{path}:1: column 'note' has half of a character" in told(lambda: natural(path))


def test_a_list_where_text_is_wanted_points_to_tags_and_text_where_lists_are_to_label_text(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "t.jsonl", [{"text": "a", "labels": "x"}, {"text": "b", "labels": ["y", "z"]}])
    message = told(lambda: by_role(path, **LabelText(label="labels").columns()))
    assert message == f"{path}:2: column 'labels' holds a list, not text: for a text with a list of labels use Tags"
    message = told(lambda: by_role(path, **Tags(tags="labels").columns()))
    assert message.startswith(f"{path}:1: column 'labels' holds text, not a list of strings: ")
    assert "LabelText" in message
    pq.write_table(pa.table({"text": ["a"], "labels": [["x"]]}), tmp_path / "t.parquet")
    message = told(lambda: by_role(tmp_path / "t.parquet", **LabelText(label="labels").columns()))
    assert message.startswith(f"{tmp_path / 't.parquet'}: column 'labels' holds list<")
    assert message.endswith(": for a text with a list of labels use Tags")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_marks_and_blank_lines_are_no_matter(tmp_path: Path, ends: str, last: bool) -> None:
    path = tmp_path / "t.jsonl"
    rows = ['{"text": "a"}', "", "  ", '{"text": "b"}', '{"x": 1}']
    path.write_bytes(b"\xef\xbb\xbf" + (ends.join(rows) + ends * last).encode())
    assert by_role(path, text=Role.TEXT) == {"text": ["a", "b", None]}
    assert natural(path).to_pydict() == {"text": ["a", "b", None], "x": [None, None, 1]}


def test_line_ends_may_differ_within_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", 20)
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"text": "a"}\r{"text": "b"}\n{"text": "c"}\r\n{"text": "d"}\r{"text": }\r')
    assert told(lambda: by_role(path, text=Role.TEXT)).startswith(f"cannot read {path}:5 as JSON")
    path.write_bytes(path.read_bytes().replace(b'}\r{"text": }', b"}"))
    assert by_role(path, text=Role.TEXT) == {"text": ["a", "b", "c", "d"]}


def test_a_csv_line_of_another_encoding_is_named_however_lines_end(tmp_path: Path) -> None:
    for ends in (b"\n", b"\r\n", b"\r"):
        (tmp_path / "t.csv").write_bytes(ends.join([b"text", b"good", b"caf\xe9", b"x"]))
        assert f"{tmp_path / 't.csv'}:3: it is not UTF-8" in told(lambda: by_role(tmp_path / "t.csv", text=Role.TEXT))


def test_a_line_may_be_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", 100)
    texts = ["x" * 5000, "y", "z" * 99, "é" * 70]
    path = lines_of(tmp_path / "t.jsonl", [{"text": text} for text in texts], ensure_ascii=False)
    assert by_role(path, text=Role.TEXT) == {"text": texts}


def test_a_key_that_no_object_has_is_told_and_one_of_nulls_is_there(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "t.jsonl", [{"text": "a"}] * 40 + [{"text": "b", "label": None}])
    assert by_role(path, label=Role.TEXT)["label"] == [None] * 41
    for role in ROLES:
        message = told(lambda role=role: by_role(path, labels=role))  # type: ignore[misc]
        assert message == f"{path}: no column 'labels' (columns: text): give the name of yours in the task's pairs"


def test_without_roles_dates_stay_text_and_mixed_values_become_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [
        {"when": "2020-01-01", "id": 7, "n": 1, "neg": None, "tags": [], "deep": {"a": 1}, "flag": True},
        {"when": "2020-01-01T00:00:00", "id": 8, "n": 2, "neg": None, "tags": [], "deep": {"a": 2}, "flag": 1},
        {"when": "x", "id": "a17", "n": 0.5, "neg": ["b"], "tags": ["c"], "deep": {"a": "z"}, "late": 1, "flag": "no"},
    ]
    path = lines_of(tmp_path / "t.jsonl", rows)
    expected = {
        "when": ["2020-01-01", "2020-01-01T00:00:00", "x"],
        "id": ["7", "8", "a17"],
        "n": [1.0, 2.0, 0.5],
        "neg": [None, None, ["b"]],
        "tags": [[], [], ["c"]],
        "deep": ['{"a": 1}', '{"a": 2}', '{"a": "z"}'],
        "flag": ["true", "1", "no"],
        "late": [None, None, 1],
    }
    for block in (50, 1 << 24):  # a line to a block, and all lines in one
        monkeypatch.setattr(jsonl, "BLOCK", block)
        assert natural(path).to_pydict() == expected


# CSV


def test_csv_text_is_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label,id\n"1984",true,007\n2001,False,7\n-0,1e5," 8"\n"two\nlines",,\n')
    assert by_role(path, text=Role.TEXT, label=Role.TEXT, id=Role.ID) == {
        "text": ["1984", "2001", "-0", "two\nlines"],
        "label": ["true", "False", "1e5", None],
        "id": ["007", "7", " 8", None],
    }
    assert natural(path)["label"].to_pylist() == ["true", "False", "1e5", None]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0", "1", "0.5", "", "-1e-2"], [0.0, 1.0, 0.5, None, -0.01]),
        (["true", "FALSE", ""], [1.0, 0.0, None]),
        (['"0.5"', "1."], [0.5, 1.0]),
    ],
)
def test_csv_numbers(tmp_path: Path, cells: list[str], expected: Values) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,text\n" + "".join(f"{cell},x\n" for cell in cells))
    assert by_role(path, n=Role.NUMBER) == {"n": expected}


def test_csv_errors_name_the_line(tmp_path: Path) -> None:
    """Also after cells with line ends, and blank lines."""
    path = tmp_path / "t.csv"
    path.write_text('n,text\n1,"a\nb"\n\nhigh,x\n')
    assert (
        told(lambda: by_role(path, n=Role.NUMBER))
        == f"{path}:5: column 'n' holds 'high', not a number: write one, such as 0 or 0.5"
    )
    message = told(lambda: by_role(path, m=Role.NUMBER))
    assert message == f"{path}: no column 'm' (columns: n, text): give the name of yours in the task's pairs"
    message = told(lambda: by_role(path, TEXT=Role.TEXT))
    assert message == f"{path}: no column 'TEXT' (columns: n, text); did you mean 'text'?"
    other = tmp_path / "other.csv"
    other.write_text("text;label\na, b;c\n")
    message = told(lambda: by_role(other, text=Role.TEXT))
    assert message == f"{other} has the single column 'text;label': separate columns with ',', not ';'"
    told_lists = told(lambda: by_role(path, text=Role.TEXTS))
    assert told_lists == f"{path}: column 'text' holds text, and a CSV file has no lists: save it as JSONL or Parquet"
    path.write_text("n,text\n1,x\n2,y\n3,z,z\n")
    assert f"{path}:4: it has 3 cells, the header 2" in told(lambda: by_role(path, n=Role.NUMBER))
    path.write_bytes("n,text\n1,x\n2,Köln\n".encode("latin-1"))
    assert f"{path}:3: it is not UTF-8" in told(lambda: by_role(path, text=Role.TEXT))
    assert by_role(path, n=Role.NUMBER) == {"n": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("header", "rows", "line"),
    [
        ("text,label", ['"good,pos', "bad,neg", "fair,pos", 'an 8",neg'], 2),
        ("label,text", ["pos,fine", 'pos,"good', "neg,bad", "pos,fair", 'neg,an 8"'], 3),
        ("id,text,label", ['1,"good,pos', "2,bad,neg", '3,an 8",neg'], 2),
        ("text,label", ['"a poem, in lines', "with one comma, or two, each", "", 'end",pos'], None),
        ("text,label", ['"one, two', 'three",pos'], None),
        ("text", ['"good', "bad", "fair", 'an 8"'], None),
    ],
)
def test_rows_that_an_open_quote_takes_in_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str, rows: list[str], line: int | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    csv_file.read_csv(path, Wanted({"text": Role.TEXT}))
    assert caplog.text.count("reads like several rows") == (line is not None)
    assert line is None or f"{path}:{line}: a cell of column 'text' reads like several rows" in caplog.text


def test_csv_negatives_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("query,document,bad\nq,d,1984\nr,e,\n")
    roles = QueryDocument(negatives="bad").columns()
    assert by_role(path, **roles)["bad"] == [["1984"], None]
    table = QueryDocument(negatives="bad")(read_split([path], Wanted(roles)).rows)
    assert table.negatives is not None
    assert [table.texts[int(text)].as_py() for text in table.negatives.values] == ["1984"]


@pytest.mark.parametrize("written", ['["x", "y"]', "['x', 'y']", "[]", ' ["x"] '])
def test_lists_that_are_written_as_text_are_no_negatives(tmp_path: Path, written: str) -> None:
    """As pandas and spreadsheets write them; each was taught as one negative."""
    path = lines_of(tmp_path / "train.jsonl", [{"query": "q", "document": "d", "bad": written}])
    pairs = QueryDocument(negatives="bad")
    assert "column 'bad' holds lists that are written as text (" in told(
        lambda: pairs(read_split([path], Wanted(pairs.columns())).rows)
    )
    lines_of(path, [{"query": "q", "document": "d", "bad": written}, {"query": "r", "document": "e", "bad": "[x] y"}])
    assert pairs(read_split([path], Wanted(pairs.columns())).rows).negatives is not None


def test_a_csv_file_larger_than_a_block_is_judged_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK", 64)
    path = tmp_path / "t.csv"
    path.write_text("id,text\n" + "".join(f"{n},x\n" for n in range(100)) + "a17,007\n")
    assert by_role(path, id=Role.ID)["id"][-2:] == ["99", "a17"]
    assert natural(path)["text"].to_pylist()[-1] == "007"


# All formats


@pytest.mark.parametrize("name", ["run[12]", "v?", "only[x]", "~", "a*", "{a,b}", "hf:"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_path_is_a_name_and_not_a_pattern(tmp_path: Path, name: str, suffix: str) -> None:
    for root, text in ((name, "mine"), ("run1", "other"), ("v1", "other"), ("onlyx", "other"), ("a", "other")):
        folder = tmp_path / root / name
        folder.mkdir(parents=True)
        if suffix == "parquet":
            pq.write_table(pa.table({"text": [text]}), folder / "train.parquet")
        else:
            (folder / f"train.{suffix}").write_text(
                f'{{"text": "{text}"}}\n' if suffix == "jsonl" else f"text\n{text}\n"
            )
    source = Files(name)
    assert source("train", tmp_path / name).to_pydict() == {"text": ["mine"]}
    assert source.select("train", tmp_path / name, {"text": Role.TEXT}).to_pydict() == {"text": ["mine"]}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_local_files_need_no_other_library_and_leave_nothing_behind(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import of it raises
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    (tmp_path / "t").mkdir()
    path = tmp_path / "t" / f"train.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        lines_of(path, rows)
    else:
        path.write_text("text,label\na,x\nb,y\n")
    assert Files("t").select("train", tmp_path, LabelText().columns()).to_pylist() == rows
    assert [p.name for p in tmp_path.rglob("*")] == ["t", path.name]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_where_reads_its_columns_too(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "t").mkdir()
    path = tmp_path / "t" / f"train.{suffix}"
    rows = [{"text": f"post {n}", "story": n % 2, "year": 2020 + n % 3} for n in range(6)]
    if suffix == "jsonl":
        lines_of(path, rows)
    else:
        path.write_text("text,story,year\n" + "".join(f"{r['text']},{r['story']},{r['year']}\n" for r in rows))
    roles = {"text": Role.TEXT, "story": Role.ID}
    found = Files("t", where={"year": [2020, 2021], "story": [1]}).select("train", tmp_path, roles)
    assert found.to_pydict() == {"text": ["post 1", "post 3"], "story": ["1", "1"]}
    for where, message in (
        ({"years": [2020]}, "train of 't' has no column 'years' to keep rows by; did you mean 'year'?"),
        ({"year": [1999]}, "no row of train of 't' has year 1999"),
        ({"story": [1, 2]}, "no row of train of 't' has story 2"),
    ):
        source = Files("t", where=where)
        assert message in told(lambda source=source: source.select("train", tmp_path, roles))  # type: ignore[misc]


def test_where_leaves_a_corpus_without_its_column_whole(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    lines_of(tmp_path / "t" / "corpus.jsonl", [{"text": "a"}, {"text": "b"}])
    found = Files("t", where={"lang": ["de"]}).select("corpus", tmp_path, {"text": Role.TEXT})
    assert found.to_pydict() == {"text": ["a", "b"]}


def test_scores_that_turn_into_fractions_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", 100)
    rows = [{"first": f"a {n}", "second": "b", "score": n % 2} for n in range(20)]
    path = lines_of(tmp_path / "t.jsonl", [*rows, {"first": "z", "second": "b", "score": 0.5}])
    table = Scored()(read_split([path], Wanted(Scored().columns())).rows)
    assert table.scores is not None
    assert table.scores.tolist() == [n % 2 for n in range(20)] + [0.5]


def test_dates_are_text_in_jsonl_and_times_in_parquet_are_refused_as_text(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "t.jsonl", [{"text": "2020-01-01", "label": "2020-01-01T10:00:00Z"}])
    assert by_role(path, text=Role.TEXT, label=Role.TEXT)["text"] == ["2020-01-01"]
    pq.write_table(pa.table({"text": [datetime.date(2020, 1, 1)]}), tmp_path / "t.parquet")
    message = told(lambda: by_role(tmp_path / "t.parquet", text=Role.TEXT))
    assert message == f"{tmp_path / 't.parquet'}: column 'text' holds date32[day], not text"
