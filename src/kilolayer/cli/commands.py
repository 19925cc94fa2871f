"""The subcommands: names, what each is for, and where its module is. Nothing heavy is imported."""

COMMANDS = {
    "demo": "train an agent in a maze and write its report: two minutes on a laptop",
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
    "sweep": "try settings that Optuna chooses: table and figure",
    "compare": "compare runs: table and figure",
    "bench": "measure speed",
    "completion": "print what makes a shell complete commands, flags and names",
}
"""Subcommands, each a module `kilolayer.cli.NAME` with a function `run(arguments) -> exit code`."""

HELP = "help"
"""`kilolayer help COMMAND` is `kilolayer COMMAND --help`."""

MODULES = {"eval": "evaluate", "new-task": "new_task"}
"""Modules of subcommands that have another name."""

COMPUTING = frozenset(
    {"demo", "train", "distill", "prune", "eval", "record", "report", "play", "render", "export"}
    | {"study", "sweep", "bench"}
)
"""Subcommands that compile programs, which are kept on disk for the next process."""

BELOW = {
    "bench": ("step", "compile", "replay", "env", "gym", "act", "seeds", "agents", "gpu"),
    "envs": ("show", "check", "explore"),
}
"""Commands below a subcommand. `envs` is a command by itself, too."""

HELP_ALL = "--help-all"
"""Shows every option where the short help names only those that people use first."""

HELP_FLAGS = ("-h", "--help", HELP_ALL)
"""What asks for help."""


def module_of(command: str) -> str:
    """Return the name of the module of a subcommand."""
    return f"kilolayer.cli.{MODULES.get(command, command)}"
