"""Distillation: train a smaller policy to act as a trained one does, from settings that follow from its run."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from kilolayer.checkpoint_files import find_step
from kilolayer.errors import ConfigurationError
from kilolayer.policies.contract import Contract
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.defaults import deep_merge, default_config
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.training.policies import describe_teacher, load_anywhere
from kilolayer.training.start import train
from kilolayer.training.trainer import TrainResult

DISTILL = "distill"
"""The agent that learns from a teacher."""

DEPTH = 4
"""Depth of a student, unless it is given: what controllers on robots run within a step."""

SHARE = 0.25
"""Env steps of a student, unless they are given: this share of those of its teacher's run."""

REPEATS = 20
"""Times that a student learns from each state in the mean, unless its gradient steps are given. Labels of a teacher
carry no noise and never age, so a student gains from many more gradient steps than its teacher took."""

OF_THE_TEACHER_ALONE = (
    *("depth", "grow", "collector_depth", "total_gradient_steps", "eval_every", "checkpoint_every", "replay"),
    *("gradient_steps_per_unroll", "min_replay", "num_evals", "diagnostics", "tensorboard", "wandb", "seed"),
)
"""Settings of a run that its student does not take over."""


def distill(
    run: str | os.PathLike,
    *,
    run_dir: str | os.PathLike | None = None,
    checkpoint: int | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> TrainResult:
    """Train a student that acts as the policy of a run does; the student's run is a run as any other.

    The student acts in the teacher's environment, the teacher says what it would have done in the states that come up,
    and the student learns to do that: see `kilolayer.agents.distill`. The teacher is kept in the student's checkpoints,
    so that resuming with `kilolayer.train` needs the teacher's run no more.

    Args:
        run: the run directory of the teacher, or the directory of a policy.
        run_dir: the directory of the student's run; None takes a new directory under `runs/`.
        checkpoint: of the teacher's run: its step, `latest` (as None) or `best`.
        progress: show progress on standard error.
        settings: as for `distillation_config`.

    Returns:
        Where the run is and how it ended, as `kilolayer.train` does.

    Raises:
        ConfigurationError: for settings that are not valid, or a teacher without an actor.
        RunError: if the teacher cannot be read, or the directory cannot be written.
        TrainingError: as `kilolayer.train`.
    """
    config = distillation_config(run, checkpoint=checkpoint, **settings)
    return train(config=config, run_dir=run_dir, progress=progress)


def distillation_config(run: str | os.PathLike, *, checkpoint: int | str | None = None, **settings: Any) -> TrainConfig:
    """Return the settings of a student's run: those of the teacher's run, with a shallower network.

    Args:
        run: the run directory of the teacher, or the directory of a policy.
        checkpoint: of the teacher's run.
        settings: fields of `TrainConfig` that are to differ, as for `default_config`. Depth is 4 by default, the env
            steps a quarter of the teacher's, the width that of the teacher, and a round has as many gradient steps as
            learn from each of its states 20 times. The block `distill` holds the settings of `DistillConfig`.

    Raises:
        ConfigurationError: for settings that are not valid.
        RunError: if the teacher cannot be read.
    """
    for name in ("agent", "grow", "collector_depth"):
        if settings.get(name) is not None:
            raise ConfigurationError(
                f"{name}={settings[name]!r} has no effect on a student: it learns from its teacher alone; leave it out"
            )
    is_run = (Path(run) / "config.json").is_file()
    step = find_step(RunDirectory.open(run).checkpoints, checkpoint) if is_run or checkpoint is not None else None
    contract = load_anywhere(run, checkpoint=step).contract
    base = (RunDirectory.open(run).config() if is_run else _config_of(contract)).to_dict()
    total = base["total_env_steps"]
    base.pop(base["agent"])
    for name in OF_THE_TEACHER_ALONE:
        base.pop(name)
    if settings.get("torso", base["torso"]) != base["torso"]:
        base.pop("architecture")
    base |= {"agent": DISTILL, DISTILL: {}, "depth": DEPTH, "min_replay": 0, "num_evals": 10}
    teacher = dataclasses.asdict(describe_teacher(run, step, contract))
    deep_merge({**settings, DISTILL: {**settings.get(DISTILL, {}), "teacher": teacher}}, into=base)
    a_round = base["unroll_length"] * base["num_envs"]
    if "gradient_steps_per_unroll" not in settings:
        base["gradient_steps_per_unroll"] = math.ceil(REPEATS * a_round / base["batch_size"])
    if "total_env_steps" not in settings:
        base["total_env_steps"] = max(int(SHARE * total) // a_round, 1) * a_round if total else 100 * a_round
    return TrainConfig.from_dict(base)


def _config_of(contract: Contract) -> TrainConfig:
    """Return the default settings for the environment of a policy that is no run."""
    about = contract.environment
    return default_config(
        about.maze or about.name,
        variant=about.variant,
        engine=about.engine,
        episode_length=about.episode_length,
        torso=contract.torso.name,
        architecture=contract.torso.settings,
        width=contract.width,
    )
