"""Runs that train a part of the encoder: cached outputs, heads of tasks, adapters, another start, merging.

python -m pytest tests/test_tuning.py
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtcl import AveragingConfig, ConfigError, InfoNCE, MtclDataModule, MtclModule, TextEncoder
from mtcl.arrays import Ragged, offsets_of
from mtcl.encoder.backbone import digest_of
from mtcl.encoder.checkpoint import SavedRun
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.encoder import Encoder
from mtcl.evaluation import Pool
from mtcl.mining.miner import Miner
from mtcl.studies.compare.comparison import Key, Scores, add_scores
from mtcl.studies.compare.config import EncoderSpec
from mtcl.studies.compare.encoders import encoders_of
from mtcl.training.callbacks import Averaging
from mtcl.training.start import sample_of
from mtcl.weighting import GradientWeighting
from tests.conftest import Run, quiet_trainer
from tests.test_resume import losses, options

TEXTS = ["red dog", "a job as a bird", "query of the news", "cat"]
LORA = {"train": "lora", "lora": {"r": 2, "alpha": 6}}


@pytest.fixture(autouse=True)
def here(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTCL_CACHE", str(cache))


def data_of(root: Path, **given: Any) -> MtclDataModule:
    tasks: dict[str, Any] = {"search": {}, "interest": {}}
    fixed = {"tasks": tasks, "batch_size": 8, "max_length": 24, "num_workers": 0}
    return MtclDataModule(root=str(root), **fixed | given)


def module_of(model: Path, *, encoder: Any = None, **given: Any) -> MtclModule:
    torch.manual_seed(0)
    fixed = {"optimizer": {"lr": 0.01, "head_lr": 0.01, "decay": "constant"}, "evaluate_base": False}
    return MtclModule(encoder={"name": str(model), "tokens_per_chunk": 256} | (encoder or {}), **fixed | given)


def fit(module: MtclModule, data: MtclDataModule, *, steps: int = 3, **given: Any) -> Any:
    trainer = quiet_trainer(max_steps=steps, limit_val_batches=0, **given)
    trainer.fit(module, data)
    return trainer


def saved(trainer: Any, path: str = "run.ckpt") -> Path:
    trainer.save_checkpoint(path)
    return Path(path).absolute()


def state_of(module: MtclModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def vectors(encoder: Encoder) -> Tensor:
    lengths = np.array([3, 12, 7, 5])
    tokens = Ragged(offsets_of(lengths), np.random.default_rng(0).integers(5, 60, lengths.sum()))
    return encoder.embed(tokens, tokens_per_chunk=64)


# Freezing


def test_only_the_upper_layer_moves(tiny_model: Path, demo_root: Path) -> None:
    module = module_of(tiny_model, encoder={"freeze_layers": 1, "dim": 8})
    before = state_of(module)
    fit(module, data_of(demo_root))
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if "embeddings." in name or "layer.0." in name]
    layer = [name for name in before if "layer.1." in name and not name.endswith("key.bias")]
    assert len(layer) == 15
    assert set(layer) <= moved
    assert "encoder.projection.weight" in moved


@pytest.mark.parametrize(
    ("encoder", "line"),
    [
        ({}, "training 25,120 of 25,120 parameters (all layers)"),
        ({"freeze_layers": 1, "dim": 8}, "(the upper 1 of 2 layers, projection)"),
        ({"train": "lora", "dim": 8}, "(LoRA r 16 on 12 layers, projection)"),
        ({"train": "head", "dim": 8}, "training 264 of "),
    ],
)
def test_what_trains_is_said(
    tiny_model: Path, demo_root: Path, caplog: pytest.LogCaptureFixture, encoder: dict[str, Any], line: str
) -> None:
    module = module_of(tiny_model, encoder=encoder)
    if not encoder:
        count = f"{sum(p.numel() for p in module.parameters()):,}"
        line = f"training {count} of {count} parameters (all layers)"
    with caplog.at_level(logging.INFO, "mtcl"):
        fit(module, data_of(demo_root), steps=1)
    (said,) = [message for message in caplog.messages if message.startswith("training ")]
    assert line in said


@pytest.mark.parametrize(
    ("encoder", "optimizer", "lines"),
    [
        ({"dim": 8}, {"lr": 0.01, "head_lr": 0.01, "layer_decay": 0.9}, []),
        ({"train": "lora", "dim": 8}, {"lr": 0.01, "layer_decay": 0.9}, []),
        ({}, {"lr": 0.01}, []),
        ({}, {"head_lr": 0.01}, ["model.optimizer.head_lr is 0.01, but only the encoder's own weights train"]),
        ({"projection": "random"}, {}, ["model.encoder.projection is 'random', but dim is null"]),
        ({"train": "head", "dim": 8}, {"head_lr": 0.01}, []),
        (
            {"train": "head", "dim": 8},
            {"lr": 0.01, "layer_decay": 0.9},
            [
                "model.optimizer.layer_decay is 0.9, but the encoder's own weights do not train",
                "model.optimizer.lr is 0.01, but the encoder's own weights do not train",
            ],
        ),
    ],
)
def test_options_without_effect_are_named(
    tiny_model: Path,
    demo_root: Path,
    caplog: pytest.LogCaptureFixture,
    encoder: dict[str, Any],
    optimizer: dict[str, Any],
    lines: list[str],
) -> None:
    fit(module_of(tiny_model, encoder=encoder, optimizer=optimizer), data_of(demo_root), steps=1)
    found = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert [line.partition(":")[0] for line in found] == lines


def test_nothing_to_train(tiny_model: Path, demo_root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train is none, and nothing trains in task 'search': give tasks\.search\.head"
    ):
        fit(module_of(tiny_model, encoder={"train": "none", "dim": 8}), data_of(demo_root))
    with pytest.raises(ConfigError, match=r"freeze_layers is 2, which is every layer, .*: give at most 1$"):
        fit(module_of(tiny_model, encoder={"freeze_layers": 2}), data_of(demo_root))
    with pytest.raises(ConfigError, match=r"the encoder has no head: give model\.encoder\.dim or tasks\.NAME\.head"):
        fit(module_of(tiny_model, encoder={"train": "head"}), data_of(demo_root))


def test_gradients_of_nothing_shared(tiny_model: Path, demo_root: Path) -> None:
    pytest.importorskip("torchjd", reason="needs the extra `weighting`")
    data = data_of(demo_root, tasks={"search": {"head": 8}, "interest": {"head": 8}})
    for given in ({"weighting": GradientWeighting()}, {"gradient_cosines_every_n_steps": 1}):
        with pytest.raises(ConfigError, match="no parameter that the tasks share trains"):
            fit(module_of(tiny_model, encoder={"train": "head"}, **given), data)


def test_only_a_loss_trains(tiny_model: Path, demo_root: Path) -> None:
    tasks = {"search": {"loss": InfoNCE(learn_temperature=True)}}
    module = module_of(tiny_model, encoder={"train": "none", "dim": 8})
    data = data_of(demo_root, tasks=tasks)
    fit(module, data, steps=1)
    before = state_of(module)
    module = module_of(tiny_model, encoder={"train": "none", "dim": 8})
    fit(module, data_of(demo_root, tasks={"search": {"loss": InfoNCE(learn_temperature=True)}}), steps=3)
    moved = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert moved
    assert all(name.startswith("losses.") for name in moved)


# A head on cached outputs


def test_cached_outputs_train_as_the_frozen_backbone_does(
    tiny_model: Path, demo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cached in (True, False):
        module = module_of(tiny_model, encoder={"train": "head", "dim": 8})
        if not cached:
            monkeypatch.setattr(module.run_encoder, "pooled_file", lambda store: None)
        data = data_of(demo_root)
        before = digest_of(module.encoder.backbone)
        trainer = fit(module, data, steps=5)
        batch = trainer.train_dataloader.dataset[0]
        assert (batch.pooled_TH is not None) == cached
        assert bool(batch.texts.chunks) == (not cached)
        assert digest_of(module.encoder.backbone) == before
        found.append(state_of(module))
    start = found[0]["base_projection.weight"]
    assert float((found[0]["encoder.projection.weight"] - start).abs().max()) > 0.01
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=2e-5, rtol=1e-4, msg=name)


def test_the_cache_belongs_to_the_weights(
    tiny_model: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another backbone, pooling or precision another file; the same one is not computed again."""

    def files(*, is_changed: bool = False, encoder: Any = None, **given: Any) -> int:
        module = module_of(tiny_model, encoder={"train": "head", "dim": 8} | (encoder or {}))
        if is_changed:
            with torch.no_grad():
                next(module.encoder.backbone.parameters()).add_(0.1)
        data = data_of(demo_root, tasks={"search": {}}, cache=str(tmp_path / "cache"))
        fit(module, data, steps=1, **given)
        return len(list((tmp_path / "cache").glob("search-train-*/pooled-*.npy")))

    assert files() == 1
    with monkeypatch.context() as patched:
        patched.setattr("mtcl.encoder.vector_file._write", lambda *_: pytest.fail("computed again"))
        assert files(encoder={"dim": 4}) == 1
    assert files(encoder={"pooling": "cls"}) == 2
    assert files(is_changed=True) == 3
    assert files(precision="bf16-mixed") == 4


def test_validation_reads_the_cache_too(tiny_model: Path, demo_root: Path) -> None:
    module, data = module_of(tiny_model, encoder={"train": "head", "dim": 8}), data_of(demo_root)
    trainer = quiet_trainer(max_steps=2, val_check_interval=2)
    trainer.fit(module, data)
    cached = dict(module.run.history[2])
    assert list(data.store("search", "validation").folder.glob("pooled-*.npy"))
    trainer.validate(module, data, verbose=False)
    assert {name: r.primary for name, r in module.results.items()} == pytest.approx(cached, abs=1e-6)


def test_views_by_dropout_need_dropout(tiny_model: Path, demo_root: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "twice.py").write_text(
        "from mtcl import *\n\nclass Twice(Task):\n"
        '    """A text."""\n    name = "twice"\n    data = Files("interest")\n    pairs = Augmented()\n'
        '    metric = MRR()\n    sample = [{"text": "a"}]\n'
    )
    module = module_of(tiny_model, encoder={"train": "head", "dim": 8})
    with pytest.raises(ConfigError, match="'twice' pairs a text with itself under two dropout masks"):
        fit(module, data_of(demo_root, tasks={"twice": {}}))


# Heads of tasks


def test_a_head_starts_as_pca_and_trains(tiny_model: Path, demo_root: Path) -> None:
    tasks: dict[str, Any] = {"search": {"head": 6}, "interest": {}}
    module, data = module_of(tiny_model), data_of(demo_root, tasks=tasks)
    fit(module, data)
    origin, head = module.base_heads["search"], module.heads["search"]
    vectors_TD = module.model.base.encoder(torch.device("cpu")).embed(
        sample_of(data, 8192, ["search"]), tokens_per_chunk=256
    )
    with torch.no_grad():
        rows_TE = origin(vectors_TD)
    assert float(rows_TE.mean(dim=0).abs().max()) < 1e-5
    covariance_EE = torch.cov(rows_TE.T)
    assert float((covariance_EE - covariance_EE.diag().diag()).abs().max()) < 1e-5
    assert covariance_EE.diag().tolist() == sorted(covariance_EE.diag().tolist(), reverse=True)
    assert not torch.equal(head.weight, origin.weight)
    assert list(module.heads) == ["search"]


def test_a_head_is_for_its_task_only(tiny_model: Path, demo_root: Path, cache: Path) -> None:
    """Loss, evaluation, prediction, `TextEncoder` and `load_from_checkpoint`; the base is compared without it."""
    tasks: dict[str, Any] = {"search": {"head": 6}, "interest": {}}
    module, data = module_of(tiny_model, eval_dims=[4, 10]), data_of(demo_root, tasks=tasks)
    seen: dict[str, int] = {}
    observe = module.metric_log.observe
    trainer = quiet_trainer(max_steps=3, val_check_interval=3)
    module.choose_tasks(data.task_configs, data.roles.kinds)
    for name in tasks:
        module.losses[name].register_forward_hook(
            lambda m, given, found, name=name: seen.update({name: given[0].anchors.local.vectors_ND.shape[1]})
        )
    assert observe is not None
    trainer.fit(module, data)
    assert seen == {"search": 6, "interest": 32}
    evaluated = {name: set(result.metrics) for name, result in module.results.items()}
    assert "ndcg@10_dim4" in evaluated["search"]
    assert "ndcg@10_dim10" not in evaluated["search"]
    assert "mrr_dim10" in evaluated["interest"]
    path = saved(trainer)
    encoder = TextEncoder.load(path, device="cpu")
    with torch.no_grad():
        shared_TD = encoder.encode(TEXTS)
        expected_TE = torch.nn.functional.normalize(module.heads["search"](shared_TD), dim=1)
    assert shared_TD.shape == (4, 32)
    torch.testing.assert_close(encoder.encode(TEXTS, task="search"), expected_TE)
    assert torch.equal(encoder.encode(TEXTS, task="interest"), shared_TD)
    assert encoder.encode(TEXTS, task="search", dim=3).shape == (4, 3)
    assert encoder.encode([], task="search").shape == (0, 6)
    with pytest.raises(ConfigError, match="dim is 7: give 1 to 6, the dimensions of the head of search"):
        encoder.encode(TEXTS, task="search", dim=7)
    for odd in (True, "3", 3.0):
        with pytest.raises(ConfigError, match=f"dim is {odd!r}: give 1 to 6"):
            encoder.encode(TEXTS, task="search", dim=odd)  # type: ignore[arg-type]
    (found, _) = trainer.predict(module, data)
    torch.testing.assert_close(
        found, encoder.embed(data.store("search", "test").tokens, task="search"), atol=1e-5, rtol=0
    )
    trainer.test(module, data, verbose=False)
    with_head = module.results["search"]
    with module.evaluation.of_base():
        trainer.test(module, data, verbose=False)
    base = module.results["search"]
    bare = module_of(tiny_model)
    trainer.test(bare, data_of(demo_root), verbose=False)
    assert base.metrics["mean_cosine"] == pytest.approx(bare.results["search"].metrics["mean_cosine"])
    assert with_head.metrics["mean_cosine"] != pytest.approx(base.metrics["mean_cosine"])
    miner = Miner(data.tasks["search"], demo_root, encoder)
    assert miner.embeddings.dim == 6
    specs = EncoderSpec(run=str(path))
    pools = [Pool("search", data.store("search", "test"), data.tasks["search"].metric)]
    scores: dict[Key, Scores] = {}
    (embed,) = encoders_of("run", specs, cache, "32-true")
    add_scores("run", specs, embed, [data.tasks["search"]], pools, (), scores)
    assert set(scores) == {("run", 6)}
    again = MtclModule.load_from_checkpoint(path)
    trainer.test(again, data_of(demo_root, tasks=tasks), verbose=False)
    assert again.results["search"].metrics["mrr"] == with_head.metrics["mrr"]


def test_the_base_is_evaluated_without_heads(tiny_model: Path, demo_root: Path) -> None:
    figures = []
    for head in (None, 2):
        module = module_of(tiny_model, evaluate_base=True)
        data = data_of(demo_root, tasks={"search": {"head": head}, "interest": {}})
        quiet_trainer(max_steps=1, val_check_interval=1).fit(module, data)
        figures.append(dict(module.run.base_figures))
    assert figures[0] == figures[1]


def test_heads_on_cached_outputs_without_a_projection(tiny_model: Path, demo_root: Path) -> None:
    module = module_of(tiny_model, encoder={"train": "head"})
    before = digest_of(module.encoder)
    with pytest.raises(ConfigError, match=r"nothing trains in task 'interest': give tasks\.interest\.head"):
        fit(module, data_of(demo_root, tasks={"search": {"head": 6}, "interest": {}}))
    module = module_of(tiny_model, encoder={"train": "head"})
    fit(module, data_of(demo_root, tasks={"search": {"head": 6}, "interest": {"head": 4}}))
    assert not torch.equal(module.heads["search"].weight, module.base_heads["search"].weight)
    assert digest_of(module.encoder) == before


def test_heads_that_do_not_fit(tiny_model: Path, demo_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.search\.head is 40, more than the encoder's 32"):
        fit(module_of(tiny_model), data_of(demo_root, tasks={"search": {"head": 40}}))
    with pytest.raises(ConfigError, match="a task's head is 0"):
        data_of(demo_root, tasks={"search": {"head": 0}})
    module = module_of(tiny_model)
    fit(module, data_of(demo_root, tasks={"search": {"head": 6}}), steps=1)
    with pytest.raises(ConfigError, match="the module has another head for 'search'"):
        fit(module, data_of(demo_root, tasks={"search": {"head": 7}}), steps=1)


# Adapters


def lora_run(model: Path, root: Path, *, steps: int = 4, **encoder: Any) -> tuple[MtclModule, Path]:
    module = module_of(model, encoder=LORA | {"dim": 8} | encoder)
    trainer = fit(module, data_of(root), steps=steps)
    return module, saved(trainer)


def test_a_lora_checkpoint_is_read_back_exactly(tiny_model: Path, demo_root: Path) -> None:
    module, path = lora_run(tiny_model, demo_root)
    names = set(torch.load(path, weights_only=True)["state_dict"])
    assert {"encoder.projection.weight", "encoder.projection.bias"} <= names
    assert len([name for name in names if ".lora_" in name]) == 24
    again = MtclModule.load_from_checkpoint(path)
    assert again.encoder_config.adapter == module.encoder_config.adapter
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    plain = TextEncoder.load(path, device="cpu")
    assert not [name for name, _ in plain.model.named_parameters() if "lora" in name or "base_layer" in name]
    torch.testing.assert_close(vectors(plain.model), vectors(module.encoder), atol=1e-6, rtol=0)
    base = module.model.base.encoder(torch.device("cpu"))
    assert float((vectors(base) - vectors(module.encoder)).abs().max()) > 1e-3
    assert digest_of(base.backbone) == module.model.base.weights == SavedRun.read(path).record.base_weights


def test_adapters_and_head_move_and_the_base_does_not(tiny_model: Path, demo_root: Path) -> None:
    module = module_of(tiny_model, encoder=LORA | {"dim": 8})
    before = state_of(module)
    fit(module, data_of(demo_root), steps=4)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".lora_" in name or "projection." in name}


def test_starts_from_and_to_adapters(tiny_model: Path, demo_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each start has the vectors of the checkpoint."""
    trained, lora = lora_run(tiny_model, demo_root)
    joint_module = module_of(tiny_model, encoder={"dim": 8})
    joint = saved(fit(joint_module, data_of(demo_root)), "joint.ckpt")
    expected = {lora: vectors(trained.encoder), joint: vectors(joint_module.encoder)}
    again = {"train": "lora", "lora": {"r": 3, "alpha": 6}}
    for start, encoder in (
        (joint, LORA),
        (joint, {"train": "head"}),
        (joint, {"freeze_layers": 1}),
        (joint, {"train": "head", "frozen_dtype": "bfloat16"}),
        (lora, {}),
        (lora, LORA),
        (lora, again),
        (lora, {"train": "lora", "lora": {"r": 2, "alpha": 3}}),
        (lora, {"train": "head"}),
        (lora, {"freeze_layers": 1}),
    ):
        module = module_of(tiny_model, encoder={"dim": 8} | encoder)
        module.start_from(SavedRun.read(start))
        tolerance = 0.05 if "frozen_dtype" in encoder else 1e-6
        torch.testing.assert_close(vectors(module.encoder), expected[start], atol=tolerance, rtol=0)
        assert module.model.base.weights == trained.model.base.weights
        fit(module, data_of(demo_root), steps=2)
        assert float((vectors(module.encoder) - expected[start]).abs().max()) > 1e-4


@pytest.mark.parametrize("broken", ["alone", "size", "plain"])
def test_adapters_that_are_damaged(tiny_model: Path, demo_root: Path, broken: str) -> None:
    _, path = lora_run(tiny_model, demo_root, steps=1)
    content = torch.load(path, weights_only=True)
    state = content["state_dict"]
    (name, *_) = [name for name in state if name.endswith("lora_B.default.weight")]
    if broken == "alone":
        del state[name]
    elif broken == "size":
        state[name] = state[name][1:]
    else:
        content["mtcl"]["config"] = (
            content["mtcl"]["config"].replace("train: lora", "train: all").replace("lora:", "x:")
        )
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"malformed: (the adapter of|model\.encoder\.train is all)"):
        TextEncoder.load(path)


@pytest.mark.parametrize("encoder", [LORA, {"freeze_layers": 1}])
def test_activation_checkpointing_has_the_same_gradients(
    tiny_model: Path, demo_root: Path, encoder: dict[str, Any]
) -> None:
    found = []
    for recompute in (False, True):
        module = module_of(tiny_model, encoder={"dim": 8, "dropout": 0.0} | encoder, activation_checkpointing=recompute)
        fit(module, data_of(demo_root))
        found.append(state_of(module))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_an_average_of_adapters(tiny_model: Path, demo_root: Path) -> None:
    module = module_of(tiny_model, encoder=LORA | {"frozen_dtype": "bfloat16", "dim": 8})
    before = state_of(module)
    fit(module, data_of(demo_root), callbacks=[Averaging(AveragingConfig(decay=0.5))])
    for name, value in module.state_dict().items():
        is_trained = ".lora_" in name or "projection." in name
        assert torch.equal(value, before[name]) != is_trained, name
        assert value.dtype == before[name].dtype


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("train", ["lora", "head"])
def test_a_run_on_a_base_in_bfloat16(tiny_model: Path, demo_root: Path, precision: str, train: str) -> None:
    module = module_of(tiny_model, encoder={"train": train, "dim": 8, "frozen_dtype": "bfloat16"})
    before = state_of(module)
    trainer = quiet_trainer(max_steps=2, val_check_interval=2, precision=precision)
    trainer.fit(module, data_of(demo_root))
    assert module.encoder.projection is not None
    assert module.encoder.projection.weight.dtype == torch.float32
    for name, value in module.state_dict().items():
        if "backbone" in name and "lora_" not in name:
            assert torch.equal(value, before[name])
            assert value.dtype in (torch.bfloat16, torch.int64)
    plain = TextEncoder.load(saved(trainer), device="cpu")
    assert {p.dtype for p in plain.model.parameters()} == {torch.float32}
    assert float((vectors(plain.model) - vectors(module.encoder)).abs().max()) < 0.05


# A projection of another size


@pytest.mark.parametrize("dim", [8, None])
def test_a_new_projection_on_a_start(
    tiny_model: Path, demo_root: Path, caplog: pytest.LogCaptureFixture, dim: int | None
) -> None:
    first = module_of(tiny_model, encoder={"dim": dim})
    path = saved(fit(first, data_of(demo_root)))
    module, data = module_of(tiny_model, encoder={"dim": 5}, optimizer={"lr": 0.0, "head_lr": 0.0}), data_of(demo_root)
    module.start_from(SavedRun.read(path))
    with caplog.at_level(logging.INFO, "mtcl"):
        trainer = fit(module, data, steps=1)
    assert any("model.encoder.dim is 5, another than the checkpoint's" in message for message in caplog.messages)
    expected = MtclModule.load_from_checkpoint(path).encoder
    assert digest_of(module.encoder.backbone) == digest_of(expected.backbone)
    for encoder, projection in (
        (expected, module.encoder.projection),
        (module.model.base.encoder(torch.device("cpu")), module.base_projection),
    ):
        fresh = Encoder(encoder.backbone, pooling="mean", dim=5)
        fresh.first_position = encoder.first_position
        fresh.init_projection_pca(fresh.without_projection().embed(sample_of(data, 8192), tokens_per_chunk=256))
        torch.testing.assert_close(projection.weight, fresh.projection.weight, atol=1e-5, rtol=1e-4)
    again = MtclModule.load_from_checkpoint(saved(trainer, "again.ckpt"))
    assert torch.equal(again.base_projection.weight, module.base_projection.weight)


def test_a_projection_cannot_be_left_out(tiny_model: Path, demo_root: Path) -> None:
    path = saved(fit(module_of(tiny_model, encoder={"dim": 8}), data_of(demo_root), steps=1))
    with pytest.raises(ConfigError, match=r"the checkpoint has model\.encoder\.dim 8, the configuration None: give 8"):
        module_of(tiny_model).start_from(SavedRun.read(path))


def test_a_head_that_is_left_out_is_named(tiny_model: Path, demo_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(fit(module_of(tiny_model), data_of(demo_root, tasks={"search": {"head": 6}}), steps=1))
    quiet_trainer().validate(MtclModule.load_from_checkpoint(path), data_of(demo_root), verbose=False)
    assert "has a head for task 'search', which is left out: give tasks.search.head 6 to use it" in caplog.text
    content = torch.load(path, weights_only=True)
    content["state_dict"]["heads.search.weight"] = torch.ones(6, 5)
    torch.save(content, path)
    with pytest.raises(ConfigError, match="the head of task 'search' does not fit the encoder's 32 dimensions"):
        TextEncoder.load(path)


def test_a_head_of_another_size_starts_again(tiny_model: Path, demo_root: Path) -> None:
    path = saved(fit(module_of(tiny_model), data_of(demo_root, tasks={"search": {"head": 6}}), steps=2))
    for head, is_taken in ((6, True), (5, False)):
        module = module_of(tiny_model, optimizer={"lr": 0.0, "head_lr": 0.0})
        module.start_from(SavedRun.read(path))
        fit(module, data_of(demo_root, tasks={"search": {"head": head}}), steps=1)
        assert (module.start.new_heads == []) == is_taken
        if is_taken:
            assert torch.equal(module.heads["search"].weight, SavedRun.read(path).state["heads.search.weight"])
        else:
            assert float(module.heads["search"].weight.norm(dim=1).sub(1).abs().max()) < 1e-4, "components of a PCA"


# Commands


def short(**changed: object) -> dict[str, object]:
    steps = {"trainer.max_steps": 6, "trainer.val_check_interval": 3, "checkpoint_every_n_steps": 3}
    return {**steps, "data.num_workers": 0, "data.tasks_per_step": 3, **changed}


LORA_KEYS = {"model.encoder.train": "lora", "model.encoder.lora.r": 2, "model.encoder.dim": 8, "tasks.search.head": 4}


def test_commands_take_a_lora_run(tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run) -> None:
    """fit, resume, test, predict, mine, init_from and merge."""
    done = mtcl_command("fit", *options(tiny_model, demo_root, "a", **short(**LORA_KEYS)))
    assert done.returncode == 0, done.stderr
    assert "parameters (LoRA r 2 on 12 layers, projection, 1 task head)" in done.stderr
    root = ["--data.root", str(demo_root)]
    for command in (
        ["test", "--ckpt", "runs/a", "--run_dir", "tested"],
        ["predict", "--ckpt", "runs/a", "--run_dir", "predicted"],
        ["mine", "search", "--ckpt", "runs/a", "--out", "mined", "--ranks", "0", "20"],
        ["fit", "--init_from", "runs/a", "--run_dir", "runs/next", "--trainer.max_steps", "3"],
        [
            *("fit", "--init_from", "runs/a", "--run_dir", "runs/all", "--trainer.max_steps", "1"),
            *("--model.encoder.train", "all", "--model.encoder.lora", "null", "--model.encoder.dim", "5"),
            *("--tasks.search.head", "3", "--trainer.val_check_interval", "1"),
        ],
    ):
        done = mtcl_command(*command, *root)
        assert done.returncode == 0, (command, done.stderr)
    done = mtcl_command("fit", *options(tiny_model, demo_root, "b", **short(**LORA_KEYS, **{"seed_everything": 1})))
    (tmp_path / "runs" / "a").rename(tmp_path / "a")
    done = mtcl_command("merge", "a", "base", "--out", "soup")
    assert done.returncode == 0, done.stderr
    run, soup = SavedRun.read(tmp_path / "a"), SavedRun.read(tmp_path / "soup")
    assert (soup.encoder_config.train, soup.encoder_config.lora, soup.has_adapters) == ("all", None, False)
    trained, base, mean = run.plain_state, MtclModule(run.encoder_config.plain()).state_dict(), soup.state
    for name in mean:
        if name.startswith("encoder.backbone."):
            torch.testing.assert_close(mean[name], (trained[name] + base[name]) / 2, msg=name)
    assert any(not torch.equal(trained[name], base[name]) for name in base if "query.weight" in name)
    assert "heads.search.weight" in mean
    for command in (
        ["test", "--ckpt", "soup", "--run_dir", "tested_soup", *root],
        ["fit", "--init_from", "soup", "--run_dir", "runs/c", "--trainer.max_steps", "3", *root],
    ):
        done = mtcl_command(*command)
        assert done.returncode == 0, (command, done.stderr)


def test_merging_two_lora_runs_is_the_mean_of_their_weights(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run
) -> None:
    common = {**short(**LORA_KEYS), "tasks.search.head": "null", "model.encoder.lora.r": 2}
    del common["model.encoder.dim"]
    for name, seed in (("a", 1), ("b", 2)):
        done = mtcl_command("fit", *options(tiny_model, demo_root, name, **common, seed_everything=seed))
        assert done.returncode == 0, done.stderr
    done = mtcl_command("merge", "runs/a", "runs/b", "--out", "soup")
    assert done.returncode == 0, done.stderr
    one, other, soup = (SavedRun.read(tmp_path / name) for name in ("runs/a", "runs/b", "soup"))
    for name, value in soup.state.items():
        torch.testing.assert_close(value, (one.plain_state[name] + other.plain_state[name]) / 2, msg=name)
    assert soup.record.base_weights == one.record.base_weights


@pytest.mark.parametrize("kind", ["lora", "head", "freeze"])
def test_a_resumed_run_is_the_same(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_command: Run, kind: str
) -> None:
    parts: dict[str, dict[str, object]] = {
        "lora": LORA_KEYS,
        "head": {"model.encoder.train": "head", "model.encoder.dim": 8, "tasks.interest.head": 4},
        "freeze": {"model.encoder.freeze_layers": 1, "model.optimizer.layer_decay": 0.5},
    }
    whole = options(tiny_model, demo_root, "whole", **short(**parts[kind]))
    assert mtcl_command("fit", *whole).returncode == 0
    half = options(tiny_model, demo_root, "half", **short(**parts[kind], **{"trainer.limit_train_batches": 3}))
    done = mtcl_command("fit", *half)
    assert done.returncode == 0, done.stderr
    resume = ["fit", "--resume", "runs/half"]
    done = mtcl_command(*resume, *whole[2:], "--trainer.limit_train_batches", "1.0")
    assert done.returncode == 0, done.stderr
    one, other = (SavedRun.read(tmp_path / "runs" / name, "last.ckpt") for name in ("whole", "half"))
    assert (one.step, other.step) == (6, 6)
    for name, value in one.state.items():
        assert torch.equal(other.state[name], value), name
    assert losses(tmp_path / "runs" / "whole")


def test_another_way_to_train_is_not_resumed(tiny_model: Path, demo_root: Path, mtcl_command: Run) -> None:
    common = {**short(), "model.encoder.dim": 8}
    assert mtcl_command("fit", *options(tiny_model, demo_root, "run", **common)).returncode == 0
    for changed, message in (
        ({"model.encoder.train": "head"}, "model.encoder.train is all in the checkpoint and head now"),
        ({"model.encoder.train": "lora"}, "model.encoder.train is all in the checkpoint and lora now"),
        ({"model.encoder.freeze_layers": 1}, "model.encoder.freeze_layers is 0 in the checkpoint and 1 now"),
        ({"model.optimizer.layer_decay": 0.5}, "model.optimizer.layer_decay is 0.5, but the run began with 1"),
        ({"tasks.search.head": 4}, "heads.search.weight is absent in the checkpoint and (4, 8) now"),
    ):
        more = options(tiny_model, demo_root, "run", **{**common, **changed, "trainer.max_steps": 9})
        done = mtcl_command("fit", "--resume", "runs/run", *more[2:], "--allow_changes")
        assert done.returncode == 2
        assert message in done.stderr, done.stderr


def test_another_scale_is_resumed_only_if_allowed(tiny_model: Path, demo_root: Path, mtcl_command: Run) -> None:
    common = short(**{"model.encoder.train": "lora"})
    assert mtcl_command("fit", *options(tiny_model, demo_root, "run", **common)).returncode == 0
    more = options(tiny_model, demo_root, "run", **{**common, "model.encoder.lora.alpha": 8, "trainer.max_steps": 7})
    done = mtcl_command("fit", "--resume", "runs/run", *more[2:])
    assert "model.encoder.lora.alpha: 32" in done.stderr
    assert "give --allow_changes" in done.stderr
    assert mtcl_command("fit", "--resume", "runs/run", *more[2:], "--allow_changes").returncode == 0
    done = mtcl_command(*("fit", "--resume", "runs/run", *more[2:], "--allow_changes", "--model.encoder.lora.r", "4"))
    assert "in the checkpoint and (4, " in done.stderr


def test_runs_of_different_heads_are_not_merged(tiny_model: Path, demo_root: Path, mtcl_command: Run) -> None:
    for name, head in (("a", 4), ("b", 5)):
        given = short(**{"tasks.search.head": head, "trainer.max_steps": 3})
        assert mtcl_command("fit", *options(tiny_model, demo_root, name, **given)).returncode == 0
    done = mtcl_command("merge", "runs/a", "runs/b", "--out", "soup")
    assert done.returncode == 2
    assert "heads of 'runs/a' and 'runs/b' started differently" in done.stderr


RANKS = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"}


@pytest.mark.parametrize("kind", [pytest.param("lora", marks=pytest.mark.nightly), "head"])
def test_two_ranks_equal_one(
    tiny_model: Path, demo_root: Path, tmp_path: Path, mtcl_process: Run, mtcl_command: Run, kind: str
) -> None:
    parts: dict[str, object] = {"model.encoder.train": kind, "model.encoder.dim": 8, "tasks.search.head": 4}
    common = short(**parts, **{"model.encoder.dropout": 0.0, "data.tasks_per_step": 2})
    for run, name, changed in ((mtcl_command, "one", {}), (mtcl_process, "two", RANKS)):
        done = run("fit", *options(tiny_model, demo_root, name, **{**common, **changed}))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(" parameters (") == 1
    one, two = (SavedRun.read(tmp_path / "runs" / name, "last.ckpt").state for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=5e-5, rtol=1e-3, msg=name)


def test_facts_of_a_plain_run_are_those_of_earlier_versions() -> None:
    assert EncoderConfig().tuning == {}
    assert EncoderConfig(freeze_layers=2).tuning == {"freeze_layers": 2}
    assert EncoderConfig(train="lora").tuning["lora"] == {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": None}


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_backbone_with_adapters(tiny_model: Path, demo_root: Path, starts_processes: None) -> None:
    module = module_of(tiny_model, encoder=LORA | {"dim": 8, "compile": True, "dropout": 0.0})
    plain = module_of(tiny_model, encoder=LORA | {"dim": 8, "dropout": 0.0})
    for one in (module, plain):
        fit(one, data_of(demo_root), steps=2)
    assert set(module.state_dict()) == set(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, atol=2e-3, rtol=1e-2, msg=name)
