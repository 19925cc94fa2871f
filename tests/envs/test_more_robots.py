"""Hopper, walker, swimmer, fish, quadruped and the six-axis arm: they stand, hold together, and start well."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import Environment, RobotState, RobotTask, make
from kilolayer.envs.control import HeldEndEffector
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.quaternions import rotate, rotation_distance
from kilolayer.envs.robots.six_axis import pointing_down
from kilolayer.envs.tasks import (
    Fish,
    Hopper,
    QuadrupedGo,
    QuadrupedStandUp,
    SixAxisPick,
    SixAxisPush,
    SixAxisReach,
    Swimmer,
    Walker2d,
)

STAND = (Hopper, Walker2d, QuadrupedGo)
ROBOTS = (*STAND, QuadrupedStandUp, Swimmer, Fish)
"""Robots whose controls depend on the action alone."""


def starts(task: RobotTask, count: int = 4) -> np.ndarray:
    start, _ = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), count))
    return np.asarray(start.qpos)


def rolled(task: RobotTask, qpos: np.ndarray, actions: np.ndarray) -> mujoco.MjData:
    """MuJoCo's state after actions, by the engine's own loop."""
    data = mujoco.MjData(task.model)
    data.qpos[:] = qpos
    for control in np.asarray(jax.vmap(task.control)(jnp.asarray(actions, jnp.float32))):
        data.ctrl[:] = control
        mujoco.mj_step(task.model, data, task.substeps)
    return data


def state_of(task: RobotTask, qpos: np.ndarray) -> RobotState:
    """A state with these joint positions, and zeros elsewhere."""
    return dataclasses.replace(task._zero_state(), qpos=jnp.asarray(qpos, jnp.float32))


@pytest.mark.parametrize("kind", STAND)
def test_a_stander_stands_for_three_seconds_without_an_action(kind):
    task = kind()
    for qpos in starts(task):
        data = rolled(task, qpos, np.zeros((60, task.action_size)))
        assert not task.failed(state_of(task, data.qpos))
        np.testing.assert_allclose(data.qpos[:2], task.home.qpos[:2], atol=0.15)
        assert np.abs(data.qpos - np.asarray(task.home.qpos)).max() < 0.35


@pytest.mark.parametrize("kind", ROBOTS)
def test_random_actions_do_not_fling_a_robot(kind):
    task = kind()
    draws = np.random.default_rng(0)
    for qpos in starts(task):
        data = rolled(task, qpos, draws.uniform(-1.0, 1.0, (60, task.action_size)))
        assert np.isfinite(data.qpos).all()
        assert np.abs(data.qvel).max() < 40.0
        assert np.abs(data.qpos[:2]).max() < 2.5


def test_a_fallen_robot_fails():
    task = Hopper()
    assert not task.failed(state_of(task, task.home.qpos))
    for place, value in ((1, -0.5), (2, 1.1), (2, -1.1)):
        assert task.failed(state_of(task, task.home.qpos.at[place].set(value)))


def test_a_robot_that_is_to_stand_up_begins_above_the_floor_turned_to_any_side():
    task = QuadrupedStandUp()
    start, goal = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 200))
    up = np.asarray(rotate(start.qpos[:, 3:7], jnp.array([0.0, 0.0, 1.0])))
    assert (up[:, 2] < 0.0).mean() > 0.3
    data = mujoco.MjData(task.model)
    for qpos in np.asarray(start.qpos):
        data.qpos[:] = qpos
        mujoco.mj_forward(task.model, data)
        assert data.ncon == 0
    assert ((goal[:, 0] >= 0.24) & (goal[:, 0] <= 0.32) & (goal[:, 3] == 1.0)).all()


def test_goals_of_swimmers_are_in_a_ring():
    for task, most in ((Swimmer(), 1.5), (Fish(), 1.2)):
        goals = np.asarray(jax.vmap(task.draw_goal)(jax.random.split(jax.random.key(0), 100)))
        distance = np.linalg.norm(goals[:, :2], axis=-1)
        assert 0.4 <= distance.min() < 0.6
        assert most - 0.3 < distance.max() <= most


def test_the_gripper_points_down_where_it_should():
    for x, z in ((0.45, 0.02), (0.3, 0.2)):
        task = SixAxisPush()
        data = mujoco.MjData(task.model)
        data.qpos[:6] = pointing_down(x, z)
        mujoco.mj_forward(task.model, data)
        np.testing.assert_allclose(data.site("tip").xpos, [x, 0.0, z], atol=1e-6)
        np.testing.assert_allclose(data.site("tip").xmat.reshape(3, 3)[:, 2], [0.0, 0.0, -1.0], atol=1e-6)


@pytest.mark.slow
def test_a_held_end_effector_moves_along_the_axes_and_does_not_turn():
    task = SixAxisPick()
    assert isinstance(task, HeldEndEffector)
    environment = Environment("pick", task, MujocoEngine(task), episode_length=100)
    state = environment.reset(jax.random.key(0), 2)
    step = jax.jit(environment.step)
    first = state.physics.sites.position[:, 0]
    for _ in range(12):
        state, _ = step(state, jnp.broadcast_to(jnp.array([-0.25, 0.5, 0.5, 1.0]), (2, 4)))
    for _ in range(8):
        state, _ = step(state, jnp.zeros((2, 4)))
    moved = state.physics.sites.position[:, 0] - first
    np.testing.assert_allclose(moved, np.broadcast_to([-0.12, 0.24, 0.24], (2, 3)), atol=0.03)
    turned = rotation_distance(state.physics.sites.quaternion[:, 0], jnp.asarray(task.held_quaternion))
    assert float(turned.max()) < 0.03


@pytest.mark.slow
def test_a_closed_gripper_lifts_the_cube():
    task = SixAxisPick()
    environment = Environment("pick", task, MujocoEngine(task), episode_length=100)
    task.cube_noise = 0.0
    state = environment.reset(jax.random.key(0), 1)
    step = jax.jit(environment.step)
    for action, count in (((0, 0, -0.5, 1), 2), ((0, 0, 0, -1), 6), ((0, 0, 1, -1), 6)):
        for _ in range(count):
            state, _ = step(state, jnp.array([action], jnp.float32))
    assert float(state.achieved_goal[0, 2]) > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SixAxisReach, SixAxisPush, SixAxisPick])
def test_an_arm_holds_its_start_without_an_action(kind):
    task = kind()
    environment = Environment("arm", task, MujocoEngine(task), episode_length=100)
    state = environment.reset(jax.random.key(0), 4)
    first, step = state.physics.qpos[:, :6], jax.jit(environment.step)
    for _ in range(20):
        state, _ = step(state, jnp.zeros((4, task.action_size)).at[:, 3:].set(1.0 if kind is SixAxisPick else 0.0))
    np.testing.assert_allclose(state.physics.qpos[:, :6], first, atol=0.03)


def test_a_robot_that_hangs_from_a_mocap_body_needs_no_actuator():
    class Hanging(RobotTask):
        control_step = 0.02
        goal_body = "load"

        def build(self):
            return mujoco.MjSpec.from_string(
                """<mujoco><worldbody><body name="hand" mocap="true" pos="0 0 1"/>
                <body name="load" pos="0 0 1"><freejoint/><geom size="0.1"/></body></worldbody>
                <equality><weld body1="hand" body2="load"/></equality></mujoco>"""
            )

    task = Hanging()
    engine = MujocoEngine(task)
    start = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), task.home)
    state = engine.step(engine.init(start), jnp.zeros((2, 0)))
    assert state.position.shape == (2, 1, 3)


def test_random_starts_are_all_over_the_disc():
    task = make("ant_random_start", engine="mujoco").task
    qpos = starts(task, 200)
    assert np.linalg.norm(qpos[:, :2], axis=-1).max() <= 10.0
    assert 5.0 < np.median(np.linalg.norm(qpos[:, :2], axis=-1)) < 8.5
    forward = np.asarray(rotate(jnp.asarray(qpos[:, 3:7]), jnp.array([1.0, 0.0, 0.0])))[:, 0]
    assert forward.min() < -0.8
    assert forward.max() > 0.8
