"""Heads of tasks: each is a task's own projection of the shared unit vector, normalised again.

A head is linear with a bias, like the shared projection, because both start as a centred PCA: vectors of an encoder
have a large common part, and without the bias the first component would be spent on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.encoder.finite import check_finite
from mtcl.encoder.module_state import HEADS, part
from mtcl.errors import ConfigError, root_cause

FILE = "heads.safetensors"
"""The heads of an exported folder, under their names in a module's state."""


def through(head: nn.Module | None, vectors_TD: Tensor) -> Tensor:
    """(T, E) unit vectors of a task, on the device of `vectors_TD`; the shared vectors if the task has no head."""
    if head is None:
        return vectors_TD
    device = next(head.parameters()).device
    return F.normalize(head(vectors_TD.to(device)).float(), dim=-1).to(vectors_TD.device)


def heads_in(state: Mapping[str, Tensor]) -> dict[str, nn.Linear]:
    """The heads by task in a module's state. Raises `ValueError` for shapes that no head has."""
    found = {}
    weights = part(state, HEADS)
    for task in dict.fromkeys(name.rpartition(".")[0] for name in weights):
        weight_ED, bias_E = (weights.get(f"{task}.{name}") for name in ("weight", "bias"))
        if weight_ED is None or bias_E is None or weight_ED.dim() != 2 or bias_E.shape != weight_ED.shape[:1]:
            raise ValueError(f"the head of task {task!r} is not whole")
        head = nn.Linear(weight_ED.shape[1], len(weight_ED))
        head.load_state_dict({"weight": weight_ED, "bias": bias_E})
        found[task] = head.requires_grad_(False)
    return found


def read_heads(folder: Path) -> dict[str, nn.Linear]:
    """The heads by task of an exported folder. Raises `ConfigError` for a malformed file."""
    from safetensors.torch import load_file

    file = folder / FILE
    try:
        state = load_file(file) if file.is_file() else {}
        check_finite(state, str(file), advice="export the run again")
        return heads_in(state)
    except ConfigError:
        raise
    except Exception as error:  # safetensors has error types of its own
        raise ConfigError(f"{file} is malformed ({root_cause(error)}): export the run again") from error


def write_heads(folder: Path, heads: Mapping[str, nn.Module]) -> None:
    """Write a folder's heads, if there are any."""
    from safetensors.torch import save_file

    state = {f"{HEADS}{task}.{name}": v for task, head in heads.items() for name, v in head.state_dict().items()}
    if state:
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / FILE)
