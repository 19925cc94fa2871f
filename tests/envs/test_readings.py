"""What a robot feels: sites, sensors, activations, tendons and time, against MuJoCo's own after plain steps."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from servo_arm import ServoArm, batch

from kilolayer.envs import RobotTask
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.engines.spring import SpringEngine
from kilolayer.envs.quaternions import rotation_distance
from kilolayer.errors import ConfigurationError


class Feeling(ServoArm):
    gravity = -9.81
    bodies = ("lower",)
    sites = ("origin", "skin")
    sensors = ("speed", "touch", "place")
    quantities = ("act", "tendon_length", "time", "site_jacobian")


class Numb(ServoArm):
    gravity = -9.81


ENGINES = [MujocoEngine, pytest.param(MjxEngine, marks=pytest.mark.slow)]
CONTROL = jnp.array([[0.4, -0.5, 0.9, 0.7]])


def roll(task: RobotTask, kind, steps: int):
    engine = kind(task)
    step = jax.jit(engine.step)
    state = jax.jit(engine.init)(batch(task.home))
    for _ in range(steps):
        state = step(state, CONTROL)
    return state


def check(task: RobotTask, state, data: mujoco.MjData, atol: float) -> None:
    """Compare what an engine tells with MuJoCo's functions."""
    model = task.model
    for place, name in enumerate(task.tracked_sites):
        site, velocity, quaternion = model.site(name).id, np.zeros(6), np.zeros(4)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, site, velocity, 0)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        found = jax.tree.map(lambda leaf, place=place: leaf[0, place], state.sites)
        np.testing.assert_allclose(found.position, data.site_xpos[site], atol=atol)
        assert float(rotation_distance(found.quaternion, jnp.asarray(quaternion, jnp.float32))) < 1e-3 + atol
        np.testing.assert_allclose(found.velocity, velocity[3:], atol=20 * atol)
        np.testing.assert_allclose(found.angular_velocity, velocity[:3], atol=20 * atol)
        np.testing.assert_allclose(found.jacobian, np.concatenate([linear, angular]), atol=2 * atol)
    sensors = state.sensors[0]
    np.testing.assert_allclose(sensors[task.sensor("speed")], data.sensor("speed").data, atol=20 * atol)
    np.testing.assert_allclose(sensors[task.sensor("place")], data.sensor("place").data, atol=atol)
    np.testing.assert_allclose(sensors[task.sensor("touch")], data.sensor("touch").data, rtol=1e-3 + 10 * atol)
    np.testing.assert_allclose(state.act[0], data.act, atol=atol)
    np.testing.assert_allclose(state.tendon_length[0], data.ten_length, atol=atol)
    assert float(state.time[0]) == pytest.approx(data.time, abs=1e-5)


@pytest.mark.parametrize("kind", ENGINES)
def test_everything_is_that_of_plain_steps_of_mujoco(kind):
    task = Feeling()
    data = mujoco.MjData(task.model)
    mujoco.mj_resetDataKeyframe(task.model, data, 0)
    exact = kind is MujocoEngine
    for steps in (0, 40):
        state = roll(task, kind, steps)
        data.ctrl[:] = np.asarray(CONTROL[0]) if steps else 0.0 * data.ctrl + np.asarray(task.home.control)
        mujoco.mj_step(task.model, data, steps * task.substeps) if steps else None
        fresh = mujoco.MjData(task.model)
        state_kind = mujoco.mjtState.mjSTATE_INTEGRATION
        row = np.zeros(mujoco.mj_stateSize(task.model, state_kind))
        mujoco.mj_getState(task.model, data, row, state_kind)
        mujoco.mj_setState(task.model, fresh, row, state_kind)
        mujoco.mj_forward(task.model, fresh)
        check(task, state, fresh, atol=2e-6 if exact else 2e-3)
    assert float(state.sensors[0, task.sensor("touch").start]) > 1.0, "the ball lies on the floor"
    assert float(state.act[0, 0]) > 0.5
    achieved = task.achieved_goal(jax.tree.map(lambda leaf: leaf[0], state))
    np.testing.assert_allclose(achieved, state.sites.position[0, task.site("tip")])


def test_feeling_more_does_not_change_how_the_robot_moves():
    felt, numb = roll(Feeling(), MujocoEngine, 20), roll(Numb(), MujocoEngine, 20)
    np.testing.assert_array_equal(felt.engine.bits, numb.engine.bits)
    assert numb.sensors is None
    assert numb.act is None
    assert numb.time is None
    assert numb.sites.jacobian is None


def test_only_restarted_robots_are_read_again():
    task = Feeling()
    engine = MujocoEngine(task)
    begun = engine.init(batch(task.home, 3))
    state = engine.step(begun, jnp.broadcast_to(CONTROL, (3, 4)))
    again = engine.restart(state, batch(task.home, 3), jnp.array([False, True, False]))
    for name in ("sites", "sensors", "act", "tendon_length", "time"):
        for new, old, first in zip(*(jax.tree.leaves(getattr(x, name)) for x in (again, state, begun)), strict=True):
            np.testing.assert_array_equal(new[jnp.array([0, 2])], old[jnp.array([0, 2])])
            np.testing.assert_array_equal(new[1], first[1])


PENDULUM = """
<mujoco>
  <custom><numeric name="constraint_stiffness" data="1000"/></custom>
  <worldbody>
    <body name="rod" pos="0 0 1"><joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.3"/>
      <site name="end" pos="0 0 -0.3"/></body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1"/></actuator>
  <sensor><jointpos name="angle" joint="hinge"/></sensor>
</mujoco>
"""


class Pendulum(RobotTask):
    control_step = 0.02
    goal_body = "end"

    def build(self):
        return mujoco.MjSpec.from_string(PENDULUM)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,))


def test_the_spring_engine_tells_of_sites_and_refuses_what_it_lacks_by_name():
    task = Pendulum()
    state = SpringEngine(task).init(batch(task.home))
    np.testing.assert_allclose(state.sites.position[0, 0], [0.0, 0.0, 0.7], atol=1e-5)
    task = Pendulum()
    task.sensors, task.quantities = ("angle",), ("time", "site_jacobian")
    with pytest.raises(ConfigurationError) as caught:
        SpringEngine(task)
    line = "engine 'spring' cannot run task Pendulum: it does not tell sensors (angle), time, Jacobians of sites"
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("attribute", "value", "line"),
    [
        ("sites", ("tap",), "names the site 'tap', which its model does not have; did you mean tip?"),
        ("sensors", ("tuch",), "names the sensor 'tuch', which its model does not have; did you mean touch?"),
        ("goal_body", "tap", "names the body 'tap', which its model does not have"),
    ],
)
def test_unknown_names_are_refused_in_one_line(attribute, value, line):
    task = ServoArm()
    setattr(task, attribute, value)
    with pytest.raises(ConfigurationError, match=line.replace("?", r"\?")):
        MujocoEngine(task)


@pytest.mark.usefixtures("no_type_checks")
def test_unknown_quantities_and_jacobians_of_nothing_are_refused():
    task = ServoArm()
    task.quantities = ("force",)
    with pytest.raises(ConfigurationError, match=r"quantities has 'force'; there are 'site_jacobian', 'act'"):
        MujocoEngine(task)
    task = ServoArm()
    task.goal_body, task.quantities = "lower", ("site_jacobian",)
    with pytest.raises(ConfigurationError, match="the task names no site"):
        MujocoEngine(task)
