"""Weightings: one convention of scale, the effect of each method, gradients of tasks.

python -m pytest tests/test_weighting.py
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtcl import MtclDataModule, MtclModule
from mtcl.data.plan import Plan, PlanTask
from mtcl.errors import ConfigError
from mtcl.task.kind import Kind
from mtcl.training.task_config import TaskConfig
from mtcl.weighting import GradientWeighting, Mean, Uncertainty, Weighting, gradient_cosines, gramian, gramian_of
from mtcl.weighting.gramian import CLASSES, Method
from tests.conftest import quiet_trainer

TASKS = ["jobs", "news", "search"]
SHARES = dict.fromkeys(TASKS, 1 / 3)
ALL: dict[str, Callable[[], Weighting]] = {
    "mean": Mean,
    "uncertainty": Uncertainty,
    **{method: lambda m=method: GradientWeighting(m) for method in CLASSES},  # type: ignore[misc]
}


def needs(name: str) -> None:
    if name in CLASSES:
        pytest.importorskip("torchjd", reason="extra `weighting` is not installed")


def problem() -> tuple[list[nn.Parameter], Callable[[], dict[str, Tensor]]]:
    """Three tasks pulling one parameter vector to goals of their own."""
    generator = torch.Generator().manual_seed(0)
    shared, goals = nn.Parameter(torch.zeros(5)), torch.randn(3, 5, generator=generator)
    return [shared], lambda: {t: (shared - goal).square().sum() / 3 for t, goal in zip(TASKS, goals, strict=True)}


def made(name: str) -> Weighting:
    weighting = ALL[name]()
    weighting.start(TASKS)
    return weighting


@pytest.mark.parametrize("name", ALL)
def test_equal_tasks_give_the_mean(name: str) -> None:
    """One convention: where tasks agree, every method's gradient is that of the mean."""
    needs(name)
    shared = nn.Parameter(torch.zeros(4))
    losses = {task: (shared - 1).square().sum() / 3 for task in TASKS}
    (found,) = torch.autograd.grad(made(name)(losses, [shared], SHARES), [shared])
    torch.testing.assert_close(found, torch.full((4,), -2.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_training_goes_down(name: str) -> None:
    needs(name)
    shared, losses = problem()
    weighting, start = made(name), float(sum(losses().values()).detach())
    optimizer = torch.optim.SGD([*shared, *weighting.parameters()], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        weighting(losses(), shared, SHARES).backward()
        optimizer.step()
    assert float(sum(losses().values()).detach()) < start


@pytest.mark.parametrize("method", CLASSES)
def test_weights_are_those_of_torchjd_scaled_to_a_mean_of_one(method: Any) -> None:
    needs(method)
    shared, losses = problem()
    weighting = made(method)
    assert isinstance(weighting, GradientWeighting)
    torch.manual_seed(0)
    weighting(losses(), shared, SHARES)
    torch.manual_seed(0)  # PCGrad draws an order
    expected = weighting.rule(gramian_of(losses(), shared))
    torch.testing.assert_close(weighting.weights_K, expected / expected.mean())


def test_upgrad_harms_no_task() -> None:
    """Of two nearly opposite gradients the mean goes against the smaller; UPGrad's direction lowers both losses."""
    needs("upgrad")
    shared = nn.Parameter(torch.zeros(2))
    goals = {"jobs": torch.tensor([4.0, 1.0]), "news": torch.tensor([-1.0, 1.0])}
    losses = {task: (shared - goal).square().sum() / 2 for task, goal in goals.items()}
    own = {task: torch.autograd.grad(loss, [shared], retain_graph=True)[0] for task, loss in losses.items()}
    weighting = GradientWeighting("upgrad")
    weighting.start(list(goals))
    (step,) = torch.autograd.grad(weighting(losses, [shared], SHARES), [shared])
    assert all(float(step @ gradient) > -1e-5 for gradient in own.values())
    assert float(sum(own.values()) @ own["news"]) < 0


def test_weights_stay_between_computations() -> None:
    needs("pcgrad")
    shared, losses = problem()
    weighting = GradientWeighting("mgda", every_n_steps=2)
    weighting.start(TASKS)
    weighting(losses(), shared, SHARES)
    kept = weighting.weights_K.clone()
    with torch.no_grad():
        shared[0].add_(1.0)
    weighting(losses(), shared, SHARES)
    assert torch.equal(weighting.weights_K, kept)
    weighting(losses(), shared, SHARES)
    assert not torch.equal(weighting.weights_K, kept)
    assert set(weighting.state_dict()) == {"weights_K", "ages_K"}


class Counted:
    """Steps of a weighting whose tasks each pull their own coordinate; `computed` has the tasks of each Gramian."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tasks: str, every_n_steps: int) -> None:
        self.computed: list[str] = []
        self.weighting, self.tasks = GradientWeighting("mgda", every_n_steps), tasks
        self.weighting.start(list(tasks))
        self.shared = nn.Parameter(torch.zeros(len(tasks)))

        def counted(losses: dict[str, Tensor], shared: list[nn.Parameter]) -> Tensor:
            self.computed.append("".join(losses))
            return gramian_of(losses, shared)

        monkeypatch.setattr(gramian, "gramian_of", counted)

    def step(self, tasks: str) -> None:
        goals = {task: torch.eye(len(self.tasks))[self.tasks.index(task)] for task in tasks}
        losses = {t: (n + 1) * (self.shared - goal).square().sum() for n, (t, goal) in enumerate(goals.items())}
        self.weighting(losses, [self.shared], dict.fromkeys(tasks, 1 / len(tasks)))


def test_each_task_has_its_turn_in_a_periodic_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four equal tasks, two per step: the plan repeats `ab, cd`, and every fourth step would be `ab`."""
    needs("mgda")
    plan = Plan(tuple(PlanTask(name, 1000, 8) for name in "abcd"), tasks_per_step=2)
    counted = Counted(monkeypatch, "abcd", 4)
    for step in range(40):
        counted.step("".join("abcd"[draw.task] for draw in plan.draws(step)))
    assert {*counted.computed} == {"ab", "cd"}
    assert len(counted.computed) == 20  # each of the two every fourth step
    assert (counted.weighting.weights_K != 1).all()


def test_a_step_with_one_task_does_not_use_up_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mgda")
    counted = Counted(monkeypatch, "ab", 3)
    for tasks in ("a", "b", "ab", "ab", "ab", "b", "a", "ab", "ab"):
        counted.step(tasks)
    assert counted.computed == ["ab", "ab"]


def test_turns_are_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mgda")
    steps = ("ab", "bc", "c", "ab", "ab", "ca", "ab", "b", "bc", "ca")
    whole = Counted(monkeypatch, "abc", 3)
    for tasks in steps:
        whole.step(tasks)
    first = Counted(monkeypatch, "abc", 3)
    for tasks in steps[:4]:
        first.step(tasks)
    second = Counted(monkeypatch, "abc", 3)
    second.weighting.load_state_dict(first.weighting.state_dict())
    for tasks in steps[4:]:
        second.step(tasks)
    assert first.computed + second.computed == whole.computed
    assert torch.equal(second.weighting.weights_K, whole.weighting.weights_K)


def test_cosines_by_hand() -> None:
    shared = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = {"a": shared[0] * 2, "b": shared[1] * 3, "c": shared.sum()}
    half = 0.5**0.5
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]])
    torch.testing.assert_close(gradient_cosines(gramian_of(losses, [shared])), expected)


def test_uncertainty_weighs_a_large_loss_less() -> None:
    shared, weighting = nn.Parameter(torch.zeros(1)), made("uncertainty")
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        losses = {t: (shared.sum() + scale) / 3 for t, scale in zip(TASKS, (0.1, 1.0, 3.0), strict=True)}
        weighting(losses, [shared], SHARES).backward()
        optimizer.step()
    variances = [float(p.detach()) for p in weighting.parameters()]
    assert variances == sorted(variances)
    assert variances[0] < 0 < variances[2]


def optimum(losses: dict[str, float], shares: dict[str, float]) -> dict[str, float]:
    """The factors on the tasks' mean losses that `Uncertainty` learns."""
    weighting = Uncertainty()
    weighting.start(list(losses))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.2)
    for _ in range(2000):
        optimizer.zero_grad()
        weighting({t: torch.tensor(shares[t] * loss) for t, loss in losses.items()}, [], shares).backward()
        optimizer.step()
    return {t: shares[t] * float((-s).exp()) for (t, s) in zip(losses, weighting.parameters(), strict=True)}


def test_uncertainty_keeps_loss_weights_and_the_mixture() -> None:
    """In closed form, the factor on a mean loss goes to share / loss."""
    losses = {"jobs": 0.6, "news": 0.3}
    for shares in ({"jobs": 0.5, "news": 0.5}, {"jobs": 5.0, "news": 0.5}, {"jobs": 0.75, "news": 0.25}):
        expected = {task: shares[task] / loss for task, loss in losses.items()}
        assert optimum(losses, shares) == pytest.approx(expected, rel=1e-4)


def test_a_task_without_loss_weight_has_no_part_in_uncertainty() -> None:
    weighting = made("uncertainty")
    shares = {**SHARES, "news": 0.0}
    weighting({task: torch.tensor(share) for task, share in shares.items()}, [], shares).backward()
    gradients = {name: float(p.grad) for name, p in weighting.named_parameters() if p.grad is not None}
    assert gradients["log_variances.news"] == 0.0


@pytest.mark.parametrize("make", [Mean, Uncertainty])
def test_accumulated_steps_are_one_large_step(
    make: Callable[[], Weighting], tiny_model: Path, demo_root: Path, cache: Path
) -> None:
    """Three sub-batches of one task and one of the other, in one step or in four."""
    tasks = {"search": {"weight": 3.0, "loss_weight": 0.5}, "interest": {}}
    found = []
    for per_step, accumulate in ((4, 1), (1, 4)):
        module = MtclModule(
            encoder={"name": str(tiny_model), "dim": 8, "dropout": 0.0},
            optimizer={"lr": 1e-2, "head_lr": 1e-1},
            weighting=make(),
            evaluate_base=False,
        )
        options = {"root": str(demo_root), "cache": str(cache), "num_workers": 0, "alpha": 0.0}
        data = MtclDataModule(tasks=tasks, batch_size=8, max_length=24, tasks_per_step=per_step, **options)
        trainer = quiet_trainer(max_steps=3, limit_val_batches=0, accumulate_grad_batches=accumulate)
        trainer.fit(module, data)
        found.append(module.state_dict())
    assert {name for name in found[0] if name.startswith("weighting.")} == (
        set() if make is Mean else {"weighting.log_variances.search", "weighting.log_variances.interest"}
    )
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_any_name_is_a_task_or_is_refused_before_the_data_is_read(tiny_model: Path) -> None:
    """Names of tasks become names of parameters and modules, and torch's containers have methods."""
    names = {
        n for kind in (nn.ParameterDict, nn.ModuleDict, nn.Module) for n in dir(kind()) if re.fullmatch("[a-z_]+", n)
    }
    assert {"copy", "popitem", "values", "train"} <= names
    refused = set()
    for name in names:
        module = MtclModule(encoder={"name": str(tiny_model)}, weighting=Uncertainty())
        reserved = pytest.raises(ConfigError, match=f"task name '{name}' is reserved by torch")
        if hasattr(nn.ModuleDict(), name):
            refused.add(name)
        with reserved if name in refused else nullcontext():
            module.choose_tasks({name: TaskConfig(head=4)}, {name: Kind.POSITIVE})
        assert (f"weighting.log_variances.{name}" in module.state_dict()) == (name not in refused)
    assert not refused & {"copy", "get", "setdefault", "popitem", "fromkeys", "extend"}


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="GradientWeighting method is 'upgrade': give upgrad, pcgrad"):
        GradientWeighting("upgrade")  # type: ignore[arg-type]
    needs("upgrad")
    with pytest.raises(ConfigError, match="GradientWeighting every_n_steps is 0: give at least 1"):
        GradientWeighting(every_n_steps=0)


@pytest.mark.parametrize("method", CLASSES)
def test_under_autocast(method: str) -> None:
    """A training step runs in bfloat16 where the machine has it; the Gramian is in float32 all the same."""
    needs(method)
    layer, rows = nn.Linear(4, 3), torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(rows).float().square().mean(dim=0)
        losses = dict(zip(TASKS, out / 3, strict=True))
        assert gramian_of(losses, list(layer.parameters())).dtype == torch.float32
        made(method)(losses, list(layer.parameters()), SHARES).backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("method", ["mgda", "aligned_mtl"])
def test_a_step_of_tasks_without_weight_counts_them_alike(method: Method) -> None:
    """A method may have given 0, or less, to just those that a later step holds."""
    needs(method)
    weighting = GradientWeighting(method, every_n_steps=100)
    weighting.start(TASKS)
    weighting.ages_K.zero_()
    weighting.weights_K.copy_(torch.tensor([0.0, 3.0, -0.01]))
    shared = nn.Parameter(torch.ones(2))
    for tasks in (["jobs"], ["news"], ["jobs", "search"]):
        losses = {task: shared.square().sum() for task in tasks}
        assert float(weighting(losses, [shared], SHARES).detach()) == pytest.approx(2.0 * len(tasks))
