"""The short help of a run: the keys that people change most, with their defaults, on one screen.

The help must appear at once, so this module does not import torch. Keys and defaults are a table that a test compares
with the parser. `ast` reads the descriptions of mtcl's own keys from the docstrings of their classes.
"""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

WIDTH = 100
BY_HARDWARE = "by hardware"
"""The default of a key that depends on the machine."""

HOW_TO_GIVE = """\
Keys of a configuration and their defaults. `model: {optimizer: {lr: 1.0e-4}}` in YAML is
--model.optimizer.lr 1e-4 here and MTCL_SET_MODEL__OPTIMIZER__LR=1e-4 in the environment."""

CLASSES = {
    "tasks.NAME": ("training/task_config.py", "TaskConfig"),
    "model": ("training/module.py", "MtclModule"),
    "model.encoder": ("encoder/config.py", "EncoderConfig"),
    "model.optimizer": ("training/optimizer.py", "OptimizerConfig"),
    "data": ("training/datamodule.py", "MtclDataModule"),
}
"""Section -> the class whose docstring describes its keys."""


@dataclass(frozen=True)
class Key:
    """A key as the help shows it.

    Attributes:
        name: Its full name.
        default: The default as YAML.
        text: Its description; if empty, the first sentence of the docstring.
        in_evaluation: Whether validate, test and predict also show it.
    """

    name: str
    default: str
    text: str = ""
    in_evaluation: bool = False

    def sentence(self) -> str:
        section, _, name = self.name.rpartition(".")
        return self.text or first_sentence(documented(*CLASSES[section])[name])


GROUPS = {
    "tasks": [
        Key("tasks.NAME.weight", "1.0"),
        Key("tasks.NAME.batch_size", "null", "Pairs per batch of the task; data.batch_size if null"),
        Key("tasks.NAME.loss", "null", "Loss name, e.g. InfoNCE; the pairs' default if null"),
    ],
    "model": [
        Key("model.encoder.name", "sentence-transformers/all-MiniLM-L6-v2", in_evaluation=True),
        Key(
            "model.encoder.pooling", "null", "mean, cls, last ...; what the model declares if null", in_evaluation=True
        ),
        Key("model.encoder.dim", "null"),
        Key("model.weighting", "null", "How to combine the tasks' losses; their mean if null"),
        Key("model.keep", "null", "Forget less: stay near the start, e.g. {strength: 1.0}"),
    ],
    "optimizer": [
        Key("model.optimizer.lr", "2.0e-05"),
        Key("model.optimizer.head_lr", "0.001", "Learning rate of projection and loss parameters"),
        Key("model.optimizer.warmup_steps", "0"),
        Key("model.optimizer.decay", "linear"),
    ],
    "data and mixture": [
        Key("data.root", "null", "Folder of the data; MTCL_DATA if null", in_evaluation=True),
        Key("data.batch_size", "64", "Pairs per batch of one task, over all ranks"),
        Key("data.max_length", "null", "Tokens of a text; what the model declares if null", in_evaluation=True),
        Key("data.alpha", "0.5", "A task's share is pairs^alpha: 0 equal, 1 proportional"),
        Key("data.tasks_per_step", "null", "Batches per step; one per task if null"),
        Key("data.held_out", "null", "Tasks to evaluate but never train", in_evaluation=True),
    ],
    "trainer": [
        Key("trainer.max_steps", "-1", "Number of optimizer steps; must be set"),
        Key("trainer.accelerator", "auto", "cpu, gpu or auto", in_evaluation=True),
        Key("trainer.devices", "auto", "Number of GPUs or processes", in_evaluation=True),
        Key("trainer.precision", BY_HARDWARE, "bf16-mixed if the hardware has it, else 32-true", in_evaluation=True),
        Key("trainer.accumulate_grad_batches", "1", "Steps to accumulate per optimizer step"),
        Key("seed_everything", "1", "Seed of pairs, their order and initial weights"),
    ],
    "evaluation and averaging": [
        Key("trainer.val_check_interval", "null", "Batches between evaluations; only at the end if null"),
        Key("model.eval_dims", "null", "Also evaluate vectors cut to, e.g., [128, 64]", in_evaluation=True),
        Key("board", "full", "How much TensorBoard shows: lean or full; null for scalars only"),
        Key("averaging", "null", "Keep an average of the weights, e.g. {decay: 0.999}"),
    ],
}

EXAMPLES = {
    "fit": [
        "mtcl fit --config configs/demo.yaml --data.root data/demo --trainer.max_steps 200",
        "mtcl fit --resume runs/demo",
    ],
    "validate": ["mtcl validate --ckpt runs/demo", "mtcl validate --config configs/demo.yaml --data.root data/demo"],
    "test": ["mtcl test --ckpt runs/demo", "mtcl test --config configs/demo.yaml --data.root data/demo"],
    "predict": ["mtcl predict --ckpt runs/demo --run_dir out", "mtcl predict --config configs/demo.yaml --run_dir out"],
}


def short_help(command: str, parser: argparse.ArgumentParser) -> str:
    """The text of `mtcl COMMAND --help`."""
    lines = [parser.format_help().rstrip(), "", HOW_TO_GIVE, ""]
    for title, keys in GROUPS.items():
        shown = [key for key in keys if command == "fit" or key.in_evaluation]
        if shown:
            lines += [f"{title}:", *(line for key in shown for line in _lines(key))]
    lines += ["", "examples:", *(f"  {example}" for example in EXAMPLES[command]), ""]
    return "\n".join([*lines, f"`mtcl {command} --help_all` lists every key."])


def first_sentence(text: str) -> str:
    """The text up to its first full stop, without the full stop."""
    sentence = " ".join(text.split()).partition(". ")[0].removesuffix(".")
    return sentence[0].upper() + sentence[1:]


@cache
def documented(file: str, name: str) -> dict[str, str]:
    """The description of each argument in the docstring of a class, read without importing the file."""
    tree = ast.parse(files("mtcl").joinpath(file).read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return arguments_in(ast.get_docstring(found) or "")


def arguments_in(docstring: str) -> dict[str, str]:
    """The description of each argument in a docstring without its common indentation."""
    section = re.split(r"^(?:Args|Attributes):\n", docstring, maxsplit=1, flags=re.MULTILINE)[-1]
    return dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE))


def _lines(key: Key) -> list[str]:
    head = f"  {key.name:<31} {key.default:<11} "
    room = WIDTH - len(head)
    text = key.sentence()
    if len(text) > room:
        text = text.partition("; ")[0]
    if len(text) > room:
        return [head.rstrip(), *textwrap.wrap(text, WIDTH, initial_indent=" " * 46, subsequent_indent=" " * 46)]
    return [head + text]
