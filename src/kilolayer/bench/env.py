"""Env steps per second of rollouts with a policy, compared with bare physics and with other engines."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import PRNGKeyArray

from kilolayer.bench.timing import seconds_of
from kilolayer.envs import EnvironmentState, RobotTask, StepResult, registry
from kilolayer.envs.engines import check_engine_name
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.registry import Variant
from kilolayer.errors import ConfigurationError
from kilolayer.runs.defaults import default_config
from kilolayer.training.setup import Setup

TASKS = ("ant", "humanoid", "arm_push_easy")

ENGINES_TO_COMPARE = ("mujoco", "spring")

REFERENCE = "mujoco"
"""The engine that all others are compared with, and whose bare loop is timed."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """One line of the table."""

    task: str
    variant: str
    engine: str
    kind: str
    """`rollout`: physics, observations, goals, resets and a policy. `bare`: physics alone, with the controls of the
    rollout."""
    num_envs: int
    depth: int
    """Of the actor."""
    width: int
    """Of the actor."""
    step_seconds: float
    """Time of a step of all environments; median over the rounds."""
    env_steps_per_second: float
    """Median over the rounds."""
    slowest: float
    """Env steps per second in the slowest round."""
    fastest: float
    """Env steps per second in the fastest round."""
    rounds: int
    """Rounds that were measured; fewer than asked for after Ctrl-C."""
    compile_seconds: float
    """Time of the first call minus the median time of later calls."""
    ratio_to_bare: float | None
    """Speed of this line divided by the speed of bare MuJoCo in the same round; median over the rounds."""
    rollout_ratio: float | None
    """Speed of the MuJoCo rollout divided by the speed of this line in the same round; median over the rounds."""


def bench_env(
    tasks: Sequence[str] = TASKS,
    *,
    engines: Sequence[str] | None = None,
    num_envs: int = 512,
    num_steps: int = 50,
    rounds: int = 5,
    depth: int = 4,
    width: int = 256,
    log: Callable[[str], object] = id,
) -> Iterator[Speed]:
    """Time the physics of tasks. All sides of a task take turns, round by round, so that noise affects all alike.

    The bare loop of the C engine (`mujoco.batch` without JAX) is always among the sides. An engine moves the default
    variant of a task, or the paper's variant where it moves only that; it is left out where it moves neither.

    Args:
        tasks: names of environments with a robot.
        engines: to compare; None takes MuJoCo, and Brax's spring pipeline where it can run the task.
        num_envs: robots side by side.
        num_steps: control steps of each robot in a round.
        rounds: to take the median of.
        depth: of the actor.
        width: of the actor.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read: the lines of a task come once that task is measured, or after Ctrl-C,
        which goes on behind the lines of the rounds so far.

    Raises:
        ConfigurationError: at the call, for an unknown task or engine, a task without a robot, an engine that is not
            installed, or a size below 1.
    """
    for name, value in (("num_envs", num_envs), ("num_steps", num_steps), ("rounds", rounds)):
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    setups: dict[str, dict[str, Setup]] = {}
    for task in tasks:
        if not isinstance(registry.spec(task).make_task(), RobotTask):
            raise ConfigurationError(f"task={task!r} has no body to time; take a robot's, as {', '.join(TASKS)}")
        setups[task] = {}
        for engine in dict.fromkeys((REFERENCE, *(ENGINES_TO_COMPARE if engines is None else engines))):
            variant = variant_on(task, engine)
            if variant is None:
                continue
            try:
                config = default_config(task, engine=engine, variant=variant, depth=depth, width=width)
                setups[task][engine] = Setup.build(config)
            except ConfigurationError:
                if engines is not None or engine in (REFERENCE, registry.spec(task).paper_engine):
                    raise
    engines = ENGINES_TO_COMPARE if engines is None else engines
    return _measure_tasks(setups, engines, num_envs, num_steps, rounds, width, log)


def measure(task: str, engine: str, **sizes: Any) -> list[dict[str, Any]]:
    """Measure one engine in this process and return the fields of its rows.

    Args:
        task: name of an environment with a robot.
        engine: name of an engine.
        sizes: of `bench_env`.
    """
    rows = bench_env([task], engines=[engine], **sizes)
    return [dataclasses.asdict(row) for row in rows if row.engine == engine]


def variant_on(task: str, engine: str) -> Variant | None:
    """Return the variant of a task that an engine moves: the default one if it can, else the paper's; None for neither.

    Args:
        task: name of an environment.
        engine: name of an engine.

    Raises:
        ConfigurationError: for an unknown task or engine.
    """
    check_engine_name(engine)
    spec = registry.spec(task)
    variants: tuple[Variant, ...] = ("default",) if spec.paper_engine is None else ("default", "paper")
    for variant in variants:
        if engine.removesuffix("-warp") in spec.make_task(variant).engines:
            return variant
    return None


def _measure_tasks(
    setups: Mapping[str, Mapping[str, Setup]],
    engines: Sequence[str],
    num_envs: int,
    num_steps: int,
    rounds: int,
    width: int,
    log: Callable[[str], object],
) -> Iterator[Speed]:
    for task, by_engine in setups.items():
        sides: list[tuple[str, str, str, Callable[[], None]]] = []
        log(f"{task}: recording controls")
        reference = Rollout(by_engine[REFERENCE], num_envs, num_steps)
        sides.append((_variant(reference), REFERENCE, "bare", _bare_mujoco(reference)))
        for engine in engines:
            if engine not in by_engine:
                continue
            rollout = reference
            if engine != REFERENCE:
                rollout = Rollout(by_engine[engine], num_envs, num_steps)
                sides.append((_variant(rollout), engine, "bare", _bare(rollout)))
            sides.append((_variant(rollout), engine, "rollout", rollout.run))
        first = []
        for _, engine, kind, run in sides:
            log(f"{task}: compiling {kind} on {engine}")
            first.append(seconds_of(run))
        times: list[list[float]] = [[] for _ in sides]
        interrupted: KeyboardInterrupt | None = None
        try:
            for number in range(rounds):
                log(f"{task}: round {number + 1} of {rounds}")
                for (_, _, _, run), seconds in zip(sides, times, strict=True):
                    seconds.append(seconds_of(run))
        except KeyboardInterrupt as error:  # the rounds so far are not lost
            if not times[-1]:
                raise
            interrupted, times = error, [seconds[: len(times[-1])] for seconds in times]
        base = next((i for i, side in enumerate(sides) if side[1:3] == (REFERENCE, "rollout")), None)
        for i, (variant, engine, kind, _) in enumerate(sides):
            speeds = [num_envs * num_steps / seconds for seconds in times[i]]
            yield Speed(
                task=task,
                variant=variant,
                engine=engine,
                kind=kind,
                num_envs=num_envs,
                depth=by_engine[engine].depth,
                width=width,
                step_seconds=statistics.median(times[i]) / num_steps,
                env_steps_per_second=statistics.median(speeds),
                slowest=min(speeds),
                fastest=max(speeds),
                rounds=len(times[i]),
                compile_seconds=max(first[i] - statistics.median(times[i]), 0.0),
                ratio_to_bare=_ratio(times[0], times[i]),
                rollout_ratio=None if base is None else _ratio(times[i], times[base]),
            )
        if interrupted is not None:
            raise interrupted


def _ratio(seconds: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))


def _variant(rollout: "Rollout") -> str:
    """Return the variant of the task that a rollout steps."""
    task = rollout.setup.environment.task
    assert isinstance(task, RobotTask)
    return task.variant


class Rollout:
    """A scan over the steps of an environment with a stochastic, untrained policy, as in training."""

    def __init__(self, setup: Setup, num_envs: int, num_steps: int):
        """Draw start states and parameters."""
        self.setup, self.num_envs, self.num_steps = setup, num_envs, num_steps
        agent, environment = setup.agent, setup.environment
        self.agent_state = jax.jit(agent.init)(jax.random.key(0))
        begin = functools.partial(environment.reset, num_envs=num_envs, action_chunk=agent.executed_actions)
        self.begun = jax.jit(begin)(jax.random.key(1))
        self.keys = jax.random.split(jax.random.key(2), num_steps)

        def advance(
            agent_state: Any, state: EnvironmentState, key: PRNGKeyArray
        ) -> tuple[EnvironmentState, jax.Array, StepResult]:
            return environment.advance(
                state, lambda observation, goal: agent.collect(agent_state, observation, goal, key)
            )

        @jax.jit
        def steps(agent_state: Any, state: EnvironmentState, keys: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
            def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
                state, _, result = advance(agent_state, state, key)
                return state, jnp.sum(result.success)

            return jax.lax.scan(step, state, keys)

        @jax.jit
        def controls(agent_state: Any, state: EnvironmentState, keys: PRNGKeyArray) -> jax.Array:
            def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
                after, action, _ = advance(agent_state, state, key)
                return after, environment.control(state, action)

            return jax.lax.scan(step, state, keys)[1]

        self._steps, self._controls = steps, controls

    def run(self) -> None:
        """Take all steps and wait for them."""
        jax.block_until_ready(self._steps(self.agent_state, self.begun, self.keys))

    def controls(self) -> jax.Array:
        """Return the controls that `run` applies: steps x environments x controls."""
        return self._controls(self.agent_state, self.begun, self.keys)


def _bare_mujoco(rollout: Rollout) -> Callable[[], None]:
    """Return a loop over the C engine alone, on all cores, with the start states and controls of the rollout.

    The cost of physics depends on the controls: ants that lie are slower to compute than ants that jump.
    """
    engine = rollout.setup.environment.engine
    assert isinstance(engine, MujocoEngine)
    control = np.asarray(rollout.controls())
    rows = np.asarray(rollout.begun.physics.engine.bits).view(np.float64)
    batch = mujoco.batch.Batch(engine.model, nsim=rollout.num_envs, nthread=0)

    def run() -> None:
        batch.state[:] = rows
        for one in control:
            batch.ctrl = one
            batch.step(nstep=engine.substeps)

    return run


def _bare(rollout: Rollout) -> Callable[[], None]:
    """Return a scan over the engine's steps with the start states and controls of the rollout."""
    engine, control = rollout.setup.environment.engine, rollout.controls()

    @jax.jit
    def steps(physics: Any, control: jax.Array) -> Any:
        return jax.lax.scan(lambda physics, one: (engine.step(physics, one), None), physics, control)[0]

    return lambda: jax.block_until_ready(steps(rollout.begun.physics, control))
