"""`mtcl merge A B`: average the weights of several checkpoints, or of checkpoints and the base encoder, into one."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.commands.arguments import Parser
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.process import quiet_libraries
from mtcl.configuration import yaml_files
from mtcl.encoder.paths import BEST, checkpoint_at
from mtcl.errors import ConfigError
from mtcl.records.version import __version__

if TYPE_CHECKING:
    from mtcl.encoder.checkpoint import SavedRun
    from mtcl.encoder.module_state import State
    from mtcl.encoder.run_record import TaskRecord

BASE = "base"
log = logging.getLogger("mtcl")


def main(command: str, arguments: list[str]) -> int:
    options = _parser(command).parse_args(arguments)
    weights = weights_of(options)
    out = Path(options.out).expanduser()
    target_of(out)  # is refused before anything is loaded
    quiet_libraries()
    with only_writer(target_of(out).parent, f"{command}-{out.stem}", advice="wait for it, or give another --out"):
        path = target_of(out)  # another process may have written it since
        _write_merged(options, weights, path)
    return 0


def _write_merged(options: argparse.Namespace, weights: list[float], path: Path) -> None:
    from mtcl.encoder.checkpoint import SavedRun
    from mtcl.training.checkpoint_file import write_whole
    from mtcl.training.merge import Ingredient, merge

    names = [name for name in options.checkpoints if name != BASE]
    saved = {name: SavedRun.read(name, trust=options.trust_checkpoint) for name in names}
    check_one_base(saved)
    first = next(iter(saved.values()))
    states = {name: run.plain_state if run.has_adapters else run.state for name, run in saved.items()}
    if BASE in options.checkpoints:
        states[BASE] = base_state(first)
    merged = merge(
        [Ingredient(name, states[name], weight) for name, weight in zip(options.checkpoints, weights, strict=True)]
    )
    warn_of_other_texts(saved)
    content = checkpoint_of(merged, list(saved.values()), dict(zip(options.checkpoints, weights, strict=True)))
    write_whole(content, path, advice="give another --out")
    print(f"written {path}; evaluate it with: mtcl test --ckpt {options.out}")


def check_one_base(saved: dict[str, SavedRun]) -> None:
    """Raise `ConfigError` for checkpoints of different base encoders, whose weights cannot be averaged."""
    known = [(name, base) for name, run in saved.items() if (base := run.record.base_weights)]
    for (one, base), (other, another) in pairwise(known):
        if base != another:
            raise ConfigError(
                f"{one!r} and {other!r} started from different base encoders: merge checkpoints of one base encoder"
            )


def check_same_heads(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ConfigError` if a task has a head in one of the runs and none or another one in a second."""
    heads: dict[str, Any] = {}
    for config in configs:
        for name, task in config["tasks"].items():
            head = (task or {}).get("head")
            if heads.setdefault(name, head) != head:
                raise ConfigError(
                    f"tasks.{name}.head is {heads[name]} in one run and {head} in another: merge runs of equal heads"
                )


def warn_of_other_texts(saved: Mapping[str, SavedRun]) -> None:
    """Log each prompt and max length in which checkpoints differ; the merged one has that of the first."""
    first: dict[str, tuple[str, Any]] = {}
    for name, run in saved.items():
        found: dict[str, Any] = {"the prompt": run.prompt.plain(), "max_length": run.max_length}
        found |= {f"the prompt of task {task!r}": prompt.plain() for task, prompt in run.prompts.items()}
        found |= {f"max_length of task {task!r}": length for task, length in run.lengths.items()}
        for what, value in found.items():
            owner, kept = first.setdefault(what, (name, value))
            if value != kept:
                log.warning("%s is %r in %s and %r in %s: merged is %s's", what, kept, owner, value, name, owner)


def weights_of(options: argparse.Namespace) -> list[float]:
    """A weight for each checkpoint, from the options. Raises `ConfigError` if they are not valid."""
    names: list[str] = options.checkpoints
    if len(set(names)) != len(names) or len(names) < 2:
        raise ConfigError(f"found {', '.join(names)}: give at least two different checkpoints, or one and `{BASE}`")
    files: dict[Path, str] = {}
    for name in names:
        if name != BASE and (other := files.setdefault(file_of(name), name)) != name:
            raise ConfigError(f"{other} and {name} are the same checkpoint: give different ones, or one and `{BASE}`")
    if options.weight is not None:
        if options.weights:
            raise ConfigError("--weight and --weights cannot be combined: give one of the two")
        if len(names) != 2 or not 0 <= options.weight <= 1:
            raise ConfigError(
                f"--weight is the first of two checkpoints' share, 0 to 1: found {options.weight} for {len(names)}; "
                "for more than two give --weights"
            )
        return [options.weight, 1 - options.weight]
    weights: list[float] = options.weights or [1.0] * len(names)
    if len(weights) != len(names):
        raise ConfigError(f"{len(weights)} weights for {len(names)} checkpoints: give one weight per checkpoint")
    return weights


def file_of(name: str) -> Path:
    """The checkpoint that a name means, however it is spelt: by a link, with `..`, as the run's folder or its file."""
    try:
        return checkpoint_at(Path(name).expanduser()).resolve()
    except ConfigError:  # it is a name of the Hub, or `SavedRun.read` reports it
        return Path(name)


def target_of(out: Path) -> Path:
    """The file to write: `out` itself, or the best checkpoint of a run folder `out`."""
    path = out if out.suffix == ".ckpt" else out / "checkpoints" / BEST
    if path.exists():
        raise ConfigError(f"{path} exists: give another --out")
    return path


def base_state(saved: SavedRun) -> State:
    """The weights that a checkpoint's run started from, under the same names as the checkpoint's own weights."""
    from mtcl.encoder.encoder import Encoder
    from mtcl.encoder.module_state import BASE_HEADS, BASE_PROJECTION, ENCODER, HEADS, PROJECTION, part

    encoder = Encoder.load(saved.encoder_config.plain())
    if saved.record.base_weights not in (None, encoder.base_weights()):
        raise ConfigError(
            f"the model {saved.encoder_config.name!r} has other weights than those that {str(saved.path)!r} was "
            "trained from: run the command where this name means the run's own base encoder, or restore its files"
        )
    state = {f"{ENCODER}{name}": value for name, value in encoder.state_dict().items()}
    for began, now in ((BASE_PROJECTION, PROJECTION), (BASE_HEADS, HEADS)):
        initial = part(saved.state, began).items()
        state |= {f"{prefix}{name}": value for prefix in (began, now) for name, value in initial}
    return state


def checkpoint_of(state: State, sources: list[SavedRun], merged: dict[str, float]) -> dict[str, Any]:
    """A checkpoint for `--ckpt` and `--init_from`: the configuration of the first source with the tasks of all sources.

    Raises `ConfigError` if the sources use different poolings or tokenizers.
    """
    import yaml

    from mtcl.configuration.from_checkpoint import plain_config, without_role
    from mtcl.encoder.run_record import RunRecord

    if len(poolings := {source.pooling for source in sources}) > 1:
        raise ConfigError(f"the checkpoints use different poolings ({', '.join(sorted(poolings))}): merge those of one")
    if len({source.record.tokenizer for source in sources} - {None}) > 1:
        raise ConfigError("the checkpoints use different tokenizers: merge those of one")
    configs = [plain_config(source, tells=number == 0) for number, source in enumerate(sources)]
    check_same_heads(configs)
    config: dict[str, Any] = dict(configs[0])
    if any(source.has_adapters for source in sources):  # they are part of the merged weights
        plain = {"train": "all", "lora": None, "freeze_layers": 0, "frozen_dtype": "float32"}
        config["model"] = {**config["model"], "encoder": {**config["model"]["encoder"], **plain}}
    base: dict[str, float] = {}
    tasks: dict[str, TaskRecord] = {}
    for other, source in zip(reversed(configs), reversed(sources), strict=True):
        config["tasks"] = yaml_files.merge(config["tasks"], other["tasks"])
        base |= source.record.base
        tasks |= source.record.tasks
    trained = sorted(set[str]().union(*(source.trained for source in sources)))
    config["tasks"] = {name: without_role(task, is_trained=name in trained) for name, task in config["tasks"].items()}
    held_out = [name for name in config["data"].get("held_out") or () if name not in trained]
    config["data"] = {**config["data"], "held_out": held_out or None, "replay": 0.0}
    record = RunRecord(
        config=yaml.safe_dump(config, sort_keys=False),
        base=base,
        tasks=tasks,
        prompt=sources[0].prompt.plain(),
        max_length=sources[0].max_length,
        tokenizer=sources[0].record.tokenizer,
        trained_before=trained,
        base_weights=sources[0].record.base_weights,
        merged=merged,
        version=__version__,
    )
    return {
        "state_dict": state,
        "global_step": 0,
        "pytorch-lightning_version": sources[0].content.get("pytorch-lightning_version"),
        "mtcl": record.plain(),
    }


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", metavar="RUN", help=f"run folder (its best checkpoint), .ckpt, or `{BASE}`"
    )
    parser.add_argument("--weight", type=float, help="share of the first of two checkpoints, 0 to 1 (default: 0.5)")
    parser.add_argument("--weights", type=float, nargs="+", help="one weight per checkpoint, divided by their sum")
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="let a base model run code from its repository if the run did"
    )
    parser.add_argument("--out", required=True, help="run folder or .ckpt file to write")
    return parser
