"""Engines agree: MJX with MuJoCo from the same starts under the same controls, and ours of Brax's spring with Brax."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import RobotTask, Start
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.tasks import (
    Ant,
    ArmPush,
    ArmReach,
    Fish,
    HalfCheetah,
    Hopper,
    Humanoid,
    Pusher,
    QuadrupedGo,
    Reacher,
)

STEPS = 20
"""Control steps."""


def starts_and_controls(task: RobotTask, num_robots: int) -> tuple[Start, jax.Array]:
    """Starts as the task draws them, and random controls; time first."""
    start, _ = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), num_robots))
    action = jax.random.uniform(jax.random.key(1), (STEPS, num_robots, task.action_size), minval=-1.0, maxval=1.0)
    return start, jax.vmap(jax.vmap(task.control))(action)


def moved(engine: Any, start: Start, control: jax.Array, *, together: bool = True) -> tuple[np.ndarray, ...]:
    """Positions, velocities, and positions of bodies after each control step; time first.

    Robots that do not move together move one after another, in code that is optimised: for robots with many pairs of
    geoms that can touch, MJX takes far longer for two than twice for one, and nearly for ever without optimisation.
    """
    init, step = jax.jit(engine.init), jax.jit(engine.step)
    if not together:
        with optimised():
            return one_by_one(init, step, start, control)
    return run(init, step, start, control)


def run(init: Any, step: Any, start: Start, control: jax.Array) -> tuple[np.ndarray, ...]:
    state = init(start)
    history = []
    for one in control:
        state = step(state, one)
        history.append((state.qpos, state.qvel, state.position))
    return tuple(np.stack(values) for values in zip(*history, strict=True))


def one_by_one(init: Any, step: Any, start: Start, control: jax.Array) -> tuple[np.ndarray, ...]:
    parts = [
        run(init, step, jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], start), control[:, n : n + 1])
        for n in range(control.shape[1])
    ]
    return tuple(np.concatenate(values, axis=1) for values in zip(*parts, strict=True))


@contextlib.contextmanager
def optimised() -> Iterator[None]:
    """Compile as usual."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@dataclasses.dataclass(frozen=True)
class Free:
    """A robot that touches nothing, and how far engines may part: two to fourteen times as far as they were seen to."""

    task: Callable[[], RobotTask]
    position: float
    """Radians and metres."""
    velocity: float
    """The same in a second."""
    height: int | None = None
    """Which position is lifted by 20 m, for a robot that would stand on the floor; its coarser numbers part more."""
    together: bool = True


FREE = {
    "reacher": Free(Reacher, 1e-5, 3e-5),
    "arm_reach": Free(ArmReach, 1e-5, 1e-4, together=False),
    "pusher": Free(Pusher, 1e-5, 1e-4, together=False),
    "half_cheetah": Free(HalfCheetah, 1e-4, 1e-3, height=1),
    "ant": Free(Ant, 2e-4, 2e-3, height=2),
    "humanoid": Free(Humanoid, 1e-4, 1e-3, height=2),
    "hopper": Free(Hopper, 1e-4, 1e-3, height=1),
    "fish": Free(Fish, 1e-4, 1e-3),
    "quadruped": Free(QuadrupedGo, 1e-4, 1e-3, height=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FREE)
def test_robots_that_touch_nothing_move_alike(name: str) -> None:
    case = FREE[name]
    task = case.task()
    start, control = starts_and_controls(task, 8)
    if case.height is not None:
        start = Start(qpos=start.qpos.at[:, case.height].add(20.0), qvel=start.qvel)
    ours = moved(MujocoEngine(task), start, control)
    theirs = moved(MjxEngine(task), start, control, together=case.together)
    # They do move.
    assert np.abs(ours[0][-1] - start.qpos).max() > 0.5
    for value, other, tolerance in zip(ours, theirs, (case.position, case.velocity, case.position), strict=True):
        np.testing.assert_allclose(other, value, atol=tolerance, rtol=0)


@dataclasses.dataclass(frozen=True)
class OnTheFloor:
    """A robot whose contacts make small differences large in a few."""

    task: Callable[[], RobotTask]
    places: tuple[int, ...]
    """Which positions to compare: where the torso or the object is."""
    mean: float = 0.1
    """How far means may be apart, in parts of their standard error."""
    deviation: float = 0.02
    """How far standard deviations may be apart, in parts of themselves."""
    num_robots: int = 64
    together: bool = True


ON_THE_FLOOR = {
    "ant": OnTheFloor(Ant, (0, 1, 2)),
    "humanoid": OnTheFloor(Humanoid, (0, 1, 2)),
    "half_cheetah": OnTheFloor(HalfCheetah, (0, 1, 2)),
    # Most cubes lie still, and of the few that the arm hits or lifts each counts much among 16: half the standard error
    # of a mean, and all of that of a deviation, 1 / sqrt(2 * 16).
    "arm_push": OnTheFloor(ArmPush, (-7, -6, -5), mean=0.5, deviation=0.18, num_robots=16, together=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THE_FLOOR)
def test_robots_on_the_floor_move_alike_on_the_whole(name: str) -> None:
    """Means and standard deviations hardly differ, and half of the robots stay within 1 mm and 1 mrad.

    With other starts and controls, means would differ by more than a standard error from an engine's own. Of 64 robots
    a standard deviation has a standard error of 9 % of itself.
    """
    case = ON_THE_FLOOR[name]
    task = case.task()
    start, control = starts_and_controls(task, case.num_robots)
    ours = moved(MujocoEngine(task), start, control)[0][-1][:, list(case.places)]
    theirs = moved(MjxEngine(task), start, control, together=case.together)[0][-1][:, list(case.places)]
    spread = ours.std(axis=0)
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) < case.mean * spread / np.sqrt(case.num_robots)).all()
    assert (np.abs(theirs.std(axis=0) - spread) < case.deviation * spread).all()
    assert np.median(np.abs(theirs - ours).max(axis=-1)) < 1e-3


# Spring


def brax_asset(name: str) -> str:
    epath = pytest.importorskip("etils.epath")
    return (epath.resource_path("brax") / f"envs/assets/{name}.xml").read_text()


def same_as_brax(task: RobotTask, system: Any, num_robots: int = 4) -> None:
    """Compare our engine with Brax's own pipeline on Brax's own asset."""
    from brax.spring import pipeline

    from kilolayer.envs.engines.spring import SpringEngine

    start, control = starts_and_controls(task, num_robots)
    qpos, qvel, _ = moved(SpringEngine(task), start, control)
    nq, nv = system.q_size(), system.qd_size()

    @jax.jit
    def init(q, qd):
        return jax.vmap(lambda q, qd: pipeline.init(system, q, qd))(q, qd)

    @jax.jit
    def step(state, control):
        one = jax.vmap(lambda state, control: pipeline.step(system, state, control))
        return jax.lax.fori_loop(0, task.substeps, lambda _, state: one(state, control), state)

    state = init(start.qpos[:, :nq], start.qvel[:, :nv])
    for time in range(STEPS):
        state = step(state, control[time])
        np.testing.assert_allclose(qpos[time, :, :nq], state.q, atol=1e-4)
        np.testing.assert_allclose(qvel[time, :, :nv], state.qd, atol=1e-3)
    assert np.abs(qpos[-1] - start.qpos).max() > 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spring_moves_the_papers_ant_as_brax_does() -> None:
    mjcf = pytest.importorskip("brax.io.mjcf")
    task = Ant("paper")
    system = mjcf.loads(brax_asset("ant")).tree_replace({"opt.timestep": 0.005})
    same_as_brax(task, system)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spring_moves_the_papers_humanoid_as_brax_does() -> None:
    """Ours has the goal's body in addition, which touches nothing; the other joints are the same."""
    mjcf = pytest.importorskip("brax.io.mjcf")
    task = Humanoid(variant="paper")
    # What the paper's code changes: all parts touch the floor, the time step and the torques.
    system = mjcf.loads(brax_asset("humanoid").replace('contype="0"', 'contype="1"'))
    system = system.tree_replace({"opt.timestep": 0.003, "actuator.gear": jnp.array([350.0] * 11 + [100.0] * 6)})
    same_as_brax(task, system)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make_task", [lambda: Ant("paper"), lambda: Humanoid(variant="paper"), lambda: Reacher("paper")]
)
def test_spring_leaves_the_tasks_model_as_it_is(make_task: Callable[[], RobotTask]) -> None:
    pytest.importorskip("brax")
    from kilolayer.envs.engines.spring import SpringEngine

    task = make_task()
    before = bits(task.model)
    SpringEngine(task)
    assert bits(task.model) == before


def bits(model: mujoco.MjModel) -> bytes:
    """All that a model holds."""
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()
