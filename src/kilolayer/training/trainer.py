"""The loop: training steps, evaluations, metrics and checkpoints, from the beginning or from where a run stopped.

It moves one run or several, which differ by their seeds alone; `kilolayer.training.seeds` starts several.
"""

import dataclasses
import os
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import jax

from kilolayer.compilation_cache import enable_compilation_cache
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.runs.config import TrainConfig, default_config
from kilolayer.runs.run_directory import RunDirectory, default_path
from kilolayer.runs.sinks import require_extras
from kilolayer.training.evaluation import summarize
from kilolayer.training.interrupts import StopRequest
from kilolayer.training.policies import policy_of
from kilolayer.training.population import SeedsMode, populate
from kilolayer.training.progress import ProgressDisplay, Silent, progress_display
from kilolayer.training.seed_run import Member, states_to_begin_with
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, grow_state

RESUMABLE_SETTINGS = (
    "total_env_steps",
    "checkpoint_minutes",
    "checkpoints_to_keep",
    "diagnostics",
    "tensorboard",
    "wandb",
)
"""Settings that may change when a run goes on: none of them changes a step that it takes."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended."""

    run: RunDirectory
    env_steps: int
    metrics: Mapping[str, Any]
    """The last evaluation, by the names in metrics.jsonl."""
    stopped_by: signal.Signals | None
    """The signal that ended training early; None if the run is finished."""


def train(
    env: str | None = None,
    *,
    run_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    config: TrainConfig | None = None,
    checkpoint: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> TrainResult:
    """Train an agent, or go on with a run.

    Args:
        env: a registered environment, the path of a maze file (`*.txt`), or a maze as text.
        run_dir: where the run is kept; None takes a fresh directory under `runs/`.
        resume: a run directory to go on with; then `env`, `run_dir` and `config` stay None.
        config: all settings at once, in place of `env` and `settings`.
        checkpoint: env steps of the checkpoint to go on from; None takes the latest.
        progress: show progress on standard error.
        settings: fields of `TrainConfig`; the rest is as `default_config` gives it for the environment. When a run
            goes on, those named in `RESUMABLE_SETTINGS`.

    Returns:
        Where the run is and how it ended. Ctrl-C and SIGTERM end it early, saved.

    Raises:
        ConfigurationError: for settings that cannot be.
        RunError: if the directory cannot be written, or the run not be read.
        TrainingError: if a number is not finite or a save fails; the checkpoints before are whole.
    """
    if resume is not None:
        if env or config or run_dir:
            raise ConfigurationError("resume takes its env, config and run_dir from the run; leave them out")
        run, config = open_run(resume, settings)
    else:
        config = config_to_begin_with(env, config, settings)
        if checkpoint is not None:
            raise ConfigurationError(f"checkpoint={checkpoint} needs resume")
    enable_compilation_cache()
    setup = Setup.build(config)
    require_extras(config)
    if resume is None:
        run = RunDirectory.create(run_dir or default_path(config), config)
    with run.lock(), closing(Member(run, setup)) as member:
        trainer = Trainer([member], checkpoint=checkpoint, resumed=resume is not None, show=progress)
        return trainer.train()[0]


def config_to_begin_with(env: str | None, config: TrainConfig | None, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a new run, from an environment and what to change for it, or as they are.

    Raises:
        ConfigurationError: for settings that cannot be, or if both are given, or neither.
    """
    if config is None:
        if not env:
            raise ConfigurationError("env is missing; `kilolayer envs` lists the environments")
        return default_config(env, **settings)
    if env or settings:
        raise ConfigurationError("config holds all settings; leave env and the others out")
    return config


def open_run(path: str | os.PathLike, settings: Mapping[str, Any]) -> tuple[RunDirectory, TrainConfig]:
    """Return a run to go on with, and its configuration with `settings` in it.

    Raises:
        RunError: if there is none.
        ConfigurationError: for settings that cannot change when a run goes on.
    """
    run = RunDirectory.open(path)
    run.check_resumable()
    config = run.config()
    for name in settings:
        if name not in RESUMABLE_SETTINGS:
            raise ConfigurationError(
                f"{name} cannot change when a run goes on; only {', '.join(RESUMABLE_SETTINGS)} can"
            )
    return run, TrainConfig.from_dict(config.to_dict() | dict(settings))


class Trainer:
    """Runs that take every training step together; they differ by their seeds alone. A lone run is the usual case."""

    def __init__(
        self,
        members: Sequence[Member],
        mode: SeedsMode = "threads",
        *,
        checkpoint: int | None = None,
        resumed: bool = False,
        show: bool = True,
    ):
        """Begin, or read where to go on.

        Args:
            members: the runs; the caller closes them.
            mode: how several are moved.
            checkpoint: env steps of the checkpoint to go on from; None takes the latest that all have.
            resumed: the runs may have begun before.
            show: show progress on standard error.

        Raises:
            RunError: if there is no such checkpoint, or one cannot be read.
        """
        self.members, self.mode, self.show = members, mode, show
        self.config = members[0].config
        states = states_to_begin_with(members, resumed=resumed, checkpoint=checkpoint)
        self.env_steps = states[0].env_steps
        self._populate(members[0].setup.at(self.env_steps), states)
        for member in members:
            if resumed:
                member.run.write_config(member.config)
            member.begin(self.env_steps)

    def train(self) -> list[TrainResult]:
        """Train to the end, or until a signal.

        Raises:
            TrainingError: if a number is not finite or a save fails; the checkpoints before are whole.
        """
        total = self.config.num_unrolls * self.config.env_steps_per_unroll
        with ExitStack() as stack:
            stack.callback(lambda: self.population.close())
            display: ProgressDisplay = progress_display(total, self.env_steps) if self.show else Silent()
            stack.enter_context(closing(display))
            stop = stack.enter_context(StopRequest())
            if len(self.members) > 1:
                display.note(f"{len(self.members)} seeds by {self.mode}; env steps of each, success in the mean")
            began = saved = time.monotonic()
            start_env_steps = self.env_steps
            if not all(member.rows for member in self.members):
                self._evaluate(0.0, 0.0)
            while self.env_steps < total and stop.signal is None:
                self._advance()
                self._grow_if_due(display)
                display.update(self.env_steps, self._success())
                if self._evaluation_due():
                    seconds = time.monotonic() - began
                    self._evaluate(seconds, (self.env_steps - start_env_steps) / seconds)
                    self._save(evaluated=True)
                    saved = time.monotonic()
                elif time.monotonic() - saved > 60.0 * self.config.checkpoint_minutes:
                    self._save()
                    saved = time.monotonic()
            if stop.signal is not None:
                display.note(f"{stop.signal.name}: saving after {self.env_steps:,} env steps")
                self._save()
            self._wait()
        stopped_by = None if self.env_steps >= total else stop.signal
        return [TrainResult(member.run, self.env_steps, member.last_row, stopped_by) for member in self.members]

    def _populate(self, setup: Setup, states: Sequence[TrainState]) -> None:
        """Take the setup in force, and prepare its programs for the members' states."""
        self.setup = setup
        self.population = populate(self.mode, setup, states)
        self.diagnose = jax.jit(setup.agent.diagnose)

    def _advance(self) -> None:
        """Collect, and learn once there is enough to learn from; refuse what is not finite."""
        gradient_steps = self.population.gradient_steps
        enough = self.env_steps // self.config.num_envs >= self.config.min_replay
        outcomes = self.population.advance(learn=enough)
        for member, (collected, learnt) in zip(self.members, outcomes, strict=True):
            fault = collected.describe(self.setup.environment.name, self.env_steps, self.config.num_envs)
            if learnt is not None:
                metrics, faults = learnt
                fault = fault or faults.describe(self.env_steps, gradient_steps)
                member.train_metrics = {f"train/{name}": float(value) for name, value in metrics.items()}
            if fault is not None:
                self._refuse(member, fault)
        self.env_steps = self.population.env_steps

    def _grow_if_due(self, display: ProgressDisplay) -> None:
        """Deepen the networks where a training step reached a stage of `grow`, before anything else sees the state."""
        setup = self.setup.at(self.env_steps)
        if setup is not self.setup:
            display.note(f"depth {self.setup.depth} grows to {setup.depth} at {self.env_steps:,} env steps")
            states = [
                grow_state(dataclasses.replace(setup, config=member.config), self.population.state(place))
                for place, member in enumerate(self.members)
            ]
            self.population.close()
            self._populate(setup, states)

    def _refuse(self, member: Member, fault: str) -> None:
        """Stop all because of numbers of one that are not finite."""
        self._wait()
        kept = member.checkpoints.steps()
        last = f"the last good checkpoint is {member.run.checkpoints / str(kept[-1])}" if kept else "no checkpoint yet"
        which = f"seed {member.seed}: " if len(self.members) > 1 else ""
        raise TrainingError(f"{which}{fault}; {last}")

    def _evaluation_due(self) -> bool:
        """Say whether this training step passed the next of the evenly spaced evaluations."""
        step = self.env_steps // self.config.env_steps_per_unroll
        done_now = step * self.config.num_evals // self.config.num_unrolls
        done_before = (step - 1) * self.config.num_evals // self.config.num_unrolls
        return done_now > done_before

    def _evaluate(self, seconds: float, speed: float) -> None:
        """Evaluate, and write a row of metrics."""
        began = time.monotonic()
        keys = [jax.random.fold_in(jax.random.key(member.seed), 1 + self.env_steps) for member in self.members]
        gradient_steps = self.population.gradient_steps
        results = self.population.evaluate(keys, self.config.num_eval_envs)
        for member, episodes in zip(self.members, results, strict=True):
            if not bool(episodes.finite):
                self._refuse(member, f"an evaluation episode is not finite after env step {self.env_steps:,}")
        for place, (member, episodes) in enumerate(zip(self.members, results, strict=True)):
            if member.last_row.get("env_steps") == self.env_steps:
                continue  # it was stopped while the others' rows were still to be written
            row = {
                "env_steps": self.env_steps,
                "gradient_steps": gradient_steps,
                **summarize(episodes),
                **member.train_metrics,
                **({"train/depth": self.setup.depth} if self.config.grow is not None else {}),
                "perf/seconds": member.seconds_before + seconds,
                "perf/env_steps_per_second": speed,
                "perf/eval_seconds": time.monotonic() - began,
            }
            member.write(row)
            if self.config.diagnostics and self.env_steps >= max(self.config.prefill_env_steps, 1):
                state = self.population.state(place)
                found = jax.device_get(self.diagnose(state.agent, state.buffer, jax.random.fold_in(keys[place], 1)))
                member.diagnostics.write(
                    {"env_steps": self.env_steps, "gradient_steps": gradient_steps}
                    | {name: value.tolist() for name, value in found.items()}
                )

    def _save(self, *, evaluated: bool = False) -> None:
        """Begin to save all, once all have what was begun before: none is ever two checkpoints ahead of another."""
        self._wait()
        for place, member in enumerate(self.members):
            state = self.population.state(place)
            policy = policy_of(
                member.config,
                self.setup,
                state.agent,
                env_steps=self.env_steps,
                gradient_steps=self.population.gradient_steps,
            )
            member.checkpoints.save(state, member.last_row if evaluated else None, policy=policy.writer())

    def _wait(self) -> None:
        """Wait until what was begun is saved."""
        for member in self.members:
            member.checkpoints.wait()

    def _success(self) -> float | None:
        """Return success_any of the last evaluation, the mean over seeds."""
        known = [member.last_row["eval/success_any"] for member in self.members if member.rows]
        return statistics.fmean(known) if known else None
