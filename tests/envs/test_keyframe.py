"""A keyframe restores everything that it holds, in every engine, as MuJoCo does."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import RobotTask
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine

MODEL = """
<mujoco>
  <worldbody>
    <body name="hand"><joint name="x" type="slide" axis="1 0 0" damping="1"/><geom size="0.1"/></body>
    <body name="mark" mocap="true" pos="0 0 1"><geom size="0.01" contype="0" conaffinity="0"/></body>
    <body name="led" pos="0 0 1"><freejoint/><geom size="0.05" contype="0" conaffinity="0"/></body>
  </worldbody>
  <equality><weld body1="mark" body2="led"/></equality>
  <actuator><intvelocity joint="x" kp="50" actrange="-1 1"/></actuator>
  <keyframe><key qpos="0.2 0 0 1 1 0 0 0" act="0.7" mpos="0.5 0 1" mquat="1 0 0 0"/></keyframe>
</mujoco>
"""


class Reach(RobotTask):
    goal_body = "hand"
    control_step = 0.02

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,))


@pytest.mark.parametrize("kind", [MujocoEngine, pytest.param(MjxEngine, marks=pytest.mark.slow)])
def test_activations_and_mocap_bodies_are_those_of_the_keyframe(kind):
    task = Reach()
    expected = mujoco.MjData(task.model)
    mujoco.mj_resetDataKeyframe(task.model, expected, 0)
    engine = kind(task)
    state = jax.jit(engine.init)(jax.tree.map(lambda leaf: leaf[None], task.home))
    step = jax.jit(engine.step)
    for _ in range(20):
        state = step(state, jnp.zeros((1, 1)))
        expected.ctrl[:] = 0.0
        mujoco.mj_step(task.model, expected, task.substeps)
    assert expected.qpos[0] > 0.3
    assert expected.qpos[1] > 0.05
    np.testing.assert_allclose(state.qpos[0], expected.qpos, atol=2e-3)
