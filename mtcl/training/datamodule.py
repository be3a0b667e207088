"""The LightningDataModule: stores are prepared once per node, opened by every process, and read by step number.

A run's position is one integer, counted when batches are handed out, so batches that workers prefetched are not lost on
resume. The position is in the DataModule's state because Lightning can drop a loader's state. The loader's length is
the whole run, so Lightning does not fetch beyond it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from mtcl.data.batch import StepBatch, StepDataset, TaskData, join
from mtcl.data.handover import CrashError
from mtcl.data.leaks import AllowLeaks, TrainedTexts, check_allow_leaks, check_leaks
from mtcl.data.loader import Looking, StepLoader, check_validation_interval, pool_numbers
from mtcl.data.plan import Plan, small
from mtcl.data.store import TokenStore
from mtcl.data.subset import Subset, labels_of
from mtcl.data.tokenizer import Tokenizer
from mtcl.distributed import of_all_ranks, together, world
from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.declared import Declared
from mtcl.errors import ConfigError, DataError, MtclError, at
from mtcl.evaluation import Pool
from mtcl.files import cache_folder, data_root
from mtcl.processes import stay_with_rank
from mtcl.task.contract import Task, kind_of
from mtcl.task.prompt import Prompt
from mtcl.task.registry import discover
from mtcl.task.rows import row_digests
from mtcl.task.sources import Source
from mtcl.training.callback_checks import check_callbacks
from mtcl.training.stores import Stores, same_tokens
from mtcl.training.task_config import MixtureConfig, PairLimit, TaskConfig, TaskRole
from mtcl.training.task_reader import TaskReader
from mtcl.types import IntArray, Kind, Ragged

T = TypeVar("T")
ENDLESS = 1 << 62
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
        cache: Folder of the token stores; MTCL_CACHE or ~/.cache/mtcl if null.
        seed: Determines the order of pairs, and dropout (set from seed_everything).
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
        seed: int = 0,
        encoder: EncoderConfig | None = None,
        pairs_per_label: int | None = MixtureConfig.pairs_per_label,
    ) -> None:
        super().__init__()
        self.root, self.cache = data_root(root), cache_folder(cache)
        self.task_configs = {name: TaskConfig.of(name, task) for name, task in (tasks or {}).items()}
        self._own_encoder, self.tasks_dir = encoder and EncoderConfig.of(encoder), tasks_dir
        self.mixture = MixtureConfig(batch_size, tasks_per_step, alpha, cap, pairs_per_task, replay, pairs_per_label)
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
        for name, task in self.task_configs.items():
            task.check_role(name)
        if own := self.with_role(TaskRole.TRAIN):
            # run the plan's own checks now, before building stores, which may take minutes
            trained = {name: task for name, task in self.task_configs.items() if not task.watch}
            _ = self.mixture.plan(trained, dict.fromkeys(trained, 1), seed=seed).lines
        if both := [name for name in self.held_out if name in self.task_configs]:
            verb = "watches" if self.task_configs[both[0]].watch else "trains"
            raise ConfigError(f"data.held_out has {both[0]!r}, which `tasks` {verb}: remove it from one of the two")
        registry = discover(tasks_dir)
        replayed = _each_replayed(self.with_role(TaskRole.REPLAY), registry.__getitem__)
        self.tasks: dict[str, Task] = {name: registry[name] for name in own} | replayed
        """The tasks that are trained, with those that are replayed last."""
        others = (*self.with_role(TaskRole.WATCH), *self.held_out)
        self.evaluated: dict[str, Task] = self.tasks | {name: registry[name] for name in others}
        self.mixture.check_labels(self.trained_configs, self.tasks)
        with at("data."):
            check_allow_leaks(self.allow_leaks, self.held_out, self.tasks)
        self._stores = Stores(
            self.evaluated,
            self.task_configs,
            self.root,
            self.cache,
            max_length=max_length,
            prompt=self.prompt,
            mixture=self.mixture,
            seed=seed,
        )

    def with_role(self, role: TaskRole) -> list[str]:
        """The names of the configured tasks in a role."""
        return [name for name, task in self.task_configs.items() if task.role is role]

    @property
    def trained_configs(self) -> dict[str, TaskConfig]:
        """The options of the tasks that are trained."""
        return {name: self.task_configs[name] for name in self.tasks}

    @property
    def apart(self) -> dict[str, str]:
        """The role of each task that is not part of `val/mean`."""
        held_out = dict.fromkeys(self.held_out, TaskRole.HELD_OUT.value)
        roles = {name: task.role.value for name, task in self.task_configs.items()}
        return {name: role for name, role in roles.items() if role != TaskRole.TRAIN} | held_out

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
        stage = self.trainer.state.fn.value if self.trainer and self.trainer.state.fn else "fit"
        self._check(stage)
        self._open_all(stage)

    def setup(self, stage: str) -> None:
        self._share_digests()
        with together():
            self._check(stage)
            self._open_all(stage)
        if stage == "fit" and self.trainer and self.trainer.global_step == 0:
            self.position = 0  # a new run; a resumed one reads its position from the checkpoint later
        if stage == "fit" and self.held_out:
            self.check_leaks()

    def _share_digests(self) -> None:
        """Rows from a method `data` were read and hashed by one process of each node, for all of its processes."""
        own = {name: row_digests(task) for name, task in self.evaluated.items() if not isinstance(task.data, Source)}
        node = self.trainer.node_rank if self.trainer else 0
        for other, found in of_all_ranks((node, own)) if own else ():
            if other == node:
                for name, digests in found.items():
                    own[name].update(digests)

    def _check(self, stage: str) -> None:
        """Raise `ConfigError` for errors that show before the stores are built, which may take minutes."""
        if not self.evaluated:
            raise ConfigError("no task is configured: give --config FILE with tasks, or --tasks.NAME.weight 1")
        module = self.module
        if module is None:
            return
        if self._own_encoder and not same_tokens(self._own_encoder, module.encoder_config):
            raise ConfigError(
                f"the data was given the encoder {self._own_encoder.name!r}, but the module has "
                f"{module.encoder_config.name!r}: give the encoder to the module only"
            )
        if stage == "fit":
            self._check_roles()
            check_callbacks(module.trainer)
        module.choose_losses(self.trained_configs, self.kinds)
        if stage == "fit":
            _ = self.num_steps

    def _check_roles(self) -> None:
        """Raise `ConfigError` if nothing would be trained, or if share and tasks of the replay do not fit."""
        replayed, share = self.with_role(TaskRole.REPLAY), self.mixture.replay
        if not self.with_role(TaskRole.TRAIN):
            raise ConfigError(
                "no task is trained, only evaluated or replayed: give `tasks` one without watch or replay"
            )
        if share and not replayed:
            raise ConfigError(
                f"data.replay is {share:g}, but there is no task to replay: start from a run that trained other tasks "
                "(--init_from), give tasks `replay: true`, or give data.replay 0"
            )
        if replayed and not share:
            raise ConfigError(
                f"tasks.{replayed[0]}.replay is true, but data.replay is 0: give a share such as 0.05, or give the "
                "task `watch: true` to evaluate it only"
            )

    def _open_all(self, stage: str) -> None:
        """Open a stage's stores. Apart from training itself, training splits are needed only for a PCA or for the
        languages seen in training.
        """
        starts_projection = self.module is not None and self.module.reads_training_texts
        evaluation = "test" if stage in ("test", "predict") else "validation"
        stores = self.stores

        def open_train(name: str) -> None:
            if stage == "fit" or starts_projection or kind_of(self.tasks[name]) is Kind.PARALLEL:
                stores.store(name, "train")

        def open_both(name: str) -> None:
            open_train(name)
            stores.store(name, evaluation)

        for name in self.with_role(TaskRole.TRAIN):
            open_train(name)
        _each_replayed(self.with_role(TaskRole.REPLAY), open_both)
        stores.open(evaluation, self.evaluated_in(evaluation))
        if stage == "fit" and (
            without := [name for name in self.evaluated if name not in self.evaluated_in(evaluation)]
        ):
            log.info("without a validation split, so only `mtcl test` evaluates them: %s", ", ".join(without))

    def evaluated_in(self, split: str) -> dict[str, Task]:
        """The tasks that are evaluated on a split. Watched and held-out tasks may have a test split alone."""
        if split == "test":
            return self.evaluated
        stores = self.stores
        return {
            name: task
            for name, task in self.evaluated.items()
            if name in self.tasks or stores.has(name, split) or not stores.has(name, "test")
        }

    def check_leaks(self) -> None:
        """Refuse, report or leave out the training texts that held-out tasks have; called by all ranks together."""
        found: dict[str, IntArray] = {}
        with together():
            if world()[0] == 0:
                found = self._find_leaks()
        with together():
            for name, texts in of_all_ranks(found)[0].items():
                self.stores.leave_out(name, texts)
        self._plan = None

    def _find_leaks(self) -> dict[str, IntArray]:
        stores = self.stores
        splits = {n: [split for split in ("validation", "test") if stores.has(n, split)] for n in self.held_out}
        held_out = {n: [stores.store(n, split).texts() for split in of_task] for n, of_task in splits.items()}
        trained = {n: self.store(n, "train") for n in self.tasks}
        return check_leaks(
            held_out,
            {name: TrainedTexts(store.texts(), store.keys) for name, store in trained.items()},
            allow_leaks=self.allow_leaks,
        )

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

    def length_of(self, name: str) -> int:
        """Tokens a task's texts are cut to."""
        return self.stores.length_of(name)

    @property
    def default_length(self) -> int:
        """Tokens that texts are cut to if their task gives no number."""
        return self.stores.default_length

    def prompt_of(self, name: str) -> Prompt:
        """The prompts before a task's texts."""
        return self.stores.prompt_of(name)

    @property
    def default_prompt(self) -> Prompt:
        """The prompts before texts whose task gives none."""
        return self.stores.default_prompt

    @property
    def declared(self) -> Declared:
        """What the base encoder declares."""
        return self.stores.declared

    @property
    def tokenizer(self) -> Tokenizer:
        """The encoder's tokenizer."""
        return self.stores.tokenizer

    def sample(self, num_texts: int, names: Collection[str] | None = None) -> Ragged:
        """Tokens of about `num_texts` training texts, the same number per task, chosen by the seed; of all tasks, or of
        those named.
        """
        generator = np.random.default_rng(self.seed)
        names = list(self.tasks) if names is None else names
        share = -(-num_texts // len(names))

        def some(store: TokenStore) -> Ragged:
            texts = np.arange(len(store.tokens))
            if isinstance(store, Subset):
                texts = np.delete(texts, store.left_out)
            chosen = generator.choice(len(texts), min(share, len(texts)), replace=False)
            return store.tokens.take(texts[np.sort(chosen)])

        return join([some(self.store(name, "train")) for name in names])

    @property
    def plan(self) -> Plan:
        """The plan of the training tasks, in the order of the configuration."""
        if self._plan is None:
            num_pairs = {name: len(self.store(name, "train")) for name in self.tasks}
            self._plan = self.mixture.plan(self.trained_configs, num_pairs, seed=self.seed)
            for name, limit in self.limits.items() if world()[0] == 0 else ():
                log.info("task %r trains on %s", name, limit)
            for task in self._plan.tasks:
                for line in small(task):
                    log.warning("%s", line)
        return self._plan

    @property
    def limits(self) -> dict[str, PairLimit]:
        """The pairs that each task trains on, of the tasks that do not train on all of theirs."""
        found, per_label = {}, self.mixture.per_label(self.trained_configs)
        for task in self.plan.tasks:
            store, num_labels = self.store(task.name, "train"), 0
            num_whole = store.num_whole if isinstance(store, Subset) else len(store)
            if task.name in per_label:
                num_labels = len(np.unique(labels_of(store)))
            if task.num_used < num_whole:
                found[task.name] = PairLimit(task.num_used, num_whole, per_label.get(task.name), num_labels)
        return found

    def pools(self, split: str) -> list[Pool]:
        """The evaluation pools of a split: trained tasks, replayed, watched and held-out ones."""
        return [
            Pool(name, self.store(name, split), task.metric, self._languages(name))
            for name, task in self.evaluated_in(split).items()
        ]

    def _languages(self, name: str) -> frozenset[str] | None:
        """The languages of a task's training split; None if it has none."""
        languages = self.store(name, "train").language_names if self.stores.is_open(name, "train") else ()
        return frozenset(languages) or None

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of pairs of each trained task."""
        return {name: kind_of(task) for name, task in self.tasks.items()}

    @property
    def num_steps(self) -> int | None:
        """Micro-steps of the whole run; None without a Trainer. Raises `ConfigError` if the Trainer has no limit."""
        if self.trainer is None:
            return None
        if self.trainer.max_steps < 1:
            raise ConfigError(
                "trainer.max_steps is not set: a mixture of tasks has no natural end, so give the number of steps to "
                "train, for example Trainer(max_steps=1000)"
            )
        if self.trainer.accumulate_grad_batches < 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}: give at least 1"
            )
        if self.trainer.limit_train_batches == 0:
            raise ConfigError("trainer.limit_train_batches is 0, so nothing would be trained: leave it out")
        return int(self.trainer.max_steps * self.trainer.accumulate_grad_batches)

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """Steps from the run's position to its end. Without a Trainer: all steps from the first, for a single rank."""
        num_steps, trainer, module = self.num_steps, self.trainer, self.module
        end, rank, ranks, on_gpu = ENDLESS, 0, 1, False
        if num_steps is not None and trainer is not None:
            end = self.position + num_steps - trainer.global_step * trainer.accumulate_grad_batches
            rank, ranks = trainer.global_rank, trainer.world_size
            on_gpu = trainer.strategy.root_device.type == "cuda"
            with together(), at("trainer."):
                every = trainer.check_val_every_n_epoch
                check_validation_interval(trainer.val_check_interval, num_steps, check_val_every_n_epoch=every)
        tasks = [
            TaskData(
                self.store(name, "train"),
                self.task_configs[name].hard_negatives,
                None if module is None else module.teacher_file(name),
                None if module is None else module.pooled_file(self.store(name, "train")),
            )
            for name in self.tasks
        ]
        with together():
            plan, size = self.plan, self.encoder_config.chunk_size
            with at("tasks."):
                share = 0.0 if module is None else module.keep_share
                dataset = StepDataset(plan, tasks, rank=rank, world=ranks, tokens_per_chunk=size, keep_share=share)
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
        return pool_numbers(len(self.evaluated_in("validation")))

    def test_dataloader(self) -> DataLoader[int]:
        return pool_numbers(len(self.evaluated_in("test")))

    predict_dataloader = test_dataloader

    def state_dict(self) -> dict[str, Any]:
        """Micro-steps of an unfinished optimizer step are repeated, because their gradient is not in a checkpoint."""
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

    def described(self) -> dict[str, Any]:
        """The `data` part of a configuration, as plain values."""
        own = ("max_length", "allow_leaks", "num_workers", "start_method", "tasks_dir")
        return {
            "root": None if self.root is None else str(self.root),
            "prompt": None if self.prompt is None else self.prompt.plain(),
            **{name: getattr(self, name) for name in own},
            **asdict(self.mixture),
            "held_out": list(self.held_out) or None,
        }


def _each_replayed(names: Iterable[str], use: Callable[[str], T]) -> dict[str, T]:
    """What `use` returns for each replayed task. The user may not have named these tasks, so an error names all tasks
    that fail and says how to leave them out.
    """
    found: dict[str, T] = {}
    failed: dict[str, MtclError] = {}
    for name in names:
        try:
            found[name] = use(name)
        except MtclError as error:
            failed[name] = error
    if failed:
        first = next(iter(failed.values()))
        without = ", ".join(f"{name}: null" for name in failed)
        raise type(first)(
            f"cannot replay {', '.join(failed)} ({first}): leave out with `tasks: {{{without}}}`, or give data.replay 0"
        ) from first
    return found
