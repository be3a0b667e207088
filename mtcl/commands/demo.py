"""`mtcl demo DIR`: write a generated corpus in the layout of a data root."""

from __future__ import annotations

from mtcl.commands.arguments import Parser, user_path


def main(command: str, arguments: list[str]) -> int:
    parser = Parser(prog=f"mtcl {command}", description=__doc__)
    parser.add_argument("folder", type=user_path, help="where to write; one sub-folder per task")
    parser.add_argument("--posts", type=int, default=5000, help="number of posts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default: %(default)s)")
    options = parser.parse_args(arguments)
    from mtcl.demo import write_demo

    for task, rows in write_demo(options.folder, posts=options.posts, seed=options.seed).items():
        print(f"{task}: " + ", ".join(f"{count:,} {split}" for split, count in rows.items()))
    print(f"written to {options.folder}; train on it: mtcl fit --config configs/demo.yaml --data.root {options.folder}")
    return 0
