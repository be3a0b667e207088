"""Suggest the right name for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from mtcl.configuration.keys import Section, full_names, section_of
from mtcl.configuration.types import Members

ELSEWHERE = {
    "model.optimizer.lr": ("learning_rate", "learningrate", "lr"),
    "model.optimizer.warmup_steps": ("warmup", "warmup_ratio", "num_warmup_steps"),
    "model.optimizer.decay": ("lr_scheduler_type", "scheduler"),
    "model.encoder.name": ("model_name", "model_name_or_path", "base_model"),
    "model.activation_checkpointing": ("gradient_checkpointing",),
    "data.batch_size": ("bs", "train_batch_size", "per_device_train_batch_size", "mini_batch_size"),
    "data.max_length": ("max_len", "max_seq_length", "max_seq_len"),
    "data.num_workers": ("workers", "dataloader_num_workers"),
    "data.root": ("data_dir", "data_path", "dataset"),
    "tasks.NAME.weight": ("task", "dataset_name"),
    "tasks.NAME.loss.temperature": ("temperature", "scale"),
    "trainer.max_steps": ("epochs", "num_epochs", "max_epochs", "num_train_epochs", "train_epochs", "steps"),
    "trainer.accumulate_grad_batches": ("gradient_accumulation_steps", "grad_accum"),
    "trainer.gradient_clip_val": ("max_grad_norm", "clip_grad_norm"),
    "trainer.precision": ("fp16", "bf16", "amp"),
    "trainer.devices": ("gpus", "num_gpus", "n_gpu", "nproc_per_node"),
    "trainer.accelerator": ("device",),
    "trainer.val_check_interval": ("eval_steps", "evaluation_steps", "eval_every"),
    "trainer.log_every_n_steps": ("logging_steps", "log_every"),
    "checkpoint_every_n_steps": ("save_steps", "save_every"),
    "seed_everything": ("seed", "random_seed", "random_state"),
    "--run_dir": ("output_dir", "out_dir", "save_dir", "output"),
    "--resume": ("resume_from_checkpoint",),
}
"""mtcl's key or option -> its names in other libraries (transformers, sentence-transformers) and short names. A mixture
of tasks has steps, not epochs.
"""


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Known names with a similar spelling, ignoring case: at most three, all about as close as the closest one."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)

    def ratio(other: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), other).ratio()

    return [by_lower[other] for other in near if ratio(other) > ratio(near[0]) - 0.1]


def closest_key(key: str, section: Section) -> list[str]:
    """Full names of the configuration keys that an unknown full name may mean.

    Tried in order: names in other libraries, keys with the same last part elsewhere, similar keys in the same section,
    similar keys anywhere.
    """
    known = [name for name, _ in full_names(section)] + list(_named(section))
    place, _, last = key.rpartition(".")
    if same := [ours for ours, names in ELSEWHERE.items() if last.lower().replace("-", "_") in names]:
        return same
    if elsewhere := [name for name in known if name.rpartition(".")[2] == last]:
        return elsewhere[:3]
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == place}
    if near := closest(last, beside):
        return [beside[name] for name in near]
    near = closest(last, {name.rpartition(".")[2] for name in known})
    return [name for name in known if name.rpartition(".")[2] in near][:3]


def did_you_mean(names: list[str]) -> str:
    """A hint to append to a message."""
    return "; did you mean " + " or ".join(repr(name) for name in names) + "?" if names else ""


def _named(section: Section) -> Iterator[str]:
    """Keys of records in a dict, whose names the user chooses: `tasks.NAME.loss`."""
    for key, hint in section.keys.items():
        entry = None if isinstance(hint, Section) else Members.of(hint).entry
        record = Members.of(entry[1]).record if entry else None
        if record:
            yield from (f"{key}.NAME.{name}" for name in section_of(record).keys)
