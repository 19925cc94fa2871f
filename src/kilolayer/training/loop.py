"""The loop: training steps, evaluations, metrics and checkpoints, from the beginning or from where a run stopped."""

import dataclasses
import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

import jax

from kilolayer.compilation_cache import enable_compilation_cache
from kilolayer.errors import ConfigurationError, RunError, TrainingError
from kilolayer.training.checkpoints import Checkpoints
from kilolayer.training.config import TrainConfig, default_config
from kilolayer.training.evaluation import run_episodes, summarize
from kilolayer.training.interrupts import StopRequest
from kilolayer.training.progress import ProgressDisplay, Silent, progress_display
from kilolayer.training.run_directory import RunDirectory, default_path
from kilolayer.training.setup import Setup
from kilolayer.training.sinks import DiagnosticsFile, FileSink, Sink, TensorBoardSink, WandbSink, require_extras
from kilolayer.training.step import TrainState, compile_steps, grow_state, init_state

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
        run, config = _open_run(resume, settings)
    else:
        if config is None:
            if not env:
                raise ConfigurationError("env is missing; `kilolayer envs` lists the environments")
            config = default_config(env, **settings)
        elif env or settings:
            raise ConfigurationError("config holds all settings; leave env and the others out")
        if checkpoint is not None:
            raise ConfigurationError(f"checkpoint={checkpoint} needs resume")
    enable_compilation_cache()
    setup = Setup.build(config)
    require_extras(config)
    if resume is None:
        run = RunDirectory.create(run_dir or default_path(config), config)
    with run.lock():
        return _Trainer(run, setup, checkpoint, resumed=resume is not None, show=progress).train()


def _open_run(path: str | os.PathLike, settings: Mapping[str, Any]) -> tuple[RunDirectory, TrainConfig]:
    run = RunDirectory.open(path)
    config = run.config()
    for name in settings:
        if name not in RESUMABLE_SETTINGS:
            raise ConfigurationError(
                f"{name} cannot change when a run goes on; only {', '.join(RESUMABLE_SETTINGS)} can"
            )
    return run, TrainConfig.from_dict(config.to_dict() | dict(settings))


class _Trainer:
    """One call of `train`."""

    def __init__(self, run: RunDirectory, setup: Setup, checkpoint: int | None, *, resumed: bool, show: bool):
        self.run, self.setup, self.config, self.show = run, setup, setup.config, show
        self.checkpoints = Checkpoints(run.checkpoints, keep=self.config.checkpoints_to_keep)
        if resumed and self.checkpoints.steps():
            step = self.checkpoints.resolve(checkpoint)
            self.setup = setup.at(step)
            template = jax.eval_shape(lambda: init_state(self.setup))
            self.state: TrainState = self.checkpoints.restore(template, step)
            self.checkpoints.drop_after(step)
        else:
            if checkpoint is not None:
                raise RunError(f"{run.path} has no checkpoint {checkpoint}: it has none")
            self.state = init_state(self.setup)
        self._compile()
        if resumed:
            run.write_config(self.config)
        self.env_steps = self.state.env_steps
        self.files = FileSink(run, self.env_steps)
        self.diagnostics = DiagnosticsFile(run, self.env_steps)
        self.train_metrics: dict[str, float] = {}

    def train(self) -> TrainResult:
        total = self.config.num_unrolls * self.config.env_steps_per_unroll
        self.run.record_system()
        with ExitStack() as stack:
            stack.enter_context(closing(self.checkpoints))
            self.sinks = [stack.enter_context(closing(sink)) for sink in self._sinks()]
            display: ProgressDisplay = progress_display(total, self.env_steps) if self.show else Silent()
            stack.enter_context(closing(display))
            stop = stack.enter_context(StopRequest())
            began = saved = time.monotonic()
            start_env_steps, start_seconds = self.env_steps, self._seconds_before()
            if not self.files.rows:
                self._evaluate(0.0, 0.0)
            while self.env_steps < total and stop.signal is None:
                self._advance()
                self._grow_if_due(display)
                success = self.files.rows[-1].get("eval/success_any") if self.files.rows else None
                display.update(self.env_steps, success)
                if self._evaluation_due():
                    seconds = time.monotonic() - began
                    self._evaluate(start_seconds + seconds, (self.env_steps - start_env_steps) / seconds)
                    self.checkpoints.save(self.state, self.files.rows[-1])
                    saved = time.monotonic()
                elif time.monotonic() - saved > 60.0 * self.config.checkpoint_minutes:
                    self.checkpoints.save(self.state)
                    saved = time.monotonic()
            if stop.signal is not None:
                display.note(f"{stop.signal.name}: saving after {self.env_steps:,} env steps")
                self.checkpoints.save(self.state)
            self.checkpoints.wait()
        finished = self.env_steps >= total
        metrics = self.files.rows[-1] if self.files.rows else {}
        return TrainResult(self.run, self.env_steps, metrics, None if finished else stop.signal)

    def _compile(self) -> None:
        """Prepare the programs of the setup in force."""
        self.steps = compile_steps(self.setup)
        self.diagnose = jax.jit(self.setup.agent.diagnose)

    def _advance(self) -> None:
        """Collect, and learn once there is enough to learn from; refuse what is not finite."""
        gradient_steps = int(self.state.gradient_steps)
        enough = self.env_steps // self.config.num_envs >= self.config.min_replay
        self.state, collected = self.steps.collect(self.state)
        learnt = None
        if enough:
            self.state, learnt = self.steps.learn(self.state)
        fault = jax.device_get(collected).describe(self.setup.environment.name, self.env_steps, self.config.num_envs)
        if learnt is not None:
            metrics, faults = jax.device_get(learnt)
            fault = fault or faults.describe(self.env_steps, gradient_steps)
            self.train_metrics = {f"train/{name}": float(value) for name, value in metrics.items()}
        if fault is not None:
            self._refuse(fault)
        self.env_steps = self.state.env_steps

    def _grow_if_due(self, display: ProgressDisplay) -> None:
        """Deepen the networks where a training step reached a stage of `grow`, before anything else sees its state."""
        setup = self.setup.at(self.env_steps)
        if setup is not self.setup:
            display.note(f"depth {self.setup.depth} grows to {setup.depth} at {self.env_steps:,} env steps")
            self.state = grow_state(setup, self.state)
            self.setup = setup
            self._compile()

    def _refuse(self, fault: str) -> None:
        """Stop because of numbers that are not finite."""
        self.checkpoints.wait()
        kept = self.checkpoints.steps()
        last = f"the last good checkpoint is {self.run.checkpoints / str(kept[-1])}" if kept else "no checkpoint yet"
        raise TrainingError(f"{fault}; {last}")

    def _evaluation_due(self) -> bool:
        """Say whether this training step passed the next of the evenly spaced evaluations."""
        step = self.env_steps // self.config.env_steps_per_unroll
        done_now = step * self.config.num_evals // self.config.num_unrolls
        done_before = (step - 1) * self.config.num_evals // self.config.num_unrolls
        return done_now > done_before

    def _evaluate(self, seconds: float, speed: float) -> None:
        """Evaluate, and write a row of metrics."""
        began = time.monotonic()
        key = jax.random.fold_in(jax.random.key(self.config.seed), 1 + self.env_steps)
        episodes = run_episodes(
            self.setup.agent,
            self.state.agent,
            self.setup.eval_environment,
            key,
            num_episodes=self.config.num_eval_envs,
        )
        if not bool(episodes.finite):
            self._refuse(f"an evaluation episode is not finite after env step {self.env_steps:,}")
        row = {
            "env_steps": self.env_steps,
            "gradient_steps": int(self.state.gradient_steps),
            **summarize(episodes),
            **self.train_metrics,
            **({"train/depth": self.setup.depth} if self.config.grow is not None else {}),
            "perf/seconds": seconds,
            "perf/env_steps_per_second": speed,
            "perf/eval_seconds": time.monotonic() - began,
        }
        for sink in self.sinks:
            sink.write(row)
        if self.config.diagnostics and self.env_steps >= self.config.prefill_env_steps:
            found = jax.device_get(self.diagnose(self.state.agent, self.state.buffer, jax.random.fold_in(key, 1)))
            self.diagnostics.write(
                {"env_steps": self.env_steps, "gradient_steps": int(self.state.gradient_steps)}
                | {name: value.tolist() for name, value in found.items()}
            )

    def _seconds_before(self) -> float:
        """Return the training time of the run so far."""
        return float(self.files.rows[-1]["perf/seconds"]) if self.files.rows else 0.0

    def _sinks(self) -> list[Sink]:
        sinks: list[Sink] = [self.files]
        if self.config.tensorboard:
            sinks.append(TensorBoardSink(self.run, self.env_steps))
        if self.config.wandb:
            sinks.append(WandbSink(self.run, self.config.wandb_project, self.config.to_dict()))
        return sinks
