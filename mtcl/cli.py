"""LightningCLI, bent to what mtcl needs: one merged configuration, errors in one line, no value taken from a
checkpoint.

The verbs (`fit`, `test`, ...) are dispatched by us, so the parser is built without subcommands: a key has the same
name in YAML, on the command line (`--trainer.max_steps 10`) and in the environment
(`MTCL_SET_TRAINER__MAX_STEPS=10`).
"""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any, NoReturn, cast

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from mtcl.callbacks import Progress, Report, checkpoints
from mtcl.compat import allow_unused_parameters
from mtcl.datamodule import MtclDataModule, TaskConfig
from mtcl.errors import ConfigError, nearest
from mtcl.losses import Loss
from mtcl.module import MtclModule

UNION = "Does not validate against any of the Union subtypes"
PLAIN = [
    (r"""Parser key ["']tasks["']: Problem with given class_path '[\w.]+': """, "a task under `tasks`: "),
    (r"Problem with given class_path '([\w.]+)': Option '(\w+)' is not accepted", r"\1 has no '\2'"),
    (r"Option '(\w+)' is not accepted", r"unknown key '\1'"),
    (r"Option '([\w.]+)' is not accepted", r"unknown key '\1'"),
    (r"Group '([\w.]+)' does not accept option '([\w.]+)'", r"unknown key '\1.\2'"),
    (r"""Parser key ["']([\w.]+)["']: """, r"\1: "),
    (r"Expected an? <class '([\w.]+)'>", r"expected \1"),
    (r"Expected an? typing.Literal\[(.*?)\]", r"expected one of \1"),
    (r" or expected ", " or "),
    (r"\. Got value: ", ", found "),
]
"""Jsonargparse's wording -> ours, in this order."""


class MtclParser(LightningArgumentParser):
    """Raises `ConfigError` with the key at fault and the nearest right one, in the place of pages of usage.

    Keys are not abbreviated, and the environment wins over files (jsonargparse has it the other way round).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """`args` begins with `--config FILE`; what the environment sets comes behind it."""
        given = list(args or [])
        return super().parse_args([*given[:2], *self._environment(), *given[2:]], **options)

    def instantiate_classes(self, *args: Any, **options: Any) -> Any:
        try:
            return super().instantiate_classes(*args, **options)
        except ValueError as error:
            if UNION not in str(error):
                raise
            raise ConfigError(_explain(str(error), list(_keys(self)))) from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(_explain(message, list(_keys(self)))) from ex

    def _environment(self) -> list[str]:
        names = {f"{self.env_prefix}_{key.replace('.', '__').upper()}": key for key in _keys(self)}
        given = {name: value for name, value in os.environ.items() if name.startswith(f"{self.env_prefix}_")}
        if unknown := sorted(given.keys() - names.keys()):
            raise ConfigError(f"unknown environment variable {unknown[0]}{nearest(unknown[0], names)}")
        return [f"--{names[name]}={value}" for name, value in sorted(given.items())]


class MtclCLI(LightningCLI):
    """Parses and instantiates; `cli.trainer`, `cli.model` and `cli.datamodule` are for the caller to run."""

    def __init__(
        self, arguments: list[str], *, config: dict[str, Any], run_dir: Path, resume_step: int | None = None
    ) -> None:
        self.run_dir, self.resume_step = run_dir, resume_step
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as merged:
            yaml.safe_dump(config, merged, sort_keys=False)
            merged.flush()
            super().__init__(
                MtclModule,
                MtclDataModule,
                trainer_class=Trainer,
                save_config_callback=None,
                seed_everything_default=1,
                trainer_defaults=trainer_defaults(),
                parser_kwargs={"default_env": True, "env_prefix": "MTCL_SET"},
                args=["--config", merged.name, *arguments],
                run=False,
            )

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        parser = MtclParser(**options)
        parser.add_argument(
            "-c", "--config", action="config", help="YAML file; several merge key by key, later ones win."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--tasks", type=dict[str, TaskConfig], default={}, help="The run's tasks by name.")
        parser.add_argument(
            "--checkpoint_every_n_steps", type=int, default=50, help="Optimizer steps between writes of last.ckpt."
        )
        parser.link_arguments("tasks", "model.tasks")
        parser.link_arguments("tasks", "data.tasks")
        parser.link_arguments("model.encoder.name", "data.model")
        parser.link_arguments("model.encoder.revision", "data.revision")
        parser.link_arguments("model.encoder.trust_remote_code", "data.trust_remote_code")
        parser.link_arguments("model.encoder.tokens_per_chunk", "data.tokens_per_chunk")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def instantiate_trainer(self, **options: Any) -> Trainer:
        folder = self.run_dir
        every = self._get(self.config, "checkpoint_every_n_steps")
        extra: list[Any] = [*checkpoints(folder / "checkpoints", every_n_steps=every), Report()]
        if self._get(self.config, "trainer.enable_progress_bar") is not False:
            extra.append(Progress())
        if self._get(self.config, "trainer.logger") in (None, True):
            options["logger"] = TensorBoardLogger(
                folder.parent, name=folder.name, version="", default_hp_metric=False, purge_step=self.resume_step
            )
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": extra}
        trainer = super().instantiate_trainer(**options)
        if any(True for _ in self.model.losses.parameters()):
            allow_unused_parameters(trainer)
        return trainer

    def config_text(self) -> str:
        """The resolved configuration as YAML, without what is derived from other keys."""
        return str(self.parser.dump(self.config, skip_none=False))

    def _parse_ckpt_path(self) -> None:
        """Lightning would let hyper-parameters of a checkpoint override given values (Lightning issue 21455)."""


def trainer_defaults() -> dict[str, Any]:
    """What differs from Lightning's own defaults; each can be set like any value."""
    return {
        "precision": best_precision(),
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
    }


def best_precision() -> str:
    """bf16-mixed where the hardware multiplies in bf16, else 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"


def _keys(parser: LightningArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest not in ("help", "==SUPPRESS=="):
            yield action.dest


def _explain(message: str, keys: list[str]) -> str:
    """Jsonargparse's message in one line, with the nearest right name where one is unknown."""
    line = " ".join(message.split())
    if UNION in line:
        line = _narrow(line)
    hint = _hint(line, keys)
    for pattern, plain in PLAIN:
        line = re.sub(pattern, plain, line)
    return line + hint


def _narrow(line: str) -> str:
    """Of the errors of a union's members those that tell: the value is seldom meant for all of them."""
    innermost = line.rpartition("Errors: - ")[2]
    errors, _, rest = innermost.partition(" Given value type: ")
    reasons = [reason for reason in errors.split(" - ") if "NoneType" not in reason]
    telling = [reason for reason in reasons if not reason.startswith("Expected a")]
    found = "" if telling else ". Got value: " + rest.partition("Given value: ")[2]
    return line.partition(UNION)[0] + " or ".join(telling or reasons) + found


def _hint(line: str, keys: list[str]) -> str:
    if found := re.search(r"class_path '([\w.]+)': Option '(\w+)' is not accepted", line):
        return nearest(found[2], inspect.signature(cast("type", locate(found[1]))).parameters)
    if found := re.search(r"has no attribute '(\w+)'|import path string: (\w+)", line):
        return nearest(found[1] or found[2], [kind.__name__ for kind in Loss.__subclasses__()])
    found = re.search(r"(?:Group '(\w+)' does not accept option|Option|arguments?:) '?-*([\w.]+)", line)
    if found is None:
        return ""
    close = nearest(".".join(filter(None, found.groups())), keys)
    return close if "did you mean" in close else ""
