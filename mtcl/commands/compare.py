"""`mtcl compare --config compare.yaml`: compare encoders on the same tasks, at several dimensions.

An encoder is an mtcl run, a model from the Hub, or an OpenAI-compatible embedding endpoint. Vectors from endpoints are
cached, so no text is paid for twice.
"""

from __future__ import annotations

from pathlib import Path

from mtcl.commands.arguments import Parser, parse, user_path
from mtcl.commands.folder_lock import only_writer
from mtcl.commands.process import quiet_libraries
from mtcl.configuration.yaml_files import read
from mtcl.errors import ConfigError


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__, add_help=False)
    parser.add_argument("-c", "--config", action="append", default=[], help="YAML file; several merge, later ones win")
    parser.add_argument(
        "--out", type=user_path, default=Path("compare"), help="folder for the table (default: %(default)s)"
    )
    options, rest = parser.parse_known_args(arguments)
    if "-h" in rest or "--help" in rest:
        parser.print_help()
        print("\nAll keys of a comparison:\n")
    elif not options.config:
        raise ConfigError("no comparison: give --config FILE")
    quiet_libraries()
    from mtcl.studies.compare import CompareConfig, run_comparison

    content = read(options.config)
    config = parse(CompareConfig, content, rest)
    with only_writer(options.out, command, advice="wait for it, or give another --out"):
        path = run_comparison(config, options.out)
    print(path.read_text(encoding="utf-8"))
    print(f"written to {path}")
    return 0
