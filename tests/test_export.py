"""`mtcl export`: the ONNX graph, 8 bits, the static table, their costs, the command.

python -m pytest tests/test_export.py
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from torch.nn import functional as F

from mtcl import ConfigError, DataError, TextEncoder
from mtcl.deploy import onnx_graph
from mtcl.deploy.export import export
from mtcl.deploy.export_check import Check, Costs
from mtcl.deploy.static import Static, frequencies, half_whitened, table
from mtcl.encoder.exported import Exported
from tests.conftest import Run
from tests.families import FAMILIES, write_model

sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra `compare`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
TEXTS = ["red green blue", "a dog for the cat", "news", "the bird for the post " * 9]
FORMS = ["float32", "8 dimensions", "ONNX", "int8 (avx2)", "static"]


@pytest.fixture(scope="module")
def run(trained_run: Path) -> TextEncoder:
    return TextEncoder.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def whole(run: TextEncoder, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with every form, and the table of their costs."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    check = Check(root=str(demo_root), cache=str(cache))
    return folder, export(run, folder, onnx=True, quantize=["avx2"], static=True, check=check)


def by_onnxruntime(
    folder: Path, texts: list[str], file: Path = onnx_graph.FILE, output: str = "sentence_embedding"
) -> Any:
    """Without torch and transformers, as a service would."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    found = tokenizer.encode_batch(texts)
    given = {"input_ids": [t.ids for t in found], "attention_mask": [t.attention_mask for t in found]}
    given |= {"token_type_ids": [t.type_ids for t in found]}
    names = {one.name for one in session.get_inputs()}
    return session.run([output], {name: np.array(ids) for name, ids in given.items() if name in names})[0]


def test_one_graph_gives_the_vectors(whole: tuple[Path, str], run: TextEncoder) -> None:
    folder, _ = whole
    for texts in (TEXTS, TEXTS[:1], TEXTS[1:3]):
        np.testing.assert_allclose(by_onnxruntime(folder, texts), run.encode(texts).numpy(), rtol=0, atol=1e-4)
    session = onnxruntime.InferenceSession(str(folder / onnx_graph.FILE))
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [one.name for one in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    states = by_onnxruntime(folder, TEXTS, output="last_hidden_state")
    assert states.shape == (4, 32, 32), "texts, tokens at most, hidden size"


def test_eight_bits(whole: tuple[Path, str], run: TextEncoder) -> None:
    folder, _ = whole
    file = Path("onnx") / "model_qint8_avx2.onnx"
    found = by_onnxruntime(folder, TEXTS, file)
    cosines = (found * run.encode(TEXTS).numpy()).sum(axis=1)
    assert (cosines > 0.9).all()
    assert (folder / file).stat().st_size < (folder / onnx_graph.FILE).stat().st_size


def test_frequencies_of_a_unigram_tokenizer() -> None:
    """Its special tokens have the score 0, which is no logarithm of a share."""
    shares = np.array([0.5, 0.25, 0.125])
    pieces = [("<s>", 0.0), ("<unk>", 0.0), *((f"t{n}", float(np.log(share))) for n, share in enumerate(shares))]
    backend = SimpleNamespace(backend_tokenizer=Tokenizer(Unigram(pieces, unk_id=1)), all_special_ids=[0, 1])
    found = frequencies(cast("TextEncoder", SimpleNamespace(tokenizer=SimpleNamespace(backend=backend))), 5)
    np.testing.assert_allclose(found, [0, 0, *(shares / shares.sum())])


def test_the_table_of_token_vectors(whole: tuple[Path, str], run: TextEncoder) -> None:
    folder, _ = whole
    model = sentence_transformers.SentenceTransformer(str(folder / "static"), device="cpu")
    rows = table(run)
    tokens = run.tokenizer.backend.encode("red dog", add_special_tokens=False)
    wanted = F.normalize(rows[tokens].mean(dim=0), dim=0).numpy()
    np.testing.assert_allclose(model.encode("red dog"), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(Static(folder / "static").embed(["red dog"])[0], wanted, rtol=0, atol=1e-5)
    assert (rows[run.tokenizer.backend.all_special_ids] == 0).all()
    assert frequencies(run, len(rows)).sum() == pytest.approx(1)
    longer = model.encode(["dog " * 100 + "cat " * 300])[0] @ model.encode(["cat"])[0]
    assert longer > model.encode(["dog"])[0] @ model.encode(["cat"])[0], "the tokenizer does not cut"


def test_directions_of_a_table() -> None:
    """The standard deviations become their square roots, up to a factor; unused rows stay zero."""
    torch.manual_seed(0)
    vectors = torch.randn(500, 3) @ torch.diag(torch.tensor([4.0, 1.0, 0.25])) + 7
    used = torch.arange(500) > 0
    found = half_whitened(torch.where(used[:, None], vectors, 0), used)
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[used].mean(dim=0), 0, atol=1e-4)
    before, after = (torch.linalg.svdvals(x - x.mean(dim=0)) for x in (vectors[used], found[used]))
    np.testing.assert_allclose(after / after[0], (before / before[0]).sqrt(), rtol=1e-3)


def test_what_each_form_costs(whole: tuple[Path, str], run: TextEncoder) -> None:
    folder, costs = whole
    head, _, *rows = costs.strip().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["task", *FORMS]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0].split()[0] for row in cells] == ["search", "interest", "storyline", "mean"]
    for row in cells[:3]:
        task, metric = row[0].split()
        assert metric == f"({run.facts.tasks[task].metric})"
        assert float(row[1]) == pytest.approx(run.facts.tasks[task].now, abs=1e-3), "as in the run"
        assert row[3] == f"{row[1]} (+0.0000)" or "0.000" in row[3], "ONNX costs nothing"
    assert costs.strip() in (folder / "README.md").read_text(encoding="utf-8")


def test_the_code_of_the_card_runs(whole: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = whole
    monkeypatch.chdir(folder.parent)
    text = (folder / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"With ([\w-]+).*?:\n\n```python\n(.*?)```", text, flags=re.S)
    assert [title for title, _ in blocks] == [
        *("mtcl", "sentence-transformers", "transformers", "onnxruntime", "sentence-transformers")
    ]
    found: list[dict[str, Any]] = []
    for _, code in blocks:
        names: dict[str, Any] = {}
        exec(code, names)
        found.append(names)
    by_mtcl, by_sentence_transformers, by_hand, by_graph, _ = found
    wanted = float(by_mtcl["query"] @ by_mtcl["documents"][0])
    for names, tolerance in ((by_hand, 1e-6), (by_graph, 1e-4)):
        assert float(names["vectors"][0] @ names["vectors"][1]) == pytest.approx(wanted, abs=tolerance)
    theirs = float(by_sentence_transformers["query"] @ by_sentence_transformers["documents"][0])
    assert theirs == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    "family",
    [pytest.param(family, marks=pytest.mark.nightly) for family in FAMILIES if family != "xlnet"],
)
def test_graphs_of_architectures(family: str, tmp_path: Path) -> None:
    base = TextEncoder.base(
        {"name": str(write_model(tmp_path / "base", family)), "dim": 8}, device="cpu", max_length=24
    )
    export(base, tmp_path / "model", onnx=True)
    np.testing.assert_allclose(by_onnxruntime(tmp_path / "model", TEXTS), base.encode(TEXTS).numpy(), rtol=0, atol=1e-4)


@pytest.mark.nightly
def test_an_architecture_without_a_graph(tmp_path: Path) -> None:
    base = TextEncoder.base({"name": str(write_model(tmp_path / "base", "xlnet"))}, device="cpu")
    with pytest.raises(ConfigError, match=r"XLNetModel has no ONNX graph .*: export without onnx and --quantize"):
        export(base, tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": ["int4"]}, "--quantize has 'int4': give some of qint8, arm64, avx2, avx512, avx512_vnni"),
        ({"check": Check(tasks=["serch"])}, "--check_tasks has 'serch', which is not exported; did you mean 'search'"),
        ({"dim": 99}, "dim is 99: give 1 to 16"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    options: dict[str, Any], words: str, run: TextEncoder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        export(run, tmp_path / "model", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_rows_to_check_on_are_looked_for_before_a_form_is_made(
    root: str | None, run: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTCL_DATA", raising=False)
    monkeypatch.setattr("mtcl.deploy.export.write_layout", lambda *_: pytest.fail("a form is made"))
    with pytest.raises(DataError, match="data root"):
        export(run, tmp_path / "model", check=Check(root=root, cache=str(tmp_path / "cache")))
    assert not (tmp_path / "model").exists()


def test_missing_packages_are_named(run: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(
        ConfigError, match=r"ONNX needs onnxscript, which is not installed: pip install 'mtcl\[export\]'"
    ):
        export(run, tmp_path / "model", quantize=["qint8"])


def test_an_encoder_without_tasks_has_no_costs(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the encoder has no tasks to evaluate: leave --check out"):
        export(TextEncoder.load(tiny_model), tmp_path / "model", check=Check())


def test_a_slow_tokenizer_has_no_table(run: TextEncoder, tmp_path: Path) -> None:
    class Slow:
        is_fast = False

    slow = replace(run, tokenizer=replace(run.tokenizer, backend=Slow()))
    with pytest.raises(ConfigError, match="--static needs a fast tokenizer, found Slow"):
        export(slow, tmp_path / "model", static=True)


def test_the_command(trained_run: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    arguments = ("export", str(trained_run), "model", "--dim", "8", "--check", "--check_tasks", "search")
    done = mtcl_command(*arguments, "--data.root", str(demo_root))
    assert done.returncode == 0, done.stderr
    assert "| task | float32 | 8 dimensions |" in done.stdout
    assert "written model; model/README.md says how to use it" in done.stdout
    assert "tasks with a head of their own (interest) are left out" in done.stderr
    assert "not trained at" not in done.stderr
    assert json.loads((tmp_path / "model" / "config.json").read_text()).get("matryoshka_dimensions") is None
    refused = mtcl_command("export", str(trained_run), "model")
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith("model exists: remove it, or give another folder")
    odd = mtcl_command("export", str(trained_run), "other", "--format", "onnx,gguf")
    assert odd.stderr.strip().endswith(
        "--format has 'gguf': give some of sentence-transformers, onnx, with commas between"
    )
    for option, value in (("--data.root", "x"), ("--cache", "x"), ("--check_tasks", "search")):
        unused = mtcl_command("export", str(trained_run), "other", option, value)
        assert f"ConfigError: {option} has no effect without --check" in unused.stderr
    wrong = mtcl_command("export", str(trained_run), "other", "--dim", "40")
    assert "ConfigError: --dim is 40: give 1 to 16" in wrong.stderr
    untrained = mtcl_command("export", str(trained_run), "untrained", "--dim", "5")
    assert untrained.stderr.count("were not trained at 5 dimensions (only at 16, 8)") == 1
    again = mtcl_command("export", "model", "again")
    assert again.returncode == 0, again.stderr
    fingerprints = {TextEncoder.load(tmp_path / name).fingerprint() for name in ("model", "again")}
    assert len(fingerprints) == 1, "an exported folder can be exported"


def test_the_kind_of_this_cpu() -> None:
    assert onnx_graph.this_cpu() in onnx_graph.TARGETS


def test_the_table_of_costs() -> None:
    found = Costs({"a": "mrr"}, {"a": {"float32": 0.5, "static": 0.25}}).table().splitlines()
    assert found[2:] == ["| a (mrr) | 0.5000 | 0.2500 (-0.2500) |"]


def test_a_cut_to_one_task_keeps_only_it(run: TextEncoder) -> None:
    assert list(Exported(run, "interest").tasks) == ["interest"]
    assert Exported(run, "interest").tasks["interest"].head is None
    assert Exported(run, "interest").dims == [4]
    assert Exported(run, dim=12).dims == [12, 8]
