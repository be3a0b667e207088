"""`mtcl export RUN DIR`: write a trained encoder as one folder that other libraries and servers load.

The folder has the Hugging Face model, the modules of sentence-transformers and a model card; on request also an ONNX
graph, 8-bit graphs and a table of token vectors. `--check` evaluates each form on the run's own tasks.
"""

from __future__ import annotations

from mtcl.commands.arguments import Parser
from mtcl.commands.process import quiet_libraries
from mtcl.errors import ConfigError, at

FORMATS = ("sentence-transformers", "onnx")


def main(command: str, arguments: list[str]) -> int:
    parser = _parser(command)
    options = parser.parse_args(arguments)
    formats, targets = _listed(options.format), _listed(options.quantize)
    if odd := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"--format has {odd[0]!r}: give some of {', '.join(FORMATS)}, with commas between")
    if not options.check:
        parser.refuse(options, "check_tasks", "data.root", "tasks_dir", "cache", where="without --check")
    quiet_libraries()
    from mtcl.deploy.export import export
    from mtcl.deploy.export_check import Check
    from mtcl.encoder.text_encoder import TextEncoder

    encoder = TextEncoder.load(options.checkpoint, trust_checkpoint=options.trust_checkpoint)
    check = (
        Check(options.root, options.tasks_dir, options.cache, _listed(options.check_tasks)) if options.check else None
    )
    with at(task="--task", dim="--dim"):
        table = export(
            encoder,
            options.folder,
            task=options.task,
            dim=options.dim,
            onnx="onnx" in formats,
            quantize=targets,
            static=options.static,
            check=check,
        )
    if table:
        print(table)
    print(f"written {options.folder}; {options.folder}/README.md says how to use it")
    return 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parser(command: str) -> Parser:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument(
        "checkpoint", metavar="RUN", help="run folder (its best checkpoint), .ckpt, or a model's folder or name"
    )
    parser.add_argument("folder", metavar="DIR", help="folder to write")
    parser.add_argument("--task", help="export the vectors of this task: its head, prompt and max length")
    parser.add_argument("--dim", type=int, help="export this many leading dimensions (default: all)")
    parser.add_argument(
        "--format",
        default=FORMATS[0],
        help="sentence-transformers (always written), onnx; lists have commas between (default: %(default)s)",
    )
    parser.add_argument(
        "--quantize",
        default="",
        metavar="CPU",
        help="also ONNX with 8-bit weights: qint8 for this machine's CPU, or some of arm64, avx2, avx512, avx512_vnni",
    )
    parser.add_argument("--static", action="store_true", help="also a table of token vectors, for speed")
    parser.add_argument("--check", action="store_true", help="evaluate each form on the run's validation splits")
    parser.add_argument("--check_tasks", default="", metavar="TASKS", help="tasks of --check (default: all)")
    parser.add_argument("--data.root", dest="root", help="data root of --check (default: MTCL_DATA)")
    parser.add_argument("--tasks_dir", help="additional folders of task files of --check")
    parser.add_argument("--cache", help="folder for stores of --check (default: MTCL_CACHE or ~/.cache/mtcl)")
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="let a base model run code from its repository if the run did"
    )
    return parser
