"""Env steps per second: whole rollouts with a policy, beside the bare physics and beside other engines."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import PRNGKeyArray

from kilolayer.envs import EnvironmentState, RobotTask, registry
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.errors import ConfigurationError
from kilolayer.runs.config import default_config
from kilolayer.training.setup import Setup

TASKS = ("ant", "humanoid", "arm_push_easy")


@dataclasses.dataclass(frozen=True)
class Speed:
    """One line of the table."""

    task: str
    variant: str
    engine: str
    kind: str
    """`rollout`: with observations, goals, resets and a policy. `bare`: physics alone, under the rollout's controls."""
    num_envs: int
    depth: int
    """Of the actor."""
    width: int
    """Of the actor."""
    step_seconds: float
    """For a step of all environments, median over the rounds."""
    env_steps_per_second: float
    """Median over the rounds."""
    slowest: float
    """Env steps per second in the slowest round."""
    fastest: float
    """Env steps per second in the fastest round."""
    compile_seconds: float
    """The first call, less what a later one takes."""
    ratio_to_bare: float | None
    """Median over the rounds of this line's speed divided by bare MuJoCo's in the same round."""
    rollout_ratio: float | None
    """Median over the rounds of the MuJoCo rollout's speed divided by this line's in the same round."""


def bench_env(
    tasks: Sequence[str] = TASKS,
    *,
    engines: Sequence[str] = ("mujoco", "spring"),
    num_envs: int = 512,
    num_steps: int = 50,
    rounds: int = 5,
    depth: int = 4,
    width: int = 256,
    tell: Callable[[str], object] = id,
) -> Iterator[Speed]:
    """Time the physics of tasks. All sides are timed in turn, round by round, so that noise meets all alike.

    A bare loop of the C engine (`mujoco.batch` without JAX) is timed always. Spring moves the paper's variant of a
    task, the other engines the default one; a task that spring cannot move is not timed on it.

    Args:
        tasks: names of environments of robots.
        engines: to time beside each other.
        num_envs: robots side by side.
        num_steps: control steps of each in a round.
        rounds: to take the median of.
        depth: of the actor.
        width: of the actor.
        tell: called with what is about to be done.

    Raises:
        ConfigurationError: for a task that is unknown or no robot's, or an engine that is not installed.
    """
    for task in tasks:
        if not isinstance(registry.spec(task).make_task(), RobotTask):
            raise ConfigurationError(f"task={task!r} has no body to time; take a robot's, as {', '.join(TASKS)}")
        sides: list[tuple[str, str, str, Callable[[], None]]] = []
        tell(f"{task}: recording controls")
        mujoco_rollout = Rollout(_setup(task, "mujoco", depth, width), num_envs, num_steps)
        sides.append(("default", "mujoco", "bare", _bare_mujoco(mujoco_rollout)))
        for engine in engines:
            if engine == "spring" and registry.spec(task).paper_engine != "spring":
                continue
            rollout = mujoco_rollout
            if engine != "mujoco":
                rollout = Rollout(_setup(task, engine, depth, width), num_envs, num_steps)
                sides.append((_variant(engine), engine, "bare", _bare(rollout)))
            sides.append((_variant(engine), engine, "rollout", rollout.run))
        first = []
        for _, engine, kind, run in sides:
            tell(f"{task}: compiling {kind} on {engine}")
            first.append(_seconds(run))
        times: list[list[float]] = [[] for _ in sides]
        for number in range(rounds):
            tell(f"{task}: round {number + 1} of {rounds}")
            for (_, _, _, run), seconds in zip(sides, times, strict=True):
                seconds.append(_seconds(run))
        base = next((i for i, side in enumerate(sides) if side[1:3] == ("mujoco", "rollout")), None)
        for i, (variant, engine, kind, _) in enumerate(sides):
            speeds = [num_envs * num_steps / seconds for seconds in times[i]]
            yield Speed(
                task=task,
                variant=variant,
                engine=engine,
                kind=kind,
                num_envs=num_envs,
                depth=depth,
                width=width,
                step_seconds=statistics.median(times[i]) / num_steps,
                env_steps_per_second=statistics.median(speeds),
                slowest=min(speeds),
                fastest=max(speeds),
                compile_seconds=max(first[i] - statistics.median(times[i]), 0.0),
                ratio_to_bare=_ratio(times[0], times[i]),
                rollout_ratio=None if base is None else _ratio(times[i], times[base]),
            )


def _ratio(seconds: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _setup(task: str, engine: str, depth: int, width: int) -> Setup:
    return Setup.build(default_config(task, engine=engine, variant=_variant(engine), depth=depth, width=width))


def _variant(engine: str) -> str:
    """Return the variant of a task that an engine moves."""
    return "paper" if engine == "spring" else "default"


class Rollout:
    """A scan over an environment's steps with a stochastic, untrained policy, as training makes them."""

    def __init__(self, setup: Setup, num_envs: int, num_steps: int):
        """Draw starts and parameters."""
        self.setup, self.num_envs, self.num_steps = setup, num_envs, num_steps
        agent, environment = setup.agent, setup.environment
        self.agent_state = jax.jit(agent.init)(jax.random.key(0))
        self.begun = jax.jit(environment.reset, static_argnums=1)(jax.random.key(1), num_envs)
        self.keys = jax.random.split(jax.random.key(2), num_steps)

        def collect(agent_state: Any, state: EnvironmentState, key: PRNGKeyArray) -> jax.Array:
            return agent.collect(agent_state, state.observation, state.desired_goal, key)

        @jax.jit
        def steps(agent_state: Any, state: EnvironmentState, keys: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
            def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
                state, result = environment.step(state, collect(agent_state, state, key))
                return state, jnp.sum(result.success)

            return jax.lax.scan(step, state, keys)

        @jax.jit
        def controls(agent_state: Any, state: EnvironmentState, keys: PRNGKeyArray) -> jax.Array:
            def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
                action = collect(agent_state, state, key)
                return environment.step(state, action)[0], jax.vmap(environment.task.control)(action)

            return jax.lax.scan(step, state, keys)[1]

        self._steps, self._controls = steps, controls

    def run(self) -> None:
        """Make all steps, and wait for them."""
        jax.block_until_ready(self._steps(self.agent_state, self.begun, self.keys))

    def controls(self) -> jax.Array:
        """Return the controls that `run` leads to: steps, environments, numbers."""
        return self._controls(self.agent_state, self.begun, self.keys)


def _bare_mujoco(rollout: Rollout) -> Callable[[], None]:
    """Return a loop over the C engine alone, on all cores: the rollout's own starts and controls, and nothing else.

    With other controls it would be other physics: ants that lie are slower to compute than ants that leap.
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
    """Return a scan over an engine's steps: the rollout's own starts and controls, and nothing else."""
    engine, control = rollout.setup.environment.engine, rollout.controls()

    @jax.jit
    def steps(physics: Any, control: jax.Array) -> Any:
        return jax.lax.scan(lambda physics, one: (engine.step(physics, one), None), physics, control)[0]

    return lambda: jax.block_until_ready(steps(rollout.begun.physics, control))
