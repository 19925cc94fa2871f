"""The options of `kilolayer train`: defaults that suit the environment and the agent, and help on what is read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from kilolayer.agents import BLOCKS, AgentName, agent_spec
from kilolayer.cli.options import HELP_FLAGS, parse
from kilolayer.errors import ConfigurationError
from kilolayer.runs import RunDirectory, TrainConfig, default_config, read_config
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.runs.seed_group import SeedGroup
from kilolayer.training.population import SeedsModeChoice


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an agent in ENV, or go on with a run. Defaults suit the environment: --help after ENV (and --agent)
    shows them."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    run_dir: Path | None = None
    """Where the run is kept; None takes a fresh directory under runs/."""
    seeds: str | None = None
    """Train these seeds side by side, such as 0..7 or 0,3,5: runs RUN_DIR/seed-0 and so on, each as any other."""
    seeds_mode: SeedsModeChoice = "auto"
    """With --seeds: threads (each seed by the program that trains it alone, as many at once as there are cores; the
    fastest to the end of a short run on a CPU), vmap (one program for all seeds; on a CPU it has the faster step for
    small networks on a robot), or auto: threads on a CPU, vmap elsewhere."""
    resume: Path | None = None
    """Go on with the run, or the runs of several seeds, in this directory, bit for bit as if it had not stopped."""
    config: Path | None = None
    """Start a run with all settings from a config.json; flags beside it change single ones."""
    checkpoint: int | None = None
    """With --resume: env steps of the checkpoint to go on from; None takes the latest."""
    dry_run: bool = False
    """Print sizes, parameters, memory and compile time, and train nothing."""
    json: bool = False
    """Print the result, or the plan of a dry run, as one JSON object; with several seeds, a list of results."""
    quiet: bool = False
    """Show no progress."""


def parse_train(arguments: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Parse twice: once to learn what the defaults are, once on top of them.

    Returns:
        The options, and of the settings those that flags changed.
    """
    asked = [argument for argument in arguments if argument not in HELP_FLAGS]
    wants_help = len(asked) < len(arguments)
    first: Any = parse(_unchecked(), asked, command="train")
    if first.seeds is None and first.seeds_mode != "auto":
        raise ConfigurationError(f"--seeds-mode {first.seeds_mode} needs --seeds")
    if first.seeds is not None and any(argument.split("=")[0] == "--seed" for argument in asked):
        raise ConfigurationError(f"--seed and --seeds {first.seeds} exclude each other; leave --seed out")
    if first.resume is not None:
        if first.settings.env or first.config or first.run_dir or first.seeds:
            raise ConfigurationError("--resume takes ENV, --config, --seeds and --run-dir from the run; leave them out")
        several = SeedGroup.is_at(first.resume)
        base = (SeedGroup.open(first.resume).runs[0] if several else RunDirectory.open(first.resume)).config()
    elif first.config is not None:
        if first.settings.env:
            raise ConfigurationError("--config holds the env already; leave ENV out")
        base = read_config(first.config)
    elif first.settings.env:
        agent = {} if first.settings.agent is None else {"agent": first.settings.agent}
        base = default_config(first.settings.env, **agent, **_sizes(first.settings))
    elif wants_help:
        base = TrainConfig()
    else:
        raise ConfigurationError("ENV is missing: kilolayer train ENV; `kilolayer envs` lists the environments")
    # The schedule sets the depth that no flag does; the default of the environment is not to stand against it.
    depth_follows = first.settings.grow is not None and first.settings.depth is None
    if depth_follows:
        arguments = [*arguments, f"--depth={GrowthSchedule.parse(first.settings.grow).final_depth}"]
    if wants_help:
        shown = _for_help(base)
        parse(type(shown), arguments, command="train", default=shown)
    options = parse(TrainOptions, arguments, command="train", default=TrainOptions(base))
    settings = {f.name: getattr(options.settings, f.name) for f in dataclasses.fields(TrainConfig)}
    changed = {name: value for name, value in settings.items() if value != getattr(base, name)}
    if first.resume is not None:
        if depth_follows:  # it was not asked for; --grow is what cannot change
            changed.pop("depth", None)
        return options, changed
    # The positional ENV may be a file; its maze is in `base`.
    changed.pop("env", None)
    full = default_config(**(base.to_dict() | changed))
    return dataclasses.replace(options, settings=full), changed


def _sizes(settings: Any) -> dict[str, int]:
    """Return the numbers that flags set, but for the depth: defaults that suit an agent may follow from them."""
    names = [f.name for f in dataclasses.fields(TrainConfig) if f.type is int and f.name != "depth"]
    names.append("total_gradient_steps")
    return {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}


def _unchecked() -> type:
    """Return `TrainOptions` with settings of the same fields that are not checked: the defaults in force may differ.

    A number or an agent that no flag sets is None.
    """
    fields = {
        f.name: (int | None, None) if f.type is int else (f.type, f.default) for f in dataclasses.fields(TrainConfig)
    }
    fields |= {"agent": (AgentName | None, None)}
    settings = dataclasses.make_dataclass(
        "Settings", [(name, kind, dataclasses.field(default=default)) for name, (kind, default) in fields.items()]
    )
    others = [
        (f.name, f.type, dataclasses.field(default=f.default))
        for f in dataclasses.fields(TrainOptions)
        if f.name != "settings"
    ]
    unchecked: Any = Annotated[settings, tyro.conf.arg(name="")]
    return dataclasses.make_dataclass(
        "Options", [("settings", unchecked, dataclasses.field(default_factory=settings)), *others]
    )


def _for_help(config: TrainConfig) -> Any:
    """Return options with these defaults, of a type that hides the settings of all other agents."""
    hidden = set(BLOCKS) - set(agent_spec(config.agent).reads)
    kinds = {f.name: Annotated[f.type, tyro.conf.Suppress] for f in dataclasses.fields(config) if f.name in hidden}
    settings: Any = _retyped(TrainConfig, kinds)
    options: Any = _retyped(TrainOptions, {"settings": Annotated[settings, tyro.conf.arg(name="")]})
    return options(settings(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)}))


def _retyped(cls: type, kinds: dict[str, Any]) -> type:
    """Return a subclass of a dataclass in which fields are of other types."""
    defaults = {name: getattr(cls, name) for name in kinds if hasattr(cls, name)}
    members = {"__annotations__": kinds, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return dataclasses.dataclass(frozen=True)(type(cls.__name__, (cls,), members | defaults))
