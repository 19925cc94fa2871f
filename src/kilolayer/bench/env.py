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

from kilolayer.envs import Environment, EnvironmentState, RobotTask, make, registry
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.errors import ConfigurationError
from kilolayer.training.config import default_config
from kilolayer.training.setup import Setup

TASKS = ("ant", "humanoid", "arm_push_easy")


@dataclasses.dataclass(frozen=True)
class Speed:
    """One line of the table."""

    task: str
    variant: str
    engine: str
    kind: str
    """`bare`: physics alone, with random controls. `rollout`: with observations, goals, resets and a policy."""
    num_envs: int
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
        sides: list[tuple[str, str, str, Callable[[], None]]] = []
        if not isinstance(registry.spec(task).make_task(), RobotTask):
            raise ConfigurationError(f"task={task!r} has no body to time; take a robot's, as {', '.join(TASKS)}")
        environment = make(task, engine="mujoco")
        sides.append(("default", "mujoco", "bare", _bare_mujoco(environment, num_envs, num_steps)))
        for engine in engines:
            variant = "paper" if engine == "spring" else "default"
            if engine == "spring" and registry.spec(task).paper_engine != "spring":
                continue
            config = default_config(task, engine=engine, variant=variant, depth=depth, width=width)
            setup = Setup.build(config)
            if engine != "mujoco":
                sides.append((variant, engine, "bare", _bare(setup.environment, num_envs, num_steps)))
            sides.append((variant, engine, "rollout", _rollout(setup, num_envs, num_steps)))
        first = []
        for _, engine, kind, run in sides:
            tell(f"{task}: compiling {kind} on {engine}")
            first.append(_seconds(run))
        times: list[list[float]] = [[] for _ in sides]
        for number in range(rounds):
            tell(f"{task}: round {number + 1} of {rounds}")
            for (_, _, _, run), seconds in zip(sides, times, strict=True):
                seconds.append(_seconds(run))
        rollout = next((i for i, side in enumerate(sides) if side[1:3] == ("mujoco", "rollout")), None)
        for i, (variant, engine, kind, _) in enumerate(sides):
            speeds = [num_envs * num_steps / seconds for seconds in times[i]]
            yield Speed(
                task=task,
                variant=variant,
                engine=engine,
                kind=kind,
                num_envs=num_envs,
                env_steps_per_second=statistics.median(speeds),
                slowest=min(speeds),
                fastest=max(speeds),
                compile_seconds=max(first[i] - statistics.median(times[i]), 0.0),
                ratio_to_bare=_ratio(times[0], times[i]),
                rollout_ratio=None if rollout is None else _ratio(times[i], times[rollout]),
            )


def _ratio(seconds: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _bare_mujoco(environment: Environment, num_envs: int, num_steps: int) -> Callable[[], None]:
    """Return a loop over the C engine alone, on all cores, from the task's starts."""
    task, engine = environment.task, environment.engine
    assert isinstance(engine, MujocoEngine)
    start, _ = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), num_envs))
    qpos, qvel = np.asarray(start.qpos), np.asarray(start.qvel)
    batch = mujoco.batch.Batch(engine.model, nsim=num_envs, nthread=0)
    rng = np.random.default_rng(0)
    action = rng.uniform(-1.0, 1.0, (num_steps, num_envs, task.action_size)).astype(np.float32)
    control = np.asarray(jax.jit(jax.vmap(jax.vmap(task.control)))(action))

    def run() -> None:
        batch.reset(stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        batch.qpos, batch.qvel = qpos, qvel
        for one in control:
            batch.ctrl = one
            batch.step(nstep=engine.substeps)

    return run


def _bare(environment: Environment, num_envs: int, num_steps: int) -> Callable[[], None]:
    """Return a scan over an engine's steps with random controls, from the task's starts."""
    task, engine = environment.task, environment.engine

    @jax.jit
    def steps(key: PRNGKeyArray) -> Any:
        def step(physics: Any, key: PRNGKeyArray) -> tuple[Any, None]:
            action = jax.random.uniform(key, (num_envs, task.action_size), minval=-1.0, maxval=1.0)
            return engine.step(physics, jax.vmap(task.control)(action)), None

        start, _ = jax.vmap(task.reset)(jax.random.split(key, num_envs))
        return jax.lax.scan(step, engine.init(start), jax.random.split(key, num_steps))[0]

    return lambda: jax.block_until_ready(steps(jax.random.key(0)))


def _rollout(setup: Setup, num_envs: int, num_steps: int) -> Callable[[], None]:
    """Return a scan over the environment's steps with a stochastic policy, as training makes them."""
    agent, environment = setup.agent, setup.environment
    agent_state = jax.jit(agent.init)(jax.random.key(0))
    begun = jax.jit(environment.reset, static_argnums=1)(jax.random.key(1), num_envs)

    @jax.jit
    def steps(agent_state: Any, state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
        def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, jax.Array]:
            action = agent.act(agent_state, state.observation, state.desired_goal, key, "stochastic")
            state, result = environment.step(state, action)
            return state, jnp.sum(result.success)

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))

    return lambda: jax.block_until_ready(steps(agent_state, begun, jax.random.key(2)))
