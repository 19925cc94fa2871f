"""How actions become controls: around the keyframe, in steps of joints or of the end effector, with limits."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from servo_arm import ServoArm, batch

from kilolayer.envs import Command, Environment, RobotTask
from kilolayer.envs.control import EndEffectorControl, JointDeltas, JointRelative, MocapControl, RateLimit
from kilolayer.envs.control.end_effector import damped_least_squares
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.methods import FORMS, arguments_of
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import ConfigurationError

KEY = np.array([0.0, -0.8, 1.2, 0.0])


def environment(task: RobotTask, length: int = 100) -> Environment:
    made = Environment("arm", task, MujocoEngine(task), episode_length=length)
    check_methods(made)
    return made


def after(made: Environment, actions: list, num_envs: int = 1):
    """The states that actions lead to, one after the other; the first is the start."""
    step = jax.jit(lambda state, action: made.step(state, action)[0])
    states = [made.reset(jax.random.key(0), num_envs)]
    for action in actions:
        states.append(step(states[-1], jnp.broadcast_to(jnp.asarray(action, jnp.float32), (num_envs, len(action)))))
    return states


# The default


def test_servos_move_around_the_keyframe_and_stay_in_their_range():
    task = ServoArm()
    np.testing.assert_allclose(task.control(jnp.zeros(4)), KEY, atol=1e-6)
    half = np.array([2.0, 2.0, 2.0])
    np.testing.assert_allclose(task.control(0.5 * jnp.ones(4))[:3], KEY[:3] + 0.2 * half, atol=1e-6)
    np.testing.assert_allclose(task.control(jnp.ones(4)), [0.8, 0.0, 2.0, 1.0], atol=1e-6)
    task.__dict__.clear()
    task.servo_share = 1.5
    np.testing.assert_allclose(task.control(jnp.ones(4)), [2.0, 2.0, 3.0, 1.0], atol=1e-6)
    assert "keyframe 'up' + 1.5 x half the range" in task.control_text
    assert task.action_names[0] == "turn target (-2 to 2 rad)"


def test_without_a_share_or_a_keyframe_actions_cover_the_range():
    task = ServoArm()
    task.servo_share = None
    np.testing.assert_allclose(task.control(jnp.zeros(4)), [0.0, 0.0, 1.0, 0.0], atol=1e-6)

    class Bare(ServoArm):
        def build(self):
            spec = super().build()
            for key in list(spec.keys):
                spec.delete(key)
            return spec

    np.testing.assert_allclose(Bare().control(jnp.zeros(4)), [0.0, 0.0, 1.0, 0.0], atol=1e-6)


def test_a_keyframe_without_controls_is_held():
    task = ServoArm()
    task.keyframe = "aside"
    np.testing.assert_allclose(task.rest_control[:3], [0.5, -0.6, 1.0], atol=1e-6)


# Steps of joints


class ByJoints(JointDeltas, ServoArm):
    joint_step = 0.1

    def draw_start(self, key):
        start = super().draw_start(key)
        return dataclasses.replace(start, qpos=start.qpos.at[0].set(0.3), control=None)


def test_targets_begin_where_the_robot_is_and_move_in_steps():
    states = after(environment(ByJoints()), [[0, 0, 0, 0], [1, -0.5, 0, 0.5], [1, 0, 0, 0]])
    np.testing.assert_allclose(states[0].physics.control[0], [0.3, -0.8, 1.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(states[1].physics.qpos[0, :3], states[0].physics.qpos[0, :3], atol=1e-3)
    np.testing.assert_allclose(states[2].physics.control[0], [0.4, -0.85, 1.2, 0.5], atol=1e-6)
    np.testing.assert_allclose(states[3].physics.control[0], [0.5, -0.85, 1.2, 0.0], atol=1e-6)


def test_targets_stay_in_the_range_and_near_the_joints():
    states = after(environment(ByJoints()), [[1, 0, 0, 0]] * 25)
    assert float(states[-1].physics.control[0, 0]) == pytest.approx(2.0)
    task = ByJoints()
    task.lead = 0.15
    states = after(environment(task), [[1, 0, 0, 0]] * 5)
    for before, state in itertools.pairwise(states):
        assert float(state.physics.control[0, 0] - before.physics.qpos[0, 0]) <= 0.1501
    assert "at most 0.15 ahead" in task.control_text


def test_relative_targets_are_near_the_joints():
    class Relative(JointRelative, ServoArm):
        joint_step = 0.1

    states = after(environment(Relative()), [[1, 0, 0, 0]] * 3)
    expected = states[2].physics.qpos[0, :3] + jnp.array([0.1, 0, 0])
    np.testing.assert_allclose(states[3].physics.control[0, :3], expected, atol=1e-6)


# Steps of the end effector


class ByTip(EndEffectorControl, ServoArm):
    end_effector = "tip"
    reach_step = 0.01
    damping = 0.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_tip_goes_where_it_is_told(axis):
    made = environment(ByTip())
    assert made.action_size == 4
    action = np.zeros(4)
    action[axis] = 1.0
    states = after(made, [action] * 8 + [np.zeros(4)] * 15)
    moved = np.asarray(states[-1].achieved_goal - states[0].achieved_goal)[0]
    expected = np.zeros(3)
    expected[axis] = 0.08
    np.testing.assert_allclose(moved, expected, atol=0.013)


def test_an_end_effector_can_be_turned_and_names_its_actions():
    class Turned(ByTip):
        turn_step = 0.1

    task = Turned()
    assert (task.action_size, len(task.action_names)) == (7, 7)
    assert task.action_names[0] == "tip step x (-0.01 to 0.01 m)"
    assert task.action_names[3] == "tip turn about x (-0.1 to 0.1 rad)"
    assert task.action_names[6].startswith("grip")
    states = after(environment(task), [[0, 0, 0, 0, 0, 1, 0]] * 5)
    assert float(states[-1].physics.qpos[0, 0]) > 0.05


def test_damping_keeps_steps_small_near_singular_poses():
    flat = jnp.array([[1.0, 1.0], [0.0, 1e-5]])
    assert float(jnp.abs(damped_least_squares(flat, jnp.array([0.0, 1.0]), 0.1)).max()) < 0.1
    np.testing.assert_allclose(damped_least_squares(jnp.eye(2), jnp.array([0.3, 0.1]), 1e-4), [0.3, 0.1], rtol=1e-4)


# Limits


def test_controls_change_no_faster_than_they_may():
    class Slow(RateLimit, ServoArm):
        control_rate = 5.0

    task = Slow()
    states = after(environment(task), [[1, 0, 0, 1]] * 4)
    control = np.array([state.physics.control[0] for state in states])
    np.testing.assert_allclose(control[:, 0], [0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(control[-1, 1:3], KEY[1:3], atol=1e-6)
    assert "at most 5 a second" in task.control_text
    assert task.action_names == ServoArm().action_names


# Mocap bodies

HANGING = """
<mujoco>
  <worldbody>
    <body name="mark" mocap="true" pos="0 0 1"><geom size="0.01" contype="0" conaffinity="0"/></body>
    <body name="hand" pos="0 0 1"><freejoint/><geom size="0.05" contype="0" conaffinity="0"/>
      <body name="finger"><joint name="grip" type="slide"/><geom size="0.01" contype="0" conaffinity="0"/></body></body>
  </worldbody>
  <equality><weld body1="mark" body2="hand"/></equality>
  <actuator><motor name="grip" joint="grip" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Hanging(MocapControl):
    goal_body = "hand"
    control_step = 0.02
    mocap_high = (np.inf, 0.15, np.inf)

    def build(self):
        return mujoco.MjSpec.from_string(HANGING)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,))


@pytest.mark.parametrize("kind", [MujocoEngine, pytest.param(MjxEngine, marks=pytest.mark.slow)])
def test_a_robot_follows_a_mocap_body_that_actions_move(kind):
    task = Hanging()
    assert task.action_names == (*(f"mark step {axis} (-0.05 to 0.05 m)" for axis in "xyz"), "grip force (-1 to 1 N)")
    made = Environment("hanging", task, kind(task), episode_length=40)
    check_methods(made)
    states = after(made, [[1, 1, 0, 0]] * 6 + [[0, 0, 0, 0]] * 25)
    np.testing.assert_allclose(states[6].physics.mocap.position[0, 0], [0.3, 0.15, 1.0], atol=1e-6)
    np.testing.assert_allclose(states[-1].achieved_goal[0], [0.3, 0.15, 1.0], atol=0.05)
    # A new episode begins with the body where the start has it.
    again = after(made, [[1, 1, 0, 0]] * 40)[-1]
    np.testing.assert_allclose(again.physics.mocap.position[0, 0], [0.0, 0.0, 1.0], atol=1e-6)


# Forms of methods


@pytest.mark.parametrize(
    ("method", "right", "count"),
    [
        ("control", lambda action: action, 1),
        ("control", lambda action, state: action, 2),
        ("control", lambda a, state, memory: a, 3),
        ("control", lambda action, scale=2.0: action, 1),
        ("observe", lambda physics, memory, key: physics, 3),
        ("current_goal", lambda state, goal, memory: goal, 3),
        ("failed", lambda state: state, 1),
    ],
)
def test_the_forms_of_a_method_are_told_by_its_arguments(method, right, count):
    assert arguments_of(method, right) == count


@pytest.mark.parametrize("wrong", [lambda self: 0, lambda self, action, velocity: 0, lambda self, action, memory: 0])
def test_other_forms_are_refused_before_anything_is_built(wrong):
    task = type("Wrong", (ServoArm,), {"control": wrong})()
    line = r"task Wrong: control\(.*\) must be control\(action\) or control\(action, state\) or control"
    with pytest.raises(ConfigurationError, match=line) as caught:
        Environment("arm", task, MujocoEngine(task), episode_length=3)
    assert len(str(caught.value).splitlines()) == 1
    assert set(FORMS) == {"control", "observe", "achieved_goal", "current_goal", "failed"}


def test_a_model_without_servos_is_refused_by_name():
    class Motors(JointDeltas, Hanging):
        control = JointDeltas.control
        action_size = 1

    with pytest.raises(ConfigurationError, match="no position servo that moves a joint; JointDeltas needs some"):
        _ = Motors().steered_servos


def test_a_command_tells_controls_and_mocap_bodies():
    engine, task = MujocoEngine(Hanging()), Hanging()
    state = engine.init(batch(task.home))
    stepped = engine.step(state, Command(jnp.zeros((1, 1))))
    np.testing.assert_array_equal(stepped.mocap.position, state.mocap.position)


def test_targets_that_are_remembered_are_observed():
    """How far they are ahead of their joints, behind what the task observes."""

    class Arm(JointDeltas, ServoArm):
        joint_step = 0.2

    class Own(Arm):
        def observe(self, state):
            return jnp.concatenate([super().observe(state), state.qpos[:1]])

        observation_names = None

    class Relative(JointRelative, ServoArm):
        joint_step = 0.2

    class Slow(RateLimit, ServoArm):
        control_rate = 1.0

    plain, arm = ServoArm(), Arm()
    engine = MujocoEngine(arm)
    state = engine.init(batch(arm.home))
    for _ in range(2):
        robot = jax.tree.map(lambda leaf: leaf[0], state)
        state = engine.step(state, arm.control(jnp.array([1.0, -1.0, 0.5, 0.0]), robot)[None])
    robot = jax.tree.map(lambda leaf: leaf[0], state)
    ahead = robot.control[:3] - robot.qpos[:3]
    np.testing.assert_allclose(arm.observe(robot), jnp.append(plain.observe(robot), ahead), atol=1e-6)
    assert float(ahead[0]) > 0.05
    assert arm.observation_names[-3:] == (
        "turn target ahead (rad)",
        "shoulder target ahead (rad)",
        "elbow target ahead (rad)",
    )
    assert Own().observation_size == Slow().observation_size + 1 == arm.observation_size + 1
    assert Relative().observation_size == plain.observation_size
