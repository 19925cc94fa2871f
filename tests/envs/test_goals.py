"""Ready-made goals: one rule of success by radii; goals that a robot can reach, kept on the disk."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from servo_arm import MODEL, ServoArm

from kilolayer.envs import Environment, RobotTask, quaternions
from kilolayer.envs.check import check
from kilolayer.envs.coverage import coverage_of
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.goals import JointGoal, PoseGoal, PositionGoal, RotationGoal, StateGoal, VelocityGoal, reachable
from kilolayer.envs.task_check import check_attributes, check_methods
from kilolayer.errors import ConfigurationError
from kilolayer.training.evaluation import Episodes, summarize


class Goals(RobotTask):
    """The arm with a ready-made goal."""

    control_step = 0.02
    reachable_goals = 8

    def __init__(self, *goals):
        self.goal = goals[0] if len(goals) == 1 else goals

    def build(self):
        return mujoco.MjSpec.from_string(MODEL.format(gravity=0.0))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KILOLAYER_CACHE_DIR", str(tmp_path))


def begun(task, num_envs=2):
    made = Environment("goals", task, MujocoEngine(task), episode_length=5)
    return made, made.reset(jax.random.key(0), num_envs)


# Rotations


def test_six_numbers_are_a_rotation_and_nowhere_jump():
    keys = jax.random.split(jax.random.key(0), 2)
    one, other = (quaternions.unit(jax.random.normal(key, (50, 4))) for key in keys)
    six = quaternions.to_six(one)
    np.testing.assert_array_equal(six, quaternions.to_six(-one))
    np.testing.assert_allclose(quaternions.matrix_from_six(3.0 * six), quaternions.to_matrix(one), atol=1e-5)
    between = quaternions.matrix_distance(quaternions.to_matrix(one), quaternions.to_matrix(other))
    np.testing.assert_allclose(between, quaternions.rotation_distance(one, -other), atol=2e-4)
    tiny = quaternions.about(jnp.eye(3)[2], jnp.float32(1e-3))
    found = quaternions.matrix_distance(jnp.eye(3), quaternions.to_matrix(tiny))
    assert found == pytest.approx(1e-3, rel=1e-3)
    for degenerate in (jnp.zeros(6), jnp.array([1.0, 0.0, 0.0, 2.0, 0.0, 0.0])):
        matrix = quaternions.matrix_from_six(degenerate)
        np.testing.assert_allclose(matrix @ matrix.T, jnp.eye(3), atol=1e-6)


# What each goal reads, and when it is reached


def test_a_pose_is_reached_within_both_radii():
    task = Goals(PoseGoal("tip", radius=0.1, angle=0.3))
    made, state = begun(task)
    check_methods(made)
    assert made.goal_size == 9
    assert made.goal_names[:4] == ("tip x (m)", "tip y (m)", "tip z (m)", "tip x axis along x")
    assert task.success_text == "tip within 0.1 m and 0.3 rad"
    site = state.physics.sites
    goal = state.achieved_goal[0]
    np.testing.assert_allclose(goal[:3], site.position[0, 0])
    np.testing.assert_allclose(goal[3:], quaternions.to_six(site.quaternion[0, 0]), atol=1e-6)

    def moved(metres, radians):
        turned = quaternions.multiply(quaternions.about(jnp.eye(3)[1], jnp.float32(radians)), site.quaternion[0, 0])
        return jnp.concatenate([goal[:3].at[2].add(metres), quaternions.to_six(-turned)])

    for metres, radians, reached in ((0.09, 0.29, True), (0.11, 0.0, False), (0.0, 0.31, False)):
        assert task.success(goal, moved(metres, radians)) == reached
    assert task.distance_to_goal(goal, moved(0.05, 0.0)) == pytest.approx(0.5, rel=1e-3)
    assert task.reward(goal, moved(0.0, 0.6)) == pytest.approx(-2.0, rel=1e-3)
    turned = Goals(RotationGoal("lower", angle=0.3))
    assert (turned.goal_size, turned.success_text) == (6, "lower turned within 0.3 rad")
    assert task.marker(np.asarray(goal))[1] == 0.1
    assert turned.marker(np.zeros(6)) is None


def test_several_places_count_by_their_weights_or_each_by_a_radius():
    apart = jnp.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    both = Goals(PositionGoal("tip", "ball", radius=0.2, weights=(1.0, 3.0)))
    assert both.tracked_sites == ("tip",)
    assert both.tracked_bodies == ("ball",)
    assert both.distance_to_goal(apart, jnp.zeros(6)) == pytest.approx(0.15 / 0.2)
    even = Goals(PositionGoal("tip", "ball", radius=0.2))
    assert not even.success(apart, jnp.zeros(6))
    each = Goals(PositionGoal("tip", radius=0.2), PositionGoal("ball", radius=0.4))
    assert not each.success(apart, jnp.zeros(6))
    assert each.success(jnp.roll(apart, 3), jnp.zeros(6))
    flat = Goals(PositionGoal("ball", radius=0.1, axes="xy"))
    _, state = begun(flat)
    np.testing.assert_allclose(state.achieved_goal[0], [0.5, 0.5], atol=1e-6)
    assert (flat.success_length, each.success_length) == (0.1, None)


def test_hinges_without_a_range_have_no_end():
    task = Goals(JointGoal("turn", "grip", radius=0.01, angle=0.2))
    assert task.goal_names == ("cosine of turn angle", "sine of turn angle", "grip position (m)")

    def at(angle, place=0.0):
        return jnp.array([np.cos(angle), np.sin(angle), place], jnp.float32)

    assert task.success(at(3.1), at(-3.1))
    assert task.distance_to_goal(at(3.1), at(-3.1)) == pytest.approx((2 * np.pi - 6.2) / 0.2, rel=1e-3)
    assert not task.success(at(0.0), at(0.3))
    assert not task.success(at(0.0, 0.02), at(0.0))


def test_the_whole_state_is_positions_and_velocities_of_all_joints():
    task = Goals(StateGoal(radius=0.1, angle=0.2, speed=0.5, rate=1.0))
    made, state = begun(task)
    check_methods(made)
    assert made.goal_size == len(made.goal_names) == 3 * 2 + 1 + 9 + 10
    goal = state.achieved_goal[0]
    for entry, by, reached in ((-1, 0.9, True), (-1, 1.1, False), (-6, 0.6, False), (6, 0.2, False)):
        assert task.success(goal, goal.at[entry].add(by)) == reached
    task = Goals(JointGoal(radius=0.1, angle=0.2))
    assert task.success_text == "every joint within 0.1 m and 0.2 rad"


def test_velocities_are_drawn_between_their_ends():
    task = Goals(VelocityGoal("ball", radius=0.3, axes="x", frame="own", low=1.0, high=2.0))
    drawn = jax.vmap(task.draw_goal)(jax.random.split(jax.random.key(0), 100))
    assert drawn.shape == (100, 1)
    assert 1.0 <= drawn.min() < 1.2 < 1.8 < drawn.max() <= 2.0
    assert "reachable" not in vars(task), "no pose is drawn for it"
    state = begun(task)[1].physics
    turned = quaternions.about(jnp.eye(3)[2], jnp.float32(np.pi / 2))
    one = jax.tree.map(lambda leaf: leaf[0], state)
    moving = type(one)(**{**vars(one), "velocity": jnp.array([[0.0, 2.0, 0.0]]), "quaternion": turned[None]})
    np.testing.assert_allclose(task.achieved_goal(moving), [2.0], atol=1e-6)


def test_a_ghost_shows_goals_of_joints_and_poses():
    data = mujoco.MjData(Goals(PositionGoal("tip", radius=0.1)).model)
    for task in (Goals(PoseGoal("tip", radius=0.1, angle=0.3)), Goals(JointGoal(radius=0.1, angle=0.2))):
        goal, qpos = (part[3] for part in task.reachable)
        data.qpos[:] = qpos
        mujoco.mj_forward(task.model, data)
        ghost = task.ghost(goal)
        if ghost.qpos is not None:
            apart = ghost.qpos - qpos
            apart[:3] = np.sin(0.5 * apart[:3])  # hinges without a range, up to full turns
            np.testing.assert_allclose(apart, 0.0, atol=1e-5)
        for position, quaternion in ghost.poses.values():
            np.testing.assert_allclose(position, data.body("lower").xpos, atol=1e-5)
            assert abs(quaternion @ data.body("lower").xquat) == pytest.approx(1.0, abs=1e-6)
    assert Goals(PositionGoal("tip", radius=0.1)).ghost(np.zeros(3)) is None


# One rule


def test_what_counts_success_asks_the_same_rule():
    task = Goals(PoseGoal("tip", radius=0.5, angle=0.1))
    made, state = begun(task, 6)
    _, result = made.step(state, jnp.ones((6, 4)))
    expected = jax.vmap(task.success)(result.achieved_goal, state.desired_goal)
    np.testing.assert_array_equal(result.success, expected)
    np.testing.assert_array_equal(-result.reward < 1.0, expected)
    start, turned = state.achieved_goal[:1], state.achieved_goal[:1].at[:, 3:].multiply(-1.0)
    found = coverage_of(task, np.asarray(start), np.asarray(jnp.stack([start, turned])), np.zeros((2, 1), bool))
    assert found.moved == 1.0, "a turn leaves the start, though it is nearer than the radius in metres"
    assert made.has_success


def test_episodes_that_begin_inside_their_goal_are_counted_apart():
    class Here(Goals):
        def draw_goal(self, key):
            home = self.reachable.goal[0] * 0.0 + jnp.asarray(begun_goal)
            return jnp.where(jax.random.bernoulli(key), home, home.at[2].add(1.0))

    begun_goal = begun(Goals(PoseGoal("tip", radius=0.5, angle=0.1)))[1].achieved_goal[0]
    task = Here(PoseGoal("tip", radius=0.5, angle=0.1))
    _, state = begun(task, 40)
    begins = jax.vmap(task.success)(state.achieved_goal, state.desired_goal)
    assert 5 < begins.sum() < 35
    steps = jnp.broadcast_to(begins, (1, 40))
    episodes = Episodes(
        state.desired_goal, state.achieved_goal[None], steps, steps * 0.0, steps | True, begins, begins & False, True
    )
    row = summarize(episodes)
    assert row["eval/begins_at_goal"] == pytest.approx(float(begins.mean()))
    assert (row["eval/success_any_elsewhere"], row["eval/success_any"]) == (0.0, pytest.approx(float(begins.mean())))


# Goals that the robot can reach

WALL = """
<mujoco><worldbody>
  <geom name="wall" size="0.1 1 1" pos="0.6 0 0" type="box"/>
  <body name="rod" quat="0 0 0 1"><joint name="turn" axis="0 0 1"/>
    <joint name="slide" type="slide" axis="0 0 1" range="-0.2 0.2"/>
    <geom type="box" size="0.5 0.02 0.02" pos="0.5 0 0"/><site name="end" pos="1 0 0"/></body>
  <body name="twin" pos="0 0 5"><joint name="twin" axis="0 0 1"/><geom size="0.1"/></body>
  <body name="ball" pos="0 0 3"><joint type="ball" range="0 0.5"/><geom size="0.1"/></body>
</worldbody>
<equality><joint joint1="twin" joint2="turn" polycoef="0 2 0 0 0"/></equality>
<actuator><motor joint="turn"/></actuator></mujoco>
"""


class Wall(RobotTask):
    control_step = 0.002
    goal = (PositionGoal("end", radius=0.1), JointGoal("twin", angle=0.1))
    reachable_goals = 64

    def build(self):
        return mujoco.MjSpec.from_string(WALL)


def test_reachable_goals_are_free_of_collision_and_obey_the_joints():
    goal, qpos = reachable(Wall(), 64, jax.random.key(1))
    assert goal.shape == (64, 5)
    turn, slide, twin = qpos[:, 0], qpos[:, 1], qpos[:, 2]
    assert np.all(goal[:, 0] < 0.55), "none ends behind the wall"
    assert goal[:, 0].min() < -0.9
    np.testing.assert_allclose(goal[:, :2], np.stack([np.cos(turn), np.sin(turn)], 1) * -1.0, atol=1e-5)
    np.testing.assert_allclose(goal[:, 2], slide, atol=1e-6)
    assert 0.1 < np.abs(slide).max() <= 0.2
    np.testing.assert_allclose(twin, 2.0 * turn, atol=1e-9)
    assert np.all(2.0 * np.arccos(np.clip(qpos[:, 3], -1.0, 1.0)) <= 0.5 + 1e-6)
    assert not np.array_equal(goal, reachable(Wall(), 64, 2).goal)


def test_poses_are_kept_under_the_digest_of_the_model(monkeypatch, tmp_path):
    first = Goals(PositionGoal("tip", radius=0.1))
    found = jax.jit(first.draw_goal)(jax.random.key(0))
    (file,) = (tmp_path / "poses").iterdir()
    monkeypatch.setattr("kilolayer.envs.goals.poses._draw", None)
    np.testing.assert_array_equal(Goals(PositionGoal("tip", radius=0.1)).draw_goal(jax.random.key(0)), found)
    np.testing.assert_array_equal(Goals(JointGoal("turn", angle=0.1)).reachable.qpos, first.reachable.qpos)
    heavier = Goals(PositionGoal("tip", radius=0.1))
    heavier.model.body_mass[2] *= 2.0
    for other in (heavier, Goals(PositionGoal("tip", radius=0.1))):
        with pytest.raises(TypeError, match="NoneType"):  # nothing is kept for this one
            _ = other.reachable
        file.write_bytes(b"damaged")


def test_a_robot_that_always_collides_is_one_line():
    class Stuck(Wall):
        def build(self):
            spec = super().build()
            spec.geom("wall").size = [3.0, 3.0, 0.1]
            spec.geom("wall").pos = [0.0, 0.0, 0.1]
            spec.worldbody.first_body().pos = [0.0, 0.0, 0.6]
            spec.joint("slide").range = [-0.6, -0.4]
            return spec

    with pytest.raises(ConfigurationError, match=r"only 0 of 200 poses .* define `draw_goal`"):
        reachable(Stuck(), 2)


# Refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PositionGoal(radius=0.1), "names no body or site"),
        (lambda: PositionGoal("tip", radius=0.0), "radius=0.0 must be a number of metres above 0"),
        (lambda: PositionGoal("tip", radius=0.1, axes="yx"), "axes='yx' must be some of 'xyz'"),
        (lambda: PositionGoal("tip", radius=0.1, weights=(1.0, 2.0)), "weights=(1.0, 2.0) must be a number above 0"),
        (lambda: VelocityGoal("tip", radius=0.1, low=0.0), "low=0.0 and high=None go together"),
        (lambda: VelocityGoal("tip", radius=0.1, low=2.0, high=1.0), "low=2.0 must not be above high=1.0"),
        (lambda: Goals(JointGoal("turm", angle=0.1)), "names the joint 'turm', which its model does not have"),
        (lambda: Goals(JointGoal("grip", angle=0.1)), "needs radius=, the radius of success for grip"),
        (lambda: Goals(JointGoal("turn", angle=0.1, radius=1.0)), "radius=1 has no effect on these joints"),
        (lambda: Goals(StateGoal(radius=0.1, angle=0.1, rate=1.0)), "StateGoal needs speed="),
        (lambda: Goals(VelocityGoal("tip", radius=0.1)), "needs low= and high="),
        (lambda: Goals(PositionGoal("top", radius=0.1)), "names the body 'top', which its model does not have"),
        (lambda: Goals("tip"), "goal='tip' must be a goal, such as PositionGoal"),
        (lambda: beside(success_distance=0.05), "success_distance=0.05 has no effect beside goal"),
        (lambda: beside(goal_body="ball"), "goal_body='ball' has no effect beside goal"),
        (lambda: beside(reachable_goals=0), "reachable_goals=0 must be a whole number of at least 1"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_goals_that_do_not_fit_are_one_line(make, words):
    with pytest.raises(ConfigurationError) as caught:
        build(make)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def build(make):
    task = make()
    check_attributes(task)
    MujocoEngine(task)


def beside(**attributes):
    task = Goals(PositionGoal("tip", radius=0.1))
    for name, value in attributes.items():
        setattr(task, name, value)
    return task


def test_a_task_of_few_lines_is_checked_and_shown():
    class Short(ServoArm):
        goal_body = None
        goal = PositionGoal("tip", radius=0.05)
        reachable_goals = 16
        draw_goal = RobotTask.draw_goal

    task = Short()
    findings = {
        one.name: one for one in check(Environment("short", task, MujocoEngine(task), 10), num_envs=4, num_steps=5)
    }
    assert findings["goals"].verdict == "ok"
    assert findings["success at the goal"].verdict == "ok"
    assert findings["names"].text == "observation, goal, action named"
