"""Start and resume training: `train` for one seed, `train_seeds` for several."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

from kilolayer.agents import agent_spec
from kilolayer.checkpoint_files import steps_in
from kilolayer.data import ReplayBuffer
from kilolayer.data.datasets import environment_of
from kilolayer.errors import ConfigurationError
from kilolayer.hosts import from_first_process, is_first_process, num_processes
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.defaults import default_config, with_engine
from kilolayer.runs.run_directory import RunDirectory, new_directory
from kilolayer.runs.seed_group import SeedGroup, SeedsMode, check_same_settings, check_seeds, parse_seeds
from kilolayer.runs.sinks import require_extras
from kilolayer.shards import mesh_of
from kilolayer.training.given_data import check_data, settings_for, with_dataset
from kilolayer.training.initial import check_begun_with
from kilolayer.training.memory import check_run_fits
from kilolayer.training.policies import load_teacher
from kilolayer.training.population import SeedsModeChoice, choose_mode
from kilolayer.training.seed_run import SeedRun
from kilolayer.training.setup import Setup
from kilolayer.training.trainer import Trainer, TrainResult

RESUMABLE_SETTINGS = (
    "devices",
    "shards",
    "total_env_steps",
    "total_gradient_steps",
    "checkpoint_minutes",
    "checkpoint_every",
    "checkpoints_to_keep",
    "diagnostics",
    "max_diverged",
    "tensorboard",
    "wandb",
)
"""Settings that may change when a run is resumed: none of them changes a training step, but for the shards, which
change what the batches to come are drawn from."""

LEAST_KEPT = 2
"""Checkpoints that each of several seeds keeps at least: one seed may have its next checkpoint while another, stopped
at that moment, does not."""


def train(
    env: str | None = None,
    *,
    run_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    config: TrainConfig | None = None,
    checkpoint: int | None = None,
    keep_later: bool = True,
    data: ReplayBuffer | None = None,
    progress: bool = True,
    **settings: Any,
) -> TrainResult:
    """Train an agent, or resume a run.

    Args:
        env: a registered environment, the path of a maze file (`*.txt`), or a maze as text.
        run_dir: the directory of the run; None takes a new directory under `runs/`.
        resume: the directory of a run to resume; then `env`, `run_dir` and `config` stay None.
        config: all settings at once, in place of `env` and `settings`.
        checkpoint: the checkpoint to resume from, by its step; None takes the latest.
        keep_later: move checkpoints and metrics after `checkpoint` to `RUN/set-aside/`; False deletes them.
        data: a replay buffer to learn from. Nothing is collected: `env` evaluates the agent, `total_gradient_steps`
            ends the run, and checkpoints are named by gradient steps. Checkpoints hold the data, so a resumed run does
            not need them again.
        progress: show progress on standard error.
        settings: fields of `TrainConfig`; the others are those of `default_config` for the environment. For a resumed
            run, fields in `RESUMABLE_SETTINGS`.

    Returns:
        Where the run is and how it ended. Ctrl-C, SIGTERM and SIGHUP end it early and save it.

    Raises:
        ConfigurationError: for invalid settings, or data that do not fit them.
        RunError: if a directory cannot be written or a run cannot be read.
        TrainingError: if a number is not finite or a save fails; the checkpoints before are whole.
    """
    if resume is not None:
        if env or config or run_dir:
            raise ConfigurationError("resume takes env, config and run_dir from the run; leave them out")
        directory = RunDirectory.open(resume)
        config, data = _resumed_config([directory], settings, data)
    else:
        config, data = _new_config(env, config, settings, checkpoint, data)
    if num_processes() > 1:  # which may have measured differently, and chosen other engines
        config = TrainConfig.from_dict(from_first_process(config.to_dict))
    setup = _build(config, data, resumed=None if resume is None else directory)
    if resume is None:
        make = functools.partial(_made, config, run_dir)
        directory = RunDirectory.open(from_first_process(make))
    (result,) = _train(
        setup,
        config,
        {config.seed: directory},
        resumed=resume is not None,
        checkpoint=checkpoint,
        keep_later=keep_later,
        data=data,
        show=progress,
    )
    return result


def _made(config: TrainConfig, run_dir: str | os.PathLike | None) -> str:
    """Make the directory of a run and return its path."""
    return str(RunDirectory.create(run_dir or new_directory(config), config).path.resolve())


def begin(config: TrainConfig, *, run_dir: str | os.PathLike | None = None, progress: bool = True) -> TrainResult:
    """Begin a run and save the networks that it begins with; `train(resume=...)` takes its training steps.

    Args:
        config: all settings.
        run_dir: the directory of the run; None takes a new directory under `runs/`.
        progress: show progress on standard error.

    Returns:
        Where the run is, and its first evaluation.

    Raises:
        ConfigurationError: for invalid settings.
        RunError: if the directory cannot be written.
        TrainingError: if the save fails.
    """
    config, data = _new_config(None, config, {}, None, None)
    setup = _build(config, data)
    directory = RunDirectory.create(run_dir or new_directory(config), config)
    (result,) = _train(setup, config, {config.seed: directory}, steps=False, data=data, show=progress)
    return result


def train_seeds(
    env: str | None = None,
    *,
    seeds: Iterable[int] | str | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    config: TrainConfig | None = None,
    checkpoint: int | None = None,
    keep_later: bool = True,
    data: ReplayBuffer | None = None,
    mode: SeedsModeChoice = "auto",
    progress: bool = True,
    **settings: Any,
) -> list[TrainResult]:
    """Train an agent with each of several seeds at the same time, or resume such runs.

    Every seed has its own run directory, `run_dir/seed-0` and so on, which can be evaluated, reported and resumed
    alone like any other. All seeds take each training step together, and their states are in memory at the same time.

    Args:
        env: as for `train`.
        seeds: such as `range(8)`, or text: `0..7`, `0,3,5`.
        run_dir: holds the run directories; None takes a new directory under `runs/`.
        resume: such a directory to resume, from the latest checkpoint that all seeds have.
        config: as for `train`; its seed is not used.
        checkpoint: as for `train`; all seeds must have it.
        keep_later: as for `train`.
        data: as for `train`; all seeds learn from it.
        mode: `threads`, `vmap` (see `SeedsMode`), or `auto`: see `choose_mode`. Resumed runs keep their mode.
        progress: show one line of progress for all seeds on standard error.
        settings: as for `train`.

    Returns:
        For each seed, where its run is and how it ended.

    Raises:
        ConfigurationError: for invalid seeds or settings, or data that do not fit them.
        RunError: if a directory cannot be written or a run cannot be read.
        TrainingError: if a number of any seed is not finite or a save fails. All seeds stop; their checkpoints before
            are whole, and the other seeds can be resumed alone.
    """
    if num_processes() > 1:
        raise ConfigurationError(f"several seeds cannot be trained by {num_processes()} processes together; start one")
    if resume is not None:
        if env or seeds or config or run_dir or mode != "auto":
            raise ConfigurationError("resume takes env, seeds, mode, config and run_dir from the runs; leave them out")
        group, settings = SeedGroup.open(resume), dict(settings)
        directories = group.open_runs()
        devices = settings.pop("devices", group.devices)
        if devices != group.devices:
            mesh_of(devices)  # if there are too few, nothing is written
            group = dataclasses.replace(group, devices=devices, mode="vmap" if devices > 1 else group.mode)
            group.write()
        config, data = _resumed_config(directories, settings, data)
    else:
        if "seed" in settings:
            raise ConfigurationError(f"seed={settings['seed']} and seeds exclude each other; leave seed out")
        if seeds is None:
            raise ConfigurationError("seeds is missing; give such as range(8) or '0..7'")
        chosen = parse_seeds(seeds) if isinstance(seeds, str) else check_seeds(seeds)
        config, data = _new_config(env, config, settings, checkpoint, data)
        mode, devices = choose_mode(mode, overlap=config.overlap, devices=config.devices), config.devices
        group = SeedGroup(Path(run_dir or "."), chosen, mode, devices)
        mesh_of(devices)  # if there are too few, no directory is made
        config = dataclasses.replace(config, devices=1)  # of each seed
        group = dataclasses.replace(group, path=Path(run_dir or new_directory(config, "seeds")))
    mesh = mesh_of(group.devices)
    each = len(group.seeds) // group.devices
    setup = _build(config, data, seeds=each, resumed=None if resume is None else directories[0])
    if resume is None:
        directories = group.create(config)
    return _train(
        setup,
        config,
        dict(zip(group.seeds, directories, strict=True)),
        group.mode,
        mesh=mesh,
        resumed=resume is not None,
        checkpoint=checkpoint,
        keep_later=keep_later,
        data=data,
        show=progress,
    )


def _train(
    setup: Setup,
    config: TrainConfig,
    directories: Mapping[int, RunDirectory],
    mode: SeedsMode = "threads",
    *,
    steps: bool = True,
    **how: Any,
) -> list[TrainResult]:
    """Train the seeds of these directories, or only begin; `how` are the keyword arguments of `Trainer`."""
    least_kept = LEAST_KEPT if len(directories) > 1 else 1
    with ExitStack() as stack:
        runs = []
        for seed, directory in directories.items():
            stack.enter_context(directory.lock() if is_first_process() else nullcontext())
            own = dataclasses.replace(config, seed=seed)
            runs.append(stack.enter_context(closing(SeedRun(directory, own, least_kept=least_kept))))
        trainer = Trainer(setup, runs, mode, **how)
        return trainer.train() if steps else trainer.begin()


def _build(
    config: TrainConfig, data: ReplayBuffer | None, *, seeds: int = 1, resumed: RunDirectory | None = None
) -> Setup:
    """Build what the settings amount to, and validate everything that can be validated before a file is written."""
    with nullcontext() if resumed is None else resumed.explain_unknown_names():
        setup = Setup.build(config, seeds=seeds, mesh=mesh_of(config.devices))
    if num_processes() > 1:
        _check_alone(setup, config)
    config.architecture.check_device()
    check_run_fits(setup, config, seeds=seeds)
    if data is not None:
        check_data(data, config, setup.collector)
    require_extras(config)
    return setup


def _check_alone(setup: Setup, config: TrainConfig) -> None:
    """Refuse what is for one process alone.

    Raises:
        ConfigurationError: naming it.
    """
    asked = None
    if config.init_data:
        asked = "init_data=True"
    elif not setup.collector.resumes_exactly:
        asked = f"env {config.env!r}, an environment in Python,"
    if asked is not None:
        raise ConfigurationError(
            f"{asked} cannot be trained by {num_processes()} processes together; start one process"
        )


def _new_config(
    env: str | None,
    config: TrainConfig | None,
    settings: Mapping[str, Any],
    checkpoint: int | None,
    data: ReplayBuffer | None,
) -> tuple[TrainConfig, ReplayBuffer | None]:
    """Return the settings of a new run, from an environment and changes to its defaults or from `config`, and its data.

    Raises:
        ConfigurationError: for invalid settings, or if `env` and `config` are both given, or neither is.
    """
    if config is None:
        dataset = settings.get("dataset")
        if data is not None and dataset is not None:
            raise ConfigurationError(f"data and dataset={dataset!r} exclude each other; leave one of them out")
        env = env or (environment_of(dataset) if isinstance(dataset, str) else None)
        if not env:
            told = "" if dataset is None else f"; dataset={dataset!r} does not tell its own"
            raise ConfigurationError(f"env is missing; `kilolayer envs` lists the environments{told}")
        config = default_config(env, **(settings if data is None else settings_for(data, settings)))
    elif env or settings:
        raise ConfigurationError("config holds all settings; leave env and the other settings out")
    else:
        config = with_engine(config)
    if checkpoint is not None:
        raise ConfigurationError(f"checkpoint={checkpoint} needs resume")
    load_teacher(config)  # before a directory is made
    if config.init_from is not None:
        check_begun_with(config)
    if config.dataset is not None:
        if data is not None:
            raise ConfigurationError(f"data and dataset={config.dataset!r} exclude each other; leave one of them out")
        config, data = with_dataset(config)
    if data is None and not config.collects:
        raise ConfigurationError("total_env_steps=0 collects nothing to learn from: pass data to kilolayer.train")
    return config, data


def _resumed_config(
    directories: Sequence[RunDirectory], settings: Mapping[str, Any], data: ReplayBuffer | None
) -> tuple[TrainConfig, ReplayBuffer | None]:
    """Return the configuration of runs of several seeds with `settings` changed, and their data.

    A data set is read again only where a run has no checkpoint yet, which would hold it.

    Raises:
        RunError: if an older version wrote a run.
        ConfigurationError: for settings that cannot change when a run is resumed, or runs that differ.
    """
    configs = [_changed(directory, settings) for directory in directories]
    check_same_settings(directories, configs)
    config = configs[0]
    if data is None and not all(steps_in(directory.checkpoints) for directory in directories):
        data = with_dataset(config)[1]
    return config, data


def _changed(directory: RunDirectory, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a run with `settings` changed.

    Raises:
        RunError: if an older version wrote the run.
        ConfigurationError: for settings that cannot change when a run is resumed.
    """
    directory.check_resumable()
    config = directory.config()
    for name in settings:
        if name not in RESUMABLE_SETTINGS:
            raise ConfigurationError(
                f"{name} cannot change when a run is resumed; only {', '.join(RESUMABLE_SETTINGS)} can"
            )
    wanted = settings.get("total_env_steps", config.total_env_steps)
    if isinstance(wanted, int) and (wanted > 0) != config.collects:
        raise ConfigurationError(
            f"total_env_steps={wanted} cannot replace {config.total_env_steps} when a run is resumed: "
            "0 collects nothing"
        )
    return TrainConfig.from_dict(config.to_dict() | _shards_kept(config, settings) | dict(settings))


def _shards_kept(config: TrainConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shards of a run that goes on with other devices: its own, where these can hold them, to compute the
    same; else as many as devices, into which what was collected is cut again.
    """
    devices = settings.get("devices")
    if not isinstance(devices, int) or devices < 1 or agent_spec(config.agent).on_policy:
        return {}
    own = config.num_shards
    return {"shards": own if own % devices == 0 and own != devices else None}
