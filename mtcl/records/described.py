"""Plain values from objects: a loss or a weighting as a checkpoint stores it, and as people read it."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any, Self


class Described:
    """Remembers the arguments of an instance's `__init__`, so that a checkpoint can store it as plain values."""

    init_args: dict[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        with suppress(TypeError):  # `__init__` reports wrong arguments; there are none while a copy is being made
            given = inspect.signature(cls.__init__).bind(made, *arguments, **options).arguments
            made.__dict__["init_args"] = {k: v for k, v in list(given.items())[1:] if k != "kwargs"}
        return made

    def described(self) -> dict[str, Any]:
        """`{"class_path": ..., "init_args": ...}`, as in a configuration; nested instances are described too."""

        def plain(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [plain(one) for one in value]
            return value.described() if isinstance(value, Described) else value

        package = ".".join(type(self).__module__.split(".")[:2])
        path = package if package in ("mtcl.losses", "mtcl.weighting") else type(self).__module__
        return {
            "class_path": f"{path}.{type(self).__name__}",
            "init_args": {name: plain(value) for name, value in self.init_args.items()},
        }

    @property
    def words(self) -> str:
        """The class and its arguments that are not the defaults, for people: `Matryoshka(InfoNCE(), dims=[50])`."""
        defaults = {name: one.default for name, one in inspect.signature(type(self).__init__).parameters.items()}

        def word(value: Any) -> str:
            if isinstance(value, list | tuple):
                return f"[{', '.join(map(word, value))}]"
            return value.words if isinstance(value, Described) else str(value)

        changed = {name: value for name, value in self.init_args.items() if value != defaults.get(name)}
        given = [word(v) if isinstance(v, Described) else f"{k}={word(v)}" for k, v in changed.items()]
        return f"{type(self).__name__}({', '.join(given)})"
