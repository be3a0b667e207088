"""`mtcl tasks new NAME --kind KIND`: write a task file to edit, from the template of a pair construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Any

from mtcl.errors import ConfigError
from mtcl.files import write_text
from mtcl.task.contract import NAME
from mtcl.task.registry import reference_folder
from mtcl.task.sources import SPLITS


@dataclass(frozen=True)
class Template:
    """What differs between pair constructions: names of columns, metric, and example rows."""

    pairs: str
    metric: str
    about: str
    sample: tuple[dict[str, Any], ...]


TEMPLATES = {
    "QueryDocument": Template(
        'QueryDocument(query="query", document="document")',
        "NDCG(k=10)",
        "a query -> the document that answers it",
        (
            {"query": "first query", "document": "a document that answers the first query"},
            {"query": "second query", "document": "a document that answers the second query"},
        ),
    ),
    "LabelText": Template(
        'LabelText(text="text", label="label")',
        "MRR()",
        "a post -> its one label, as text",
        ({"text": "we are hiring a chef", "label": "jobs"}, {"text": "our team won the cup", "label": "sports"}),
    ),
    "Tags": Template(
        'Tags(text="text", tags="tags")',
        "NDCG(k=10)",
        "a post -> its tags",
        (
            {"text": "we are hiring a chef", "tags": ["jobs", "food"]},
            {"text": "our team won the cup", "tags": ["sports"]},
        ),
    ),
    "Cluster": Template(
        'Cluster(text="text", cluster="cluster_id")',
        "MAP()",
        "posts of one story -> near each other",
        (
            {"text": "the bridge is closed", "cluster_id": "bridge"},
            {"text": "no cars over the river today", "cluster_id": "bridge"},
            {"text": "a storm reaches the coast", "cluster_id": "storm"},
            {"text": "strong winds near the sea", "cluster_id": "storm"},
        ),
    ),
    "Duplicates": Template(
        'Duplicates(anchor="anchor", positive="positive")',
        "MAP()",
        "two wordings of the same thing -> near each other",
        (
            {"anchor": "how do I sleep better?", "positive": "what helps against bad sleep?"},
            {"anchor": "which phone is best?", "positive": "what phone should I buy?"},
        ),
    ),
    "Parallel": Template(
        'Parallel(source="english", target="translation", language="language")',
        "BitextAccuracy()",
        "a text -> its translation",
        (
            {"english": "good morning", "translation": "guten Morgen", "language": "deu"},
            {"english": "thank you", "translation": "danke", "language": "deu"},
        ),
    ),
    "Scored": Template(
        'Scored(first="first", second="second", score="score", low=0, high=5)',
        "Spearman()",
        "two texts and how similar they are, from 0 to 5",
        (
            {"first": "a man plays a guitar", "second": "someone makes music", "score": 3.5},
            {"first": "a dog runs", "second": "a car is parked", "score": 0.2},
            {"first": "two cats sleep", "second": "cats are asleep", "score": 4.8},
        ),
    ),
    "Labelled": Template(
        'Labelled(first="first", second="second", label="label")',
        "AveragePrecision()",
        "two texts and whether they belong together, 1 or 0",
        (
            {"first": "java developer", "second": "software engineer", "label": 1},
            {"first": "java developer", "second": "pastry chef", "label": 0},
        ),
    ),
    "Augmented": Template(
        'Augmented(text="text")',
        "MRR()",
        "texts only; each is its own positive",
        ({"text": "we are hiring a chef for our kitchen"}, {"text": "our team has won the cup again"}),
    ),
}
FILE = '''"""One line: what goes in and what it should be near to."""

from mtcl import {names}


class {class_name}(Task):
    """What the task teaches ({about}), and where its data comes from."""

    name = "{name}"
    version = 1
    owner = "@your-team"
    license = "internal"
    data = Files("{name}")  # <data root>/{name}/{{train,validation,test}}.parquet, .jsonl or .csv
    pairs = {pairs}
    metric = {metric}
    sample = [
{sample}    ]
'''


def new(name: str, *, kind: str = "QueryDocument", tasks_dir: str | None = None, root: Path | None = None) -> int:
    """Write NAME.py to the folder `tasks_dir`, by default `tasks`. With a data root that has no rows of the task, write
    the sample there too, as rows to replace. Raises `ConfigError` for a name that is taken or cannot be one.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"task name {name!r}: use lower case letters, digits and underscores, starting with a letter")
    path = Path(tasks_dir or "tasks").expanduser() / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path} exists: choose another name, or edit it")
    reference = reference_folder()
    if path.parent.resolve() == reference.resolve() and (taken := sorted(reference.rglob(path.name))):
        raise ConfigError(f"{taken[0]} is a reference task with the same name: choose another")
    if path.parent.exists() and not path.parent.is_dir():
        raise ConfigError(f"{str(path.parent)!r} is not a folder: rename it, because mtcl looks for tasks there")
    write_text(path, text_of(name, TEMPLATES[kind]))
    more = f" --tasks_dir {tasks_dir}" if tasks_dir else ""
    if root is not None:
        more += f" --data.root {root}"
        if not (root / name).exists():
            _write_rows(root / name, TEMPLATES[kind])
            print(f"written {root / name}/: the sample as rows of each split; replace them by your own")
    print(f"written {path}: edit it, then run: mtcl tasks check {name}{more}")
    return 0


def text_of(name: str, template: Template) -> str:
    """The content of the file."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    names = sorted((template.metric.partition("(")[0], template.pairs.partition("(")[0], "Files"), key=_order)
    return FILE.format(
        name=name,
        class_name=f"{class_name}Task" if iskeyword(class_name) else class_name,
        names=", ".join([*names, "Task"]),
        about=template.about,
        pairs=template.pairs,
        metric=template.metric,
        sample="".join(f"        {json.dumps(row, ensure_ascii=False)},\n" for row in template.sample),
    )


def _order(name: str) -> tuple[bool, str]:
    """The order of imports: constants first."""
    return not name.isupper(), name


def _write_rows(folder: Path, template: Template) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in template.sample)
    for split in SPLITS:
        write_text(folder / f"{split}.jsonl", lines)
