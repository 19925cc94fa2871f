"""The command `kilolayer`: runs a subcommand, and prints what a user can correct as one line with exit code 2."""

import shlex
import signal
import sys
from collections.abc import Sequence

from kilolayer.cli.imports import import_whole
from kilolayer.cli.output import complain, finish_output, output_failed, set_up_output
from kilolayer.cli.user_code import FLAG, import_user_code
from kilolayer.device_errors import device_error
from kilolayer.errors import KilolayerError, UnknownNameError, nearest_names, short_line
from kilolayer.user_code import imported

COMMANDS = {
    "train": "train an agent, or resume a run",
    "distill": "train a smaller policy to act as a trained one",
    "eval": "evaluate a run",
    "record": "write episodes of a run as a data set",
    "prune": "leave out blocks of an actor: table and figure, or a smaller run",
    "report": "write report.html and pictures of a run",
    "play": "look at a robot live, before or after training",
    "render": "write a film, stills and a 3-D page of a run's episodes",
    "export": "write a policy as a file that runs without the library: ONNX or StableHLO",
    "envs": "list the environments, or check one",
    "new-task": "write a task file for a robot model of your own",
    "study": "run a study of the paper: table and figure",
    "compare": "compare runs: table and figure",
    "bench": "measure speed",
}
"""Subcommands, each a module `kilolayer.cli.NAME` with a function `run(arguments) -> exit code`."""

MODULES = {"eval": "evaluate", "new-task": "new_task"}
"""Modules of subcommands that have another name."""

COMPUTING = frozenset(
    {"train", "distill", "prune", "eval", "record", "report", "play", "render", "export", "study", "bench"}
)
"""Subcommands that compile programs, which are kept on disk for the next process."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C."""

USAGE = """\
usage: kilolayer [--import FILE] COMMAND [options]     (kilolayer COMMAND --help lists its options)

{commands}

--import FILE, before or behind COMMAND, imports a Python file (or module) of your own first, such as one that
registers environments.

kilolayer {version}: goal-reaching agents with networks up to a thousand layers deep."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    code = 0
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    listing = _only_lists(arguments)
    try:
        set_up_output()
        code = _run(arguments)
    except KilolayerError as error:
        complain(f"kilolayer: error: {error}{_way_out(error)}")
        code = 2
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 2
        if isinstance(error.__context__, BrokenPipeError):  # Rich exits with 1 when the reader has closed the pipe
            return output_failed(error.__context__, 0 if code == 1 else code, listing=listing)
    except OSError as error:
        if error.filename is None:
            return output_failed(error, code, listing=listing)
        complain(short_line(f"kilolayer: error: {error.filename}: {error.strerror}"))
        code = 2
    except BaseException as error:
        if _was_interrupted(error):
            complain("kilolayer: interrupted")
            code = INTERRUPTED
        elif (cause := device_error(error)) is not None:
            complain(short_line(f"kilolayer: error: a program failed: {cause}"))
            code = 2
        else:
            raise
    return finish_output(code, listing=listing)


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(_version())
        return 0
    command, *rest = import_user_code(arguments)
    if command not in COMMANDS:
        raise KilolayerError(f"command {command!r} is unknown; {nearest_names(command, COMMANDS)}")
    if command in COMPUTING:
        import_whole("kilolayer.process_setup").set_up_process()
    return import_whole(f"kilolayer.cli.{MODULES.get(command, command)}").run(rest)


def _way_out(error: KilolayerError) -> str:
    """Return how a name becomes known that a file of the user's own registers."""
    if not isinstance(error, UnknownNameError):
        return ""
    if error.files:
        return f"; add {shlex.join(word for file in error.files for word in (FLAG, file))}"
    return "" if imported() else f"; names of a file of your own need {FLAG} FILE"


def _only_lists(arguments: Sequence[str]) -> bool:
    """Return whether a command only lists things, so that `| head` is no fault."""
    return not arguments or not COMPUTING & set(arguments) or "--help" in arguments or "-h" in arguments


def _was_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C led to an error; a module that is being imported may raise another one because of it."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, KeyboardInterrupt):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _version() -> str:
    from kilolayer import __version__

    return __version__


def _usage() -> str:
    commands = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    return USAGE.format(commands=commands, version=_version())


if __name__ == "__main__":
    sys.exit(main())
