"""The demo corpus: the same for a seed, of the promised shape, and without leaks between splits.

pytest tests/test_demo.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtcl.demo import write_demo
from mtcl.errors import ConfigError

SPLITS = ("train", "validation", "test")
TEXTS = {
    "interest": ("text",),
    "hashtag": ("text",),
    "storyline": ("text",),
    "search": ("query", "document"),
    "translation": ("text_en", "text_xx"),
}
COLUMNS = {
    "interest": {"text": "string", "topic": "string"},
    "hashtag": {"text": "string", "hashtags": "list<element: string>"},
    "storyline": {"text": "string", "story": "string"},
    "search": {"query": "string", "document": "string", "document_id": "string"},
    "translation": {"text_en": "string", "text_xx": "string", "lang": "string", "sentence_id": "string"},
}
POSTS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    write_demo(path, posts=POSTS, seed=3)
    return path


def column(folder: Path, task: str, split: str, name: str) -> list[Any]:
    values: list[Any] = pq.read_table(folder / task / f"{split}.parquet").column(name).to_pylist()
    return values


def everywhere(folder: Path, task: str, name: str) -> list[Any]:
    return [value for split in SPLITS for value in column(folder, task, split, name)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path, posts=POSTS, seed=3)
    assert contents(tmp_path) == contents(folder)


@pytest.mark.usefixtures("starts_processes")
def test_same_bytes_in_another_process_with_another_hash_seed(folder: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from mtcl.demo import write_demo; "
        f"write_demo(Path({str(tmp_path)!r}), posts={POSTS}, seed=3)"
    )
    root = Path(__file__).resolve().parents[1]
    env = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=env)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_gives_other_posts(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path, posts=POSTS, seed=4)
    ours, others = (set(everywhere(path, "storyline", "text")) for path in (folder, tmp_path))
    assert len(ours & others) < 0.05 * len(ours)


@pytest.mark.parametrize(
    "name", ["search/train.parquet", "hashtag/validation.jsonl", "search/corpus", "interest/test.csv"]
)
def test_data_of_one_s_own_is_not_replaced(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    if name == "search/corpus":
        own.mkdir()
    else:
        pq.write_table(pa.table({"query": ["mine"]}), own)
    told = rf"{name} exists and does not say that .mtcl demo. wrote it: .* `rm -r {own.parent}`$"
    with pytest.raises(ConfigError, match=told):
        write_demo(tmp_path, posts=POSTS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == ([own] if own.is_file() else [])


def test_a_corpus_of_an_earlier_version_is_replaced_after_the_command_of_the_message(tmp_path: Path) -> None:
    """It has no mark. The message names each of its folders, whatever their names, and nothing else."""
    folder = tmp_path / "a demo's"
    write_demo(folder, posts=200)
    for path in folder.rglob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "kept.parquet")
    (folder / "own").mkdir()
    with pytest.raises(ConfigError) as error:
        write_demo(folder, posts=200)
    command = str(error.value).partition("remove it with `")[2].removesuffix("`")
    subprocess.run(command, shell=True, check=True)
    assert [path.name for path in folder.iterdir()] == ["own"]
    assert write_demo(folder, posts=200)["interest"]["train"] == 160


def test_a_demo_corpus_is_replaced(tmp_path: Path) -> None:
    write_demo(tmp_path, posts=200, seed=1)
    assert write_demo(tmp_path, posts=300)["interest"]["train"] == 240
    assert pq.read_metadata(tmp_path / "interest" / "train.parquet").num_rows == 240


@pytest.mark.parametrize("task", COLUMNS)
def test_columns(folder: Path, task: str) -> None:
    for split in SPLITS:
        schema = pq.read_schema(folder / task / f"{split}.parquet")
        assert {field.name: str(field.type) for field in schema} == COLUMNS[task]


def test_counts_are_those_of_the_files_and_scale_with_posts(tmp_path: Path) -> None:
    small = write_demo(tmp_path / "small", posts=400)
    large = write_demo(tmp_path / "large", posts=2000)
    assert set(small) == set(COLUMNS)
    for task, shares in small.items():
        assert shares == {
            name: pq.read_metadata(tmp_path / "small" / task / f"{name}.parquet").num_rows for name in shares
        }
        assert sum(large[task][split] for split in SPLITS) == pytest.approx(
            5 * sum(shares[split] for split in SPLITS), rel=0.15
        )
    assert sum(small["interest"].values()) == 400


@pytest.mark.parametrize("task", COLUMNS)
def test_splits_are_about_8_to_1_to_1(folder: Path, task: str) -> None:
    sizes = {split: pq.read_metadata(folder / task / f"{split}.parquet").num_rows for split in SPLITS}
    total = sum(sizes.values())
    assert sizes["train"] / total == pytest.approx(0.8, abs=0.06)
    assert min(sizes.values()) >= 0.07 * total


def test_no_text_of_train_occurs_in_validation_or_test_of_any_task(folder: Path) -> None:
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for task, names in TEXTS.items():
        for split in SPLITS:
            seen[split].update(text for name in names for text in column(folder, task, split, name))
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


@pytest.mark.parametrize(("task", "group"), [("storyline", "story"), ("translation", "sentence_id")])
def test_groups_stay_in_one_split(folder: Path, task: str, group: str) -> None:
    train, validation, test = (set(column(folder, task, split, group)) for split in SPLITS)
    assert not train & (validation | test)
    assert not validation & test


@pytest.mark.parametrize("task", ["interest", "hashtag", "storyline", "search"])
def test_texts_are_distinct(folder: Path, task: str) -> None:
    texts = everywhere(folder, task, TEXTS[task][0])
    assert len(set(texts)) == len(texts)


def test_stories_have_4_to_15_posts_and_two_stories_share_a_pool_at_least(folder: Path) -> None:
    for split in SPLITS:
        sizes = Counter(column(folder, "storyline", split, "story"))
        assert len(sizes) >= 2
        assert all(4 <= size <= 15 for size in sizes.values())


def test_posts_have_one_to_four_hashtags_outside_of_the_text(folder: Path) -> None:
    for tags in everywhere(folder, "hashtag", "hashtags"):
        assert 1 <= len(set(tags)) == len(tags) <= 4
        assert all(tag.startswith("#") and tag[1:].isalnum() for tag in tags)
    assert not any("#" in text for text in everywhere(folder, "hashtag", "text"))


def test_common_hashtags_are_far_more_frequent_than_rare_ones(folder: Path) -> None:
    lists = everywhere(folder, "hashtag", "hashtags")
    counts = sorted(Counter(tag for tags in lists for tag in tags).values())
    assert counts[-1] >= 10 * counts[len(counts) // 5]


def test_corpus_holds_each_document_of_the_queries_once(folder: Path) -> None:
    corpus = dict(
        zip(
            column(folder, "search", "corpus", "document_id"),
            column(folder, "search", "corpus", "text"),
            strict=True,
        )
    )
    assert len(corpus) == len(set(corpus.values())) == len(column(folder, "search", "corpus", "text"))
    identities, texts = (everywhere(folder, "search", name) for name in ("document_id", "document"))
    assert [corpus[identity] for identity in identities] == texts


def test_queries_have_two_to_six_words(folder: Path) -> None:
    assert {len(query.split()) for query in everywhere(folder, "search", "query")} <= set(range(2, 7))


def test_translations_are_unique_in_their_language(folder: Path) -> None:
    languages = everywhere(folder, "translation", "lang")
    assert set(languages) == {"es", "fr", "de"}
    for name in ("text_en", "text_xx"):
        sides = list(zip(languages, everywhere(folder, "translation", name), strict=True))
        assert len(set(sides)) == len(sides)


def test_no_slot_is_left_open(folder: Path) -> None:
    for task, names in TEXTS.items():
        for name in names:
            assert not any("{" in text or "  " in text for text in everywhere(folder, task, name))


def test_too_few_posts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"199.*at least 200"):
        write_demo(tmp_path, posts=199)
    assert not list(tmp_path.iterdir())
