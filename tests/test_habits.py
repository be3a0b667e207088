"""Names that people bring from other libraries, and a run that is finished: one line says what to give here.

python -m pytest tests/test_habits.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mtcl import ConfigError, MtclDataModule
from mtcl.configuration.checks import check
from mtcl.configuration.closest import ELSEWHERE
from mtcl.configuration.keys import full_names
from mtcl.configuration.overrides import from_arguments
from mtcl.configuration.run_keys import run_keys
from mtcl.losses.counterparts import COUNTERPARTS
from tests.conftest import Run


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--lr", "--model.optimizer.lr"),
        ("--learning-rate", "--model.optimizer.lr"),
        ("--epochs", "--trainer.max_steps"),
        ("--max_steps", "--trainer.max_steps"),
        ("--devices", "--trainer.devices"),
        ("--max_seq_length", "--data.max_length"),
        ("--per_device_train_batch_size", "--data.batch_size"),
        ("--gradient_accumulation_steps", "--trainer.accumulate_grad_batches"),
        ("--seed", "--seed_everything"),
        ("--temperature", "--tasks.NAME.loss.temperature"),
        ("--output_dir", "--run_dir"),
    ],
)
def test_a_short_option_is_told_the_whole_key(option: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown option {option}; did you mean '{key}'"):
        from_arguments([option, "3"], run_keys())


def test_a_batch_size_is_that_of_all_tasks_or_of_one() -> None:
    told = "did you mean '--data.batch_size' or '--tasks.NAME.batch_size'"
    with pytest.raises(ConfigError, match=told):
        from_arguments(["--batch_size", "3"], run_keys())


@pytest.mark.parametrize("ours", [key for key in ELSEWHERE if not key.startswith(("--", "tasks."))])
def test_the_keys_that_are_offered_exist(ours: str) -> None:
    assert ours in dict(full_names(run_keys()))
    theirs = ELSEWHERE[ours][0]
    with pytest.raises(ConfigError, match=f"unknown key 'trainer.{theirs}'.*did you mean '{ours}'"):
        check({"trainer": {theirs: 3}}, run_keys())


@pytest.mark.parametrize(("section", "key"), [("model", "model.encoder.name"), ("data", "data.root")])
def test_a_value_for_a_section_is_told_the_key(section: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{section} is 'x': give keys with values.*did you mean '{key}'"):
        check({section: "x"}, run_keys())


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_loss_of_another_library_has_ours_beside_it_in_python_too(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"tasks\.asked\.loss: '{name}' is not a loss of mtcl: give .*, its counterpart"
    ):
        MtclDataModule(tasks={"asked": {"loss": name}})  # type: ignore[dict-item]


def test_a_finished_run_says_so(trained_run: Path, demo_root: Path, mtcl_command: Run, tmp_path: Path) -> None:
    """It ends well, since jobs resume until they end; the table is printed again."""
    shutil.copytree(trained_run, tmp_path / "run")
    done = mtcl_command("fit", "--resume", "run")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "is finished" in line]
    assert line.startswith("run is finished: it has trained all its 4 steps (trainer.max_steps).")
    assert "--resume run --trainer.max_steps 8" in line
    assert "best checkpoint" in done.stdout
    further = mtcl_command("fit", "--resume", "run", "--trainer.max_steps", "5")
    assert further.returncode == 0, further.stderr
    assert "is finished" not in further.stderr
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 5


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_limit_of_no_batches_is_told(command: str, trained_run: Path, demo_root: Path, mtcl_command: Run) -> None:
    name = "val" if command == "validate" else command
    given = ("--ckpt", str(trained_run), "--data.root", str(demo_root), "--run_dir", "run", "--no_base")
    done = mtcl_command(command, *given, f"--trainer.limit_{name}_batches", "0")
    assert done.returncode == 0, done.stderr
    assert f"trainer.limit_{name}_batches is 0" in done.stderr


def test_a_start_without_a_configuration_says_what_it_takes(trained_run: Path, mtcl_command: Run) -> None:
    """`--tasks.NAME=null` leaves a task of it out, as `--tasks.NAME null` does."""
    given = ("fit", "--init_from", str(trained_run), "--trainer.max_steps", "many")
    refused = mtcl_command(*given)
    assert refused.returncode == 2, "the steps are no number, so nothing is trained"
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("no --config is given")]
    assert "tasks search, interest, storyline; and every value that you do not give (trainer.max_steps 4)" in line
    for left_out in (["--tasks.interest=null"], ["--tasks.interest", "null"]):
        assert "tasks search, storyline; " in mtcl_command(*given, *left_out).stderr
