"""A session: the robot follows its goal, controls do what they say, and steps keep pace; nobody waits for a clock."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from goal_seeker import seeker

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, make, registry
from kilolayer.envs.goals import PositionGoal
from kilolayer.errors import ConfigurationError
from kilolayer.render.play import SPEEDS, Session, play_headless
from kilolayer.render.play.goals import Goals
from kilolayer.render.play.pace import LAG, Pace

LENGTH = 40


@pytest.fixture(scope="module")
def shared():
    floor = lambda goal: np.full((2, 3), goal[0])  # noqa: E731
    return Session(make("point_u_maze", episode_length=LENGTH), seeker(), floor=floor, seed=1)


@pytest.fixture
def session(shared):
    """The session at the start of an episode, as its policy moves it."""
    shared.control({"actions": "policy", "keep_goal": False, "speed": 1.0, "paused": False, "reset": True})
    shared.advance()
    return shared


def place(frame) -> np.ndarray:
    return np.array(frame.data["poses"][:2])


def test_the_robot_follows_its_goal(session):
    start = place(session.frame)
    for way in (1.0, 0.0, 1.0):
        goal = start + np.array([0.0, way])
        session.control({"goal": goal.tolist()})
        frames = [session.advance() for _ in range(12)]
        np.testing.assert_allclose(frames[-1].data["goal"], goal, atol=1e-6)
        np.testing.assert_allclose(frames[-1].data["mark"], [*goal, 0.0], atol=1e-5)
        assert np.linalg.norm(place(frames[-1]) - goal) < 0.4
        assert frames[-1].data["success"]
        assert frames[-1].data["distance"] == pytest.approx(np.linalg.norm(place(frames[-1]) - goal), abs=1e-4)
    assert frames[-1].data["time_at_goal"] > 3


def test_a_place_is_a_goal_and_stays_inside_the_outer_walls(session):
    session.control({"place": [4.5, 3.0, 7.0]})  # the mark of this task has no height
    assert session.advance().data["goal"] == [4.5, 3.0]
    session.control({"place": [-50.0, 3.0, 0.0]})
    assert session.advance().data["goal"] == [0.75, 3.0]
    assert session.about()["mark_axes"] == [True, True, False]


def test_zero_and_random_actions_are_no_policy(session):
    session.control({"actions": "zero"})
    places = [place(session.advance()) for _ in range(8)]
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    assert (np.diff(speeds) < 1e-6).all()  # it rolls to a stop
    session.control({"actions": "random"})
    frames = [session.advance() for _ in range(6)]
    assert np.ptp([place(frame) for frame in frames], axis=0).max() > 0.05
    assert {frame.data["actions"] for frame in frames} == {"random"}


def test_an_episode_ends_and_its_goal_is_drawn_anew_or_kept(session):
    before = session.frame.data["ended"]
    session.control({"keep_goal": True, "goal": [1.23, 4.5]})
    frames = [session.advance() for _ in range(LENGTH + 3)]
    assert frames[-1].data["ended"] == before + 1
    assert [frame.data["step"] for frame in frames].count(0) == 1
    assert {tuple(frame.data["goal"]) for frame in frames} == {tuple(np.float32([1.23, 4.5]).tolist())}
    assert frames[-1].data["time_at_goal"] <= 3
    session.control({"reset": True})
    assert session.advance().data["goal"][0] == pytest.approx(1.23)
    session.control({"keep_goal": False, "new_goal": True})
    goal = session.advance().data["goal"]
    cells = session.environment.task.maze.centres(session.environment.task.maze.goal_cells)
    assert goal in cells.tolist()


def test_what_moves_several_steps_at_once_looks_at_a_new_goal_at_once():
    session = Session(make("point_u_maze", episode_length=LENGTH), seeker(executed_actions=30))
    x, y = place(session.frame)
    for goal, sign in ((y + 2.0, 1.0), (y - 1.0, -1.0)):  # both within the actions that were chosen first
        session.control({"goal": [float(x), float(goal)]})
        frames = [session.advance() for _ in range(7)]
        assert sign * (place(frames[-1]) - place(frames[-2]))[1] > 0.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sped": 1.0}, "'sped' is unknown; there are goal, place"),
        ({}, "must be an object"),
        ([1], "must be an object"),
        ({"goal": [1.0]}, "a list of 2 finite numbers"),
        ({"goal": [1.0, float("nan")]}, "a list of 2 finite numbers"),
        ({"goal": [1.0, float("inf")]}, "a list of 2 finite numbers"),
        ({"goal": [1.0, 1e11]}, "a list of 2 finite numbers"),
        ({"goal": [1.0, 10**400]}, "a list of 2 finite numbers"),
        ({"goal": [1.0, True]}, "a list of 2 finite numbers"),
        ({"goal": "12"}, "a list of 2 finite numbers"),
        ({"place": [1.0, 2.0]}, "a list of 3 finite numbers"),
        ({"speed": 3.0}, "one of 0.25, 0.5"),
        ({"speed": True}, "one of 0.25, 0.5"),
        ({"speed": {"a": 1}}, "one of 0.25, 0.5"),
        ({"actions": "expert"}, "one of policy, zero, random"),
        ({"actions": ["zero"]}, "one of policy, zero, random"),
        ({"paused": 1}, "true or false"),
        ({"reset": False}, "must be true"),
        ({"steps": 0}, "from 1 to 1000"),
        ({"steps": 1.5}, "from 1 to 1000"),
        ({"goal": [1.0, 2.0], "steps": 10**9}, "from 1 to 1000"),
    ],
)
def test_controls_that_are_none_are_one_line_and_change_nothing(session, given, words):
    goal = session.frame.data["goal"]
    with pytest.raises(ConfigurationError, match=words):
        session.control(given)
    assert session.advance().data["goal"] == goal


def test_an_environment_alone_has_no_policy():
    with pytest.raises(ConfigurationError, match="actions='policy' needs a run"):
        play_headless(make("point_u_maze"), actions="policy", num_episodes=1)
    with pytest.raises(ConfigurationError, match="must be one of 'random', 'zero'"):
        play_headless(make("point_u_maze"), actions="best", num_episodes=1)
    with pytest.raises(ConfigurationError, match=r"speed=3 must be one of 0\.25"):
        Session(make("point_u_maze"), speed=3)


def test_the_numbers_of_the_floor_are_those_of_the_latest_goal(session):
    session.control({"goal": [2.5, 1.5]})
    session.advance()
    np.testing.assert_allclose(session.floor(), np.full((2, 3), 2.5))


def test_episodes_without_a_page():
    environment = make("point_u_maze", episode_length=LENGTH)
    still = play_headless(environment, actions="zero", num_episodes=3)
    rolled = still.metrics["eval/distance_moved"]
    assert (still.actions, still.unit) == ("zero", "m")
    seeking = play_headless(environment, seeker(), num_episodes=3)
    assert seeking.actions == "policy"
    assert seeking.metrics["eval/distance_moved"] > 2 * rolled
    assert seeking.metrics["eval/episode_length"] == LENGTH


# Goals of joints and of places


MODEL = """
<mujoco>
  <worldbody>
    <site name="above" pos="0 0 1"/>
    <body name="arm" pos="0 0 0.5"><joint name="turn" axis="0 0 1" damping="1"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"/>
      <site name="middle" pos="0.1 0 0"/>
      <body name="hand" pos="0.3 0 0"><geom type="sphere" size="0.04"/></body>
    </body>
  </worldbody>
  <tendon><spatial width="0.01"><site site="above"/><site site="middle"/></spatial></tendon>
  <actuator><motor joint="turn" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Arm(RobotTask):
    """An arm that turns, on MuJoCo's engine."""

    control_step = 0.05
    goal = PositionGoal("hand", axes="xy", radius=0.1)

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_start(self, key):
        return Start(qpos=jnp.zeros(1), qvel=jnp.zeros(1))


@pytest.fixture
def arm():
    registry.register(EnvironmentSpec("play_arm", "an arm", task=Arm, episode_length=20))
    yield make("play_arm")
    registry.unregister("play_arm")


def test_an_own_robot_moves_in_its_thread_and_says_how_far_it_is_in_radii(arm):
    session = Session(arm)
    about = session.about()
    assert about["distance_unit"] == "of the radius"
    assert (about["actions"], about["mark_axes"]) == (["random", "zero"], [True, True, False])
    assert len(about["scene"]["tendons"]) == 4  # as many pieces as it could have
    with session:
        session.control({"speed": max(SPEEDS), "place": [0.0, 0.3, 9.0]})
        number = session.frame.number
        while session.frame.data["mark"][1] < 0.299 or session.frame.number < number + 5:
            assert session.wait(session.frame.number, 60.0) is not None
    frame = session.frame
    assert session.failure is None
    assert session.closed
    assert session.wait(frame.number, 60.0) is None  # at once
    tendons = np.array(frame.data["tendons"]).reshape(4, 2, 3)
    np.testing.assert_allclose(tendons[0, 0], [0, 0, 1])
    poses = np.array(frame.data["poses"]).reshape(2, 7)
    angle = 2 * np.arctan2(poses[0, 6], poses[0, 3])
    np.testing.assert_allclose(poses[1, :2], 0.3 * np.array([np.cos(angle), np.sin(angle)]), atol=1e-3)


class Marked:
    """A task whose mark stands between two places, and whose third entry it does not show."""

    def marker(self, goal):
        return np.array([goal[0] + goal[1], 0.0, 0.5 * goal[3] + 1.0]), 0.1


class Places:
    task = Marked()

    def draw(self, key, number):
        return None, jax.random.uniform(key, (number, 4))


def test_a_mark_is_moved_by_the_entries_that_move_it(no_type_checks):
    goals = Goals(Places(), 0)
    goal = np.array([0.5, 0.25, 3.0, 0.0], np.float32)
    assert goals.axes(goal).tolist() == [True, False, True]
    moved = goals.moved(goal, np.array([2.75, 9.0, 2.0]))
    np.testing.assert_allclose(moved, [1.5, 1.25, 3.0, 2.0], atol=1e-5)
    assert goals.names == ("goal 0", "goal 1", "goal 2", "goal 3")
    drawn = [goals.drawn() for _ in range(70)]  # more than are drawn at a time
    assert len({tuple(one) for one in drawn}) == 70
    assert all((goals.low <= one).all() and (one <= goals.high).all() for one in drawn)


# Pace


def test_steps_are_due_as_often_as_the_speed_says():
    taken = {}
    for speed in (0.5, 1.0, 8.0):
        pace, now, taken[speed] = Pace(0.1, speed), 100.0, 0
        while now < 110.0:
            if pace.wait(now) == 0.0:
                pace.stepped(now)
                taken[speed] += 1
            now += max(pace.wait(now), 1e-4)
        assert pace.measured == pytest.approx(speed, rel=0.05)
    assert taken == {0.5: pytest.approx(50, abs=1), 1.0: pytest.approx(100, abs=1), 8.0: pytest.approx(800, abs=9)}


def test_what_is_late_is_not_caught_up_with():
    pace = Pace(0.1, 1.0)
    pace.wait(0.0)
    pace.stepped(0.0)
    assert pace.wait(60.0) == 0.0  # a program was compiled
    pace.stepped(60.0)
    due = 0
    while pace.wait(60.0) == 0.0:
        pace.stepped(60.0)
        due += 1
    assert due <= LAG / 0.1
    pace.hold()
    assert pace.wait(100.0) == 0.0
