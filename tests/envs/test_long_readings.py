"""What a policy observes over 1,000 control steps is what plain steps of MuJoCo give by the names of its contract."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from servo_arm import ServoArm, batch

from kilolayer.envs import Environment, registry
from kilolayer.envs.control import JointDeltas, JointRelative
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.training.export import write_robot

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy" / "control_loop.py"
STEPS = 1000


class FeelingArm(JointDeltas, ServoArm):
    """An arm that observes its sensors, moved by steps of its targets."""

    gravity = -9.81
    sensors = ("place", "speed", "touch")
    quantities = ("act", "tendon_length")

    def observe(self, state):
        return jnp.concatenate([state.sensors, state.act, state.tendon_length])


def roll(task, start, control):
    """Return the observations, achieved goals, actions and controls of 1,000 random steps.

    `control` is a function of an action and the state of one robot.
    """
    engine = MujocoEngine(task)

    def step(state, key):
        action = jax.random.uniform(key, (task.action_size,), minval=-1.0, maxval=1.0)
        command = control(action, jax.tree.map(lambda leaf: leaf[0], state))
        state = engine.step(state, command[None])
        robot = jax.tree.map(lambda leaf: leaf[0], state)
        return state, (task.observe(robot), task.achieved_goal(robot), action, command)

    keys = jax.random.split(jax.random.key(0), STEPS)
    run = jax.jit(lambda start: jax.lax.scan(step, engine.init(start), keys)[1])
    return [np.asarray(each) for each in run(batch(start))]


class ReachingArm(JointDeltas, ServoArm):
    """An arm that is moved by steps of its targets; its tip is a site."""

    success_distance, joint_step, lead = 0.05, 0.1, 0.3

    def build(self):
        spec = super().build()
        spec.delete(spec.sensor("touch"))
        spec.delete(spec.body("ball"))  # whose quaternion the example does not measure
        for key in list(spec.keys):
            spec.delete(key)
        return spec


class RelativeArm(JointRelative, ReachingArm):
    """The same, by steps from where the joints are."""


@pytest.mark.parametrize("kind", ["reacher", ReachingArm, RelativeArm])
def test_the_example_of_a_control_loop_measures_what_the_library_observes(kind, tmp_path):
    spec = importlib.util.spec_from_file_location("control_loop", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    if isinstance(kind, str):
        environment = registry.make(kind)
        control = lambda action, state: environment.task.control(action)  # noqa: E731
    else:
        task = kind()
        environment = Environment("arm", task, MujocoEngine(task), episode_length=100)
        control = task.control
    task = environment.task
    start = task.completed(task.draw_start(jax.random.key(1)))
    observed, achieved, actions, _ = roll(task, start, control)
    robot = example.Robot(tmp_path, {"robot": write_robot(environment, tmp_path, episodes=1)})
    robot.place(*(None if part is None else np.asarray(part) for part in (start.qpos, start.qvel, start.control)))
    observation, goal = {"names": task.observation_names}, {"names": task.goal_names}
    for step in range(STEPS):
        robot.act(actions[step])
        np.testing.assert_allclose(robot.vector(observation), observed[step], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(robot.vector(goal), achieved[step], rtol=1e-5, atol=1e-5)
    assert np.ptp(observed, axis=0).max() > 0.1


def test_sensors_under_a_control_that_looks_at_the_robot_are_those_of_plain_steps():
    task = FeelingArm()
    observed, _, _, controls = roll(task, task.home, task.control)
    data = mujoco.MjData(task.model)
    mujoco.mj_resetDataKeyframe(task.model, data, 0)
    for step in range(STEPS):
        data.ctrl[:] = controls[step]
        mujoco.mj_step(task.model, data, task.substeps)
        shown = mujoco.MjData(task.model)  # what sensors show of this moment; the data itself goes on unchanged
        mujoco.mj_copyData(shown, task.model, data)
        mujoco.mj_forward(task.model, shown)
        raw = [shown.sensor(name).data for name in task.sensors]
        expected = np.concatenate([*raw, data.act, shown.ten_length])
        np.testing.assert_allclose(observed[step], expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(observed[:, :3], axis=0).min() > 0.05
