"""The facts of a run: the settings and data that determine each step's pairs and what their loss is computed from.

Ranks compare them before the first step, and a resumed run compares its own with those in the checkpoint. Fewer
sub-batches per step with correspondingly more accumulated steps are the same facts: an optimizer step has the same
pairs and, with the default weighting or `Uncertainty`, the same gradient. (`GradientWeighting` compares the tasks of a
micro-step, and `model.keep` draws its texts by micro-step.)
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtcl.data.subset import digest_of
from mtcl.distributed import of_all_ranks
from mtcl.errors import ConfigError
from mtcl.training.run import Run

Facts = dict[str, Any]
"""Plain values by name, in nested dicts, so that reading a checkpoint executes nothing."""
SHOWN = 4
WORDS = {"schedule": "weight_schedule (in sub-batches)"}
"""What a fact is called in messages, where it is not the key of a configuration."""


def facts_of(run: Run) -> Facts:
    """The facts of a run; its stores must be open."""
    data, model = run.data, run.model
    mixture = asdict(data.plan)
    del mixture["tasks_per_step"]
    if not data.plan.replayed:  # a run without these facts is the same as one of a version that had no replay
        del mixture["replay"]
    tasks = {task.pop("name"): task for task in mixture.pop("tasks")}
    for name, task in tasks.items():
        store = data.store(name, "train")
        task["schedule"] = [[step * data.plan.num_slots, weight] for step, weight in task["schedule"]]
        if not task["is_replayed"]:
            del task["is_replayed"]
        task["max_length"] = data.stores.length_of(name)
        task["version"] = data.tasks[name].version
        task |= {"prompt": prompt} if (prompt := data.stores.prompt_of(name).plain()) else {}
        task |= {"head": head} if (head := data.task_configs[name].head) else {}
        if store.limit is not None:
            task["pairs_used"] = digest_of(store.pairs)
        task["data"] = store.folder.name.rpartition("-")[2]
    return {
        "model.encoder": {
            "name": model.config.name,
            "revision": model.config.revision,
            "weights": model.base.weights,
            "pooling": model.encoder.pooling,
            "dim": model.config.dim,
            **model.config.tuning,
        },
        "tasks": tasks,
        "order of tasks": list(tasks),
        "sub-batches an optimizer step": data.plan.num_slots * run.trainer.accumulate_grad_batches,
        **mixture,
    }


def differences(
    saved: Facts, now: Facts, prefix: str = "", *, sides: tuple[str, str] = ("in the checkpoint", "now")
) -> list[str]:
    """The differences, by dotted name. A branch missing on one side is named once. If the base weights are equal, the
    encoder's name and revision are not compared.
    """
    if prefix == "model.encoder." and saved.get("weights") == now["weights"]:
        now = {**now, "name": saved.get("name"), "revision": saved.get("revision")}
    if set(saved.get("tasks", ())) != set(now.get("tasks", ())):
        saved, now = ({k: v for k, v in facts.items() if k != "order of tasks"} for facts in (saved, now))
    found: list[str] = []
    for key in dict.fromkeys([*saved, *now]):
        old, new, name = saved.get(key), now.get(key), f"{prefix}{WORDS.get(key, key)}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.", sides=sides)
        elif key not in saved or key not in now:
            found.append(f"{name}: only {sides[key not in saved]}")
        elif old != new:
            found.append(f"{name}: {old} {sides[0]}, {new} {sides[1]}")
    return found


def shown(changes: list[str]) -> str:
    """The first few phrases, and the number of further ones."""
    return "; ".join(changes[:SHOWN]) + (f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def check_ranks_agree(run: Run) -> None:
    """Raise `ConfigError` on every rank if the data, plan or encoder of any rank differs from rank 0."""
    also = {"trainer.max_steps": run.trainer.max_steps, "evaluated tasks": list(run.data.evaluated)}
    first, *others = of_all_ranks({**facts_of(run), **also})
    for rank, facts in enumerate(others, 1):
        if found := differences(first, facts, sides=("on rank 0", f"on rank {rank}")):
            raise ConfigError(f"ranks differ ({shown(found)}): give all ranks the same files and values")
