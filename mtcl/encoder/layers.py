"""The layers of a backbone: the embeddings below, the stack of layers, and the parameters above it.

transformers has no common name for the stack (`encoder.layer`, `transformer.layer`, `encoder.block`, `layers`), but in
every family it is the longest `ModuleList` that is not inside another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mtcl.errors import ConfigError


@dataclass(frozen=True)
class Layers:
    """The layers of a backbone, lowest first, with the stack's name in it.

    `embeddings` are the parameters below the stack and the tables that all layers share; `top` are those above it, such
    as a final norm.
    """

    name: str
    stack: tuple[nn.Module, ...]
    embeddings: list[nn.Parameter]
    top: list[nn.Parameter]

    def floors(self) -> list[list[nn.Parameter]]:
        """All parameters, each once: the embeddings, then layer by layer. `top` belongs to the last layer."""
        shared = {id(p) for p in self.embeddings}
        layers = [[p for p in layer.parameters() if id(p) not in shared] for layer in self.stack]
        return [self.embeddings, *layers[:-1], [*layers[-1], *self.top]]


def layers_of(backbone: nn.Module) -> Layers:
    """Raises `ConfigError` if the backbone has no stack of layers.

    Outside of the stack, a parameter belongs to the embeddings if it is registered before the stack. If tables follow
    the stack in its own module (relative positions of MPNet and DeBERTa), all that follows there belongs to them, with
    the norm of the tables. Inside, a table is shared by all layers (relative positions of T5, held by its first layer).
    """
    found = stack_of(backbone)
    if found is None:
        raise ConfigError(f"{type(backbone).__name__} has no stack of layers: give freeze_layers 0, layer_decay 1.0")
    name, stack = found
    owner = backbone.get_submodule(name.rpartition(".")[0])
    tables = {id(p) for m in backbone.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    inside = {id(p) for p in stack.parameters()}
    beside = {id(p) for p in owner.parameters()} - inside
    is_followed = _has_tables_after(owner, stack)
    embeddings, top, has_begun = [], [], False
    for parameter in backbone.parameters():
        has_begun = has_begun or id(parameter) in inside
        is_below = not has_begun or id(parameter) in tables or (is_followed and id(parameter) in beside)
        if is_below:
            embeddings.append(parameter)
        elif id(parameter) not in inside:
            top.append(parameter)
    return Layers(name, tuple(stack), embeddings, top)


def stack_of(backbone: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The stack of layers, with its name; None if there is none."""
    lists = [(name, m) for name, m in backbone.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    outer = [(name, m) for name, m in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    return max(outer, key=lambda found: len(found[1]), default=None)


def _has_tables_after(owner: nn.Module, stack: nn.ModuleList) -> bool:
    children = list(owner.children())
    place = next(n for n, child in enumerate(children) if child is stack)
    return any(isinstance(child, nn.Embedding) for child in children[place + 1 :])
