"""What a user can get wrong: one line that says what is wrong, the value found and what to do; exit code 2.

python -m pytest tests/test_broken_input.py
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from mtcl import MtclError
from mtcl.__main__ import COMMANDS, main
from mtcl.encoder.hub import resolve_model
from mtcl.errors import ConfigError
from tests.conftest import Run
from tests.test_registry import write_task

SPLITS = ("train", "validation", "test")
ROWS = [{"text": f"post {c} red", "label": ("dog", "cat", "bird")[n % 3]} for n, c in enumerate("abcdefghijkl")]
Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test runs in a folder that holds the task `topic`, with 12 good rows a split under data/topic."""
    for name in [name for name in os.environ if name.startswith("MTCL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTCL_CACHE", str(cache))
    monkeypatch.setattr("sys.argv", ["mtcl"])  # LightningCLI warns where there is more
    monkeypatch.setattr(logging, "raiseExceptions", False)  # `datasets` may log to a stream of an earlier test
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path / "tasks" / "topic.py")
    put(**dict.fromkeys(SPLITS, ROWS))
    log = logging.getLogger("mtcl")
    before = log.handlers, log.propagate, log.level
    yield tmp_path
    log.handlers, log.propagate, log.level = before


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run `mtcl`, which must end with exit code 2 and one line of error: the value."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        *before, line = error.splitlines()
        assert line.startswith("mtcl: ")
        assert not any(text.startswith("mtcl: ") for text in before)
        return line.removeprefix("mtcl: ")

    return run


def put(**splits: Any) -> None:
    """Write splits of the task `topic`: rows, a table, or the bytes of a file."""
    folder = Path("data", "topic")
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        if isinstance(rows, bytes):
            (folder / f"{split}.parquet").write_bytes(rows)
        else:
            table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
            pq.write_table(table, folder / f"{split}.parquet")


@pytest.fixture
def good(tiny_model: Path) -> str:
    """A configuration file that trains `topic` for a step."""
    values = {
        "tasks": {"topic": {}},
        "model": {"encoder": {"name": str(tiny_model)}},
        "data": {"root": "data", "batch_size": 4, "max_length": 32, "num_workers": 0},
        "trainer": {
            "max_steps": 1,
            "accelerator": "cpu",
            "precision": "32-true",
            "logger": False,
            "enable_progress_bar": False,
        },
    }
    Path("good.yaml").write_text(yaml.safe_dump(values))
    return "good.yaml"


def with_keys(good: str, text: str) -> list[str]:
    """The arguments of `fit` with a second file on top."""
    Path("change.yaml").write_text(text)
    return ["fit", "--config", good, "--config", "change.yaml"]


# Tasks


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    version = = 2\n", ":13: SyntaxError: invalid syntax"),
        ("    metrics = 3\n", "unknown attribute 'metrics': did you mean 'metric'?"),
        ("    import nowhere\n", ":13: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_broken_task_file(fails: Fails, command: str, body: str, told: str) -> None:
    path = write_task(Path("tasks", "broken.py"), body=body)
    message = fails("tasks", command, "broken")
    assert message.startswith(f"TaskError: task 'broken' cannot be loaded: {path}:")
    assert message.endswith(told)


def test_a_broken_task_file_stops_the_run_that_names_it_and_no_other(fails: Fails, good: str) -> None:
    write_task(Path("tasks", "broken.py"), body="    version = = 2\n")
    assert ":13: SyntaxError" in fails(*with_keys(good, "tasks: {broken: {}}"))
    assert main(["fit", "--config", good]) == 0


def test_the_list_shows_broken_files_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    write_task(Path("tasks", "broken.py"), body="    version = = 2\n")
    assert main(["tasks", "list"]) == 1
    out, error = capsys.readouterr()
    line = next(line for line in out.splitlines() if line.startswith("broken "))
    assert "BROKEN  " in line
    assert ":13: SyntaxError" in line
    assert "A post -> its label." in out
    assert error.startswith("1 of ")


@pytest.mark.parametrize("command", [["tasks", "show"], ["tasks", "check"]])
def test_an_unknown_task(fails: Fails, command: list[str]) -> None:
    assert fails(*command, "topik").startswith(
        "TaskError: unknown task 'topik'; did you mean 'topic'? (looked in tasks"
    )


def test_an_unknown_task_of_a_configuration(fails: Fails, good: str) -> None:
    message = fails(*with_keys(good, "tasks: {topik: {}}"))
    assert message.startswith("TaskError: unknown task 'topik'; did you mean 'topic'? (looked in tasks, ")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    def data(self, split, root):\n        return [{'text': 1 / 0}]\n", "ZeroDivisionError: division by zero"),
        ("    def pairs(self, rows, corpus=None):\n        return rows['a']['b']\n", "KeyError: "),
    ],
)
def test_an_exception_in_a_task_s_own_method_is_told_by_its_line(fails: Fails, body: str, told: str) -> None:
    path = write_task(Path("tasks", "own.py"), body=body)
    message = fails("tasks", "check", "own")
    assert message.startswith("TaskError: task 'own', ")
    assert f"{path}:14: {told}" in message


def test_own_pairs_that_are_none(fails: Fails) -> None:
    write_task(Path("tasks", "own.py"), body="    def pairs(self, rows, corpus=None):\n        return None\n")
    message = fails("tasks", "check", "own")
    assert message == "TaskError: task 'own', sample: pairs must give a PairTable, not NoneType: use mtcl.pair_table"


@pytest.mark.parametrize("name", ["Bad-Name", "two words", "1st", "../x", ""])
def test_a_bad_name_for_a_new_task(fails: Fails, name: str) -> None:
    told = "use lower case letters, digits and underscores, starting with a letter"
    assert fails("tasks", "new", name) == f"ConfigError: task name {name!r}: {told}"
    assert {p.name for p in Path("tasks").iterdir()} == {"topic.py"}


def test_a_new_task_never_replaces_a_file(fails: Fails) -> None:
    before = Path("tasks", "topic.py").read_text()
    path = Path("tasks", "topic.py")
    assert fails("tasks", "new", "topic") == f"ConfigError: {path} exists: choose another name, or edit it"
    assert path.read_text() == before


def test_a_folder_of_tasks_that_is_none(fails: Fails, good: str) -> None:
    assert fails("tasks", "list", "--tasks_dir", "nope") == "TaskError: tasks_dir 'nope' is not a folder"
    assert fails("fit", "-c", good, "--tasks_dir", "nope") == "TaskError: tasks_dir 'nope' is not a folder"


# Data


def renamed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"txt": row["text"], "label": row["label"]} for row in rows]


BROKEN_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "missing column": (
        {"train": renamed(ROWS)},
        "task 'topic', train: data/topic/train.parquet: no column 'text' (columns: txt, label); did you mean 'txt'?",
    ),
    "wrong type": (
        {"train": [{"text": 1, "label": "x"}]},
        "task 'topic', train: data/topic/train.parquet: column 'text' holds int64, not text: "
        "save it as text, or use Cluster if the numbers are classes without names",
    ),
    "empty split": (
        {"train": pa.Table.from_pylist(ROWS)[:0]},
        "task 'topic', train: no rows in data/topic/train.parquet",
    ),
    "empty validation split": (
        {"validation": pa.Table.from_pylist(ROWS)[:0]},
        "task 'topic', validation: no rows in data/topic/validation.parquet",
    ),
    "only spaces": (
        {"train": [{"text": " \t ", "label": "x"}] * 3},
        "task 'topic', train: 3 rows make no pairs: empty text (3)",
    ),
    "only nulls": (
        {"train": [{"text": None, "label": "x"}, {"text": "a", "label": None}]},
        "task 'topic', train: 2 rows make no pairs: null text (1), null label (1)",
    ),
    "corrupt": ({"train": b"PAR1 and no more"}, "task 'topic', train: cannot read data/topic/train.parquet: "),
    "zero bytes": ({"train": b""}, "task 'topic', train: cannot read data/topic/train.parquet: "),
}


@pytest.mark.parametrize("kind", BROKEN_DATA)
def test_broken_data(fails: Fails, good: str, kind: str) -> None:
    splits, told = BROKEN_DATA[kind]
    put(**splits)
    for message in (fails("fit", "-c", good), fails("tasks", "check", "topic", "--data.root", "data")):
        assert message.startswith(f"DataError: {told}")
        assert told.endswith(": ") or message == f"DataError: {told}"


def test_a_destination_that_is_a_file(fails: Fails, good: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert fails("demo", "file").startswith("Not a directory: file")
    assert fails("fit", "--config", good, "--run_dir", "file/run").startswith("Not a directory: ")


def test_the_check_counts_what_training_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """All splits hold the same rows here."""
    assert main(["tasks", "check", "topic", "--data.root", "data"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for split in ("validation", "test"):
        assert f"12 of the 12 texts that {split} asks with (100.0%) are training texts too" in told
    put(validation=[{**row, "text": f"other {n}"} for n, row in enumerate(ROWS)])
    assert main(["tasks", "check", "topic", "--data.root", "data"]) == 0
    assert " ".join(capsys.readouterr().out.split()).count("asks with (100.0%) are training texts too") == 1


def test_a_missing_split(fails: Fails, good: str) -> None:
    Path("data", "topic", "validation.parquet").unlink()
    message = fails("fit", "-c", good)
    assert message.startswith("DataError: task 'topic', validation: no split 'validation' in data/topic (")
    assert message.endswith("; known: test, train")


def test_no_data_root(fails: Fails, good: str) -> None:
    told = "no data root for Files('topic'): give --data.root FOLDER or set MTCL_DATA"
    assert told in fails(*with_keys(good, "data: {root: null}"))
    assert told in fails("tasks", "check", "topic")
    assert "data root 'nope' is not a folder" in fails("fit", "-c", good, "--data.root", "nope")
    Path("elsewhere", "topics").mkdir(parents=True)
    told = "no folder elsewhere/topic; did you mean 'topics'?"
    assert fails("fit", "-c", good, "--data.root", "elsewhere") == f"DataError: task 'topic', train: {told}"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "   ", "label": "dog"}, "12 pairs, 15 texts; left out: empty text (1)"),
        ({"text": None, "label": "dog"}, "12 pairs, 15 texts; left out: null text (1)"),
        ({"text": "a", "label": "\n"}, "12 pairs, 15 texts; left out: empty label (1)"),
        ({"text": "red " * 250_000, "label": "dog"}, "13 pairs, 16 texts; cut: 1 texts of over 100,000 characters"),
    ],
    ids=["spaces", "null", "blank label", "a megabyte"],
)
def test_an_odd_row_is_counted_and_the_run_goes_on(
    good: str, row: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(train=[*ROWS, row])
    assert main(["fit", "-c", good]) == 0
    assert f"topic/train: {told}\n" in capsys.readouterr().err


# Configuration


@pytest.mark.parametrize(
    ("text", "unknown", "right"),
    [
        ("modle: {encoder: {dim: 8}}", "modle", "model"),
        ("modle: null", "modle", "model"),
        ("modle: {}", "modle", "model"),
        ("model: {optimzer: {}}", "model.optimzer", "model.optimizer"),
        ("data: {rot: null}", "data.rot", "data.root"),
        ("model: {encoder: {poolling: {}}}", "model.encoder.poolling", "model.encoder.pooling"),
        ("model: {encoder: {poolling: mean}}", "model.encoder.poolling", "model.encoder.pooling"),
        ("model: {optimzer: {lr: 1}}", "model.optimzer", "model.optimizer"),
        ("model.optimzer.lr: 1", "model.optimzer", "model.optimizer"),
        ("lr: 1", "lr", "model.optimizer.lr"),
        ("model: {lr: 1}", "model.lr", "model.optimizer.lr"),
        ("encoder: {dim: 8}", "encoder", "model.encoder"),
        ("max_step: 8", "max_step", "trainer.max_steps"),
        ("tasks: {topic: {batchsize: 3}}", "batchsize", "batch_size"),
        ("tasks: {topic: {lr: 3}}", "lr", "model.optimizer.lr"),
        ("trainer: {max_step: 3}", "trainer.max_step", "trainer.max_steps"),
        ("data: {rot: x}", "data.rot", "data.root"),
        ("seed_everythin: 2", "seed_everythin", "seed_everything"),
    ],
)
def test_a_misspelt_key_is_told_the_nearest(fails: Fails, good: str, text: str, unknown: str, right: str) -> None:
    message = fails(*with_keys(good, text))
    told = f"unknown key {unknown!r}; did you mean {right!r}?"
    assert message in (f"ConfigError: {told}", f"ConfigError: tasks.topic: {told}")


def test_a_misspelt_key_of_a_task_is_told_with_the_task(fails: Fails, good: str) -> None:
    message = fails(*with_keys(good, "tasks: {topic: {wieght: 2}}"))
    assert message == "ConfigError: tasks.topic: unknown key 'wieght'; did you mean 'weight'?"


@pytest.mark.parametrize("arguments", [["--trainer.max_step", "3"], ["--trainer.max_step=3"], ["--trainer.mx_steps=3"]])
def test_a_misspelt_option_is_told_the_nearest_and_never_taken_for_it(
    fails: Fails, good: str, arguments: list[str]
) -> None:
    option = arguments[0].partition("=")[0]
    told = f"ConfigError: unknown option {option}; did you mean '--trainer.max_steps'?"
    assert fails("fit", "-c", good, *arguments) == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--lr", "1"], "unknown option --lr; did you mean '--model.optimizer.lr'?"),
        (
            ["--batch_size=8"],
            "unknown option --batch_size; did you mean '--data.batch_size' or '--tasks.NAME.batch_size'?",
        ),
        (
            ["--xyzzy"],
            "unknown option --xyzzy: it is neither an option of the command nor a key of the configuration",
        ),
        (
            ["--model.encoder.name.x", "1"],
            "unknown option --model.encoder.name.x: it is neither an option of the command nor",
        ),
        (["word"], "unexpected 'word': give options as --KEY VALUE"),
        (["--trainer.max_steps"], "--trainer.max_steps has no value: give one"),
        (["--trainer.max_steps", "--data.root", "x"], "--trainer.max_steps has no value: give one"),
        (["--data.root", "-x"], "--data.root has no value: give one, as --data.root=-x if it is '-x'"),
        (["--trainer.max_steps", "x"], "--trainer.max_steps is 'x': give a whole number"),
        (["--model.optimizer.lr=x"], "--model.optimizer.lr is 'x': give a number"),
        (["--tasks.topic.weight", "x"], "--tasks.topic.weight is 'x': give a number"),
        (["--tasks.topic.wieght", "2"], "tasks.topic: unknown key 'wieght'; did you mean 'weight'?"),
        (["--tasks.topic.loss", "InfoNCEE"], "--tasks.topic.loss: unknown loss 'InfoNCEE'; did you mean 'InfoNCE'?"),
        (
            ["--tasks.topic.loss", "InfoNCE", "--tasks.topic.loss.margn", "1"],
            "--tasks.topic.loss: InfoNCE has no 'margn'",
        ),
        (["--tasks.topic.weight_schedule.x", "1"], "tasks.topic.weight_schedule has the key 'x': give a whole number"),
        (["--model.eval_dims", "8"], "--model.eval_dims is 8: give a list of whole numbers or null, for example [8]"),
        (["--model.eval_dims+", "x"], "model.eval_dims[0] is 'x': give a whole number"),
        (["--data.seed", "3"], "--data.seed is set through seed_everything: give that key"),
        (["--optimizer", "SGD"], "--optimizer is set through model.optimizer.*, such as model.optimizer.lr"),
        (["--optimizer.lr", "1"], "optimizer is set through model.optimizer.*, such as model.optimizer.lr"),
        (["--lr_scheduler=StepLR"], "--lr_scheduler is set through model.optimizer.*, such as model.optimizer.decay"),
        (["--model.encoder", "nope.yaml"], "no configuration file 'nope.yaml'"),
    ],
)
def test_a_wrong_option_is_told_as_it_was_given(fails: Fails, good: str, arguments: list[str], told: str) -> None:
    assert fails("fit", "-c", good, *arguments).startswith(f"ConfigError: {told}")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TRAINER__MAX_STEPS", "x", "MTCL_SET_TRAINER__MAX_STEPS is 'x': give a whole number"),
        ("LR", "1", "unknown environment variable MTCL_SET_LR; did you mean 'MTCL_SET_MODEL__OPTIMIZER__LR'?"),
        (
            "CONFIG",
            "x",
            "unknown environment variable MTCL_SET_CONFIG: write a key of the configuration after MTCL_SET_",
        ),
        ("DATA__SEED", "1", "MTCL_SET_DATA__SEED is set through seed_everything: give that key"),
        (
            "OPTIMIZER",
            "SGD",
            "MTCL_SET_OPTIMIZER is set through model.optimizer.*, such as model.optimizer.lr: give that key",
        ),
        (
            "LR_SCHEDULER",
            "StepLR",
            "MTCL_SET_LR_SCHEDULER is set through model.optimizer.*, such as model.optimizer.decay: give that key",
        ),
        ("TASKS", "{topic: {weight: x}}", "tasks.topic.weight is 'x': give a number"),
        ("TASKS", "[", "MTCL_SET_TASKS is '[': give keys with values"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(
    fails: Fails, good: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"MTCL_SET_{variable}", value)
    assert fails("fit", "-c", good) == f"ConfigError: {told}"


def test_a_wrong_value_of_a_file_is_told_where_the_command_line_gives_another(fails: Fails, good: str) -> None:
    message = fails(*with_keys(good, "trainer: {max_steps: x}"), "--trainer.max_steps", "3")
    assert message == "ConfigError: trainer.max_steps is 'x': give a whole number"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: {batch_size: many}", "data.batch_size is 'many': give a whole number"),
        ("data: {batch_size: null}", "data.batch_size is null: give a whole number"),
        ("trainer: {max_steps: 1.5}", "trainer.max_steps is 1.5: give a whole number"),
        ("tasks: {topic: {weight: much}}", "tasks.topic.weight is 'much': give a number"),
        (
            "model: {encoder: {pooling: most}}",
            "model.encoder.pooling is 'most': give mean, cls, last, max, weighted_mean, sqrt_mean, a list of these or "
            "null",
        ),
        (
            "model: {encoder: {revision: 12}}",
            "model.encoder.revision is 12: give a string or null; in quotes if it is text",
        ),
        ("model: {optimizer: 3}", "model.optimizer is 3: give keys with values, or leave it out"),
        ("data: {held_out: topic}", "data.held_out is 'topic': give a list of strings or null, for example [topic]"),
        ("model: {eval_dims: [8, x]}", "model.eval_dims[1] is 'x': give a whole number"),
        ("seed_everything: abc", "seed_everything is 'abc': give true, false or a whole number"),
        ("averaging: 0.9", "averaging is 0.9: give keys with values or null"),
        ("averaging: {decay: x}", "averaging.decay is 'x': give a number"),
        (
            "optimizer: {lr: 1}",
            "optimizer is set through model.optimizer.*, such as model.optimizer.lr: give that key",
        ),
        (
            "lr_scheduler: {class_path: StepLR, init_args: {step_size: 1}}",
            "lr_scheduler is set through model.optimizer.*, such as model.optimizer.decay: give that key",
        ),
        (
            "tasks: {topic: {weight_schedule: {a: 1}}}",
            "tasks.topic.weight_schedule has the key 'a': give a whole number",
        ),
        (
            "trainer: {callbacks: [{class_path: EarlyStoping}]}",
            "trainer.callbacks[0]: unknown Callback 'EarlyStoping'; did you mean 'EarlyStopping'?",
        ),
        ("trainer: {logger: CSVLogger}", "trainer.logger: CSVLogger needs save_dir: give a string"),
        ("tasks: [topic]", "tasks is ['topic']: give names with settings, for example `tasks: {search: {}}`"),
        (
            "model: {encoder: {dim: -1}}",
            "model.encoder.dim is -1: give a positive size, or null for the backbone's own",
        ),
        ("model: {optimizer: {lr: -1}}", "model.optimizer.lr is -1.0: give 0 or more"),
        (
            "tasks: {topic: {loss: {class_path: mtcl.losses.InfoNCE, init_args: {temperature: 9}}}}",
            "InfoNCE temperature is 9.0: give 0.005 to 1.0",
        ),
        ("tasks: {topic: {batch_size: 1}}", "tasks.topic.batch_size is 1: negatives need at least 2"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(fails: Fails, good: str, text: str, told: str) -> None:
    assert fails(*with_keys(good, text)) == f"ConfigError: {told}"


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("InfoNCEE", ": unknown loss 'InfoNCEE'; did you mean 'InfoNCE'?"),
        ("infonce", ": unknown loss 'infonce'; did you mean 'InfoNCE'?"),
        ("{class_path: mtcl.losses.InfoNCEE}", ": unknown loss 'mtcl.losses.InfoNCEE'; did you mean 'InfoNCE'?"),
        (
            "{class_path: mtcl.loses.InfoNCE}",
            ": cannot import 'mtcl.loses': ModuleNotFoundError: No module named 'mtcl.loses'; did you mean 'InfoNCE'?",
        ),
        (
            "{class_path: InfoNCE, init_args: {temprature: 1}}",
            ": InfoNCE has no 'temprature'; did you mean 'temperature'?",
        ),
        ("{class_path: InfoNCE, init_args: {temperature: hot}}", ".temperature is 'hot': give a number"),
        ("{class_path: InfoNCE, temperature: 1}", " has 'temperature' next to class_path: move it to init_args"),
        ("{temperature: 1}", " has no class_path: give the name of a loss, as {class_path: NAME}"),
        ("{class_path: InfoNCE, init_args: 3}", ".init_args is 3: give keys with values, or leave it out"),
        ("{class_path: InfoNCE, init_args: {directions: three}}", ".directions is 'three': give one or both"),
        ("WeightedSum", ": WeightedSum needs losses: give a list of losses"),
        (
            "{class_path: WeightedSum, init_args: {losses: [InfoNCE, TeecherMSE]}}",
            ".losses[1]: unknown loss 'TeecherMSE'; did you mean 'TeacherMSE'?",
        ),
        (
            "MultipleNegativesRankingLoss",
            ": 'MultipleNegativesRankingLoss' is not a loss of mtcl: give InfoNCE, its counterpart",
        ),
        (
            "{class_path: sentence_transformers.losses.MarginMSELoss}",
            ": 'MarginMSELoss' is not a loss of mtcl: give MarginMSE, its counterpart",
        ),
        (
            "MultipleNegativesSymmetricRankingLoss",
            ": 'MultipleNegativesSymmetricRankingLoss' is not a loss of mtcl: "
            "give {class_path: InfoNCE, init_args: {directions: both}}, its counterpart",
        ),
        ("3", " is 3: give a loss or null"),
    ],
)
def test_a_loss_that_cannot_be_is_told_with_the_task_and_the_nearest(
    fails: Fails, good: str, loss: str, told: str
) -> None:
    assert fails(*with_keys(good, f"tasks: {{topic: {{loss: {loss}}}}}")) == f"ConfigError: tasks.topic.loss{told}"


@pytest.mark.parametrize(
    ("loss", "told"), [("Mean", "'Mean' is a weighting: give a loss"), ("Nonsense", "unknown loss 'Nonsense'")]
)
def test_a_loss_that_is_like_none_is_told_all_losses_and_no_weighting(
    fails: Fails, good: str, loss: str, told: str
) -> None:
    message, _, known = fails(*with_keys(good, f"tasks: {{topic: {{loss: {loss}}}}}")).partition("; known: ")
    assert message == f"ConfigError: tasks.topic.loss: {told}"
    assert {"CoSENT", "InfoNCE", "PairBCE"} < set(known.split(", "))
    assert not {"Mean", "Uncertainty", "GradientWeighting", "Loss"} & set(known.split(", "))


@pytest.mark.parametrize(
    ("weighting", "told"),
    [
        ("Meen", ": unknown weighting 'Meen'; did you mean 'Mean'?"),
        ("InfoNCE", ": 'InfoNCE' is a loss: give a weighting; known: GradientWeighting, Mean, Uncertainty"),
        (
            "{class_path: GradientWeighting, init_args: {method: pcgrd}}",
            ".method is 'pcgrd': give upgrad, pcgrad, cagrad, mgda or aligned_mtl",
        ),
    ],
)
def test_a_weighting_that_cannot_be_is_told_the_nearest(fails: Fails, good: str, weighting: str, told: str) -> None:
    assert fails(*with_keys(good, f"model: {{weighting: {weighting}}}")) == f"ConfigError: model.weighting{told}"


def test_yaml_that_does_not_parse(fails: Fails, good: str) -> None:
    message = fails(*with_keys(good, "data:\n  root: [a\nx: 1\n"))
    assert message.startswith("ConfigError: change.yaml:3: not valid YAML: ")


def test_a_task_that_is_null_in_the_first_file(fails: Fails) -> None:
    Path("c.yaml").write_text("tasks:\n  topic:\n")
    message = fails("fit", "-c", "c.yaml")
    assert message.startswith("ConfigError: tasks.topic is null: write `topic: {}` for a task with defaults")


def test_no_task_at_all(fails: Fails, good: str) -> None:
    assert fails(*with_keys(good, "tasks: {topic: null}")).startswith("ConfigError: no task is configured: ")


def test_a_configuration_that_is_not_there(fails: Fails, good: str) -> None:
    assert fails("fit", "-c", "god.yaml") == "ConfigError: no configuration file 'god.yaml'; did you mean 'good.yaml'?"


# Models and checkpoints


def test_a_model_whose_name_is_too_long_for_a_path() -> None:
    with pytest.raises(ConfigError, match=r"model 'é{100,199} is not a folder and cannot be downloaded"):
        resolve_model("é" * 3000)


@pytest.mark.parametrize("name", ["no/such-model", "nosuchmodel", "a b c"])
def test_a_model_that_cannot_be_found(fails: Fails, good: str, name: str) -> None:
    message = fails(*with_keys(good, f"model: {{encoder: {{name: {name}}}}}"))
    assert message.startswith(f"ConfigError: model {name!r} is not a folder and cannot be downloaded from the Hub (")
    advice = f"check the name and the network, or give a local folder (a relative one is looked up from {Path.cwd()})"
    assert message.endswith(f"): {advice}")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "model folder 'some' has no config.json: give a folder written by save_pretrained"),
        ({"config.json": "{}"}, "model 'some' cannot be loaded from some: Unrecognized model in some"),
        ({"config.json": "{"}, "model 'some': some/config.json is not readable as JSON"),
        (
            {"config.json": '{"model_type": "bert"}'},
            "model 'some' cannot be loaded from some: Error no file named model.saf",
        ),
    ],
    ids=["empty", "no type", "no JSON", "no weights"],
)
def test_a_folder_that_is_no_model(fails: Fails, good: str, files: dict[str, str], told: str) -> None:
    Path("some").mkdir()
    for name, content in files.items():
        Path("some", name).write_text(content)
    assert fails(*with_keys(good, "model: {encoder: {name: some}}")).startswith(f"ConfigError: {told}")


def test_a_run_given_as_a_model_is_told_how_to_use_it(fails: Fails, good: str) -> None:
    Path("runs", "a", "checkpoints").mkdir(parents=True)
    told = fails(*with_keys(good, "model: {encoder: {name: runs/a}}"))
    assert told.startswith("ConfigError: model 'runs/a' is the folder of a run: train from its weights with --init_")


@pytest.mark.parametrize(
    "arguments", [["fit", "--resume", "nope"], ["fit", "--init_from", "nope"], ["test", "--ckpt", "nope"]]
)
def test_a_checkpoint_that_is_not_there(fails: Fails, good: str, arguments: list[str]) -> None:
    told = "ConfigError: no checkpoint 'nope': give a run folder or a .ckpt file"
    assert fails(*arguments) == told
    assert fails(*arguments, "-c", good) == told


def test_a_folder_that_is_no_run(fails: Fails) -> None:
    Path("empty").mkdir()
    for command, option, name in (
        ("fit", "--resume", "last"),
        ("fit", "--init_from", "best"),
        ("test", "--ckpt", "best"),
    ):
        path = Path("empty", "checkpoints", f"{name}.ckpt")
        assert f"no checkpoint {str(path)!r}" in fails(command, option, "empty")


def test_nothing_to_resume(fails: Fails) -> None:
    assert fails("fit", "--resume") == "ConfigError: nothing to resume: no runs/*/checkpoints/last.ckpt here"


def test_a_file_that_is_no_checkpoint(fails: Fails) -> None:
    Path("some.ckpt").write_text("hello")
    assert "'some.ckpt' is not a checkpoint, or is damaged (" in fails("test", "--ckpt", "some.ckpt")


def test_resume_and_init_from_exclude_each_other(fails: Fails) -> None:
    message = fails("fit", "--resume", "a", "--init_from", "b")
    assert message.startswith("ConfigError: --resume and --init_from cannot be combined: ")


# Values that only the model, the tokenizer or Lightning can judge


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tasks: {topic: {max_length: 2}}", "task 'topic': max_length is 2: the tokenizer takes at least 3"),
        ("data: {max_length: 500}", "task 'topic': max_length is 500, but the encoder reads 128 tokens"),
        ("trainer: {accelerator: gpu, devices: 1}", "trainer: No supported gpu backend found!"),
        ("model: {optimizer: {warmup_steps: 3}}", "model.optimizer.warmup_steps is 3, but trainer.max_steps is 1"),
        ("trainer: {max_steps: -1}", "trainer.max_steps is not set: a mixture of tasks has no natural end"),
        ("tasks: {topic: {batch_size: 1}}", "tasks.topic.batch_size is 1: negatives need at least 2"),
        (
            "tasks: {topic: {batch_size: 8, batch_size: 4}}",
            ":1: not valid YAML: duplicate key 'batch_size'",
        ),
        ("trainer: {val_check_interval: 9}", "trainer.val_check_interval is 9, but the run has 1 batches"),
        (
            "trainer: {max_steps: 6, val_check_interval: 3, limit_train_batches: 2}",
            "trainer.val_check_interval is 3, but the run has 2 batches: give fewer",
        ),
        ("trainer: {val_check_interval: 0}", "trainer.val_check_interval is 0: give 1 or more, or null"),
        (
            "trainer: {gradient_clip_val: -1}",
            "trainer.gradient_clip_val is -1: give a limit above 0, or 0 for no limit",
        ),
        ("trainer: {gradient_clip_val: .nan}", "trainer.gradient_clip_val is nan: give a number"),
        ("trainer: {accumulate_grad_batches: 0}", "trainer.accumulate_grad_batches is 0: give at least 1"),
        ("trainer: {limit_train_batches: 0}", "trainer.limit_train_batches is 0, so nothing would be trained"),
        ("model: {optimizer: {lr: .nan}}", "model.optimizer.lr is nan: give a number"),
        ("trainer: {check_val_every_n_epoch: 2}", "trainer.check_val_every_n_epoch is 2, but a run is one epoch"),
        ("data: {alpha: .nan}", "data.alpha is nan: give a number"),
        ("data: {replay: .nan}", "data.replay is nan: give a number"),
        ("model: {keep: {strength: .nan}}", "model.keep.strength is nan: give a number"),
        ("tasks: {topic: {loss: {class_path: InfoNCE, init_args: {margin: .nan}}}}", "margin is nan: give a number"),
        ("data: {alpha: .inf}", "data.alpha is inf"),
        ("trainer: {max_epochs: 0}", "trainer.max_epochs is 0, so nothing would be trained"),
        ("trainer: {max_steps: 0}", "trainer.max_steps is 0, so nothing would be trained"),
        ("trainer: {precision: 64}", "trainer.precision is 64-true: give bf16-mixed, 16-mixed or 32-true"),
        ("checkpoint_every_n_steps: 0", "checkpoint_every_n_steps is 0: give at least 1"),
        ("tasks: {topic: {weight: .nan}}", "tasks.topic.weight is nan: give a number"),
        (
            "tasks: {topic: {batch_size: 10000000000}}",
            "tasks.topic.batch_size is 10000000000: give at most 2,147,483,648",
        ),
        ("data: {num_workers: -1}", "data.num_workers is -1: give 0 or more"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case needs a machine without a GPU")
def test_values_found_wrong_before_any_store_is_built(
    fails: Fails, good: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTCL_CACHE", "stores")
    assert told in fails(*with_keys(good, text))
    assert not Path("runs").exists(), "a run that never started leaves nothing behind"
    assert not list(Path().glob("stores/*")), "building stores may take minutes"


def test_a_method_of_a_task_that_raises(fails: Fails, good: str) -> None:
    path = Path("tasks", "topic.py")
    path.write_text(path.read_text() + "    def data(self, split, root):\n        return 1 / 0\n")
    number = len(path.read_text().splitlines())
    message = fails("fit", "-c", good)
    assert message.startswith("TaskError: task 'topic', train: ")
    assert message.endswith(f"tasks/topic.py:{number}: ZeroDivisionError: division by zero")


def test_two_tasks_in_one_file(fails: Fails) -> None:
    path = Path("tasks", "topic.py")
    text = path.read_text()
    second = text[text.index("class ") :].replace("Something", "Second").replace('"topic"', '"second"')
    path.write_text(text + "\n\n" + second)
    assert "it defines the tasks 'topic', 'second': give each a file of its own" in fails("tasks", "show", "topic")


# Commands


def test_an_unknown_command(fails: Fails) -> None:
    assert fails("fitt") == "ConfigError: unknown command 'fitt'; did you mean 'fit'?"
    assert fails("xyz") == f"ConfigError: unknown command 'xyz'; known: {', '.join(sorted(COMMANDS))}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required"),
        (["lst"], "invalid choice: 'lst' (choose from"),
        (["show"], "the following arguments are required: name"),
        (["list", "--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_a_wrong_use_of_tasks(fails: Fails, arguments: list[str], told: str) -> None:
    message = fails("tasks", *arguments)
    assert message.startswith("ConfigError: mtcl tasks")
    assert told in message


def test_a_demo_that_is_too_small(fails: Fails) -> None:
    told = "ConfigError: too few posts for a demo corpus: 5; give at least 200"
    assert fails("demo", "small", "--posts", "5") == told
    assert not Path("small").exists()


def test_debug_raises_what_is_otherwise_one_line(good: str) -> None:
    with pytest.raises(MtclError, match="unknown command 'fitt'"):
        main(["fitt", "--debug"])
    put(train=b"PAR1 and no more")
    with pytest.raises(MtclError) as error:
        main(["fit", "--debug", "-c", good])
    assert error.value.__cause__ is not None, "the library's own error is kept"


def test_debug_shows_the_traceback_of_a_process(mtcl_process: Run) -> None:
    short, long = mtcl_process("tasks", "show", "topik"), mtcl_process("tasks", "show", "topik", "--debug")
    assert short.returncode == 2
    assert short.stderr.startswith("mtcl: TaskError: unknown task 'topik'; did you mean 'topic'? (looked in tasks")
    assert short.stderr.count("\n") == 1
    assert long.returncode == 1
    assert "Traceback (most recent call last)" in long.stderr
    assert "unknown task 'topik'" in long.stderr.splitlines()[-1]
