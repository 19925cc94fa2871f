"""The options of `kilolayer train`: defaults that suit the environment, the agent and the torso."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from kilolayer.agents import OptimizerSettings, agent_specs
from kilolayer.cli.lists import OptionalSeeds
from kilolayer.cli.options import parse, scan, wants_help
from kilolayer.cli.spellings import in_full
from kilolayer.data import ReplaySettings
from kilolayer.data.datasets import environment_of
from kilolayer.errors import ConfigurationError
from kilolayer.nn import torso_names, torso_spec
from kilolayer.runs import RunDirectory, TrainConfig, default_config, read_config
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.runs.seed_group import SeedGroup
from kilolayer.training.population import SeedsModeChoice

NAMES = ("agent", "torso", "variant", "engine", "eval_env", "dataset", "dataset_dir", "init_from")
"""Settings by name that other defaults depend on."""

MOST_DIGITS = 4000
"""Python reads no longer numbers; the parser refuses them."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an agent in ENV, or resume a run. Defaults suit the environment: --help after ENV (and --agent, --torso)
    shows them."""

    FIRST: ClassVar[tuple[str, ...]] = (
        *("agent", "depth", "total-env-steps", "batch-size", "preset"),
        *("seed", "seeds", "run-dir", "resume", "dry-run"),
    )
    """Flags that people use first."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    blocks: Annotated[dict[str, Any], tyro.conf.arg(name="")] = dataclasses.field(default_factory=dict)
    """The settings of the agent, under its name."""
    run_dir: Path | None = None
    """Directory of the run; None takes a new one under runs/."""
    preset: str | None = None
    """Start from settings with a name, such as paper; `kilolayer envs show ENV` lists those of an
    environment, with what they reach. Flags beside it change single ones."""
    robot: str | None = None
    """With a maze file as ENV: the robot in the maze, such as ant; without, a point, or the robot that the file's first
    line names (robot: ant)."""
    seeds: OptionalSeeds = None
    """Seeds, such as 0..7 or 0,3,5, to train side by side: runs RUN_DIR/seed-0 and so on, each as any other. With
    --devices, the devices share the seeds, and each seed is whole on one."""
    seeds_mode: SeedsModeChoice = "auto"
    """With --seeds: threads (each seed by the program that trains it alone, as many at once as there are cores; the
    fastest to the end of a short run on a CPU), vmap (one program for all seeds; on a CPU it has the faster step for
    small networks on a robot), or auto: threads on a CPU, vmap elsewhere."""
    resume: Path | None = None
    """Resume the run, or the runs of several seeds, in this directory, bit for bit as if it had not stopped."""
    config: Path | None = None
    """Start a run with all settings from a config.json; flags beside it change single ones."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps, to go on from with --resume. None takes the latest."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """With several processes, which train one run together: where the first of them is. srun of SLURM and mpirun of
    Open MPI tell it by themselves. Each process is given the same flags otherwise; --devices counts those of all."""
    num_processes: int | None = None
    """With --coordinator: how many processes there are."""
    process_id: int | None = None
    """With --coordinator: which of them this one is, from 0 on."""
    keep_later: bool = True
    """With --checkpoint: keep the checkpoints and metrics after it in RUN/set-aside; else they are deleted."""
    dry_run: bool = False
    """Train nothing: print sizes, parameters, memory, compile time, and how long the run takes on this machine, from a
    few steps that are timed and thrown away."""
    json: bool = False
    """Print JSON: the result, or the plan of a dry run, as one object; with several seeds, a list of results."""
    quiet: bool = False
    """Show no progress."""


def parse_train(arguments: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Parse the arguments on top of the defaults that suit the environment, the agent and the torso.

    Which defaults these are depends on a few of the arguments themselves, so those are scanned first.

    Returns:
        The options, and the settings that flags changed.

    Raises:
        ConfigurationError: in one line, for arguments that are not valid.
        SystemExit: after printing help.
    """
    arguments = in_full(arguments, command="train")
    given = given_in(arguments)
    _check_exclusive(given)
    base = _base(given, help_alone=wants_help(arguments))
    depth_follows = "grow" in given and "depth" not in given
    if depth_follows:  # the schedule sets the depth; the default of the environment does not contradict it
        arguments = [*arguments, f"--depth={GrowthSchedule.parse(given['grow']).final_depth}"]
    default = TrainOptions(base, blocks={base.agent: base.agent_settings})
    options = parse(TrainOptions, arguments, command="train", default=default)
    settings = dataclasses.replace(options.settings, agent_settings=options.blocks[base.agent])
    changed = {
        field.name: value
        for field in dataclasses.fields(TrainConfig)
        if (value := getattr(settings, field.name)) != getattr(base, field.name)
    }
    if "agent_settings" in changed:
        changed[base.agent] = changed.pop("agent_settings")
    if "resume" in given:
        if depth_follows:  # nobody asked for a depth; it is `grow` that cannot change
            changed.pop("depth", None)
        return options, changed
    changed.pop("env", None)  # it may be a file, whose maze is in `base`
    full = default_config(**(base.to_dict() | changed))
    return dataclasses.replace(options, settings=full), changed


def given_in(arguments: Sequence[str]) -> dict[str, str]:
    """Return what is given for each flag, by name, without checking it; see `scan`."""
    return scan(in_full(arguments, command="train"), switches=_switches())


def _check_exclusive(given: Mapping[str, str]) -> None:
    """Check that flags which exclude each other do not come together."""
    if "seeds" not in given and given.get("seeds_mode", "auto") != "auto":
        raise ConfigurationError(f"--seeds-mode {given['seeds_mode']} needs --seeds")
    if "seeds" in given and "seed" in given:
        raise ConfigurationError(f"--seed and --seeds {given['seeds']} exclude each other; leave --seed out")
    if "resume" in given and any(name in given for name in ("env", "config", "run_dir", "seeds")):
        raise ConfigurationError("--resume takes ENV, --config, --seeds and --run-dir from the run; leave them out")
    if "preset" in given and ("config" in given or "resume" in given):
        raise ConfigurationError("--preset is for a new run in ENV; leave out --config and --resume, or the preset")
    if "robot" in given and "env" not in given:
        raise ConfigurationError("--robot is for a new run in a maze file: kilolayer train my_maze.txt --robot ant")
    if "config" in given and "env" in given:
        raise ConfigurationError("--config holds the env already; leave ENV out")


def _base(given: Mapping[str, str], *, help_alone: bool) -> TrainConfig:
    """Return the settings that flags change: those of the run, of the file, or the defaults of the environment."""
    if "resume" in given:
        path = Path(given["resume"])
        if not SeedGroup.is_at(path):
            return RunDirectory.open(path).config()
        group = SeedGroup.open(path)
        return dataclasses.replace(group.first_run().config(), devices=group.devices)
    if "config" in given:
        base = read_config(Path(given["config"])).to_dict()
        env = base.pop("env")
    elif "env" in given:
        base, env = {}, given["env"]
    elif "dataset" in given and (told := environment_of(given["dataset"])):
        base, env = {}, told
    elif help_alone:
        torso = torso_spec(given.get("torso", TrainConfig.torso))
        return TrainConfig(**_choices(given), architecture=torso.settings())
    else:
        raise ConfigurationError("ENV is missing: kilolayer train ENV; `kilolayer envs` lists the environments")
    choices = _choices(given)
    if "agent" in base and choices.get("agent", base["agent"]) != base["agent"]:
        base.pop(base["agent"], None)  # the settings of another agent
    if "torso" in base and choices.get("torso", base["torso"]) != base["torso"]:
        base.pop("architecture", None)
    if base and choices.get("variant", base.get("variant", TrainConfig.variant)) != base.get("variant"):
        for name in ("engine", "fixed_goals", "replay"):
            base.pop(name, None)  # they are those of another variant
    named = {name: given[name] for name in ("preset", "robot") if name in given}
    return default_config(env, **(base | choices | named))


def _choices(given: Mapping[str, str]) -> dict[str, Any]:
    """Return what was given of the settings that defaults depend on: names, and sizes but for the depth."""
    names = {name: given[name] for name in NAMES if name in given}
    sizes = {
        name: int(given[name])
        for name in [*(f.name for f in dataclasses.fields(TrainConfig) if f.type is int), "total_gradient_steps"]
        if name != "depth" and (text := given.get(name, "").lstrip("-")).isdecimal() and len(text) <= MOST_DIGITS
    }
    return names | sizes


def _switches() -> set[str]:
    """Return the names of all flags that take no value."""
    blocks = {spec.name: spec.settings for spec in agent_specs()} | {
        "optimizer": OptimizerSettings,
        "replay": ReplaySettings,
    }
    torsos = [torso_spec(name).settings for name in torso_names()]
    classes = [("", TrainConfig), ("", TrainOptions), *((f"{name}.", cls) for name, cls in blocks.items())]
    classes += [("architecture.", cls) for cls in torsos]
    return {f"{prefix}{f.name}" for prefix, cls in classes for f in dataclasses.fields(cls) if f.type is bool}
