"""Lightning's side of the data: stores are prepared once a node, opened by every process, and read by step number.

A run's position is one integer, counted as batches are handed out, so what workers prefetched is not lost on
resume. It stands in the DataModule's state because Lightning can drop a loader's. The loader has a length (the
whole run), so Lightning does not fetch ahead of it.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from mtcl.batch import StepBatch, StepDataset
from mtcl.distributed import world
from mtcl.encoder import DEFAULT_MODEL
from mtcl.errors import ConfigError
from mtcl.evaluation import Pool
from mtcl.hub import resolve_model
from mtcl.losses import Loss
from mtcl.plan import Plan, PlanTask
from mtcl.registry import discover
from mtcl.store import Tokenizer, TokenStore, prepare
from mtcl.task import Task

log = logging.getLogger("mtcl")


@dataclass
class TaskConfig:
    """A task's part in a run; what is null is taken from the run.

    Attributes:
        weight: Multiplies the task's share of the steps.
        batch_size: Pairs a sub-batch, over all ranks.
        max_length: Tokens a text is cut to.
        loss: The task's loss; InfoNCE if null.
        loss_weight: Multiplies the task's loss.
    """

    weight: float = 1.0
    batch_size: int | None = None
    max_length: int | None = None
    loss: Loss | None = None
    loss_weight: float = 1.0


class MtclDataModule(pl.LightningDataModule):
    """The data of a run.

    Args:
        root: Folder with a sub-folder a task; the environment's MTCL_DATA if null.
        tasks: The run's tasks by name (set as the top-level key `tasks`).
        model: Model whose tokenizer is used (set from model.encoder.name).
        revision: Its revision on the Hub (set from model.encoder.revision).
        trust_remote_code: Run tokenizer code from the repository (set from model.encoder.trust_remote_code).
        tasks_dir: More folders of task files, beside ./tasks and MTCL_TASKS_DIR.
        batch_size: Pairs a sub-batch, over all ranks, where the task gives none.
        max_length: Tokens a text is cut to where the task gives none.
        tasks_per_step: Sub-batches a step; as many as there are tasks if null.
        alpha: Shares of tasks go by pairs^alpha: 0 all alike, 1 proportional.
        cap: Most pairs of a task that count for its share.
        tokens_per_chunk: Set from model.encoder.tokens_per_chunk.
        num_workers: Worker processes that assemble batches.
        start_method: How workers start; the platform's own if null.
        cache: Folder of the token stores; MTCL_CACHE or ~/.cache/mtcl if null.
        seed: Set from seed_everything.
    """

    def __init__(
        self,
        root: str | None = None,
        tasks: dict[str, TaskConfig] | None = None,
        model: str = DEFAULT_MODEL,
        revision: str | None = None,
        trust_remote_code: bool = False,
        tasks_dir: str | None = None,
        batch_size: int = 64,
        max_length: int = 128,
        tasks_per_step: int | None = None,
        alpha: float = 0.5,
        cap: int | None = None,
        tokens_per_chunk: int = 2048,
        num_workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        cache: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        named_root = root or os.environ.get("MTCL_DATA")
        self.root = Path(named_root) if named_root else None
        self.cache = Path(cache or os.environ.get("MTCL_CACHE") or Path.home() / ".cache" / "mtcl")
        self.task_configs = tasks or {}
        self.model, self.revision, self.trust_remote_code = model, revision, trust_remote_code
        self.tasks_dir = tasks_dir
        self.batch_size, self.max_length, self.tokens_per_chunk = batch_size, max_length, tokens_per_chunk
        self.tasks_per_step, self.alpha, self.cap, self.seed = tasks_per_step, alpha, cap, seed
        self.num_workers, self.start_method = num_workers, start_method
        self.position = 0
        self._plan: Plan | None = None
        self._stores: dict[tuple[str, str], TokenStore] = {}
        if self.task_configs:  # a dry run of the plan's own checks, before the minutes that stores may take
            sizes = [PlanTask(n, 1, self._batch_size_of(n), c.weight) for n, c in self.task_configs.items()]
            Plan(tuple(sizes), seed, alpha, cap, tasks_per_step)
        registry = discover(tasks_dir)
        self.tasks: dict[str, Task] = {name: registry[name] for name in self.task_configs}

    def prepare_data(self) -> None:
        """Build every store that is missing; Lightning calls this in one process a node while the others wait."""
        for split in ("train", "validation"):
            self._open(split)

    def setup(self, stage: str) -> None:
        for split in ("train", "test" if stage in ("test", "predict") else "validation"):
            self._open(split)

    def _open(self, split: str) -> None:
        tokenizer: Tokenizer | None = None
        for name, task in self.tasks.items():
            if (name, split) not in self._stores:
                tokenizer = tokenizer or self._tokenizer()
                length = self.length_of(name)
                tokenizer.check_length(name, length)
                store = prepare(task, split, root=self.root, tokenizer=tokenizer, max_length=length, cache=self.cache)
                self._stores[name, split] = store
                if world()[0] == 0:
                    log.info("%s/%s: %s", name, split, store.summary())

    def length_of(self, name: str) -> int:
        """Tokens a task's texts are cut to."""
        own = self.task_configs[name].max_length
        return self.max_length if own is None else own

    def _batch_size_of(self, name: str) -> int:
        own = self.task_configs[name].batch_size
        return self.batch_size if own is None else own

    def _tokenizer(self) -> Tokenizer:
        folder = resolve_model(self.model, revision=self.revision)
        return Tokenizer.load(folder, trust_remote_code=self.trust_remote_code)

    def store(self, name: str, split: str) -> TokenStore:
        """A task's store of a split. `setup` must have run."""
        return self._stores[name, split]

    @property
    def plan(self) -> Plan:
        """The plan of the training tasks, in the order of the configuration."""
        if self._plan is None:
            tasks = []
            for name, config in self.task_configs.items():
                batch_size = self._batch_size_of(name)
                num_pairs = len(self.store(name, "train"))
                if num_pairs < batch_size:
                    log.warning(
                        "task %r has %d pairs, fewer than its batch size %d: pairs repeat in a batch",
                        name,
                        num_pairs,
                        batch_size,
                    )
                tasks.append(PlanTask(name, num_pairs, batch_size, config.weight))
            self._plan = Plan(tuple(tasks), self.seed, self.alpha, self.cap, self.tasks_per_step)
        return self._plan

    def pools(self, split: str) -> list[Pool]:
        """The evaluation pools of a split, in the order of the configuration."""
        return [Pool(name, self.store(name, split), task.metric) for name, task in self.tasks.items()]

    def train_dataloader(self) -> DataLoader[StepBatch]:
        assert self.trainer is not None
        num_steps = self.trainer.max_steps * self.trainer.accumulate_grad_batches
        _check_validation_interval(self.trainer.val_check_interval, num_steps)
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        stores = [self.store(name, "train") for name in self.tasks]
        dataset = StepDataset(self.plan, stores, rank=rank, world=ranks, tokens_per_chunk=self.tokens_per_chunk)
        return _StepLoader(
            dataset,
            self,
            num_steps=num_steps,
            num_workers=self.num_workers,
            multiprocessing_context=self.start_method if self.num_workers else None,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[int]:
        return _pool_numbers(len(self.tasks))

    test_dataloader = predict_dataloader = val_dataloader

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "plan": self.plan.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved, now = state_dict["plan"], self.plan.fingerprint()
        changed = [k for k in sorted({*saved, *now}) if saved.get(k) != now.get(k)]
        if changed:
            what = "; ".join(
                f"{key}: {saved.get(key, 'absent')} in the checkpoint, {now.get(key, 'absent')} now" for key in changed
            )
            raise ConfigError(
                f"cannot resume: the plan is another one ({what}); give --init_from to start anew from the weights"
            )
        self.position = state_dict["position"]


class _StepLoader(DataLoader[StepBatch]):
    """Batches by step number, from the DataModule's position to the end of the run."""

    def __init__(self, dataset: StepDataset, owner: MtclDataModule, *, num_steps: int, **options: Any) -> None:
        self.owner, self.num_steps = owner, num_steps
        super().__init__(dataset, sampler=_Steps(owner, num_steps), batch_size=None, collate_fn=_as_is, **options)

    def __iter__(self) -> Iterator[StepBatch]:  # type: ignore[override]
        for batch in super().__iter__():
            self.owner.position = batch.step + 1
            yield batch

    def __len__(self) -> int:
        return self.num_steps

    def state_dict(self) -> dict[str, int]:
        """Lightning warns about loaders without; the position itself is in the DataModule's state."""
        return {"position": self.owner.position}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.owner.position = state_dict["position"]


class _Steps:
    def __init__(self, owner: MtclDataModule, num_steps: int) -> None:
        self.owner, self.num_steps = owner, num_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.owner.position, self.num_steps))

    def __len__(self) -> int:
        return self.num_steps


class _Numbers(Dataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def _check_validation_interval(interval: object, num_steps: int) -> None:
    """`interval` counts batches, or is a share of the run. Raises `ConfigError` if the run would never be validated."""
    if not isinstance(interval, int | float) or math.isinf(interval):
        return
    if isinstance(interval, float):
        interval = max(1, int(num_steps * interval))
    if interval > num_steps:
        raise ConfigError(f"trainer.val_check_interval is {interval}, but the run has {num_steps} batches: give fewer")
    if num_steps % interval:
        log.warning("the last %d of %d batches come after the last validation", num_steps % interval, num_steps)


def _pool_numbers(count: int) -> DataLoader[int]:
    """One batch a pool, its number: Lightning drives evaluation pool by pool and every rank takes part in each."""
    return DataLoader(_Numbers(count), batch_size=None, collate_fn=_as_is)


def _as_is(value: Any) -> Any:
    return value
