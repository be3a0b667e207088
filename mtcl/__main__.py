"""The `mtcl` command. It needs only the standard library and imports a command's module when that command is called.

Errors that the user can fix are shown as one line, with exit code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path

from mtcl.processes import leave

COMMANDS = {
    "fit": ("mtcl.commands.run", "co-train the tasks of a configuration"),
    "validate": ("mtcl.commands.run", "evaluate on the validation splits"),
    "test": ("mtcl.commands.run", "evaluate on the test splits"),
    "predict": ("mtcl.commands.run", "write the embeddings of the test splits"),
    "tasks": ("mtcl.commands.tasks", "list, show, check or create tasks"),
    "configs": ("mtcl.commands.configs", "list the configurations that come with mtcl, or print one"),
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

OF_THE_SYSTEM = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT),
    *(errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EEXIST),
}
"""Errors that the user can fix: permissions, a file or a broken link where a folder should be, a full or broken disk, a
path too long, too many open files."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from mtcl.records.version import __version__

        print(__version__)
        return 0
    from mtcl.commands.process import allow_open_files
    from mtcl.console import line_of
    from mtcl.errors import ConfigError, MtclError, advised, nearest, path_fault

    allow_open_files()
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
            print(f"mtcl: {type(error).__name__}: {advised(line_of(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        print("mtcl: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        if debug or error.errno not in OF_THE_SYSTEM:
            raise
        if error.filename is None and error.errno == errno.ENOSPC:  # standard output: all files are named
            raise
        print(f"mtcl: {advised(f'{error.strerror}: {line_of(error.filename or error)}')}", file=sys.stderr)
        return 2
    except (RuntimeError, UnicodeEncodeError) as error:
        told = path_fault(error, arguments)
        if debug or told is None:
            raise
        print(f"mtcl: {line_of(told)}", file=sys.stderr)
        return 2


def entry() -> None:
    """The console script. Output that a terminal cannot show is escaped, so that nothing is lost; the command ends
    silently if the reader of its output has closed the pipe (`mtcl ... | head`), or if there is none.
    """
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:  # closed by the shell: `mtcl ... >&-`
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        code = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    except OSError as error:
        if "--debug" in sys.argv or error.errno != errno.ENOSPC:
            raise
        print(f"mtcl: {error.strerror}: standard output", file=sys.stderr)
        _drop_output()
        code = 2
    leave(code)


def _drop_output() -> None:
    """Discard output that is still to be written, so that Python does not fail when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
