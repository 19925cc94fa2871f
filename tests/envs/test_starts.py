"""Where episodes begin: keyframes with all they hold, and what is left of them after physics settled them."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from servo_arm import ServoArm, batch

from kilolayer.envs import Environment, Mocap, Start
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.errors import ConfigurationError

ENGINES = [MujocoEngine, pytest.param(MjxEngine, marks=pytest.mark.slow)]


class Aside(ServoArm):
    keyframe = "aside"
    quantities = ("act",)


def test_a_keyframe_is_taken_by_name_with_all_it_holds():
    task = ServoArm()
    start = task.start_at("aside")
    np.testing.assert_allclose(start.qpos[:4], [0.5, -0.6, 1.0, 0.01], atol=1e-6)
    np.testing.assert_allclose(start.qvel[:2], [0.1, 0.0], atol=1e-6)
    np.testing.assert_allclose(start.act, [-0.5])
    assert start.control is None, "it has none"
    np.testing.assert_allclose(task.home.control, [0.0, -0.8, 1.2, 0.0], atol=1e-6)
    assert task.home.mocap is None
    np.testing.assert_array_equal(Aside().home.qpos, start.qpos)
    with pytest.raises(
        ConfigurationError, match="names the keyframe 'asid', which its model does not have; did you mean"
    ):
        task.start_at("asid")


@pytest.mark.parametrize("kind", ENGINES)
def test_engines_take_all_of_a_start_and_the_keyframe_for_what_it_lacks(kind):
    task = Aside()
    given = Start(task.home.qpos, task.home.qvel, act=jnp.array([0.9]), control=jnp.arange(4.0))
    engine = kind(task)
    state = engine.init(batch(given))
    np.testing.assert_allclose(state.act[0], [0.9])
    np.testing.assert_array_equal(state.control[0], jnp.arange(4.0))
    plain = engine.init(batch(Start(task.home.qpos, task.home.qvel)))
    np.testing.assert_allclose(plain.act[0], [-0.5])
    np.testing.assert_array_equal(plain.control[0], jnp.zeros(4))
    again = engine.restart(plain, batch(given), jnp.array([True]))
    np.testing.assert_allclose(again.act[0], [0.9])


def test_a_start_is_settled_once_by_physics():
    class Settled(ServoArm):
        gravity = -9.81
        settle = 0.5

    task = Settled()
    data = mujoco.MjData(task.model)
    mujoco.mj_resetDataKeyframe(task.model, data, 0)
    mujoco.mj_step(task.model, data, 100)
    np.testing.assert_array_equal(task.home.qpos, data.qpos.astype(np.float32))
    assert task.home is task.home
    assert ServoArm().home.qpos[6] != task.home.qpos[6], "the ball has sunk into the floor a little"
    made = Environment("settled", task, MujocoEngine(task), episode_length=10)
    state = made.reset(jax.random.key(0), 1)
    zero = jax.jit(made.step)(state, jnp.zeros((1, 4)))[1]
    assert float(jnp.linalg.norm(zero.achieved_goal - state.achieved_goal)) < 1e-3


def test_a_robot_that_does_not_settle_says_so():
    class Wild(ServoArm):
        settle = 0.5

        def build(self):
            spec = super().build()
            spec.actuator("elbow").gainprm[0] = 1e12
            return spec

    with pytest.raises(ConfigurationError, match=r"task Wild: settle=0\.5 s ends in numbers that are not finite"):
        _ = Wild().home


def test_starts_may_move_mocap_bodies():
    class Marked(ServoArm):
        def build(self):
            spec = super().build()
            spec.worldbody.add_body(name="mark", mocap=True, pos=[0.0, 0.0, 1.0])
            return spec

        def draw_start(self, key):
            place = jax.random.uniform(key, (1, 3))
            return dataclasses.replace(super().draw_start(key), mocap=Mocap(place, jnp.eye(4)[:1]))

    task = Marked()
    state = Environment("marked", task, MujocoEngine(task), episode_length=10).reset(jax.random.key(0), 4)
    assert len(np.unique(state.physics.mocap.position[:, 0, 0])) == 4
