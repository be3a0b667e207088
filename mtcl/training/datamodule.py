"""The LightningDataModule: stores are prepared once per node, opened by every process, and read by step number.

A run's position is one integer that counts batches when they are handed out, so batches that workers prefetched are not
lost on resume. The position is in the DataModule's state because Lightning can drop a loader's state. The loader's
length is the whole run, so Lightning does not fetch beyond it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from mtcl.data.batch import StepBatch
from mtcl.data.handover import CrashError
from mtcl.data.leaks import AllowLeaks, check_allow_leaks
from mtcl.data.loader import Looking, StepLoader, pool_numbers
from mtcl.data.plan import Plan, check_divides, few_pairs
from mtcl.data.rows import TaskData
from mtcl.data.steps import StepDataset
from mtcl.data.store import TokenStore
from mtcl.distributed import together, world
from mtcl.encoder.config import EncoderConfig
from mtcl.errors import ConfigError, DataError, at
from mtcl.evaluation import Pool
from mtcl.files import cache_folder, data_root
from mtcl.processes import stay_with_rank
from mtcl.records.mapping import check_types
from mtcl.task.contract import Task
from mtcl.task.prompt import Prompt
from mtcl.task.rows import share_row_digests
from mtcl.training.callback_checks import check_callbacks
from mtcl.training.pair_limits import PairLimit, pair_limits
from mtcl.training.run_tasks import RunTasks
from mtcl.training.stores import Stores, same_tokens
from mtcl.training.task_config import MixtureConfig, TaskConfig, TaskRole
from mtcl.training.task_reader import TaskReader
from mtcl.training.trainer_checks import OPTIONS, batches_after_validation, check_options, check_trainer, num_batches

ENDLESS = 1 << 62
CHECKED_ELSEWHERE = ("root", "tasks", "tasks_dir", "prompt", "allow_leaks", "cache", "encoder")
"""Arguments of the data that are checked where they are converted, and paths, which may be `Path`s."""
log = logging.getLogger("mtcl")


class MtclDataModule(pl.LightningDataModule):
    """The data of a run. Its tasks are given here and nowhere else.

    Args:
        root: Folder with a sub-folder for each task; the environment variable MTCL_DATA if null.
        tasks: The run's tasks by name (set as the top-level key `tasks`); in Python also mappings of their options.
        tasks_dir: More folders of task files, in addition to ./tasks and MTCL_TASKS_DIR.
        batch_size: Pairs per sub-batch, over all ranks, for tasks that give none.
        max_length: Tokens a text is cut to, for tasks that give none; what the base encoder declares if null.
        prompt: Put before each text, for tasks that give none: one text, or {query: ..., document: ...}; what the base
            encoder declares if null, and nothing if "".
        tasks_per_step: Sub-batches per step; the number of the run's own tasks if null.
        alpha: A task's share is proportional to pairs^alpha: 0 gives equal shares, 1 proportional ones.
        cap: The most pairs of a task that count for its share.
        pairs_per_task: Train on this many pairs of each task, chosen by the seed; all if null. An anchor of a cluster
            still meets every other member. A task's own limit wins.
        pairs_per_label: Train on the pairs of this many examples of each label, chosen by the seed; all if null. An
            example is a post with its label or tag, or a member of a cluster, which then meets only the other chosen
            members. Those of a smaller number are among those of a larger one. A task's own limit of either kind wins;
            this one does not apply to replayed tasks.
        replay: The share of the sub-batches that come from tasks of the run that --init_from names, to keep what it
            learned. They are the tasks with `replay: true`.
        held_out: Tasks that are evaluated, but never trained and not part of `val/mean`. They need no training split,
            and no validation split if they have a test split.
        allow_leaks: What to do if texts of held-out tasks occur among the training texts: false refuses the run, true
            trains anyway, remove leaves the pairs with such texts and with near copies out of training, and a list of
            pairs [held_out, trained] accepts the common texts of these tasks.
        num_workers: Worker processes that assemble batches.
        start_method: How workers start; the platform's default if null.
        cache: Folder of the token stores; MTCL_CACHE or ~/.cache/mtcl if null. Rows that do not fit into memory and the
            digests of files go to the latter in any case.
        seed: Determines the order of pairs, and dropout. If None, that of Lightning's `seed_everything`, or else 1; in
            a configuration it is set from seed_everything.
        encoder: The encoder whose tokenizer reads the texts without a module, for example to look at batches; the
            default encoder if null. In a Trainer the module's encoder is used.
    """

    def __init__(
        self,
        root: str | None = None,
        tasks: dict[str, TaskConfig] | None = None,
        tasks_dir: str | None = None,
        batch_size: int = MixtureConfig.batch_size,
        max_length: int | None = None,
        prompt: str | dict[str, str] | None = None,
        tasks_per_step: int | None = MixtureConfig.tasks_per_step,
        alpha: float = MixtureConfig.alpha,
        cap: int | None = MixtureConfig.cap,
        pairs_per_task: int | None = MixtureConfig.pairs_per_task,
        replay: float = MixtureConfig.replay,
        held_out: list[str] | None = None,
        allow_leaks: bool | Literal["remove"] | list[list[str]] = False,
        num_workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        cache: str | None = None,
        seed: int | None = None,
        encoder: EncoderConfig | None = None,
        pairs_per_label: int | None = MixtureConfig.pairs_per_label,
    ) -> None:
        check_types(MtclDataModule.__init__, locals(), where="data.", but=CHECKED_ELSEWHERE)
        if not isinstance(tasks or {}, Mapping):
            raise ConfigError(f'tasks is {tasks!r:.80}: give names with options, for example {{"search": {{}}}}')
        super().__init__()
        self.root, self.cache = data_root(root), cache_folder(cache)
        self.task_configs = {name: TaskConfig.of(name, task) for name, task in (tasks or {}).items()}
        self._own_encoder, self.tasks_dir = encoder and EncoderConfig.of(encoder), tasks_dir
        self.mixture = MixtureConfig(
            batch_size=batch_size,
            tasks_per_step=tasks_per_step,
            alpha=alpha,
            cap=cap,
            pairs_per_task=pairs_per_task,
            replay=replay,
            pairs_per_label=pairs_per_label,
        )
        seed = int(os.environ.get("PL_GLOBAL_SEED", 1)) if seed is None else seed
        self.max_length, self.seed = max_length, seed
        with at("data."):
            self.prompt = None if prompt is None else Prompt.of(prompt)
        self.held_out = tuple(held_out or ())
        self.allow_leaks: AllowLeaks = allow_leaks
        if num_workers < 0:
            raise ConfigError(f"data.num_workers is {num_workers}: give 0 or more")
        self.num_workers, self.start_method = num_workers, start_method
        self.position = 0
        self.loader_failure: DataError | None = None
        """Why the workers that load data have stopped, if they have."""
        self._plan: Plan | None = None
        self.roles = RunTasks.find(self.task_configs, self.held_out, tasks_dir)
        self.tasks: dict[str, Task] = self.roles.trained
        """The tasks that are trained, with those that are replayed last."""
        self.evaluated: dict[str, Task] = self.roles.evaluated
        if self.roles.with_role(TaskRole.TRAIN):  # the plan's own checks, before the stores, which may take minutes
            self.mixture.plan(self.roles.trained_configs, dict.fromkeys(self.tasks, 1), seed=seed).check()
        self.mixture.check_labels(self.roles.trained_configs, self.tasks)
        with at("data."):
            check_allow_leaks(self.allow_leaks, self.held_out, self.tasks)
        self._stores = Stores(
            self.roles,
            root=self.root,
            cache=self.cache,
            max_length=max_length,
            prompt=self.prompt,
            mixture=self.mixture,
            seed=seed,
        )

    @property
    def module(self) -> TaskReader | None:
        """The module that the Trainer trains or evaluates; None without a Trainer."""
        module = getattr(self.trainer, "lightning_module", None)
        return module if isinstance(module, TaskReader) else None

    @property
    def encoder_config(self) -> EncoderConfig:
        """The encoder whose tokenizer reads the texts: the module's, else the given one, else the default."""
        module = self.module
        return module.encoder_config if module is not None else self._own_encoder or EncoderConfig()

    def prepare_data(self) -> None:
        """Build missing stores; Lightning calls this in one process per node while the others wait."""
        self._open(self.trainer.state.fn.value if self.trainer and self.trainer.state.fn else "fit")

    def setup(self, stage: str) -> None:
        share_row_digests(self.evaluated.values(), node=self.trainer.node_rank if self.trainer else 0)
        with together():
            self._open(stage)
        if stage == "fit":
            self.loader_failure = None
        if stage == "fit" and self.trainer and self.trainer.global_step == 0:
            self.position = 0  # a new run; a resumed one reads its position from the checkpoint later
        if stage == "fit" and self.held_out:
            self.check_leaks()

    def _open(self, stage: str) -> None:
        """Open a stage's stores, after checks of what would be wrong anyway: building them may take minutes."""
        if not self.evaluated:
            raise ConfigError("no task is configured: give --config FILE with tasks, or --tasks.NAME.weight 1")
        module = self.module
        if module is not None:
            self._check(module, stage)
        self.stores.open_for(stage, reads_training_texts=module is not None and module.reads_training_texts)

    def _check(self, module: TaskReader, stage: str) -> None:
        if self._own_encoder and not same_tokens(self._own_encoder, module.encoder_config):
            raise ConfigError(
                f"the data was given the encoder {self._own_encoder.name!r}, but the module has "
                f"{module.encoder_config.name!r}: give the encoder to the module only"
            )
        check_options({name: getattr(module.trainer, name) for name in OPTIONS})
        if stage == "fit":
            self.roles.check_trains(self.mixture.replay)
            check_callbacks(module.trainer)
        module.choose_tasks(self.roles.trained_configs, self.roles.kinds)
        if stage == "fit":
            check_trainer(module.trainer)
            planned = self.mixture.plan(self.roles.trained_configs, dict.fromkeys(self.tasks, 1), seed=self.seed)
            check_divides(planned.tasks, module.trainer.world_size)
            module.check_schedule()

    def check_leaks(self) -> None:
        """Refuse, report or leave out training texts that occur in held-out tasks; called by all ranks together."""
        self.stores.leave_out_leaks(self.allow_leaks)
        self._plan = None

    @property
    def stores(self) -> Stores:
        """The tasks' stores, as the present encoder reads them."""
        module = self.module
        positions = None if module is None else module.encoder.num_positions
        if self._stores.read_for(self.encoder_config, num_positions=positions):
            self._plan = None
        return self._stores

    def store(self, name: str, split: str) -> TokenStore:
        """A task's store of a split, which is opened (and built) if necessary."""
        return self.stores.store(name, split)

    @property
    def plan(self) -> Plan:
        """The plan of the training tasks, in the order of the configuration."""
        if self._plan is None:
            num_pairs = {name: len(self.store(name, "train")) for name in self.tasks}
            self._plan = self.mixture.plan(self.roles.trained_configs, num_pairs, seed=self.seed)
            for name, limit in self.pair_limits().items() if world()[0] == 0 else ():
                log.info("task %r trains on %s", name, limit)
            for task in self._plan.tasks:
                for line in few_pairs(task):
                    log.warning("%s", line)
        return self._plan

    def pair_limits(self) -> dict[str, PairLimit]:
        """The pairs that each task trains on, of the tasks that do not train on all of theirs."""
        stores = {name: self.store(name, "train") for name in self.tasks}
        return pair_limits(self.plan, stores, self.mixture.per_label(self.roles.trained_configs))

    def pools(self, split: str) -> list[Pool]:
        """The evaluation pools of a split: trained tasks, replayed, watched and held-out ones."""
        return [
            Pool(name, self.store(name, split), task.metric, self.stores.languages_seen(name))
            for name, task in self.stores.evaluated_in(split).items()
        ]

    @property
    def num_steps(self) -> int | None:
        """Micro-steps of the whole run; None without a Trainer. Raises `ConfigError` if the Trainer has no limit."""
        if self.trainer is None:
            return None
        check_trainer(self.trainer)
        return int(self.trainer.max_steps * self.trainer.accumulate_grad_batches)

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """Steps from the run's position to its end. Without a Trainer: all steps from the first, for a single rank."""
        num_steps, trainer, module = self.num_steps, self.trainer, self.module
        end, rank, ranks, on_gpu = ENDLESS, 0, 1, False
        if num_steps is not None and trainer is not None:
            end = self.position + num_steps - trainer.global_step * trainer.accumulate_grad_batches
            rank, ranks = trainer.global_rank, trainer.world_size
            on_gpu = trainer.strategy.root_device.type == "cuda"
            if late := batches_after_validation(trainer):
                log.warning("the last %d of %d batches come after the last validation", late, num_batches(trainer))
        tasks = []
        for name in self.tasks:
            store = self.store(name, "train")
            files = (None, None) if module is None else (module.teacher_file(name), module.pooled_file(store))
            tasks.append(TaskData(store, self.task_configs[name].hard_negatives, *files))
        with together():
            recomputes = module is not None and module.encoder.activation_checkpointing
            plan, size = self.plan, self.encoder_config.chunk_size(recomputes=recomputes)
            share, padding = (0.0, 1.0) if module is None else (module.keep_share, module.cost_of_padding)
            dataset = StepDataset(
                plan, tasks, rank=rank, world=ranks, tokens_per_chunk=size, keep_share=share, padding=padding
            )
        return StepLoader(
            dataset,
            Looking() if num_steps is None else self,
            num_steps=ENDLESS if num_steps is None else num_steps,
            end=end,
            num_workers=self.num_workers,
            on_failure=self._note_failure,
            multiprocessing_context=self.start_method if self.num_workers else None,
            worker_init_fn=stay_with_rank,
            pin_memory=on_gpu,
        )

    def _note_failure(self, error: DataError) -> None:
        """The run continues without workers until `Interruption` has saved its state, if it has that callback."""
        if isinstance(error, CrashError):
            raise error
        self.loader_failure = error
        log.warning("%s; this process loads the data from here on", error)

    def val_dataloader(self) -> DataLoader[int]:
        return pool_numbers(len(self.stores.evaluated_in("validation")))

    def test_dataloader(self) -> DataLoader[int]:
        return pool_numbers(len(self.stores.evaluated_in("test")))

    predict_dataloader = test_dataloader

    def state_dict(self) -> dict[str, Any]:
        """The run's position. Micro-steps of an unfinished optimizer step are repeated, because their gradient is not
        in a checkpoint.
        """
        assert self.trainer is not None  # Lightning saves only the state of a Trainer's data
        num_open = (self.trainer.fit_loop.total_batch_idx + 1) % self.trainer.accumulate_grad_batches
        return {"position": self.position - num_open, "slots": self.plan.num_slots, "tasks": list(self.tasks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the slots handed out, at a whole step; if the tasks have changed, at the same step."""
        position, slots, tasks = (state_dict.get(name) for name in ("position", "slots", "tasks"))
        if not isinstance(position, int) or not isinstance(slots, int) or not isinstance(tasks, list):
            raise ConfigError(f"the checkpoint is malformed: its position in the data is {state_dict!r:.80}")
        self.position = position
        if set(tasks) == set(self.tasks):
            self.position = -(-position * slots // self.plan.num_slots)
