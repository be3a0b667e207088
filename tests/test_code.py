"""The token store's address follows the code that a team wrote, and stays where only mtcl's own is used.

python -m pytest tests/test_code.py
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from mtcl import MRR, LabelText, Pairs, PairTable, Rows, Task, TaskError
from mtcl.task.code import code_of
from mtcl.task.registry import discover
from mtcl.task.rows import pairs_fingerprint, pairs_of

DECLARED = '''
from mtcl import MRR, LabelText, Rows, Task

ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


class Own(Task):
    """Letters."""

    name = "own"
    data = Rows(train=ROWS)
    pairs = LabelText()
    metric = MRR()
    sample = ROWS
'''
PAIRS = (
    DECLARED.replace(
        "class Own",
        '''
SIGN = "!"


def _marked(text):
    return text + SIGN


@dataclass(frozen=True)
class Marked(Pairs):
    """Texts with a mark."""

    text: str = "text"

    def __call__(self, rows, corpus=None):
        texts = pa.array([_marked(text) for text in rows[self.text].to_pylist()])
        return pair_table(texts, texts, candidates=texts)


class Own''',
    )
    .replace("pairs = LabelText()", "pairs = Marked()")
    .replace("import MRR,", "import MRR, Pairs, pair_table,")
    .replace("\nfrom mtcl", "\nfrom dataclasses import dataclass\n\nimport pyarrow as pa\nfrom mtcl", 1)
)
METHOD = PAIRS.replace(
    "    pairs = Marked()\n",
    "    def pairs(self, rows, corpus=None):\n        return self._made(rows)\n\n"
    "    def _made(self, rows):\n        return Marked()(rows)\n\n",
)
SOURCE = DECLARED.replace(
    "class Own",
    """
class Letters(Rows):
    def __call__(self, split, root):
        return [{"text": "a", "label": "x"}]


class Own""",
).replace("data = Rows", "data = Letters")


def fingerprint(folder: Path, content: str) -> str:
    (folder / "own.py").write_text(content, encoding="utf-8")
    task = discover(folder)["own"]
    assert len(pairs_of(task, "train", None).anchors)
    return pairs_fingerprint(task, "train", None)


@pytest.mark.parametrize(
    ("content", "old", "new"),
    [
        (PAIRS, "rows[self.text].to_pylist()]", "rows[self.text].to_pylist()][::-1]"),
        (PAIRS, "return text + SIGN", "return SIGN + text"),
        (PAIRS, 'SIGN = "!"', 'SIGN = "?"'),
        (METHOD, "return self._made(rows)", "return self._made(rows.slice(0, 1))"),
        (METHOD, "return Marked()(rows)", "return Marked()(rows.slice(0, 1))"),
        (METHOD, 'SIGN = "!"', 'SIGN = "?"'),
        (SOURCE, '"text": "a", "label": "x"}]\n\n', '"text": "b", "label": "x"}]\n\n'),
    ],
)
def test_an_edit_of_a_team_s_own_code_gives_another_address(tmp_path: Path, content: str, old: str, new: str) -> None:
    assert content.count(old) == 1
    before = fingerprint(tmp_path, content)
    assert fingerprint(tmp_path, content) == before
    assert fingerprint(tmp_path, content.replace(old, new)) != before


@pytest.mark.parametrize("content", [PAIRS, METHOD, SOURCE])
def test_comments_and_layout_do_not_count_and_neither_does_the_place(tmp_path: Path, content: str) -> None:
    before = fingerprint(tmp_path, content)
    edited = content.replace("\n\n\n", "\n\n# a comment\n\n\n").replace('{"text": "a",', '{\n    "text": "a",')
    assert edited != content
    assert fingerprint(tmp_path, edited) == before
    (tmp_path / "moved").mkdir()
    (tmp_path / "own.py").unlink()
    assert fingerprint(tmp_path / "moved", content) == before


def test_what_mtcl_declares_is_known_by_its_repr(tmp_path: Path) -> None:
    """As it was before code counted: stores of such tasks are not built again."""
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    data = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    told = "LabelText(text='text', label='label', by='label', negatives=())"
    expected = hashlib.sha256(json.dumps([1, told, data]).encode()).hexdigest()[:16]
    assert fingerprint(tmp_path, DECLARED) == expected
    assert fingerprint(tmp_path, DECLARED.replace("Letters.", "Other words.") + "\nMORE = 3\n") == expected


def test_a_base_class_in_another_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    base = PAIRS.partition("\nclass Own")[0]
    own = DECLARED.replace("LabelText()", "Shared()").replace(
        "\n\n\nclass", "\n\n\nfrom team_pairs import Shared\n\n\nclass"
    )
    found = []
    for sign in ("!", "?"):
        (tmp_path / "team_pairs.py").write_text(
            base.replace("class Marked", "class Shared").replace('"!"', f'"{sign}"')
        )
        sys.modules.pop("team_pairs", None)
        (tmp_path / "tasks").mkdir(exist_ok=True)
        found.append(fingerprint(tmp_path / "tasks", own))
    sys.modules.pop("team_pairs")
    assert found[0] != found[1]


def test_code_that_no_file_holds_is_refused() -> None:
    scope: dict[str, object] = {"LabelText": LabelText, "__name__": "nowhere"}
    exec("class Typed(LabelText):\n    def __call__(self, rows, corpus=None):\n        return None\n", scope)
    with pytest.raises(TaskError, match=r"^Typed is not defined in a file, so a token store cannot track its code"):
        code_of(scope["Typed"]())  # type: ignore[operator]


def test_the_digest_of_a_method_s_rows_is_made_once() -> None:
    calls = []

    class Made(Task):
        """Letters."""

        name = "made"
        metric = MRR()
        sample = [{"text": "a", "label": "x"}]

        def data(self, split: str, root: Path | None) -> list[dict[str, str]]:  # type: ignore[override]
            calls.append(split)
            return [{"text": split, "label": "x"}]

        pairs = LabelText()

    task = Made()
    prints = [pairs_fingerprint(task, split, None) for split in ("train", "test", "train", "test")]
    assert calls == ["train", "test"]
    assert prints[:2] == prints[2:]
    assert prints[0] != prints[1]


class Named(Pairs):
    """Not a dataclass; only its file matters here."""

    def __call__(self, rows: object, corpus: object = None) -> PairTable:
        raise NotImplementedError


def test_classes_of_mtcl_and_of_python_do_not_count() -> None:
    assert code_of(LabelText(), Rows(), MRR()) == []
    assert len(code_of(Named(), LabelText())) == 1
