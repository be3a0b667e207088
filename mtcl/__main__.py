"""The `mtcl` command. It needs only the standard library and imports a command's module when that command is called.

Errors that the user can fix are shown as one line, with exit code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys

from mtcl.processes import leave

COMMANDS = {
    "fit": ("mtcl.commands.run", "co-train the tasks of a configuration"),
    "validate": ("mtcl.commands.run", "evaluate on the validation splits"),
    "test": ("mtcl.commands.run", "evaluate on the test splits"),
    "predict": ("mtcl.commands.run", "write the embeddings of the test splits"),
    "tasks": ("mtcl.commands.tasks", "list, show, check or create tasks"),
    "losses": ("mtcl.commands.losses", "list the losses, or show one with its parameters"),
    "mine": ("mtcl.commands.mine", "find hard negatives for a task's training rows"),
    "merge": ("mtcl.commands.merge", "average the weights of checkpoints, or of one and the base encoder"),
    "export": ("mtcl.commands.export", "write an encoder as a folder that other libraries load"),
    "embed": ("mtcl.commands.embed", "embed the texts of many files"),
    "serve": ("mtcl.commands.serve", "answer requests for embeddings over HTTP"),
    "index": ("mtcl.commands.index", "build a FAISS index over a folder of vectors"),
    "search": ("mtcl.commands.search", "look at the nearest vectors of a text"),
    "align": ("mtcl.commands.align", "map vectors of an upgraded encoder to the space of the old one, or back"),
    "transfer": ("mtcl.commands.transfer", "measure what each task gains from joint training"),
    "compare": ("mtcl.commands.compare", "compare encoders on the same tasks"),
    "demo": ("mtcl.commands.demo", "generate a small corpus to try mtcl with"),
}

OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT}
"""File errors that the user can fix: permissions, a file where a folder should be, a full disk."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from mtcl.types import __version__

        print(__version__)
        return 0
    from mtcl.errors import ConfigError, MtclError, nearest

    try:
        command = arguments[0]
        if command not in COMMANDS:
            raise ConfigError(f"unknown command {command!r}{nearest(command, COMMANDS, most=len(COMMANDS))}")
        code: int = importlib.import_module(COMMANDS[command][0]).main(command, arguments[1:])
        return code
    except MtclError as error:
        if debug:
            raise
        if not (error.on_all_ranks and os.environ.get("LOCAL_RANK", "0") != "0"):
            print(f"mtcl: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if debug or error.errno not in OF_THE_SYSTEM:
            raise
        print(f"mtcl: {error.strerror}: {error.filename or error}", file=sys.stderr)
        return 2


def entry() -> None:
    """The console script; it ends silently if the reader of its output has closed the pipe (`mtcl ... | head`)."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # 128 + SIGPIPE, the shell convention
    leave(code)


def usage() -> str:
    """The text of `mtcl --help`."""
    lines = [f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mtcl COMMAND [OPTIONS] [--debug]",
            "",
            "Multi-task contrastive learning of text embeddings.",
            "",
            "commands:",
            *lines,
            "",
            "`mtcl COMMAND --help` describes a command; --debug shows tracebacks.",
        ]
    )


if __name__ == "__main__":
    entry()
