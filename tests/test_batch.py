"""Batches: the same global rows for any number of ranks and workers; texts are merged, keys travel with them.

python -m pytest tests/test_batch.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtcl import QueryDocument
from mtcl.data.batch import StepBatch
from mtcl.data.packing import launch_cost
from mtcl.data.plan import Plan, PlanTask
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.errors import ConfigError
from mtcl.losses.relation import shares_key
from mtcl.task.registry import discover
from tests.test_kinds import store_of

NAMES = ("interest", "storyline", "search", "hashtag")


@pytest.fixture(scope="module")
def stores(tiny_model: Path, demo_root: Path, cache: Path) -> list[TokenStore]:
    registry, tokenizer = discover(), Tokenizer.load(tiny_model)
    return [
        prepare(registry[n], "train", root=demo_root, tokenizer=tokenizer, max_length=24, cache=cache) for n in NAMES
    ]


def plan_of(stores: list[TokenStore], *, seed: int = 0, batch_size: int = 8) -> Plan:
    return Plan(tuple(PlanTask(n, len(s), batch_size) for n, s in zip(NAMES, stores, strict=True)), seed=seed)


def data_of(stores: list[TokenStore]) -> list[TaskData]:
    return [TaskData(store) for store in stores]


def rows_of(batch: StepBatch) -> list[tuple[int, list[tuple[int, ...]], list[tuple[int, ...]]]]:
    """Each sub-batch's task, and the tokens of its anchors and positives."""
    rows = [
        tuple(ids[mask.bool()].tolist()) for c in batch.texts.chunks for ids, mask in zip(c.ids, c.mask, strict=True)
    ]
    texts = [rows[place] for place in batch.texts.place_T.tolist()]
    return [(p.task, *([texts[i] for i in c.texts_N] for c in p.columns[:2])) for p in batch.parts]


def test_chunks_are_cut_for_the_machine_and_not_for_what_a_worker_sees(
    stores: list[TokenStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked worker sees no GPU."""
    made = {}
    for is_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_gpu=is_gpu: is_gpu)
        launch_cost.cache_clear()
        made[is_gpu] = StepDataset(plan_of(stores, batch_size=32), data_of(stores))
    monkeypatch.undo()
    launch_cost.cache_clear()
    on_cpu, on_gpu = (len(made[is_gpu][0].texts.chunks) for is_gpu in (False, True))
    assert on_gpu < on_cpu


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_global_batch(stores: list[TokenStore], seed: int, world: int) -> None:
    plan = plan_of(stores, seed=seed)
    one = StepDataset(plan, data_of(stores))
    many = [StepDataset(plan, data_of(stores), rank=r, world=world) for r in range(world)]
    for step in (0, 1, 17, 300):
        shares = [rows_of(dataset[step]) for dataset in many]
        for number, (task, anchors, positives) in enumerate(rows_of(one[step])):
            assert [share[number][0] for share in shares] == [task] * world
            assert [row for share in shares for row in share[number][1]] == anchors
            assert [row for share in shares for row in share[number][2]] == positives


def as_is(batch: StepBatch) -> StepBatch:
    return batch


@pytest.mark.parametrize(("num_workers", "start_method"), [(1, "fork"), (3, "fork"), (2, "spawn")])
def test_workers_change_nothing(stores: list[TokenStore], num_workers: int, start_method: str) -> None:
    dataset = StepDataset(plan_of(stores), data_of(stores))
    steps = range(40, 52)
    options = {"num_workers": num_workers, "multiprocessing_context": start_method, "collate_fn": as_is}
    loader = DataLoader(dataset, sampler=steps, batch_size=None, **options)
    for step, batch in zip(steps, loader, strict=True):
        assert batch.step == step
        assert rows_of(batch) == rows_of(dataset[step])


def test_seeds_differ(stores: list[TokenStore]) -> None:
    assert rows_of(StepDataset(plan_of(stores, seed=0), data_of(stores))[0]) != rows_of(
        StepDataset(plan_of(stores, seed=1), data_of(stores))[0]
    )


def test_positives_of_a_story_are_drawn_afresh(stores: list[TokenStore]) -> None:
    """Over epochs one anchor meets different members of its story."""
    dataset = StepDataset(Plan((PlanTask("storyline", len(stores[1]), 8),)), data_of([stores[1]]))
    met: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for step in range(200):
        for _, anchors, positives in rows_of(dataset[step]):
            for anchor, positive in zip(anchors, positives, strict=True):
                met.setdefault(anchor, set()).add(positive)
    assert np.mean([len(positives) for positives in met.values()]) > 2


def test_equal_texts_are_encoded_once(stores: list[TokenStore]) -> None:
    batch = StepDataset(plan_of(stores), data_of(stores))[0]
    texts = {row for _, anchors, positives in rows_of(batch) for row in (*anchors, *positives)}
    assert len(batch.texts.place_T) == len(texts) < batch.num_texts == sum(2 * len(p) for p in batch.parts)


def test_keys_relate_what_the_store_relates(stores: list[TokenStore]) -> None:
    """Whichever keys are left out of a batch, couples that share one are those of the whole store."""
    plan = plan_of(stores)
    dataset = StepDataset(plan, data_of(stores))
    for step in range(5):
        for part, draw in zip(dataset[step].parts, plan.draws(step), strict=True):
            store, (anchors, positives) = stores[part.task], part.columns
            texts = dataset.rows(draw).texts
            keys = [[set(store.pairs.keys[i].tolist()) for i in role] for role in texts]
            identity = [store.identity[role].tolist() for role in texts]
            pair = [{a, p} for a, p in zip(*identity, strict=True)]
            related = shares_key(anchors.keys_NK, positives.keys_NK)
            expected = [
                [bool(one & other) or bool(pair[n] & pair[c]) for c, other in enumerate(keys[1])]
                for n, one in enumerate(keys[0])
            ]
            assert related.tolist() == expected


def test_a_text_of_many_positives_costs_no_more_than_another(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"query": "a" if n < 90 else f"b {n}", "document": f"dog {n // 26} {'abcdefghijklmnopqrstuvwxyz'[n % 26]}"}
        for n in range(100)
    ]
    store = store_of(QueryDocument(), rows, tiny_model, tmp_path)
    assert store.pairs.keys.lengths().max() > 90
    (part,) = StepDataset(Plan((PlanTask("toy", 100, 16),)), data_of([store]))[0].parts
    anchors, positives = part.columns
    assert anchors.keys_NK.shape[1] <= 2 + 16
    hub = torch.tensor([pair < 90 for pair in Plan((PlanTask("toy", 100, 16),)).draws(0)[0].pairs.tolist()])
    assert shares_key(anchors.keys_NK, positives.keys_NK)[hub][:, hub].all()


def test_texts_of_equal_tokens_are_never_negatives_of_each_other(tiny_model: Path, tmp_path: Path) -> None:
    """Emoji that the vocabulary does not know, and what stands behind the maximal length, the encoder does not see."""
    rows = [
        {"query": "red", "document": "dog \N{PARTY POPPER}"},
        {"query": "blue", "document": "dog \N{ROCKET}"},
        {"query": "green", "document": " ".join("cat" for _ in range(30)) + " one"},
        {"query": "bird", "document": " ".join("cat" for _ in range(30)) + " two"},
    ]
    store = store_of(QueryDocument(), rows, tiny_model, tmp_path)
    plan = Plan((PlanTask("toy", 4, 4),))
    (part,) = StepDataset(plan, data_of([store]))[0].parts
    order = np.argsort(plan.draws(0)[0].pairs)
    related = shares_key(part.columns[0].keys_NK[order], part.columns[1].keys_NK[order])
    assert related.tolist() == torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool().tolist()


def test_batch_moves_whole(stores: list[TokenStore]) -> None:
    batch = StepDataset(plan_of(stores), data_of(stores))[0]
    moved = batch.to("meta")
    assert {t.device.type for c in moved.texts.chunks for t in (c.ids, c.mask)} == {"meta"}
    assert all(part.columns[0].keys_NK.device == torch.device("meta") for part in moved.parts)


def test_ranks_must_divide_the_batch(stores: list[TokenStore]) -> None:
    with pytest.raises(ConfigError, match=r"^batch_size of task 'interest' is 8, not a multiple of 3 ranks: .* 6 or 9"):
        StepDataset(plan_of(stores), data_of(stores), world=3)
