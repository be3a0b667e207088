"""`mtcl losses`: list the losses and what they need; `mtcl losses InfoNCE`: show one with its parameters."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_type_hints

from mtcl.commands.arguments import Parser
from mtcl.console import columns
from mtcl.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from mtcl.losses import Loss


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("name", nargs="?", help="a loss; also its name in sentence-transformers")
    options = parser.parse_args(arguments)
    print(all_losses() if options.name is None else one_loss(options.name))
    return 0


@dataclass(frozen=True)
class Parameter:
    """An argument of a loss, as its signature and docstring have it."""

    name: str
    type: str
    default: str
    meaning: str


def all_losses() -> str:
    """A line for each loss: its name, the kinds of pairs that it is for, and its first paragraph."""
    kinds = _kinds()
    width, room = max(map(len, kinds)), columns()
    lines = []
    for name, kind in kinds.items():
        lines.append(f"{name:<{width}}  for {needs_of(kind)}")
        lines += textwrap.wrap(
            first_paragraph(kind), room, initial_indent=" " * (width + 2), subsequent_indent=" " * (width + 2)
        )
    lines += [
        "",
        "`mtcl losses InfoNCE` shows its parameters and how to give it",
    ]
    return "\n".join(lines)


def one_loss(name: str) -> str:
    """A loss's docstring, and its parameters with type, default and meaning.

    Raises `ConfigError` for an unknown name, with mtcl's counterpart of a loss of another library.
    """
    from mtcl.losses.counterparts import COUNTERPARTS, no_loss_of_ours

    kinds = _kinds()
    if name in COUNTERPARTS:
        raise ConfigError(no_loss_of_ours(name))
    if name not in kinds:
        raise ConfigError(f"no loss {name!r}{nearest(name, kinds)}")
    kind, room = kinds[name], columns()
    text = re.split(r"^(?:Args|Example):\n", inspect.getdoc(kind) or "", maxsplit=1, flags=re.MULTILINE)[0]
    lines = [f"{name}, for {needs_of(kind)}", "", text.rstrip(), "", "Parameters:"]
    for one in parameters(kind):
        lines.append(f"  {one.name}: {one.type}{f' = {one.default}' if one.default else ', required'}")
        lines += textwrap.wrap(one.meaning, room, initial_indent="      ", subsequent_indent="      ")
    theirs = [other for other, ours in COUNTERPARTS.items() if re.match(rf"(?:{{class_path: )?{name}\b", ours)]
    if theirs:
        told = f"Elsewhere, for the same pairs: {', '.join(theirs)}"
        lines += ["", *textwrap.wrap(told, room, subsequent_indent="    ")]
    return "\n".join([*lines, "", "In a configuration:", *(f"  {line}" for line in _example(kind).splitlines())])


def needs_of(kind: type[Loss]) -> str:
    """The kinds of pairs that the loss is for, and what else it needs."""
    from mtcl.task.kind import Kind

    pairs = (
        "any pairs" if kind.kinds == frozenset(Kind) else f"{listed(one for one in Kind if one in kind.kinds)} pairs"
    )
    return pairs + ("; needs a teacher" if any(one.name == "teacher" for one in parameters(kind)) else "")


def first_paragraph(kind: type[Loss]) -> str:
    """The first paragraph of a class's docstring as one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def parameters(kind: type[Loss]) -> list[Parameter]:
    """The arguments of a loss. Each is in its docstring, as a test checks."""
    from mtcl.configuration.help import arguments_in
    from mtcl.configuration.words import expected, shown

    meanings = arguments_in(inspect.getdoc(kind) or "")
    hints = get_type_hints(kind.__init__)
    return [
        Parameter(
            name,
            expected(hints.get(name)),
            "" if one.default is one.empty else shown(one.default).strip("'"),
            " ".join(meanings.get(name, "").split()),
        )
        for name, one in list(inspect.signature(kind.__init__).parameters.items())[1:]
    ]


def _example(kind: type[Loss]) -> str:
    """The loss in YAML, with its first parameter, or with those that it needs."""
    found = parameters(kind)
    given = [one for one in found if not one.default] or found[:1]
    values = {"loss": "InfoNCE", "losses": "[InfoNCE, TeacherMSE]", "dims": "[128, 64]"}
    arguments = ", ".join(f"{one.name}: {values.get(one.name, one.default)}" for one in given)
    init_args = f", init_args: {{{arguments}}}" if arguments else ""
    return f"tasks:\n  NAME: {{loss: {{class_path: {kind.__name__}{init_args}}}}}"


def _kinds() -> dict[str, type[Loss]]:
    import mtcl.losses as losses

    found = {name: getattr(losses, name) for name in losses.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, losses.Loss) and kind is not losses.Loss
    }
