"""How a configuration comes about: files merged key by key, then the environment, then the command line.

python -m pytest tests/test_config.py
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mtcl import ConfigError, Kind
from mtcl.configuration import yaml_files as config
from mtcl.configuration.cli import _Parsed, check_config
from mtcl.configuration.overrides import applied, from_arguments, from_environment
from mtcl.configuration.run_keys import run_keys
from mtcl.configuration.values import plain
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.training.module import MtclModule
from mtcl.training.task_config import TaskConfig
from tests.conftest import Run

PLAIN = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), PLAIN, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), PLAIN | inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MTCL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("sys.argv", ["mtcl"])  # LightningCLI warns where there is more


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(folder: Path, *texts: str, below: dict[str, Any] | None = None) -> dict[str, Any]:
    return config.load([write(folder / f"{n}.yaml", text) for n, text in enumerate(texts)], below=below)


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) and value else {(*path, key): value}
    return found


def test_a_second_file_with_one_task_keeps_the_others(tmp_path: Path) -> None:
    merged = load(tmp_path, "tasks: {a: {}, b: {weight: 2}}", "tasks: {c: {weight: 3}}")
    assert merged == {"tasks": {"a": {}, "b": {"weight": 2}, "c": {"weight": 3}}}
    assert list(merged["tasks"]) == ["a", "b", "c"]


def test_a_task_of_both_files_keeps_what_the_second_does_not_say(tmp_path: Path) -> None:
    merged = load(tmp_path, "tasks: {a: {weight: 2, batch_size: 8}}", "tasks: {a: {weight: 3}}")
    assert merged["tasks"]["a"] == {"weight": 3, "batch_size": 8}


def test_null_removes_a_task_of_an_earlier_file(tmp_path: Path) -> None:
    assert load(tmp_path, "tasks: {a: {}, b: {}}", "tasks: {a: null}") == {"tasks": {"b": {}}}
    assert load(tmp_path, "tasks: {a: {}}", "tasks: {a: null}", "tasks: {a: {weight: 2}}") == {
        "tasks": {"a": {"weight": 2}}
    }


def test_null_elsewhere_is_a_value(tmp_path: Path) -> None:
    merged = load(
        tmp_path, "data: {cap: 9}\ntasks: {a: {batch_size: 8}}", "data: {cap: null}\ntasks: {a: {loss: null}}"
    )
    assert merged == {"data": {"cap": None}, "tasks": {"a": {"batch_size": 8, "loss": None}}}


def test_null_for_a_task_that_no_file_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.a is null: write `a: \{\}` for a task with defaults"):
        load(tmp_path, "tasks: {a: null}")


def test_a_key_with_dots_is_the_same_as_nested_keys(tmp_path: Path) -> None:
    texts = [
        "model.encoder.dim: 8\nmodel: {optimizer.lr: 1}",
        "tasks: {a: {loss.class_path: InfoNCE}}",
        "tasks.a.weight: 2",
    ]
    assert load(tmp_path, *texts) == {
        "model": {"encoder": {"dim": 8}, "optimizer": {"lr": 1}},
        "tasks": {"a": {"loss": {"class_path": "InfoNCE"}, "weight": 2}},
    }


def test_scalars_and_lists_are_replaced(tmp_path: Path) -> None:
    merged = load(tmp_path, "x: 1\ny: [1, 2, 3]\nz: {deep: {l: [1], k: 1}}", "x: two\ny: [4]\nz: {deep: {l: []}}")
    assert merged == {"x": "two", "y": [4], "z": {"deep": {"l": [], "k": 1}}}


def test_a_dict_replaces_a_scalar_and_the_other_way_round(tmp_path: Path) -> None:
    merged = load(tmp_path, "a: 1\nb: {c: 1}", "a: {c: 1}\nb: 1")
    assert merged == {"a": {"c": 1}, "b": 1}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "a: 1", "# nothing here\n", "") == {"a": 1}
    assert config.load([]) == {}


@given(TREES, TREES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_merging_keeps_every_leaf_of_the_upper_and_takes_the_rest_from_the_lower(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    before = yaml.safe_dump([below, above])
    merged = config.merge(below, above)
    found, upper = leaves(merged), leaves(above)
    for path, value in upper.items():
        assert value == {} or found[path] == value
    for path, value in found.items():
        assert path in upper or leaves(below)[path] == value
    assert yaml.safe_dump([below, above]) == before, "inputs are left alone"
    assert config.merge(merged, above) == merged


def test_files_win_over_the_configuration_of_a_checkpoint(tmp_path: Path) -> None:
    saved = {"data": {"batch_size": 64, "alpha": 0.5}, "tasks": {"a": {"weight": 1.0}, "b": {"weight": 1.0}}}
    merged = load(tmp_path, "data: {batch_size: 8}\ntasks: {b: null, c: {}}", below=saved)
    assert merged == {"data": {"batch_size": 8, "alpha": 0.5}, "tasks": {"a": {"weight": 1.0}, "c": {}}}
    assert set(saved["tasks"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r"0\.yaml:3: not valid YAML: expected ',' or '\]', but got"),
        ("a: 1\n\tb: 2\n", r"0\.yaml:2: not valid YAML: found character '\\t'"),
        ("a: \x00\n", r"0\.yaml: not valid YAML: "),
        ("- a\n- b\n", r"0\.yaml: a configuration is a mapping of keys to values, not list"),
        ("word", r"0\.yaml: a configuration is a mapping of keys to values, not str"),
        ("tasks: [search]", r"tasks is \['search'\]: give names with settings"),
        ("tasks: search", r"tasks is 'search': give names with settings"),
        ("tasks: {null: {}}", r"tasks has the name None, which YAML does not read as text: put it in quotes"),
        ("tasks: {on: {}}", r"tasks has the name True"),
        ("1:", r"the configuration has the key 1: keys are names"),
        ("trainer: 5", r"trainer is 5: give keys with values"),
        ("seed_everything: -1", r"seed_everything is -1: give 0 to "),
        ("trainer.max_steps: 1\ntrainer: 3", r"trainer is 3: give keys with values"),
        ("model: &a {encoder: *a}", r"0\.yaml: an anchor \(&\) contains itself"),
    ],
)
def test_what_is_no_configuration_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_merge_key_takes_over_an_anchor(tmp_path: Path) -> None:
    text = "tasks:\n  a: &x {weight: 1, batch_size: 4}\n  b:\n    <<: *x\n    batch_size: 8\n"
    assert load(tmp_path, text)["tasks"]["b"] == {"weight": 1, "batch_size": 8}


def test_a_missing_file_is_told_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "public.yaml", "a: 1")
    with pytest.raises(ConfigError, match=r"no configuration file 'publik\.yaml'; did you mean 'public\.yaml'\?"):
        config.load(["publik.yaml"])


def test_a_folder_or_bytes_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read configuration file"):
        config.load([str(tmp_path)])
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read configuration file .*x\.yaml"):
        config.load([str(tmp_path / "x.yaml")])


def steps(tiny_model: Path, tmp_path: Path, *arguments: str, below: int = 1) -> int:
    """`trainer.max_steps` of the parsed configuration, of which a file says `below`."""
    from mtcl.configuration.cli import MtclCLI

    given: dict[str, Any] = {
        "model": {"encoder": {"name": str(tiny_model)}},
        "data": {"root": str(tmp_path)},
        "tasks": {"search": {}},
        "trainer": {"max_steps": below, "logger": False, "accelerator": "cpu"},
    }
    cli = MtclCLI(list(arguments), config=given, run_dir=tmp_path / "run")
    assert yaml.safe_load(cli.config_text())["trainer"]["max_steps"] == cli.trainer.max_steps
    return int(cli.trainer.max_steps)


def test_the_environment_wins_over_files_and_the_command_line_over_both(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps(tiny_model, tmp_path) == 1
    assert steps(tiny_model, tmp_path, "--trainer.max_steps", "3") == 3
    monkeypatch.setenv("MTCL_SET_TRAINER__MAX_STEPS", "2")
    assert steps(tiny_model, tmp_path) == 2
    assert steps(tiny_model, tmp_path, "--trainer.max_steps=3") == 3


def test_a_misspelt_variable_is_told_the_nearest(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTCL_SET_TRAINER__MAX_STEP", "2")
    with pytest.raises(ConfigError, match=r"^unknown environment variable MTCL_SET_TRAINER__MAX_STEP; did you mean "):
        steps(tiny_model, tmp_path)


def test_a_variable_of_a_nested_key(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTCL_SET_MODEL__ENCODER__NAME", "no/where")
    with pytest.raises(ConfigError, match=r"^model 'no/where' is not a folder"):
        steps(tiny_model, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("limit_val_batches", "2", "a batch is a whole task there"),
        ("limit_test_batches", "0.5", "a batch is a whole task there"),
        ("overfit_batches", "4", "give data.pairs_per_task"),
        ("fast_dev_run", "true", "it would evaluate only the first tasks; give trainer.max_steps"),
        ("precision", "bf16-true", "give bf16-mixed, 16-mixed or 32-true"),
        (
            "strategy",
            "ddp_spawn",
            "a spawned process cannot import task files; give ddp",
        ),
    ],
)
def test_values_of_lightning_that_mean_something_else_here_are_refused(
    key: str, value: str, message: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MTCL_SET_TRAINER__{key.upper()}", value)
    with pytest.raises(ConfigError, match=message):
        steps(tiny_model, tmp_path)


def test_a_task_name_that_torch_keeps_for_itself_is_refused(tiny_model: Path) -> None:
    module = MtclModule(encoder=EncoderConfig(name=str(tiny_model)))
    for name in ("training", "keys"):
        with pytest.raises(ConfigError, match=f"task name '{name}' is reserved by torch"):
            module.choose_tasks({name: TaskConfig()}, {name: Kind.POSITIVE})


def test_dropout_is_set_where_the_model_s_own_is_a_whole_number(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('_dropout_prob": 0.1', '_dropout_prob": 0'))
    backbone = Encoder.load(EncoderConfig(name=str(tmp_path / "model"), dropout=0.3)).backbone
    assert {module.p for module in backbone.modules() if isinstance(module, nn.Dropout)} == {0.3}


@pytest.mark.parametrize(
    ("arguments", "key"), [(["fit", "--help_all"], "--model.optimizer.lr"), (["compare", "--help"], "--encoders")]
)
def test_help_says_each_thing_once(arguments: list[str], key: str, mtcl_command: Run) -> None:
    """The command's own options first, then every key of its configuration, without the libraries' headings."""
    done = mtcl_command(*arguments)
    assert done.returncode == 0, done.stderr
    assert key in done.stdout
    assert done.stdout.count("usage:") == 1
    assert "Lightning Trainer" not in done.stdout


@pytest.mark.parametrize("section", ["model", "data", "trainer", "model.optimizer", "model.encoder"])
def test_an_empty_section_is_refused(section: str, tmp_path: Path, demo_root: Path) -> None:
    """It would replace what an earlier file says."""
    (tmp_path / "a.yaml").write_text(f"tasks: {{search: {{}}}}\ndata: {{root: {demo_root}, batch_size: 4}}\n")
    (tmp_path / "b.yaml").write_text(f"{section}:\n")
    files = [str(tmp_path / name) for name in ("a.yaml", "b.yaml")]
    with pytest.raises(ConfigError, match=f"^{section} is null: give keys with values, or leave it out"):
        check_config(config.load(files))


@pytest.mark.parametrize("name", ["tasks.search.loss", "tasks.search.loss.class_path"])
def test_another_class_on_the_command_line_begins_without_arguments(
    name: str, tmp_path: Path, tiny_model: Path, demo_root: Path, mtcl_command: Run
) -> None:
    """Both have a temperature; the new one has its own default, as when a second file names it."""
    loss = "{class_path: InfoNCE, init_args: {temperature: 0.2}}"
    (tmp_path / "c.yaml").write_text(f"tasks: {{search: {{loss: {loss}}}}}\ndata: {{batch_size: 4, max_length: 16}}\n")
    run = ("fit", "--config", "c.yaml", "--data.root", str(demo_root), "--trainer.max_steps", "1", "--no_base")
    model = ("--model.encoder.name", str(tiny_model), "--data.num_workers", "0", "--run_dir", "run")
    done = mtcl_command(*run, *model, f"--{name}", "DistillKL", "--tasks.search.loss.teacher", "base")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["tasks"]["search"]["loss"]
    assert found["class_path"] == "mtcl.DistillKL"
    assert found["init_args"]["temperature"] == 0.05


def test_a_key_of_a_mapping_in_a_task_is_added(
    tmp_path: Path, tiny_model: Path, demo_root: Path, mtcl_command: Run
) -> None:
    """Also a key that is a number, beside those of the file."""
    task = "{prompt: {document: 'd '}, weight_schedule: {1: 1.0}}"
    (tmp_path / "c.yaml").write_text(f"tasks: {{search: {task}}}\ndata: {{batch_size: 4, max_length: 16}}\n")
    run = ("fit", "--config", "c.yaml", "--data.root", str(demo_root), "--trainer.max_steps", "1", "--no_base")
    model = ("--model.encoder.name", str(tiny_model), "--data.num_workers", "0", "--run_dir", "run")
    keys = ("--tasks.search.prompt.query", "007: ", "--tasks.search.weight_schedule.5=0.5")
    done = mtcl_command(*run, *model, *keys)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["tasks"]["search"]
    assert found["prompt"] == {"document": "d ", "query": "007: "}
    assert found["weight_schedule"] == {"1": 1.0, "5": 0.5}


@pytest.mark.parametrize("seed", ["-1", "null"])
def test_a_seed_on_the_command_line_is_checked(seed: str, demo_root: Path, mtcl_command: Run) -> None:
    done = mtcl_command("fit", "--tasks.search", "{}", "--data.root", str(demo_root), "--seed_everything", seed)
    assert done.returncode == 2
    assert re.search(f"ConfigError: (--)?seed_everything is '?{seed}'?: give ", done.stderr)


@pytest.mark.parametrize(
    "first", ["InfoNCE", "{class_path: InfoNCE}", "{class_path: InfoNCE, init_args: {margin: 0.3}}"]
)
@pytest.mark.parametrize("second", ["loss.margin: 0.1", "loss: {margin: 0.1}", "loss: {init_args: {margin: 0.1}}"])
def test_a_later_file_sets_an_argument_of_an_earlier_file_s_loss(tmp_path: Path, first: str, second: str) -> None:
    """However each of them writes it: as an option of the command line does."""
    merged = load(tmp_path, f"tasks: {{a: {{loss: {first}}}}}", f"tasks:\n  a:\n    {second}")
    assert merged["tasks"]["a"]["loss"] == {"class_path": "InfoNCE", "init_args": {"margin": 0.1}}


def test_other_texts_are_replaced_by_a_mapping_as_before(tmp_path: Path) -> None:
    merged = load(tmp_path, "tasks: {a: {prompt: 'p: '}}", "tasks: {a: {prompt: {query: 'q: '}}}")
    assert merged["tasks"]["a"]["prompt"] == {"query": "q: "}
    merged = load(tmp_path, "model: {weighting: Uncertainty}", "model: {weighting: {class_path: Mean}}")
    assert merged["model"]["weighting"] == {"class_path": "Mean"}, "another class begins without arguments"


def test_an_option_below_a_text_does_not_drop_it() -> None:
    """A prompt that is one text stands for both sides, so a text of one side cannot be added to it."""
    keys = run_keys()
    [option] = from_arguments(["--data.prompt.document", "d: "], keys)
    told = "^--data.prompt.document is one of the values of data.prompt, which is the one text 'x: ' so far and would"
    with pytest.raises(ConfigError, match=told):
        applied({"data": {"prompt": "x: "}}, [option], keys)
    [of_task] = from_arguments(["--tasks.a.prompt.query", "q: "], keys)
    with pytest.raises(ConfigError, match=r"give tasks\.a\.prompt as a whole, for example as \{query: q: \}"):
        applied({"tasks": {"a": {"prompt": "x: "}}}, [of_task], keys)
    added = applied({"data": {"prompt": {"query": "x: "}}}, [option], keys)
    assert plain(added) == {"data": {"prompt": {"query": "x: ", "document": "d: "}}}
    assert plain(applied({"data": {"prompt": None}}, [option], keys)) == {"data": {"prompt": {"document": "d: "}}}


@pytest.mark.parametrize("on_the_command_line", [False, True])
def test_a_time_in_hours_is_recorded_as_it_was_given(on_the_command_line: bool, tmp_path: Path) -> None:
    """Also in a callback; jsonargparse writes a mapping that may be a text as one, which Lightning does not read."""
    timer = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": {"hours": 1, "minutes": 2}}}
    given: dict[str, Any] = {"tasks": {"search": {}}, "trainer": {"max_steps": 2, "callbacks": [timer]}}
    options = ["--trainer.max_time", "{hours: 3}"] if on_the_command_line else []
    if not options:
        given["trainer"]["max_time"] = {"hours": 3}
    for more in (options, []):  # what is written is read again
        given = yaml.safe_load(
            _Parsed(["--seed_everything", "false", *more], config=given, run_dir=tmp_path).config_text()
        )
        assert given["trainer"]["max_time"] == {"hours": 3}
        assert given["trainer"]["callbacks"][0]["init_args"]["duration"] == {"hours": 1, "minutes": 2}


def test_a_short_name_keeps_the_arguments_of_the_long_one() -> None:
    """Checkpoints have the long form. Another class begins without the arguments of the one before."""

    def merged(below: str, above: str) -> Any:
        loss = {"class_path": below, "init_args": {"temperature": 0.02}}
        other = {"class_path": above, "init_args": {"margin": 0.1}}
        return config.merge({"loss": loss}, {"loss": other})["loss"]["init_args"]

    for below, above in (("mtcl.losses.InfoNCE", "InfoNCE"), ("mtcl.InfoNCE", "mtcl.losses.InfoNCE"), ("A", "A")):
        assert merged(below, above) == {"temperature": 0.02, "margin": 0.1}
    for below, above in (
        ("InfoNCE", "PairBCE"),
        ("mine.InfoNCE", "InfoNCE"),
        ("mine.InfoNCE", "mtcl.InfoNCE"),
        ("mtcl.losses.InfoNCE", "NCE"),
    ):
        assert merged(below, above) == {"margin": 0.1}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tasks.b", "{}"], {"b": {"weight": 1}}),
        (["--tasks.b={weight: 2, prompt: 'q: '}"], {"b": {"weight": 2, "prompt": "q: "}}),
        (["--tasks", "{a: {weight: 3}}", "--tasks.b", "{}"], {"a": {"weight": 3, "prompt": None}, "b": {}}),
        (["--tasks.b", "{weight: 1e-1}", "--tasks.b.weight=1e-2"], {"b": {"weight": 0.01}}),
        (["--tasks.b.prompt", "query: "], {"b": {"prompt": "query: "}}),
        (["--tasks.b.prompt", "{query: x, document: ''}"], {"b": {"prompt": {"query": "x", "document": ""}}}),
        (["--tasks.b.weight_schedule", "{3: 0.5}"], {"b": {"weight_schedule": {3: 0.5}}}),
        (["--tasks.b.loss", "MarginMSE"], {"b": {"loss": {"class_path": "mtcl.MarginMSE"}}}),
        (
            ["--tasks.b.loss", "{class_path: InfoNCE, init_args: {temperature: 1e-1}}", "--tasks.b.loss.keys", "false"],
            {"b": {"loss": {"class_path": "mtcl.InfoNCE", "init_args": {"temperature": 0.1, "keys": False}}}},
        ),
        (["--tasks.a.loss.temperature", "0.3"], {"a": {"loss": {"init_args": {"temperature": 0.3, "keys": False}}}}),
        (["--tasks.a.loss", "InfoNCE"], {"a": {"loss": {"init_args": {"temperature": 0.2, "keys": False}}}}),
        (
            [
                "--tasks.b.loss",
                "{class_path: Matryoshka, init_args: {loss: CoSENT, dims: [8]}}",
                "--tasks.b.loss.dims+=16",
            ],
            {"b": {"loss": {"class_path": "mtcl.Matryoshka", "init_args": {"dims": [8, 16]}}}},
        ),
        (
            [
                *("--tasks.b.loss", "Matryoshka", "--tasks.b.loss.dims", "[8]", "--tasks.b.loss.loss", "InfoNCE"),
                *("--tasks.b.loss.loss.margin", "0.3"),
            ],
            {"b": {"loss": {"init_args": {"loss": {"class_path": "mtcl.InfoNCE", "init_args": {"margin": 0.3}}}}}},
        ),
        (
            [
                *("--tasks.b.loss", "WeightedSum", "--tasks.b.loss.weights", "[1]"),
                *("--tasks.b.loss.losses+", "InfoNCE", "--tasks.b.loss.losses.margin", "0.3"),
            ],
            {"b": {"loss": {"init_args": {"weights": [1.0], "losses": [{"init_args": {"margin": 0.3}}]}}}},
        ),
    ],
)
def test_options_below_tasks_in_all_their_forms(arguments: list[str], expected: dict[str, Any]) -> None:
    """What the parser makes of them, not only what is checked."""
    loss = {"class_path": "InfoNCE", "init_args": {"temperature": 0.2, "keys": False}}
    config = {"tasks": {"a": {"loss": loss, "prompt": "x "}}}
    parsed = _Parsed([*arguments, "--seed_everything", "false"], config=config, run_dir=Path())
    found = yaml.safe_load(parsed.config_text())["tasks"]

    def has(found: Any, expected: Any) -> bool:
        if isinstance(expected, list) and len(expected) == len(found):
            return all(has(*both) for both in zip(found, expected, strict=True))
        if not isinstance(expected, dict):
            return bool(found == expected)
        found = {str(name): value for name, value in found.items()}
        return all(has(found[str(name)], value) for name, value in expected.items())

    assert has(found, expected), found


def test_a_prompt_with_a_colon_is_one_text(tmp_path: Path) -> None:
    """YAML would read `Task: jobs` as a mapping. In braces it is one."""

    def prompts(config: dict[str, Any], *arguments: str) -> Any:
        parsed = _Parsed([*arguments, "--seed_everything", "false"], config=config, run_dir=tmp_path)
        found = yaml.safe_load(parsed.config_text())
        again = yaml.safe_load(_Parsed(["--seed_everything", "false"], config=found, run_dir=tmp_path).config_text())
        assert again == found, "also when a run resumes"
        return found["data"]["prompt"], found["tasks"]["a"]["prompt"]

    text = "Task: find jobs"
    assert prompts({"data": {"prompt": text}, "tasks": {"a": {"prompt": "query: x"}}}) == (text, "query: x")
    assert prompts({"tasks": {"a": {}}}, "--data.prompt", text, "--tasks.a.prompt=query: x") == (text, "query: x")
    assert prompts({}, "--tasks", f'{{a: {{prompt: "{text}"}}}}') == (None, text)
    sides = {"query": "q: x", "document": "d: x"}
    typed = "{query: 'q: x', document: 'd: x'}"
    assert prompts({"data": {"prompt": sides}, "tasks": {"a": {}}}, "--tasks.a.prompt", typed) == (sides, sides)


@pytest.mark.parametrize("option", ["--model.encoder", "--model"])
def test_a_model_given_for_a_section_is_told_its_key(option: str) -> None:
    """Its name is not that of a file with keys, whether a folder has it or not."""
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "tests"):
        with pytest.raises(ConfigError, match=rf"{option} is '{name}': give .*; did you mean '--model.encoder.name'"):
            _Parsed([option, name], config={}, run_dir=Path())


def test_null_removes_the_keys_of_a_task_that_come_before_it() -> None:
    def tasks(*arguments: str) -> Any:
        return plain(applied({"tasks": {"c": {}}}, from_arguments(list(arguments), run_keys()), run_keys())["tasks"])

    before = ("--tasks.a.prompt=x ", "--tasks.a.weight", "2", "--tasks.ab.weight", "3", "--tasks.a", "{}")
    for null in (("--tasks.a", "null"), ("--tasks.a=null",), ("--tasks.a", "~"), ("--tasks.a=",)):
        assert tasks(*before, *null) == {"c": {}, "ab": {"weight": "3"}}
    assert tasks("--tasks.c=null", "--tasks.c.weight=2") == {"c": {"weight": "2"}}, "defined again"
    whole = ("--tasks", '{a: {weight: 2}, b: {prompt: "x "}}')
    assert tasks(*whole, "--tasks.a", "null") == {"b": {"prompt": "x "}}
    for wrong in (("--tasks.cc", "null", *whole), (*whole, "--tasks.c", "null"), ("--tasks.c=~", "--tasks.c=~")):
        with pytest.raises(ConfigError, match=r"--tasks.cc? is null, but there is no such task to leave out"):
            tasks(*wrong)
    with pytest.raises(ConfigError, match=r"--tasks\.a has no value: give one"):
        tasks("--tasks.a")


def test_a_variable_below_a_free_name_says_how_it_is_set() -> None:
    for name, key in (("TASKS__SEARCH__PROMPT", "TASKS"), ("TRAINER__LOGGER__SAVE_DIR", "TRAINER__LOGGER")):
        with pytest.raises(ConfigError, match=rf"MTCL_SET_{name}: give all .* together, as MTCL_SET_{key}='"):
            from_environment({f"MTCL_SET_{name}": "x"}, "MTCL_SET", run_keys())
    for name in ("data__batch_size", "Tasks", "tasks__a__weight"):
        with pytest.raises(ConfigError, match=rf"MTCL_SET_{name}: (write it in capitals|give all that is below tasks)"):
            from_environment({f"MTCL_SET_{name}": "x"}, "MTCL_SET", run_keys())
    with pytest.raises(ConfigError, match="did you mean 'MTCL_SET_MODEL__OPTIMIZER__LR'"):
        from_environment({"MTCL_SET_MODEL__OPTIMIZER__LRR": "x"}, "MTCL_SET", run_keys())


def test_null_on_the_command_line_removes_a_task(
    tmp_path: Path, tiny_model: Path, demo_root: Path, mtcl_command: Run
) -> None:
    (tmp_path / "c.yaml").write_text("tasks: {search: {}, interest: {}, hashtag: {}}\ndata: {batch_size: 4}\n")
    run = ("fit", "--config", "c.yaml", "--data.root", str(demo_root), "--trainer.max_steps", "1")
    model = ("--model.encoder.name", str(tiny_model), "--data.max_length", "16", "--data.num_workers", "0")
    left_out = ("--tasks.interest", "null", "--tasks.hashtag=null")
    done = mtcl_command(*run, *model, "--no_base", "--run_dir", "run", *left_out)
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["tasks"]) == ["search"]
    wrong = mtcl_command(*run, *model, "--tasks.interests", "null")
    assert wrong.returncode == 2
    assert "--tasks.interests is null, but there is no such task to leave out; did you mean 'interest'" in wrong.stderr
