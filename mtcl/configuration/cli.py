"""LightningCLI adapted to mtcl: one merged configuration, one-line errors, and no values taken from a checkpoint.

mtcl dispatches the commands (`fit`, `test`, ...) itself, so the parser has no subcommands and a key has the same name
in YAML, on the command line (`--trainer.max_steps 10`) and in the environment (`MTCL_SET_TRAINER__MAX_STEPS=10`).
"""

from __future__ import annotations

import os
import tempfile
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mtcl.configuration.parser import MtclParser
from mtcl.configuration.run_keys import run_keys
from mtcl.encoder.precision import best_precision
from mtcl.errors import ConfigError
from mtcl.files import naming
from mtcl.training.board.names import Level
from mtcl.training.callbacks import AveragingConfig
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.module import MtclModule
from mtcl.training.task_config import TaskConfig
from mtcl.training.trainer_checks import OPTIONS, check_options
from mtcl.training.trainer_options import DEFAULTS, trainer_options


class MtclCLI(LightningCLI):
    """Parses and instantiates; the caller runs `cli.trainer`, `cli.model` and `cli.datamodule`."""

    def __init__(
        self, arguments: list[str], *, config: dict[str, Any], run_dir: Path, resume_step: int | None = None
    ) -> None:
        self.run_dir, self.resume_step = run_dir, resume_step
        with tempfile.NamedTemporaryFile(suffix=".yaml") as merged:
            with naming(Path(merged.name)):
                Path(merged.name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            super().__init__(
                MtclModule,
                MtclDataModule,
                trainer_class=Trainer,
                save_config_callback=None,
                seed_everything_default=1,
                trainer_defaults=DEFAULTS | {"precision": best_precision()},
                parser_kwargs={"default_env": True, "env_prefix": "MTCL_SET"},
                args=["--config", merged.name, *arguments],
                run=False,
            )

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        parser = MtclParser(run_keys(), **options)
        parser.add_argument(
            "-c", "--config", action="config", help="YAML file; several merge key by key, later ones win."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--tasks", type=dict[str, TaskConfig], default={}, help="The run's tasks by name.")
        parser.add_argument(
            "--checkpoint_every_n_steps", type=int, default=50, help="Optimizer steps between writes of last.ckpt."
        )
        parser.add_argument(
            "--averaging",
            type=AveragingConfig | None,
            default=None,
            help="Evaluate and keep an average of the weights, for example {decay: 0.999}; null keeps the weights.",
        )
        parser.add_argument(
            "--board",
            type=Level | None,
            default="full",
            help="How much TensorBoard shows: lean (few scalars, texts, HParams) or full; null for all scalars only.",
        )
        parser.link_arguments("tasks", "data.tasks")
        parser.link_arguments("model.encoder", "data.encoder")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        self.config = _without_enums(self.config)

    def instantiate_trainer(self, **options: Any) -> Trainer:
        self._check_trainer()
        given = {name: self._get(self.config, f"trainer.{name}") for name in ("enable_checkpointing", "logger")}
        own = trainer_options(
            self.run_dir,
            checkpoint_every_n_steps=self._get(self.config, "checkpoint_every_n_steps"),
            averaging=self.averaging,
            checkpointing=given["enable_checkpointing"] is not False,
            progress_bar=self._get(self.config, "trainer.enable_progress_bar") is not False and not self._has_bar(),
            board=self._get(self.config, "board"),
            config_text=self.config_text(),
            purge_step=self.resume_step,
        )
        if given["logger"] in (None, True):
            options["logger"] = own["logger"]
        options["plugins"] = [*_listed(self._get(self.config_init, "trainer.plugins")), *own["plugins"]]
        options |= size_under_torchrun()
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": own["callbacks"]}
        try:
            return super().instantiate_trainer(**options)
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError("trainer: " + " ".join(str(error).split())) from error

    def _check_trainer(self) -> None:
        """Raise `ConfigError` for Lightning settings that would fail or mean something else in mtcl."""
        check_options({name: self._get(self.config, f"trainer.{name}") for name in OPTIONS})
        strategy = self._get(self.config, "trainer.strategy")
        if "spawn" in str(strategy):
            raise ConfigError(
                f"trainer.strategy is {strategy}: a spawned process cannot import task files; give ddp, or ddp_fork"
            )

    def _has_bar(self) -> bool:
        """Whether the user chose another progress bar; Lightning accepts only one."""
        given = _listed(self._get(self.config_init, "trainer.callbacks"))
        return any(isinstance(callback, ProgressBar) for callback in given)

    @property
    def averaging(self) -> AveragingConfig | None:
        """The configured average of the weights."""
        config: AveragingConfig | None = self._get(self.config_init, "averaging")
        return config

    def config_text(self) -> str:
        """The resolved configuration as YAML, without the keys that are derived from others."""
        text = str(self.parser.dump(self.config, skip_none=False))
        return str(yaml.safe_dump(_with_mappings(yaml.safe_load(text), self.config), sort_keys=False))

    def _parse_ckpt_path(self) -> None:
        """Does nothing; Lightning would let a checkpoint's hyper-parameters override given values (issue 21455)."""


class _Parsed(MtclCLI):
    """Checks a configuration without running it."""

    def instantiate_classes(self) -> None:
        self._check_trainer()


def check_config(config: dict[str, Any]) -> None:
    """Raise `ConfigError` for keys and values that a run would not accept; nothing is loaded."""
    _Parsed(["--seed_everything", "false"], config=config, run_dir=Path())  # else this process would be seeded


def _without_enums(value: Any) -> Any:
    """The value with plain text instead of text that is an enum, as the default of Timer's interval is: it has no form
    in YAML, so Lightning could not write the configuration down.
    """
    if isinstance(value, Namespace):
        return type(value)(**{key: _without_enums(inner) for key, inner in vars(value).items()})
    if isinstance(value, dict):
        return {key: _without_enums(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_enums(inner) for inner in value]
    return str(value.value) if isinstance(value, Enum) and isinstance(value, str) else value


def _with_mappings(written: Any, value: Any) -> Any:
    """What jsonargparse writes of a value, with the mappings that it writes as text, such as a `max_time` of hours."""
    inner = vars(value) if isinstance(value, Namespace) else value
    if isinstance(inner, dict) and isinstance(written, str):
        return inner
    if isinstance(inner, dict) and isinstance(written, dict):
        return {key: _with_mappings(part, inner.get(key)) for key, part in written.items()}
    if isinstance(inner, list) and isinstance(written, list) and len(inner) == len(written):
        return [_with_mappings(*pair) for pair in zip(written, inner, strict=True)]
    return written


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def size_under_torchrun() -> dict[str, int]:
    """The sizes that torchrun has already set, so that the user need not give them to Lightning again."""
    if not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return {}
    return {"devices": int(os.environ["LOCAL_WORLD_SIZE"]), "num_nodes": int(os.environ["GROUP_WORLD_SIZE"])}
