"""A checkpoint is data: whoever made it, no command that reads it imports, calls or configures what it says.

Attacks may start processes here as they would elsewhere: jsonargparse itself starts Python to look for type stubs.

python -m pytest tests/test_foreign_checkpoints.py
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtcl import ConfigError, MtclModule, TextEncoder
from mtcl.__main__ import main
from mtcl.configuration.from_checkpoint import own_class, plain_config
from mtcl.encoder.checkpoint import SavedRun
from mtcl.files import remember_root

Change = Callable[[dict[str, Any]], None]
Make = Callable[..., Path]


@pytest.fixture(scope="session")
def trained(tiny_model: Path, demo_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a checkpoint that `mtcl fit` wrote."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["--data.root", str(demo_root), "--data.cache", str(cache), "--run_dir", str(folder), "--no_base"]
    arguments += ["--model.encoder.name", str(tiny_model), "--tasks.search.weight", "1", "--data.batch_size", "8"]
    arguments += ["--data.num_workers", "0", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    assert main(["fit", *arguments, "--data.max_length", "16", "--trainer.enable_progress_bar", "false"]) == 0
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True))


@pytest.fixture
def make(trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Make:
    """Writes a run folder with the checkpoint, its configuration changed by the given function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))

    def write(change: Change = lambda _: None, *, content: Change = lambda _: None) -> Path:
        made = copy.deepcopy(trained)
        config = yaml.safe_load(made["mtcl"]["config"])
        change(config)
        made["mtcl"]["config"] = yaml.safe_dump(config)
        content(made)
        for name in ("best.ckpt", "last.ckpt"):
            path = tmp_path / "got" / "checkpoints" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(made, path)
        return tmp_path / "got"

    return write


def call(command: str) -> dict[str, Any]:
    """A class path whose call runs a shell command, as jsonargparse instantiates it for a callable."""
    return {"class_path": "subprocess.getoutput", "init_args": {"cmd": command}}


def lambda_callback(config: dict[str, Any], mark: Path) -> None:
    config["trainer"]["callbacks"] = [
        {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": call(f"touch {mark}")}}
    ]


def callback_of_a_module(config: dict[str, Any], mark: Path) -> None:
    Path("evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom lightning.pytorch import Callback as Evil\n")
    config["trainer"]["callbacks"] = {"class_path": "evil.Evil"}


def logger_of_a_module(config: dict[str, Any], mark: Path) -> None:
    Path("evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom lightning.pytorch.loggers import CSVLogger as Evil\n")
    config["trainer"]["logger"] = {"class_path": "evil.Evil", "init_args": {"save_dir": "."}}


def tasks_dir(config: dict[str, Any], mark: Path) -> None:
    Path("more_tasks").mkdir(exist_ok=True)
    Path("more_tasks", "a.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config["data"]["tasks_dir"] = "more_tasks"


def loss_of_a_module(config: dict[str, Any], mark: Path) -> None:
    Path("evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom mtcl.losses import InfoNCE as Evil\n")
    config["tasks"]["search"]["loss"] = {"class_path": "evil.Evil"}


def argument_of_a_loss(config: dict[str, Any], mark: Path) -> None:
    config["tasks"]["search"]["loss"] = {
        "class_path": "mtcl.losses.InfoNCE",
        "init_args": {"guide": call(f"touch {mark}")},
    }


def bare_name_inside_a_loss(config: dict[str, Any], mark: Path) -> None:
    Path("evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom mtcl.losses import InfoNCE as Evil\n")
    loss = {"class_path": "mtcl.losses.WeightedSum", "init_args": {"losses": ["evil.Evil"]}}
    config["tasks"]["search"]["loss"] = loss


def weighting_of_a_module(config: dict[str, Any], mark: Path) -> None:
    Path("evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom mtcl.weighting import Mean as Evil\n")
    config["model"]["weighting"] = {"class_path": "evil.Evil"}


def another_cache(config: dict[str, Any], mark: Path) -> None:
    config["data"]["cache"] = str(mark)


def another_folder(config: dict[str, Any], mark: Path) -> None:
    config["trainer"]["default_root_dir"] = str(mark)
    config["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": str(mark)}}


ATTACKS = [
    *(lambda_callback, callback_of_a_module, logger_of_a_module, tasks_dir, loss_of_a_module, argument_of_a_loss),
    *(bare_name_inside_a_loss, weighting_of_a_module, another_cache, another_folder),
]
COMMANDS = {
    "test": ["test", "--ckpt", "got"],
    "validate": ["validate", "--ckpt", "got"],
    "predict": ["predict", "--ckpt", "got"],
    "resume": ["fit", "--resume", "got", "--trainer.max_steps", "3"],
    "init_from": ["fit", "--init_from", "got", "--run_dir", "new", "--trainer.max_steps", "2"],
    "merge": ["merge", "got", "base", "--out", "merged"],
    "mine": ["mine", "search", "--ckpt", "got", "--out", "mined", "--ranks", "0", "20", "--data.root"],
    "compare": ["compare", "--config", "compare.yaml", "--out", "compared"],
}


def run(command: str, demo_root: Path, tiny_model: Path) -> int:
    arguments = [*COMMANDS[command], *([str(demo_root)] if command == "mine" else [])]
    if command == "compare":
        wanted = {"tasks": ["search"], "encoders": {"got": {"run": "got"}}, "root": str(demo_root)}
        Path("compare.yaml").write_text(yaml.safe_dump(wanted | {"tokenizer": str(tiny_model)}))
    return main(arguments)


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_nothing_of_it_runs(
    attack: Callable[[dict[str, Any], Path], None],
    command: str,
    make: Make,
    tmp_path: Path,
    demo_root: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    """The command does its work all the same, with what the user gives."""
    monkeypatch.syspath_prepend(str(tmp_path))
    remember_root(demo_root, cache=cache)
    mark = tmp_path / "mark"
    make(lambda config: attack(config, mark))
    code = run(command, demo_root, tiny_model)
    assert not mark.exists(), "a checkpoint ran code"
    assert code == 0


@pytest.mark.usefixtures("starts_processes")
@pytest.mark.parametrize("command", ["test", "predict", "resume", "init_from", "mine", "merge"])
def test_remote_code_needs_the_user_s_word(
    command: str, make: Make, demo_root: Path, tiny_model: Path, tmp_path: Path, cache: Path, capsys: Any
) -> None:
    """The base model's folder has code of its own, which the checkpoint asks to run."""
    remember_root(demo_root, cache=cache)
    model, mark = tmp_path / "model", tmp_path / "mark"
    model.mkdir()
    for path in tiny_model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    config = json.loads((model / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"}, "model_type": "evil"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig as EvilConfig\n")

    def change(config: dict[str, Any]) -> None:
        config["model"]["encoder"] |= {"name": str(model), "trust_remote_code": True}

    make(change)
    code = run(command, demo_root, tiny_model)
    assert not mark.exists(), "a checkpoint ran code of a model's repository"
    assert code == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("mtcl: ")]) == 1


def test_a_kernel_from_the_hub_is_not_fetched(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Transformers takes a repository's name for an attention, and runs what is in it."""

    def change(config: dict[str, Any]) -> None:
        config["model"]["encoder"]["attention"] = "stranger/attention"

    folder = make(change)
    with pytest.raises(ConfigError, match="asks for attention 'stranger/attention'"):
        TextEncoder.load(folder)
    with caplog.at_level(logging.WARNING, logger="mtcl"):
        logging.getLogger("mtcl").propagate = True
        assert "attention" not in plain_config(SavedRun.read(folder))["model"]["encoder"]
    assert "stranger/attention" in caplog.text


@pytest.mark.usefixtures("starts_processes")
def test_what_is_left_out_is_named_and_taken_on_the_user_s_word(
    make: Make, tmp_path: Path, demo_root: Path, cache: Path, capsys: Any
) -> None:
    """`--trust_checkpoint` is the user's word."""
    remember_root(demo_root, cache=cache)
    mark = tmp_path / "mark"

    def change(config: dict[str, Any]) -> None:
        lambda_callback(config, mark)
        config["data"]["tasks_dir"] = "."
        config["trainer"]["devices"] = 1

    make(change)
    assert main(["validate", "--ckpt", "got"]) == 0
    told = next(line for line in capsys.readouterr().err.splitlines() if "not taken from the checkpoint" in line)
    assert all(
        name in told for name in ("trainer.callbacks", "data.tasks_dir", "trainer.devices", "--trust_checkpoint")
    )
    assert not mark.exists()
    assert main(["validate", "--ckpt", "got", "--trust_checkpoint"]) == 0
    assert mark.exists()


def test_a_data_root_is_read_if_the_user_has_read_it_before(
    make: Make, tmp_path: Path, demo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MTCL_CACHE", str(tmp_path / "fresh"))
    monkeypatch.delenv("MTCL_DATA", raising=False)
    make()
    assert main(["validate", "--ckpt", "got", "--no_base"]) == 2
    told = capsys.readouterr().err
    assert f"data.root '{demo_root}'" in told
    assert "--data.root" in told
    remember_root(demo_root, cache=tmp_path / "fresh")
    assert main(["validate", "--ckpt", "got", "--no_base"]) == 0


def test_a_run_that_goes_on_compares_with_what_it_did_before(make: Make) -> None:
    """`--no_base` holds on --resume too; `mtcl test` compares with the base anyway."""
    saved = SavedRun.read(make(put("model", "evaluate_base", value=False)))
    assert plain_config(saved, resumes=True)["model"]["evaluate_base"] is False
    assert "evaluate_base" not in plain_config(saved)["model"]


def put(*names: str, value: Any) -> Change:
    def change(found: dict[str, Any]) -> None:
        for name in names[:-1]:
            found = found[name]
        found[names[-1]] = value

    return change


@pytest.mark.parametrize("command", ["test", "resume", "merge", "mine"])
@pytest.mark.parametrize(
    "change",
    [
        *(put(name, value=5) for name in ("tasks", "model", "data")),
        put("model", "encoder", value=[1]),
        put("model", "encoder", "dim", value="wide"),
        put("model", "encoder", "name", value=None),
        put("model", "encoder", "pooling", value="worst"),
        put("tasks", "search", value="all"),
        put("data", "max_length", value=-3),
    ],
)
def test_a_malformed_configuration_is_one_line_or_of_no_use(
    change: Change, command: str, make: Make, demo_root: Path, tiny_model: Path, cache: Path, capsys: Any
) -> None:
    remember_root(demo_root, cache=cache)
    make(change)
    code = run(command, demo_root, tiny_model)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mtcl: ")]
    assert (code, len(lines)) == (2, 1) or (command in ("merge", "mine") and (code, lines) == (0, []))


@pytest.mark.parametrize("command", ["test", "resume", "merge"])
@pytest.mark.parametrize(
    "change",
    [
        *(put("mtcl", value=value) for value in (None, "text", [])),
        *(put("mtcl", "config", value=value) for value in (None, 3, "- a list", "a: [unclosed")),
        *(put("mtcl", name, value=7) for name in ("facts", "base", "history", "trained_before", "tasks")),
        *(put(name, value=7) for name in ("state_dict", "global_step", "callbacks", "loops", "optimizer_states")),
        put("global_step", value="three"),
        put("state_dict", "encoder.backbone.embeddings.word_embeddings.weight", value=torch.zeros(3, 3)),
        put("state_dict", "encoder.backbone.embeddings.word_embeddings.weight", value="weights"),
        put("state_dict", 3, value=torch.zeros(3)),
        put("mtcl", "facts", "tasks", "search", value="text"),
        put("mtcl", "facts", "model.encoder", "pooling", value=[3]),
        put("MtclDataModule", value={"position": "here"}),
    ],
)
def test_malformed_contents_are_one_line_or_of_no_use(
    change: Change, command: str, make: Make, demo_root: Path, tiny_model: Path, cache: Path, capsys: Any
) -> None:
    """What a command does not read may be anything; what it reads is refused in one line."""
    remember_root(demo_root, cache=cache)
    make(content=change)
    code = run(command, demo_root, tiny_model)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mtcl: ")]
    assert (code, len(lines)) in ((2, 1), (0, 0))


def test_own_classes_only() -> None:
    from mtcl import losses

    info_nce = {"class_path": "mtcl.losses.InfoNCE", "init_args": {"temperature": 0.1}}
    matryoshka = {"class_path": "mtcl.losses.Matryoshka", "init_args": {"loss": info_nce, "dims": [8]}}
    assert own_class(matryoshka, losses) == matryoshka
    assert own_class("InfoNCE", losses) == {"class_path": "mtcl.losses.InfoNCE", "init_args": {}}
    assert own_class("mtcl.losses.info_nce.InfoNCE", losses) == own_class("mtcl.InfoNCE", losses)
    for path in ("os.system", "mtcl.losses.base.torch", "mtcl.losses.default_loss.x", "mtcl.lossesX.InfoNCE", "", "x"):
        assert own_class({"class_path": path}, losses) is None
    for inner in (call("id"), "evil.Evil", ["evil.Evil"], {"class_path": "evil.Evil"}, None, 3):
        for outer in ("Matryoshka", "SpreadOut", "WeightedSum"):
            arguments = {"losses" if outer == "WeightedSum" else "loss": inner}
            assert own_class({"class_path": f"mtcl.losses.{outer}", "init_args": arguments}, losses) is None
    both = {"class_path": "mtcl.losses.WeightedSum", "init_args": {"losses": [info_nce, matryoshka]}}
    assert own_class(both, losses) == both
    assert own_class({**info_nce, "dict_kwargs": {"a": 1}}, losses) is None


def test_a_checkpoint_of_version_0_1_loads(tiny_model: Path, demo_root: Path, tmp_path: Path) -> None:
    """Same vectors, tasks and prompts as then; its weights start a module."""
    here = Path(__file__).parent / "data"
    content = torch.load(here / "version_0_1.ckpt", weights_only=True)
    config = content["mtcl"]["config"].replace("TINY_MODEL", str(tiny_model)).replace("DEMO_ROOT", str(demo_root))
    content["mtcl"]["config"] = config
    torch.save(content, tmp_path / "old.ckpt")
    expected = json.loads((here / "version_0_1.json").read_text())
    encoder = TextEncoder.load(tmp_path / "old.ckpt", device="cpu")
    torch.testing.assert_close(encoder.encode(expected["texts"]), torch.tensor(expected["vectors"]))
    prompts = {name: prompt.plain() for name, prompt in encoder.prompts.items()}
    assert prompts == {"search": "query or post: ", "interest": ""}
    assert encoder.lengths == {"search": 32, "interest": 24}
    module = MtclModule.load_from_checkpoint(tmp_path / "old.ckpt", evaluate_base=False)
    assert module.run.trained_before == {"search", "interest"}
    assert torch.equal(
        module.state_dict()["encoder.projection.weight"], content["state_dict"]["encoder.projection.weight"]
    )
