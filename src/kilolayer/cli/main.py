"""The command `kilolayer`: runs a subcommand, and prints what a user can correct as one line with exit code 2."""

import importlib
import os
import sys
from collections.abc import Sequence

from kilolayer.cli.user_code import import_user_code
from kilolayer.errors import KilolayerError, nearest_names

COMMANDS = {
    "train": "train an agent, or resume a run",
    "eval": "evaluate a run",
    "report": "write report.html and pictures of a run",
    "render": "write a film, stills and a 3-D page of a run's episodes",
    "envs": "list the environments, or check one",
    "study": "run a study of the paper: table and figure",
    "compare": "compare runs: table and figure",
    "bench": "measure speed",
}
"""Subcommands, each a module `kilolayer.cli.NAME` with a function `run(arguments) -> exit code`."""

MODULES = {"eval": "evaluate"}
"""Modules of subcommands that have another name."""

COMPUTING = frozenset({"train", "eval", "report", "render", "study", "bench"})
"""Subcommands that compile programs, which are kept on disk for the next process."""

USAGE = """\
usage: kilolayer [--import FILE] COMMAND [options]     (kilolayer COMMAND --help lists its options)

{commands}

--import FILE imports a Python file (or module) of your own first, such as one that registers environments.

kilolayer {version}: goal-reaching agents with networks up to a thousand layers deep."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(_version())
        return 0
    try:
        arguments = import_user_code(arguments)
        if arguments[0] not in COMMANDS:
            raise KilolayerError(f"command {arguments[0]!r} is unknown; {nearest_names(arguments[0], COMMANDS)}")
        if arguments[0] in COMPUTING:
            from kilolayer.process_setup import set_up_process

            set_up_process()
        name = MODULES.get(arguments[0], arguments[0])
        return importlib.import_module(f"kilolayer.cli.{name}").run(arguments[1:])
    except KilolayerError as error:
        print(f"kilolayer: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kilolayer: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _version() -> str:
    from kilolayer import __version__

    return __version__


def _usage() -> str:
    commands = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    return USAGE.format(commands=commands, version=_version())


if __name__ == "__main__":
    sys.exit(main())
