"""`mtcl transfer --config study.yaml`: run single, joint and base arms over seeds and report what each task gains.

Run the same command again to resume a study: finished runs are kept and interrupted ones continue.
"""

from __future__ import annotations

import signal
from pathlib import Path

from mtcl.commands.arguments import Parser, parse, user_path
from mtcl.commands.process import quiet_libraries
from mtcl.configuration.yaml_files import load
from mtcl.errors import ConfigError, at

STUDIES = Path("studies")


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__, add_help=False)
    parser.add_argument("-c", "--config", action="append", default=[], help="YAML file; several merge, later ones win")
    parser.add_argument(
        "--study_dir",
        type=user_path,
        help="folder of the study (default: studies/NAME, from the name of the first file)",
    )
    parser.add_argument("--jobs", type=int, help="number of parallel runs (default: the number of GPUs, or 1)")
    options, rest = parser.parse_known_args(arguments)
    if "-h" in rest or "--help" in rest:
        parser.print_help()
        print("\nAll keys of a study:\n")
    elif not options.config:
        raise ConfigError("no study: give --config FILE")
    quiet_libraries()
    from mtcl.studies.transfer import StudyConfig, run_study

    study = parse(StudyConfig, load(options.config), rest)
    signal.signal(signal.SIGTERM, _leave)
    with at(jobs="--jobs"):
        report = run_study(study, options.study_dir or STUDIES / Path(options.config[0]).stem, jobs=options.jobs)
    print(report.read_text(encoding="utf-8"))
    print(f"written to {report}; in TensorBoard: tensorboard --logdir {report.parent.parent}")
    return 0


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
