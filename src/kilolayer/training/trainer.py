"""The trainer: training steps, evaluations, metrics and checkpoints, of one seed or of several."""

import dataclasses
import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from kilolayer.data import ReplayBuffer
from kilolayer.device_errors import device_error
from kilolayer.envs.check import ENDS_AT_ONCE
from kilolayer.envs.divergence import Divergence, suspects
from kilolayer.errors import TrainingError
from kilolayer.hosts import is_first_process, largest_of_all, num_processes
from kilolayer.progress import Display, Silent, progress_display
from kilolayer.runs.clock import Clocks, Count
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.runs.seed_group import SeedsMode
from kilolayer.training.evaluation import ends_at_once, summarize
from kilolayer.training.interrupts import StopRequest
from kilolayer.training.keys import stream
from kilolayer.training.policies import policy_of
from kilolayer.training.population import home_of, populate
from kilolayer.training.seed_run import SeedRun, first_states
from kilolayer.training.setup import Setup
from kilolayer.training.step import TrainState, grow_state

LEAST_EPISODES = 100
"""Fewer episodes than these count as so many, when a share of them is held against `max_diverged`."""

CANNOT_BE_SAVED = (
    "cannot be saved in the middle of an episode: resumed, the run begins new episodes, and has all else as it was"
)
"""What an environment in Python does not promise, after its name."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended, for one seed."""

    run: RunDirectory
    env_steps: int
    gradient_steps: int
    metrics: Mapping[str, Any]
    """The last evaluation, by the names in metrics.jsonl."""
    stopped_by: signal.Signals | None
    """The signal that ended training early; None if the run is finished."""

    @property
    def clocks(self) -> Clocks:
        """How far the run is, by both clocks."""
        return Clocks(self.env_steps, self.gradient_steps)


class Trainer:
    """Trains seeds that share their settings. All take every training step together; a lone run is one seed."""

    def __init__(
        self,
        setup: Setup,
        runs: Sequence[SeedRun],
        mode: SeedsMode = "threads",
        *,
        mesh: Mesh | None = None,
        resumed: bool = False,
        checkpoint: int | None = None,
        keep_later: bool = True,
        data: ReplayBuffer | None = None,
        show: bool = True,
    ):
        """Create or read the states to train from.

        Args:
            setup: the parts of the run, at its beginning.
            runs: one for each seed; the caller closes them.
            mode: how several seeds are trained.
            mesh: devices that share the seeds.
            resumed: the runs may have begun before.
            checkpoint: the checkpoint to resume from, by its step; None takes the latest that all seeds have.
            keep_later: keep the checkpoints and metrics after it in `RUN/set-aside/`.
            data: a replay buffer to learn from, if the run collects nothing.
            show: show progress on standard error.

        Raises:
            RunError: if there is no such checkpoint, or one cannot be read.
            ConfigurationError: if the data are missing, or are not those of the checkpoint.
        """
        self.runs, self.mode, self.show = runs, mode, show and is_first_process()
        self.config = runs[0].config
        self.timetable = self.config.timetable
        self.eval_every, self.checkpoint_every = (
            None if text is None else Count.parse(text)
            for text in (self.config.eval_every, self.config.checkpoint_every)
        )
        self._mesh = mesh
        homes = None if mesh is None else [home_of(place, len(runs), mesh) for place in range(len(runs))]
        states = first_states(setup, runs, resumed=resumed, checkpoint=checkpoint, data=data, homes=homes)
        self.clocks = states[0].clocks
        self._populate(setup.at(self.clocks), states)
        for run in runs:
            if resumed and is_first_process():
                run.directory.write_config(run.config)
            run.begin(self.clocks, keep_later=keep_later)

    @property
    def rounds(self) -> int:
        """Training steps taken so far."""
        return self.timetable.rounds_at(self.clocks)

    def train(self) -> list[TrainResult]:
        """Train to the end, or until a signal.

        Raises:
            TrainingError: if a number is not finite or a save fails; the checkpoints before are whole.
        """
        with ExitStack() as stack:
            stack.callback(lambda: self.population.close())
            display: Display = self._display() if self.show else Silent()
            stack.enter_context(closing(display))
            stop = stack.enter_context(StopRequest())
            if len(self.runs) > 1:
                display.note(f"{len(self.runs)} seeds by {self._seeds()}; steps of each, mean success")
            if self.setup.shards.devices > 1:
                display.note(self._spread())
            for run in self.runs:
                if run.set_aside is not None:
                    display.note(f"what the run had after {self.clocks} is in {run.set_aside}")
            if not self.setup.collector.resumes_exactly:
                display.note(f"{self.setup.environment.name} {CANNOT_BE_SAVED}")
            began = saved = time.monotonic()
            start = self.clocks
            if self.rounds < self.timetable.rounds:
                self._compile_ahead(display)
            if not all(run.rows for run in self.runs):
                self._evaluate(0.0, start)
            stopped_by = _asked_to_stop(stop)
            while self.rounds < self.timetable.rounds and stopped_by is None:
                self._advance(display)
                self._grow_if_due(display)
                display.update(self.clocks.step, self._status())
                if self._evaluation_due():
                    self._evaluate(time.monotonic() - began, start)
                    self._save(evaluated=True)
                    saved = time.monotonic()
                elif any(largest_of_all(self._checkpoint_due(time.monotonic() - saved))):
                    self._save()
                    saved = time.monotonic()
                stopped_by = _asked_to_stop(stop)
            if stopped_by is not None:
                self._save()
            self._wait()
            if stopped_by is not None:  # speaking comes last: a reader that waits must not delay the save
                display.note(f"{stopped_by.name}: saved after {self.clocks}")
        return self._results(None if self.rounds >= self.timetable.rounds else stopped_by)

    def begin(self) -> list[TrainResult]:
        """Evaluate and save the states as they are, without a training step.

        Raises:
            TrainingError: if a number is not finite or the save fails.
        """
        with ExitStack() as stack:
            stack.callback(lambda: self.population.close())
            display: Display = self._display() if self.show else Silent()
            stack.enter_context(closing(display))
            display.update(self.clocks.step, "evaluating")
            self._evaluate(0.0, self.clocks)
            self._save(evaluated=True)
            self._wait()
        return self._results(None)

    def _results(self, stopped_by: signal.Signals | None) -> list[TrainResult]:
        return [
            TrainResult(run.directory, self.clocks.env_steps, self.clocks.gradient_steps, run.last_row, stopped_by)
            for run in self.runs
        ]

    def _display(self) -> Display:
        unit = "env steps" if self.config.collects else "gradient steps"
        return progress_display("training", self.timetable.end.step, start=self.clocks.step, unit=unit)

    def _seeds(self) -> str:
        """Return in words how the seeds are moved."""
        if self._mesh is None:
            return self.mode
        devices, each = self._mesh.size, len(self.runs) // self._mesh.size
        return f"{self.mode} on {devices} devices, {each} on each, where none waits for another"

    def _spread(self) -> str:
        """Return in words what each device has."""
        devices, config = self.setup.shards.devices, self.config
        has = f"{config.num_envs // devices} environments and {config.batch_size // devices} rows of a batch"
        return f"{devices} devices, each with {has}"

    def _populate(self, setup: Setup, states: Sequence[TrainState]) -> None:
        """Use this setup from now on, and prepare its programs for the states."""
        self.setup = setup
        self.population = populate(self.mode, setup, states, self._mesh)
        self.diagnose = jax.jit(setup.agent.diagnose)

    def _advance(self, display: Display) -> None:
        """Collect, learn once there are enough data, and raise if a number is not finite."""
        before = self.clocks
        with self._one_line_errors():
            outcomes = self.population.advance(learn=self.rounds >= self.timetable.prefill_rounds)
        for place, (run, (collected, learnt)) in enumerate(zip(self.runs, outcomes, strict=True)):
            fault = None
            if collected is not None:
                fault = collected.describe(self.setup.environment.name, before.env_steps, self.config.num_envs)
                if collected.divergence.robots:
                    fault = fault or self._too_many_diverged(place, collected.divergence, display)
            if learnt is not None:
                metrics, faults = learnt
                fault = fault or faults.describe(before.env_steps, before.gradient_steps)
                run.train_metrics = {f"train/{name}": float(value) for name, value in metrics.items()}
            if fault is not None:
                self._stop_because(run, fault)
        self.clocks = self.population.clocks

    def _too_many_diverged(self, place: int, divergence: Divergence, display: Display) -> str | None:
        """Return in words that more episodes diverged than the run allows; None if it goes on."""
        state = self.population.state(place)
        diverged, episodes = int(state.diverged), max(state.episodes, LEAST_EPISODES)
        where = suspects(self.setup.environment.task, np.asarray(divergence.speed))
        if diverged > self.config.max_diverged * episodes:
            return (
                f"robots of {self.setup.environment.name} diverged in {diverged} of {state.episodes:,} episodes by "
                f"{state.clocks}, more than max_diverged={self.config.max_diverged:g}{where}"
            )
        if diverged == divergence.robots:
            display.note(f"a robot diverged, and failed its episode; train/diverged counts them{where}")
        return None

    def _grow_if_due(self, display: Display) -> None:
        """Grow the networks after a training step that reached a stage of `grow`, before the state is used."""
        setup = self.setup.at(self.clocks)
        if setup is not self.setup:
            display.note(f"depth {self.setup.depth} grows to {setup.depth} at {self.clocks}")
            states = [grow_state(setup, self.population.state(place), run.seed) for place, run in enumerate(self.runs)]
            self.population.close()
            self._populate(setup, states)
            if self.rounds < self.timetable.rounds:
                self._compile_ahead(display)

    def _compile_ahead(self, display: Display) -> None:
        """Compile the programs of the run side by side while the first of them already runs."""
        if num_processes() > 1:  # whose programs wait for each other: all begin them in one order
            return
        programs = self.population.compile_ahead(self.config.num_eval_envs)
        display.update(self.clocks.step, f"compiling {programs} programs")

    def _stop_because(self, run: SeedRun, fault: str) -> NoReturn:
        """Raise because of a fault of one seed, such as a number that is not finite."""
        self._wait()
        kept = run.checkpoints.steps()
        last = (
            f"the last good checkpoint is {run.directory.checkpoints / str(kept[-1])}" if kept else "no checkpoint yet"
        )
        which = f"seed {run.seed}: " if len(self.runs) > 1 else ""
        raise TrainingError(f"{which}{fault}; {last}")

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Raise what a compiled program raises, such as an engine's error or a lack of memory, as one line."""
        try:
            yield
        except Exception as error:
            if (cause := device_error(error)) is None:
                raise
            self._stop_because(self.runs[0], f"a program failed after {self.clocks.moment}: {cause}")

    def _evaluation_due(self) -> bool:
        """Return whether the last training step is followed by an evaluation; the last one of all always is."""
        rounds, total = self.rounds, self.timetable.rounds
        if self.eval_every is not None:
            return rounds == total or self.timetable.passes_multiple(self.eval_every, rounds)
        return rounds * self.config.num_evals // total > (rounds - 1) * self.config.num_evals // total

    def _checkpoint_due(self, seconds: float) -> bool:
        """Return whether the last training step is followed by a checkpoint, so long after the one before."""
        if self.checkpoint_every is not None and self.timetable.passes_multiple(self.checkpoint_every, self.rounds):
            return True
        return seconds > 60.0 * self.config.checkpoint_minutes

    def _evaluate(self, seconds: float, start: Clocks) -> None:
        """Evaluate, and write a row of metrics.

        Args:
            seconds: since training started or resumed.
            start: the clocks at that time.
        """
        began = time.monotonic()
        clocks = self.clocks
        keys = [stream(jax.random.key(run.seed), "evaluation", clocks.step) for run in self.runs]
        with self._one_line_errors():
            results = self.population.evaluate(keys, self.config.num_eval_envs)
        for run, episodes in zip(self.runs, results, strict=True):
            if not bool(episodes.finite):
                self._stop_because(run, f"an evaluation episode is not finite after {clocks.moment}")
        for place, (run, episodes) in enumerate(zip(self.runs, results, strict=True)):
            if run.was_evaluated_at(clocks):
                continue  # it was stopped before the rows of the other seeds were written
            row = {
                "env_steps": clocks.env_steps,
                "gradient_steps": clocks.gradient_steps,
                **summarize(episodes),
                **run.train_metrics,
                **({"train/diverged": int(self.population.state(place).diverged)} if self.config.collects else {}),
                **({"train/depth": self.setup.depth} if self.config.grow is not None else {}),
                "perf/seconds": run.seconds_before + seconds,
                "perf/env_steps_per_second": _speed(clocks.env_steps - start.env_steps, seconds),
                "perf/gradient_steps_per_second": _speed(clocks.gradient_steps - start.gradient_steps, seconds),
                "perf/eval_seconds": time.monotonic() - began,
            }
            run.write(row)
            if self.config.diagnostics and self._has_data():
                state = self.population.state(place)
                found = jax.device_get(self.diagnose(state.agent, state.buffer, stream(keys[place], "diagnostics")))
                run.write_diagnostics(
                    {"env_steps": clocks.env_steps, "gradient_steps": clocks.gradient_steps}
                    | {name: value.tolist() for name, value in found.items()}
                )

    def _has_data(self) -> bool:
        """Return whether the buffer holds enough to learn from."""
        return not self.config.collects or self.rounds >= max(self.timetable.prefill_rounds, 1)

    def _save(self, *, evaluated: bool = False) -> None:
        """Begin to save all seeds, once their previous saves are complete: no seed is two checkpoints ahead."""
        self._wait()
        for place, run in enumerate(self.runs):
            run.directory.check_present()
            if is_first_process():
                run.directory.keep_kernel_choices()
            state = self.population.state(place)
            policy = policy_of(run.config, self.setup, state.agent, clocks=self.population.clocks)
            run.checkpoints.save(state, run.last_row if evaluated else None, policy=policy.writer())

    def _wait(self) -> None:
        """Wait until all saves are complete."""
        for run in self.runs:
            run.checkpoints.wait()

    def _status(self) -> str:
        """Return success_any of the last evaluation, the mean over seeds, as text."""
        known = [run.last_row for run in self.runs if run.rows]
        if not known:
            return "success --"
        success = f"success {statistics.fmean(row['eval/success_any'] for row in known):.2f}"
        return f"{success}; {ENDS_AT_ONCE}" if all(map(ends_at_once, known)) else success


def _asked_to_stop(stop: StopRequest) -> signal.Signals | None:
    """Return the signal that one of the processes was sent; None if none was."""
    (number,) = largest_of_all(stop.signal or 0)
    return signal.Signals(number) if number else None


def _speed(steps: int, seconds: float) -> float:
    return steps / seconds if seconds > 0.0 else 0.0
