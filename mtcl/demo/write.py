"""Writes the demo corpus: one folder per task, with its splits as Parquet.

Rows (or the rows of one story, document or sentence, which must stay together) go to the splits in turn, in a cycle of
ten, so the shares are exact at any size. All tasks share one ledger of texts, so no text can be in two splits.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mtcl.demo.grammar import Ledger, attempts
from mtcl.demo.posts import Post, hashtags, make_post
from mtcl.demo.search import make_documents
from mtcl.demo.stories import make_cluster
from mtcl.demo.translations import LANGUAGES, make_translated
from mtcl.errors import ConfigError
from mtcl.files import written_whole

MIN_POSTS = 200
"""With fewer posts, a validation split would have too few rows to rank."""
TASKS = ("interest", "hashtag", "storyline", "search", "translation")
SPLITS = ("train", "validation", "test", "corpus")
MARK = {b"written_by": b"mtcl demo"}
"""Metadata of each file, so that a data root of somebody's own is not taken for a demo corpus."""
_HASHTAG_SHARE, _STORYLINE_SHARE, _SEARCH_SHARE, _TRANSLATION_SHARE = 0.6, 0.5, 0.4, 0.5
_CYCLE = ("validation", "test", *("train",) * 8)

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def write_demo(folder: Path, *, posts: int = 5000, seed: int = 0) -> dict[str, dict[str, int]]:
    """Write `folder/TASK/SPLIT.parquet` for five tasks; returns the number of rows by task and split.

    `posts` is the number of rows of `interest` in all splits together; the other tasks have 0.4 to 0.6 times as many.
    The same seed and size give the same bytes. From about a million posts, the grammar may give somewhat fewer rows.
    Files of an earlier demo corpus are replaced; `ConfigError` if the folder has other data for one of the tasks.
    """
    if posts < MIN_POSTS:
        raise ConfigError(f"too few posts for a demo corpus: {posts}; give at least {MIN_POSTS}")
    if other := next((path for path in _there(folder) if not _is_demo(path)), None):
        there = dict.fromkeys(str(path.parent) for path in _there(folder))
        raise ConfigError(
            f"{other} exists and does not say that `mtcl demo` wrote it: give another folder, so that no data is lost, "
            f"or, if it is a demo corpus of an earlier version, remove it with `rm -r {shlex.join(there)}`"
        )
    rng, ledger = random.Random(seed), Ledger()
    counts = {}
    for task, tables in _all_tasks(posts, rng, ledger):
        for name, rows in tables.items():
            _write_parquet(folder / task / f"{name}.parquet", rows)
        counts[task] = {name: len(rows) for name, rows in tables.items()}
    return counts


def _there(folder: Path) -> Iterator[Path]:
    """Splits of the tasks that are in the folder, in any format."""
    for task in TASKS:
        yield from (
            path for split in SPLITS for path in sorted((folder / task).glob(f"{split}*")) if path.stem == split
        )


def _is_demo(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return path.suffix == ".parquet" and MARK.items() <= (pq.read_schema(path).metadata or {}).items()
    except (pa.ArrowException, OSError):
        return False


def _all_tasks(posts: int, rng: random.Random, ledger: Ledger) -> Iterator[tuple[str, Tables]]:
    """One task at a time, so that only one is in memory."""
    yield "interest", _interest(posts, rng, ledger)
    yield "hashtag", _hashtag(round(posts * _HASHTAG_SHARE), rng, ledger)
    yield "storyline", _storyline(round(posts * _STORYLINE_SHARE), rng, ledger)
    yield "search", _search(round(posts * _SEARCH_SHARE), rng, ledger)
    yield "translation", _translation(round(posts * _TRANSLATION_SHARE), rng, ledger)


def _interest(count: int, rng: random.Random, ledger: Ledger) -> Tables:
    posts = _fresh_posts(count, rng, ledger)
    return _split([{"text": post.text, "topic": post.topic.label}] for post in posts)


def _hashtag(count: int, rng: random.Random, ledger: Ledger) -> Tables:
    posts = _fresh_posts(count, rng, ledger)
    return _split([{"text": post.text, "hashtags": hashtags(post, rng)}] for post in posts)


def _fresh_posts(count: int, rng: random.Random, ledger: Ledger) -> Iterator[Post]:
    for _ in attempts(count):
        post = make_post(rng)
        if ledger.add(post.text):
            yield post
            count -= 1
        if count == 0:
            return


def _storyline(count: int, rng: random.Random, ledger: Ledger) -> Tables:
    """Whole clusters of stories, until there are at least `count` posts."""
    clusters: list[list[Row]] = []
    num_posts = num_stories = 0
    while num_posts < count:
        rows: list[Row] = []
        for story in make_cluster(rng, ledger):
            rows += [{"text": text, "story": f"story-{num_stories:06d}"} for text in story.posts]
            num_stories += 1
        rng.shuffle(rows)
        clusters.append(rows)
        num_posts += len(rows)
    return _split(clusters)


def _search(count: int, rng: random.Random, ledger: Ledger) -> Tables:
    """The splits of the queries, which have no documents in common, and the corpus of all documents."""
    groups: list[list[Row]] = []
    corpus: list[Row] = []
    documents = make_documents(rng)
    for index in attempts(count):
        document = next(documents)
        identity = f"doc-{index:06d}"
        queries = [query for query in document.queries if ledger.add(query)][:count]
        if not queries or not ledger.add(document.text):
            continue
        corpus.append({"document_id": identity, "text": document.text})
        groups.append([{"query": q, "document": document.text, "document_id": identity} for q in queries])
        count -= len(queries)
        if count == 0:
            break
    return {**_split(groups), "corpus": corpus}


def _translation(count: int, rng: random.Random, ledger: Ledger) -> Tables:
    """One to three languages per sentence; all rows of a sentence are in the same split."""
    groups: list[list[Row]] = []
    for index in attempts(count):
        sentence = make_translated(rng)
        if not ledger.add(sentence.english):
            continue
        languages = rng.sample(LANGUAGES, rng.randint(1, len(LANGUAGES)))[:count]
        rows = [
            {
                "text_en": sentence.english,
                "text_xx": sentence.others[lang],
                "lang": lang,
                "sentence_id": f"sentence-{index:06d}",
            }
            for lang in languages
            if ledger.add(sentence.others[lang])
        ]
        groups.append(rows)
        count -= len(rows)
        if count == 0:
            break
    return _split(groups)


def _split(groups: Iterable[list[Row]]) -> Tables:
    """Distribute groups of rows that belong together to train, validation and test, 8 to 1 to 1."""
    tables: Tables = {"train": [], "validation": [], "test": []}
    for index, rows in enumerate(groups):
        tables[_CYCLE[index % len(_CYCLE)]] += rows
    return tables


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with written_whole(path) as aside:
        pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(MARK), aside, compression="zstd")
