"""Starts with quaternions of any length begin alike on every engine."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import Environment, RobotTask, Start, make
from kilolayer.envs.engines import make_engine

MODEL = """
<mujoco>
  <worldbody>
    <body name="box"><freejoint/><geom size="0.1"/></body>
    <body name="arm" pos="3 0 0"><joint name="shoulder" type="ball"/><geom pos="0.2 0 0" size="0.1"/></body>
    <body name="slider" pos="6 0 0"><joint name="slide" type="slide"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
</mujoco>
"""
ROOT, SHOULDER = slice(3, 7), slice(7, 11)


class Drawn(RobotTask):
    goal_body = "box"
    bodies = ("box", "arm")
    root = (2.0, 0.0, 2.0, 0.0)
    shoulder = (0.0, 0.0, 0.0, 0.0)

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_start(self, key):
        qpos = self.home.qpos.at[ROOT].set(jnp.array(self.root)).at[SHOULDER].set(jnp.array(self.shoulder))
        return Start(qpos=qpos, qvel=self.home.qvel)

    def draw_goal(self, key):
        return jnp.zeros(3)


@pytest.mark.parametrize("engine", ["mujoco", pytest.param("mjx", marks=pytest.mark.slow)])
def test_they_are_normalised_and_zeros_are_the_identity(engine):
    task = Drawn()
    state = Environment("drawn", task, make_engine(engine, task), episode_length=10).reset(jax.random.key(0), 2)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(state.physics.qpos[:, ROOT], [[half, 0, half, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(state.physics.qpos[:, SHOULDER], [[1, 0, 0, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(state.physics.quaternion[0], [[half, 0, half, 0], [1, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(("variant", "unit"), [("default", True), ("paper", False)])
def test_only_the_papers_ant_keeps_what_it_draws(variant, unit):
    task = make("ant", variant=variant).task
    environment = Environment("ant", task, make_engine("mujoco", task), episode_length=10)
    starts, _ = environment.draw(jax.random.key(0), 50)
    lengths = np.linalg.norm(starts.qpos[:, ROOT], axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-6) == unit
    assert unit or lengths.std() > 0.02
