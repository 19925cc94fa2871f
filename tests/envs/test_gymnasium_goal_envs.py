"""The environments of this library in Gymnasium: one robot, and many."""

import subprocess
import sys

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import kilolayer.gym
from kilolayer.envs import make, names
from kilolayer.envs.gym.goals import Drawing
from kilolayer.errors import ConfigurationError

ENV = "kilolayer/point_u_maze"
SEEN = ("observation", "achieved_goal", "desired_goal")
LENGTH = 6


@pytest.fixture(scope="module")
def env():
    return gymnasium.make(ENV, episode_length=LENGTH, max_episode_steps=LENGTH)


@pytest.fixture(scope="module")
def vector():
    return gymnasium.make_vec(ENV, num_envs=3, max_episode_steps=LENGTH)


def test_every_environment_has_a_name_in_gymnasium():
    assert {f"kilolayer/{name}" for name in names()} <= set(gymnasium.registry)
    assert gymnasium.spec(ENV).max_episode_steps == 200
    before = len(gymnasium.registry)
    kilolayer.gym.register_envs()
    assert len(gymnasium.registry) == before


def test_gymnasiums_checker_passes(env):
    check_env(env.unwrapped, skip_render_check=True)


def test_an_episode_is_that_of_the_library(env):
    seen, info = env.reset(seed=3)
    assert env.observation_space.contains(seen)
    assert np.isfinite(env.observation_space["observation"].low).all()
    assert info == {"is_success": False, "failed": False, "truncated": False}
    for step in range(LENGTH):
        seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
        pair = seen["achieved_goal"], seen["desired_goal"]
        assert reward == env.unwrapped.compute_reward(*pair, info) == (0.0 if info["is_success"] else -1.0)
        assert terminated == env.unwrapped.compute_terminated(*pair, info)
        assert truncated == env.unwrapped.compute_truncated(*pair, info) == (step == LENGTH - 1)
    again, _ = env.reset(seed=3)
    other, _ = env.reset()
    assert (again["observation"] != other["observation"]).any()


def test_rewards_of_many_goals_are_those_of_each(env):
    one = env.unwrapped
    achieved, desired = np.zeros((4, 3, 2)), np.zeros((4, 3, 2))
    desired[2] = 0.4
    desired[3] = 3.0
    rewards = one.compute_reward(achieved, desired, np.array([[{}] * 3] * 4))
    assert rewards.shape == (4, 3)
    assert rewards[:, 0].tolist() == [
        one.compute_reward(a, d, {}) for a, d in zip(achieved[:, 0], desired[:, 0], strict=True)
    ]
    assert rewards[0, 0] == 0.0
    assert rewards[3, 0] == -1.0
    flags = [{"failed": True}, {}, {"failed": False}]
    assert one.compute_terminated(achieved[0], desired[0], flags).tolist() == [True, False, False]


def test_a_dense_reward_is_that_of_the_task():
    env = gymnasium.make(ENV, reward="dense", episode_length=LENGTH)
    env.reset(seed=0)
    seen, reward, *_ = env.step(env.action_space.sample())
    assert reward == pytest.approx(-np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"]), rel=1e-5)
    assert reward == env.unwrapped.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})


def test_a_choice_is_an_action_of_one_entry():
    env = gymnasium.make("kilolayer/point_u_maze_discrete", episode_length=LENGTH)
    choices = env.unwrapped.functions.action(3)
    assert np.asarray(choices).argmax() == 3
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0]["observation"].shape == env.observation_space["observation"].shape


def test_many_robots_step_as_in_the_library(vector):
    environment = make("point_u_maze", episode_length=LENGTH)
    shown, _ = vector.reset(seed=5)
    key = jax.random.key(int(np.random.default_rng(5).integers(2**31)))
    state = jax.jit(environment.reset, static_argnums=1)(key, 3)
    step = jax.jit(environment.step)
    assert vector.observation_space.contains(shown)
    for number in range(LENGTH + 1):
        for name in SEEN:
            np.testing.assert_array_equal(shown[name], getattr(state, name))
        actions = vector.action_space.sample()
        shown, reward, terminated, truncated, info = vector.step(actions)
        state, result = step(state, actions)
        np.testing.assert_array_equal(info["is_success"], result.success)
        np.testing.assert_array_equal(reward, np.asarray(result.success) - 1.0)
        np.testing.assert_array_equal(truncated, result.truncated)
        assert not terminated.any()
        assert ("final_obs" in info) == (number == LENGTH - 1)
        if "final_obs" in info:
            for name in SEEN:
                np.testing.assert_array_equal(info["final_obs"][1][name], getattr(result, name)[1])
            assert info["final_info"]["truncated"].all()
            assert (shown["observation"] != info["final_obs"][1]["observation"]).any()


def test_names_that_are_made_from_others_and_mazes_are_arguments(tmp_path):
    maze = tmp_path / "maze.txt"
    maze.write_text("#####\n#R G#\n#####\n".replace(" ", "."))
    env = gymnasium.make("kilolayer.gym:kilolayer/env", env=str(maze), episode_length=LENGTH)
    assert env.reset(seed=0)[0]["desired_goal"].shape == (2,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reward": "shaped"}, "reward='shaped' must be one of 'sparse', 'dense'"),
        ({"engine": "mujoco"}, "it runs on point"),
        ({"render_mode": "depth"}, "render_mode='depth' of point_u_maze: on this machine there are"),
    ],
)
def test_what_is_not_valid_is_one_line(settings, words, no_type_checks):
    with pytest.raises(ConfigurationError) as raised:
        kilolayer.gym.make_env("point_u_maze", **settings)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_before_the_first_reset_nothing_is_stepped():
    for one in (kilolayer.gym.make_env("point_u_maze"), kilolayer.gym.make_vector_env("point_u_maze", 2)):
        with pytest.raises(gymnasium.error.ResetNeeded):
            one.step(one.action_space.sample())


class Painted:
    """Notes what it is shown."""

    def __init__(self):
        self.shown, self.closed = [], False

    def show(self, physics, desired_goal, success):
        self.shown.append((np.asarray(physics.position).shape[0], tuple(desired_goal), success))
        return np.zeros((4, 4, 3), np.uint8)

    def close(self):
        self.closed = True


def test_what_is_drawn_is_the_pose_and_the_goal(monkeypatch):
    painted = Painted()
    monkeypatch.setattr(kilolayer.gym, "_drawing", lambda *_: Drawing(("human", "rgb_array"), lambda *_: painted))
    env = kilolayer.gym.make_env("point_u_maze", render_mode="human")
    seen, _ = env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    assert painted.shown == [(1, tuple(seen["desired_goal"]), False)] * 2
    env.close()
    assert painted.closed
    painted.shown.clear()
    vector = kilolayer.gym.make_vector_env("point_u_maze", 3, render_mode="rgb_array")
    assert vector.render() is None
    vector.reset(seed=0)
    assert len(vector.render()) == len(painted.shown) == 3
    with pytest.raises(ConfigurationError, match="there are 'rgb_array'"):
        kilolayer.gym.make_vector_env("point_u_maze", 3, render_mode="human")


def test_without_gymnasium_the_import_says_what_to_install():
    script = "import sys; sys.modules['gymnasium'] = None; import kilolayer.gym"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'kilolayer[gym]'" in done.stderr.splitlines()[-1]


def test_the_library_does_not_need_gymnasium():
    script = "import sys; import kilolayer.envs, kilolayer.training; print('gymnasium' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_a_client_that_knows_gymnasium_alone_learns_a_maze():
    from small_her_client import train

    length = 40
    maze = "######\n#R.GG#\n#GGGG#\n#GGGG#\n######\n"
    env = gymnasium.make_vec("kilolayer/env", num_envs=32, env=maze, max_episode_steps=length)
    successes = train(env, length=length, rounds=45, updates=40)
    assert np.mean(successes[:3]) < 0.3
    assert np.mean(successes[-5:]) > 0.8
