"""The layers that a sentence-transformers model has after its pooling, with their trained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mtcl.encoder.declared import Declared, Layer
from mtcl.errors import ConfigError, root_cause

ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"torch.nn.modules.{place}.{kind.__name__}": kind
    for place, kinds in {
        "activation": (nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Mish, nn.Softplus),
        "linear": (nn.Identity,),
    }.items()
    for kind in kinds
}


class Dense(nn.Module):
    """A linear layer with an activation and, optionally, a residual connection; (n, `size`) from (n, in)."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        before, self.size = int(options["in_features"]), int(options["out_features"])
        self.linear = nn.Linear(before, self.size, bias=bool(options.get("bias", True)))
        self.activation = ACTIVATIONS[options.get("activation_function", "torch.nn.modules.activation.Tanh")]()
        self.residual: nn.Module | None = None
        if options.get("use_residual"):
            self.residual = nn.Identity() if before == self.size else nn.Linear(before, self.size, bias=False)

    def forward(self, pooled_nH: Tensor) -> Tensor:
        found: Tensor = self.activation(self.linear(pooled_nH))
        return found if self.residual is None else found + self.residual(pooled_nH)


class Norm(nn.Module):
    """Layer normalisation."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(options["dimension"]))

    def forward(self, pooled_nH: Tensor) -> Tensor:
        found: Tensor = self.norm(pooled_nH)
        return found


class Normalize(nn.Module):
    """Unit length."""

    def forward(self, pooled_nH: Tensor) -> Tensor:
        return F.normalize(pooled_nH.float(), dim=-1)


class Truncate(nn.Module):
    """The leading dimensions."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, pooled_nH: Tensor) -> Tensor:
        return pooled_nH[:, : self.size]


MODULES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "Dense": Dense,
    "LayerNorm": Norm,
    "Dropout": lambda options: nn.Dropout(float(options.get("dropout", 0.2))),
    "Normalize": lambda _: Normalize(),
}


def load_layers(declared: Declared, *, name: str) -> nn.Sequential | None:
    """The declared layers with their weights; None if there are none. A final normalisation is left to the encoder.

    Raises `ConfigError`, which calls the model `name`, if their files are missing or malformed.
    """
    layers = list(declared.layers)
    while layers and layers[-1].kind == "Normalize":
        layers.pop()
    modules = [_load(layer, name) for layer in layers]
    if declared.truncate_dim is not None:
        modules.append(Truncate(declared.truncate_dim))
    return nn.Sequential(*modules) if modules else None


def size_after(layers: nn.Sequential | None, size: int) -> int:
    """The dimensions of vectors after the layers, which have `size` before them."""
    for module in layers or ():
        if isinstance(module, Dense):
            size = module.size
        elif isinstance(module, Truncate):
            size = min(size, module.size)
    return size


def _load(layer: Layer, name: str) -> nn.Module:
    activation = layer.options.get("activation_function")
    if activation is not None and activation not in ACTIVATIONS:
        raise ConfigError(f"model {name!r} has a Dense module with {activation}, which mtcl cannot apply")
    try:
        module = MODULES[layer.kind](layer.options)
        if any(True for _ in module.parameters()):
            module.load_state_dict(_weights(layer.folder))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = f"{type(error).__name__}: {root_cause(error)}"
        raise ConfigError(
            f"model {name!r}: the module {layer.kind} in {layer.folder} is malformed ({reason})"
        ) from error
    return module


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    if not file.is_file():
        raise ConfigError(f"{file} is missing: only weights in safetensors are loaded; save the model again")
    try:
        return load_file(file)
    except Exception as error:  # safetensors has error types of its own
        raise ConfigError(f"{file} is damaged ({root_cause(error)}): save or download the model again") from error
