"""A run's options for TensorBoard's HParams, next to each task's metric on validation.

The table reads metrics from the run's own charts, so it shows the last validation, also of a run that was killed or has
just been resumed. `SummaryWriter.add_hparams` would make a sub-run named by the time, and Lightning's
`log_hyperparams` would write zeros. TensorBoard sorts the columns by name and shows the first five, so the options that
people vary most have short names, and options with their default value are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mtcl.encoder.config import EncoderConfig
from mtcl.training.datamodule import MtclDataModule
from mtcl.training.optimizer import OptimizerConfig
from mtcl.training.task_config import TaskConfig

SHORT = {
    "data.batch_size": "batch_size",
    "model.encoder.name": "encoder",
    "model.optimizer.lr": "lr",
    "trainer.max_steps": "max_steps",
    "seed_everything": "seed",
}
"""Options that every run shows, and their names in the table."""
LEFT_OUT = ("data.root", "data.tasks_dir", "data.num_workers", "model.evaluate_", "trainer.")
Value = int | float | str


def hparams(config: Mapping[str, Any]) -> dict[str, Value]:
    """A run's configuration, as `MtclModule.config_text` has it, as flat values."""
    defaults = {
        "data": {name: one.default for name, one in inspect.signature(MtclDataModule).parameters.items()},
        "model": {"encoder": asdict(EncoderConfig()), "optimizer": asdict(OptimizerConfig())},
        "tasks": {name: TaskConfig().described() for name in config["tasks"]},
    }
    ordinary, flat = dict(_flat(defaults)), dict(_flat(config))
    found: dict[str, Value] = {short: flat[name] for name, short in SHORT.items() if name in flat}
    found["encoder"] = str(found["encoder"]).rstrip("/").rpartition("/")[2]
    found["tasks"] = ", ".join(config["tasks"])
    shown = {name: value for name, value in flat.items() if name not in SHORT and not name.startswith(LEFT_OUT)}
    return found | {name: value for name, value in shown.items() if value != ordinary.get(name, "false")}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Value]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, bool):  # which TensorBoard's table would show as 0.0000
        yield name, str(value).lower()
    elif isinstance(value, int | float | str):
        yield name, value
    elif value is not None:
        yield name, str(value)


def summaries(values: Mapping[str, Value], metric_tags: Iterable[str]) -> list[Any]:
    """The messages of the HParams plugin: the columns, and this run's values."""
    from torch.utils.tensorboard.summary import hparams as messages

    columns, start, _ = messages(dict(values), dict.fromkeys(metric_tags, 0.0))  # type: ignore[no-untyped-call]
    return [columns, start]
