"""Lightning's side of the data: stores are prepared once a node, opened by every process, and read by step number.

A run's position is one integer, counted as batches are handed out, so what workers prefetched is not lost on
resume. It stands in the DataModule's state because Lightning can drop a loader's. The loader has a length (the
whole run), so Lightning does not fetch ahead of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from mtcl.data.batch import StepBatch, StepDataset, TaskData, join
from mtcl.data.leaks import check_leaks
from mtcl.data.loader import StepLoader, check_validation_interval, pool_numbers
from mtcl.data.plan import Plan
from mtcl.data.store import TokenStore, prepare
from mtcl.data.tokenizer import Tokenizer
from mtcl.distributed import together, world
from mtcl.encoder.checkpoint import tokenizer_of
from mtcl.encoder.config import EncoderConfig
from mtcl.errors import ConfigError, at
from mtcl.evaluation import Pool
from mtcl.files import cache_folder, data_root
from mtcl.processes import stay_with_rank
from mtcl.task.contract import Task, kind_of
from mtcl.task.registry import discover
from mtcl.training.task_config import MixtureConfig, TaskConfig
from mtcl.types import Kind, Ragged

log = logging.getLogger("mtcl")


class MtclDataModule(pl.LightningDataModule):
    """The data of a run.

    Args:
        root: Folder with a sub-folder a task; the environment's MTCL_DATA if null.
        tasks: The run's tasks by name (set as the top-level key `tasks`).
        encoder: Whose tokenizer reads the texts, and how much of them it takes at once (set from model.encoder).
        tasks_dir: More folders of task files, beside ./tasks and MTCL_TASKS_DIR.
        batch_size: Pairs a sub-batch, over all ranks, where the task gives none.
        max_length: Tokens a text is cut to where the task gives none.
        tasks_per_step: Sub-batches a step; as many as there are tasks if null.
        alpha: Shares of tasks go by pairs^alpha: 0 all alike, 1 proportional.
        cap: Most pairs of a task that count for its share.
        pairs_per_task: Train on so many pairs of each task, which the seed chooses; all if null. An anchor of a cluster
            still meets every other member.
        held_out: Tasks that are evaluated, apart from `val/mean`, and never trained; they need no training split.
        allow_leaks: Train although texts of held-out tasks occur among the training texts.
        num_workers: Worker processes that assemble batches.
        start_method: How workers start; the platform's own if null.
        cache: Folder of the token stores; MTCL_CACHE or ~/.cache/mtcl if null.
        seed: Set from seed_everything.
    """

    def __init__(
        self,
        root: str | None = None,
        tasks: dict[str, TaskConfig] | None = None,
        encoder: EncoderConfig | None = None,
        tasks_dir: str | None = None,
        batch_size: int = MixtureConfig.batch_size,
        max_length: int = 128,
        tasks_per_step: int | None = MixtureConfig.tasks_per_step,
        alpha: float = MixtureConfig.alpha,
        cap: int | None = MixtureConfig.cap,
        pairs_per_task: int | None = MixtureConfig.pairs_per_task,
        held_out: list[str] | None = None,
        allow_leaks: bool = False,
        num_workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        cache: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root, self.cache = data_root(root), cache_folder(cache)
        self.task_configs = tasks or {}
        self.encoder_config, self.tasks_dir = encoder or EncoderConfig(), tasks_dir
        self.mixture = MixtureConfig(batch_size, tasks_per_step, alpha, cap, pairs_per_task)
        self.max_length, self.seed = max_length, seed
        self.held_out, self.allow_leaks = tuple(held_out or ()), allow_leaks
        if num_workers < 0:
            raise ConfigError(f"data.num_workers is {num_workers}: give 0 or more")
        self.num_workers, self.start_method = num_workers, start_method
        self.position = 0
        self._plan: Plan | None = None
        self.starts_projection = False
        """Set before `setup` if a projection is to start from training texts, without training."""
        self.teachers: dict[str, Path] = {}
        """Files of teachers' vectors by task, set by the module before training."""
        self._stores: dict[tuple[str, str], TokenStore] = {}
        if self.task_configs:  # a dry run of the plan's own checks, before the minutes that stores may take
            _ = self.mixture.plan(self.task_configs, dict.fromkeys(self.task_configs, 1), seed=seed).phases
        if both := [name for name in self.held_out if name in self.task_configs]:
            raise ConfigError(f"data.held_out has {both[0]!r}, which `tasks` trains: give it one role")
        registry = discover(tasks_dir)
        self.tasks: dict[str, Task] = {name: registry[name] for name in self.task_configs}
        """The tasks that are trained."""
        self.evaluated: dict[str, Task] = self.tasks | {name: registry[name] for name in self.held_out}

    def prepare_data(self) -> None:
        """Build every store that is missing; Lightning calls this in one process a node while the others wait."""
        assert self.trainer is not None
        assert self.trainer.state.fn is not None
        self._open_all(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        with together():
            self._open_all(stage)
        if stage == "fit" and self.held_out:
            with together():
                if world()[0] == 0:
                    self._check_leaks()

    def _open_all(self, stage: str) -> None:
        """What a stage reads: beside training, training splits only for a PCA or for the languages seen in training."""
        for name, task in self.tasks.items():
            if stage == "fit" or self.starts_projection or kind_of(task) is Kind.PARALLEL:
                self._open("train", [name])
        self._open("test" if stage in ("test", "predict") else "validation", self.evaluated)

    def _check_leaks(self) -> None:
        self._open("test", self.held_out)
        check_leaks(
            {n: [self.store(n, split).texts() for split in ("validation", "test")] for n in self.held_out},
            {n: self.store(n, "train").keys.values for n in self.tasks},
            allow_leaks=self.allow_leaks,
        )

    def _open(self, split: str, names: Iterable[str]) -> None:
        tokenizer: Tokenizer | None = None
        for name in names:
            if (name, split) not in self._stores:
                task = self.evaluated[name]
                tokenizer = tokenizer or self.tokenizer()
                length = self.length_of(name)
                tokenizer.check_length(name, length)
                store = prepare(
                    task,
                    split,
                    root=self.root,
                    tokenizer=tokenizer,
                    max_length=length,
                    cache=self.cache,
                    prompt=self.prompt_of(name),
                )
                self._stores[name, split] = store
                if world()[0] == 0:
                    log.info("%s/%s: %s", name, split, store.summary())

    def length_of(self, name: str) -> int:
        """Tokens a task's texts are cut to."""
        own = self.task_configs[name].max_length if name in self.task_configs else None
        return self.max_length if own is None else own

    def prompt_of(self, name: str) -> str:
        """What stands before a task's texts."""
        own = self.task_configs[name].prompt if name in self.task_configs else None
        return self.evaluated[name].prompt if own is None else own

    def tokenizer(self) -> Tokenizer:
        """The encoder's tokenizer."""
        return tokenizer_of(self.encoder_config)

    def store(self, name: str, split: str) -> TokenStore:
        """A task's store of a split. `setup` must have run."""
        return self._stores[name, split]

    def sample(self, num_texts: int) -> Ragged:
        """Tokens of about so many training texts, alike over tasks, which the seed chooses."""
        generator = np.random.default_rng(self.seed)
        share = -(-num_texts // len(self.tasks))

        def some(tokens: Ragged) -> Ragged:
            return tokens.take(np.sort(generator.choice(len(tokens), min(share, len(tokens)), replace=False)))

        return join([some(self.store(name, "train").tokens) for name in self.tasks])

    @property
    def plan(self) -> Plan:
        """The plan of the training tasks, in the order of the configuration."""
        if self._plan is None:
            num_pairs = {name: len(self.store(name, "train")) for name in self.task_configs}
            self._plan = self.mixture.plan(self.task_configs, num_pairs, seed=self.seed)
            for task in self._plan.tasks:
                if task.num_used < task.batch_size:
                    log.warning(
                        "task %r has %d pairs, fewer than its batch size %d: pairs repeat in a batch",
                        task.name,
                        task.num_used,
                        task.batch_size,
                    )
        return self._plan

    def pools(self, split: str) -> list[Pool]:
        """The evaluation pools of a split, those of held-out tasks behind."""
        return [
            Pool(name, self.store(name, split), task.metric, self._languages(name))
            for name, task in self.evaluated.items()
        ]

    def _languages(self, name: str) -> frozenset[str] | None:
        """Languages of a task's training split, None if it has none."""
        languages = self.store(name, "train").language_names if (name, "train") in self._stores else ()
        return frozenset(languages) or None

    @property
    def kinds(self) -> dict[str, Kind]:
        """What the pairs of each trained task say."""
        return {name: kind_of(task) for name, task in self.tasks.items()}

    def train_dataloader(self) -> DataLoader[StepBatch]:
        assert self.trainer is not None
        accumulate = self.trainer.accumulate_grad_batches
        num_steps = self.trainer.max_steps * accumulate
        num_left = num_steps - self.trainer.global_step * accumulate
        with together(), at("trainer."):
            every = self.trainer.check_val_every_n_epoch
            check_validation_interval(self.trainer.val_check_interval, num_steps, check_val_every_n_epoch=every)
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        tasks = [
            TaskData(self.store(name, "train"), self.task_configs[name].hard_negatives, self.teachers.get(name))
            for name in self.tasks
        ]
        with together():
            plan, size = self.plan, self.encoder_config.tokens_per_chunk
            with at("tasks."):
                dataset = StepDataset(plan, tasks, rank=rank, world=ranks, tokens_per_chunk=size)
        return StepLoader(
            dataset,
            self,
            num_steps=num_steps,
            end=self.position + num_left,
            num_workers=self.num_workers,
            multiprocessing_context=self.start_method if self.num_workers else None,
            worker_init_fn=stay_with_rank,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[int]:
        return pool_numbers(len(self.evaluated))

    test_dataloader = predict_dataloader = val_dataloader

    def state_dict(self) -> dict[str, Any]:
        """Micro-steps of an unfinished optimizer step are done again: their gradient is not in a checkpoint."""
        assert self.trainer is not None
        num_open = (self.trainer.fit_loop.total_batch_idx + 1) % self.trainer.accumulate_grad_batches
        return {"position": self.position - num_open, "slots": self.plan.num_slots, "tasks": list(self.tasks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the slots handed out, on a whole step; where the tasks are others, at the same step."""
        self.position = state_dict["position"]
        if set(state_dict["tasks"]) == set(self.tasks):
            self.position = -(-self.position * state_dict["slots"] // self.plan.num_slots)
