"""`mtcl configs [NAME]`: list the configurations that come with mtcl, or print one.

`--config configs/NAME.yaml` finds them in every folder. To change one: `mtcl configs demo > my_run.yaml`.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from mtcl.commands.arguments import Parser
from mtcl.configuration.help import WIDTH
from mtcl.configuration.yaml_files import reference_folder
from mtcl.console import one_line
from mtcl.errors import ConfigError, nearest


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one (default: list all)")
    options = parser.parse_args(arguments)
    known = {path.stem: path for path in sorted(reference_folder().glob("*.yaml"))}
    if options.name is None:
        width = max(map(len, known))
        room = WIDTH - width - 2
        print("\n".join(f"{name:<{width}}  {one_line(purpose(path), room, end='...')}" for name, path in known.items()))
        return 0
    name = Path(options.name).stem
    if name not in known:
        raise ConfigError(f"no configuration {options.name!r} comes with mtcl{nearest(name, known)}")
    print(known[name].read_text(encoding="utf-8"), end="")
    return 0


def purpose(path: Path) -> str:
    """The first sentence of the comment at the top of a configuration."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return re.split(r"[.:;?] ", " ".join(line.removeprefix("#").strip() for line in comment))[0].rstrip(".")
