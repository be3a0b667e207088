"""Take a run's configuration from a checkpoint, but only plain values under keys that mtcl knows.

Anybody may have written a checkpoint. Loading its configuration as is would import and call its class paths, read or
import from its folders and run its callbacks. So a run takes only numbers, names and texts of known keys, and losses
and weightings of mtcl's own classes with plain arguments. Everything else comes from the user. A message lists the
ignored settings that differ from the defaults; the user can give them, or trust the whole file (`--trust_checkpoint`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import mtcl.losses as losses
import mtcl.weighting as weighting
from mtcl.encoder.checkpoint import ANOTHER_MACHINE, SavedRun
from mtcl.encoder.config import ATTENTIONS
from mtcl.files import cache_folder, is_known_root
from mtcl.training.record import PLAIN_OF_TRAINER

log = logging.getLogger("mtcl")
ENCODER = (
    *("name", "revision", "pooling", "dense", "dim", "projection", "attention", "dropout", "tokens_per_chunk"),
    *("compile", "train", "freeze_layers", "lora", "frozen_dtype"),
)
OPTIMIZER = ("lr", "head_lr", "weight_decay", "warmup_steps", "decay", "layer_decay")
MODEL = ("gradient_cosines_every_n_steps", "eval_dims", "eval_groups", "activation_checkpointing", "unseen_weight")
COMPARED = ("evaluate_base", "evaluate_start")
"""Also of the model, but only for a run that goes on: `mtcl test` compares with the base, whatever the run did."""
MIXTURE = ("batch_size", "tasks_per_step", "alpha", "cap", "pairs_per_task", "replay", "pairs_per_label")
DATA = (*MIXTURE, "max_length", "prompt", "held_out", "allow_leaks")
TASK = (
    *("weight", "weight_schedule", "batch_size", "max_length", "loss_weight", "prompt", "hard_negatives", "head"),
    *("pairs_per_task", "pairs_per_label", "watch", "replay"),
)
ORDINARY: tuple[Any, ...] = (None, False, 0, 0.0, "auto", [], {})
"""Values that can be left out without any effect."""
ORDINARY_HERE = {
    "trainer.num_nodes": 1,
    "trainer.inference_mode": True,
    "trainer.enable_autolog_hparams": True,
    "data.num_workers": 1,
    "model.evaluate_base": True,
    "model.evaluate_start": True,
}


def plain_config(
    saved: SavedRun, *, resumes: bool = False, cache: str | None = None, tells: bool = True
) -> dict[str, Any]:
    """The configuration to run with; the whole one if the user trusts the file. `tells` logs what is left out."""
    if saved.is_trusted:
        return saved.config
    left_out: list[str] = []
    kept = _plain(saved, left_out)
    if resumes:
        kept["model"] |= _Taker(saved, []).take(saved.section("model"), COMPARED, "model.")
    if root := saved.section("data").get("root"):
        if isinstance(root, str) and is_known_root(Path(root).expanduser(), cache=cache_folder(cache)):
            kept["data"]["root"] = root
        else:
            left_out.append(f"data.root {root!r:.80}")
    if left_out and tells:
        log.warning(
            "not taken from the checkpoint: %s. Give those you need, or --trust_checkpoint if you trust the file",
            ", ".join(left_out),
        )
    return kept


@dataclass(frozen=True)
class _Taker:
    """Takes plain values from a checkpoint's configuration, and notes in `left_out` what it does not take."""

    saved: SavedRun
    left_out: list[str]

    def take(
        self, section: Mapping[str, Any], names: tuple[str, ...], prefix: str, *, handled: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        for name, value in section.items():
            if name not in (*names, *handled) and not _is_ordinary(f"{prefix}{name}", value):
                self.left_out.append(f"{prefix}{name}")
        taken = {name: section[name] for name in names if name in section}
        if odd := [name for name, value in taken.items() if not _is_plain(value)]:
            raise self.saved.malformed(f"{prefix}{odd[0]} is {taken[odd[0]]!r:.60}")
        return taken

    def own(self, value: Any, package: Any, name: str) -> Any:
        if value is None or (found := own_class(value, package)) is not None:
            return None if value is None else found
        self.left_out.append(name)
        return None

    def tasks(self) -> dict[str, dict[str, Any]]:
        found = {}
        for name in self.saved.section("tasks"):
            task = self.saved.section("tasks", name)
            found[name] = self.take(task, TASK, f"tasks.{name}.", handled=("loss",))
            if loss := self.own(task.get("loss"), losses, f"tasks.{name}.loss"):
                found[name]["loss"] = loss
        return found


def plain_tasks(saved: SavedRun, left_out: list[str]) -> dict[str, dict[str, Any]]:
    """The plain options of each task; the names of those that are not taken are added to `left_out`."""
    return _Taker(saved, left_out).tasks()


def plain_mixture(saved: SavedRun, names: tuple[str, ...]) -> dict[str, Any]:
    """The named keys of `data`, as far as the checkpoint has them."""
    return _Taker(saved, []).take(saved.section("data"), names, "data.")


def _plain(saved: SavedRun, left_out: list[str]) -> dict[str, Any]:
    taker = _Taker(saved, left_out)
    take, own = taker.take, taker.own
    config: dict[str, Any] = {}
    if "seed_everything" in saved.config:
        config |= take({"seed_everything": saved.config["seed_everything"]}, ("seed_everything",), "")
    config["tasks"] = taker.tasks()
    model = saved.section("model")
    config["model"] = take(model, MODEL, "model.", handled=("encoder", "optimizer", "weighting", "keep"))
    if keep := saved.section("model", "keep"):
        config["model"]["keep"] = take(keep, ("strength", "share"), "model.keep.")
    encoder = take(saved.section("model", "encoder"), ENCODER, "model.encoder.")
    if encoder.get("tokens_per_chunk") in ANOTHER_MACHINE:
        encoder.pop("tokens_per_chunk", None)
    if encoder.get("attention", ATTENTIONS[0]) not in ATTENTIONS:
        left_out.append(f"model.encoder.attention {encoder.pop('attention')!r:.60}")
    config["model"] |= {"encoder": encoder}
    config["model"]["optimizer"] = take(saved.section("model", "optimizer"), OPTIMIZER, "model.optimizer.")
    if found := own(model.get("weighting"), weighting, "model.weighting"):
        config["model"]["weighting"] = found
    config["data"] = take(saved.section("data"), DATA, "data.", handled=("root",))
    config["trainer"] = take(saved.section("trainer"), PLAIN_OF_TRAINER, "trainer.")
    if averaging := saved.section("averaging"):
        config["averaging"] = take(averaging, ("decay", "start_step"), "averaging.")
    for name in ("checkpoint_every_n_steps", "board"):
        if (value := saved.config.get(name)) is not None:
            config |= take({name: value}, (name,), "")
    known = {*config, "averaging", "checkpoint_every_n_steps", "board", "config"}
    left_out += [str(k) for k, v in saved.config.items() if k not in known and not _is_ordinary(str(k), v)]
    return config


def without_role(task: Mapping[str, Any], *, is_trained: bool) -> dict[str, Any]:
    """The options of a task in a merged checkpoint. Merging does not replay, and a task that a run trained is not
    watched.
    """
    return {**task, "replay": False, "watch": bool(task.get("watch")) and not is_trained}


def own_class(value: Any, package: Any) -> Any:
    """A class of mtcl with plain arguments, in the form of a configuration with its full path; None for other classes.

    `package` is `mtcl.losses` or `mtcl.weighting`.
    """
    value = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or set(value) - {"class_path", "init_args"}:
        return None
    path, arguments = str(value.get("class_path")), value.get("init_args") or {}
    place, _, name = path.rpartition(".")
    if place not in ("", "mtcl", package.__name__) and not place.startswith(f"{package.__name__}."):
        return None
    kind = getattr(package, name, None) if name in package.__all__ else None
    if not isinstance(kind, type) or not issubclass(kind, losses.Loss | weighting.Weighting):
        return None
    if not isinstance(arguments, dict):
        return None
    taken, hints = {}, get_type_hints(kind.__init__)
    for key, argument in arguments.items():
        if key not in hints:
            return None
        if _is_class(hints[key]):  # a bare name would also be imported
            found = [own_class(one, package) for one in (argument if isinstance(argument, list) else [argument])]
            if None in found:
                return None
            taken[key] = found if isinstance(argument, list) else found[0]
        elif not _is_plain(argument):
            return None
        else:
            taken[key] = argument
    return {"class_path": f"{package.__name__}.{name}", "init_args": taken}


def made(value: Any) -> Any:
    """An instance of what `own_class` describes; other values stay as they are."""
    if isinstance(value, list):
        return [made(one) for one in value]
    if not isinstance(value, Mapping) or "class_path" not in value:
        return value
    place, _, name = value["class_path"].rpartition(".")
    kind = getattr(weighting if place == weighting.__name__ else losses, name)
    return kind(**{key: made(argument) for key, argument in (value.get("init_args") or {}).items()})


def _is_class(hint: Any) -> bool:
    """Whether an argument with this annotation is an instance of an mtcl class, or a list of instances."""
    return any(_is_class(one) for one in get_args(hint)) or (
        isinstance(hint, type) and issubclass(hint, losses.Loss | weighting.Weighting)
    )


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or null, or a list or mapping of these."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return "class_path" not in value and all(isinstance(k, str | int) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def _is_ordinary(name: str, value: Any) -> bool:
    return value in ORDINARY or (name in ORDINARY_HERE and value == ORDINARY_HERE[name]) or name == "data.start_method"
