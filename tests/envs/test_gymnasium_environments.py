"""Environments of Gymnasium as environments of this library."""

import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import tiny_goal_env
from kilolayer.envs import make, registry
from kilolayer.envs.gym.sources import Source, register_source
from kilolayer.errors import ConfigurationError, UnknownNameError

NAME = "gym:TinyReach-v0"
STEPS = 20
"""Of an episode."""


class Rolled:
    """States and results of steps, by the same compiled programs for all that share an environment."""

    def __init__(self, environment, num_envs=3, seed=0):
        self.environment = environment
        self.state = jax.jit(environment.reset, static_argnums=1)(jax.random.key(seed), num_envs)
        self.step = jax.jit(environment.step)

    def take(self, action):
        size = self.environment.action_size
        self.state, result = self.step(self.state, jnp.broadcast_to(jnp.asarray(action, jnp.float32), (3, size)))
        return result


@pytest.fixture(scope="module")
def environment():
    return make(NAME)


@pytest.fixture(scope="module")
def rolled(environment):
    return Rolled(environment)


def refusal(function, *arguments, error=ConfigurationError, **settings) -> str:
    with pytest.raises(error) as raised:
        function(*arguments, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_sizes_are_those_of_the_flattened_spaces(environment):
    assert (environment.observation_size, environment.goal_size, environment.action_size) == (4, 2, 2)
    assert (environment.episode_length, environment.control_step) == (STEPS, 0.05)
    assert environment.has_success
    assert environment.runs_on_host
    assert not environment.resumes_exactly
    assert make(NAME, episode_length=7).episode_length == 7


def test_actions_are_mapped_onto_the_bounds_of_the_environment(rolled):
    before = np.asarray(rolled.state.achieved_goal)
    moved = np.asarray(rolled.take([1.0, -1.0]).achieved_goal) - before
    np.testing.assert_allclose(moved, np.tile([0.2, -0.2], (3, 1)), atol=1e-6)


def test_an_episode_that_is_over_shows_its_own_last_state_and_the_next_start(environment):
    rolled = Rolled(environment, seed=1)
    first = np.asarray(rolled.state.desired_goal)
    for step in range(STEPS):
        before = np.asarray(rolled.state.achieved_goal)
        result = rolled.take([0.1, 0.1])
        assert np.asarray(result.truncated).tolist() == [step == STEPS - 1] * 3
        np.testing.assert_array_equal(result.desired_goal, first)
        np.testing.assert_allclose(result.achieved_goal, before + 0.02, atol=1e-5)
        expected = np.linalg.norm(np.asarray(result.achieved_goal) - first, axis=1) <= 0.5
        np.testing.assert_array_equal(result.success, expected)
        np.testing.assert_array_equal(result.reward, expected - 1.0)
    assert not np.asarray(result.terminated).any()
    assert (np.asarray(rolled.state.desired_goal) != first).all()
    np.testing.assert_array_equal(rolled.state.observation.reshape(3, 2, 2)[:, 1], rolled.state.desired_goal)
    assert (np.asarray(rolled.state.achieved_goal) != np.asarray(result.achieved_goal)).all()
    assert np.asarray(rolled.state.episode_step).tolist() == [0] * 3


def test_the_same_key_gives_the_same_episodes_and_states_do_not_disturb_each_other(environment):
    one, other = Rolled(environment, seed=2), Rolled(environment, seed=2)
    for _ in range(STEPS + 2):  # into the second episode
        one.take([0.3, -0.2])
    for _ in range(STEPS + 2):
        other.take([0.3, -0.2])
    np.testing.assert_array_equal(one.state.observation, other.state.observation)
    assert (np.asarray(Rolled(environment, seed=3).state.observation) != np.asarray(other.state.observation)).any()


def test_environments_that_are_given_back_are_used_again():
    environment = make(NAME)
    first = Rolled(environment)
    jax.jit(environment.release)(first.state)
    jax.effects_barrier()
    again = Rolled(environment)
    np.testing.assert_array_equal(again.state.observation, first.state.observation)
    assert len(environment.engine._used) == 1
    with pytest.raises(Exception, match="the environments of this state are gone"):
        jax.block_until_ready(first.take([0.0, 0.0]))


def test_success_of_any_pair_of_goals_is_asked_of_compute_reward(environment):
    achieved = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    desired = jnp.array([[0.0, 0.4], [0.0, 0.6], [1.0, 1.0]])
    assert jax.vmap(environment.task.success)(achieved, desired).tolist() == [True, False, True]
    assert bool(environment.task.success(achieved[0], desired[0]))
    one_at_a_time = make("gym:TinyReachScalar-v0").task
    assert jax.vmap(one_at_a_time.success)(achieved, desired).tolist() == [True, False, True]


class Scalar(tiny_goal_env.TinyReach):
    """Its reward takes one goal at a time."""

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -float(max(abs(float(a - b)) for a, b in zip(achieved_goal, desired_goal, strict=True)) > 0.5)


class Dense(tiny_goal_env.TinyReach):
    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


gymnasium.register("TinyReachScalar-v0", entry_point=Scalar, max_episode_steps=STEPS)
gymnasium.register("TinyReachDense-v0", entry_point=Dense, max_episode_steps=STEPS)


def test_success_that_info_does_not_tell_comes_from_the_reward():
    told, untold = (Rolled(make(name)) for name in (NAME, "gym:TinyReachUntold-v0"))
    assert not untold.environment.task.about.tells_success
    for _ in range(STEPS):
        pair = told.take([0.2, 0.2]), untold.take([0.2, 0.2])
        np.testing.assert_array_equal(pair[0].success, pair[1].success)


def test_a_dense_reward_tells_no_success():
    environment = make("gym:TinyReachDense-v0")
    assert not environment.has_success
    assert not bool(environment.task.success(jnp.zeros(2), jnp.zeros(2)))


def test_an_episode_that_ends_at_its_goal_has_not_failed():
    rolled, ended = Rolled(make("gym:TinyReachEnds-v0")), 0
    for _ in range(3 * STEPS):
        state = rolled.state
        towards = 5.0 * (np.asarray(state.desired_goal) - np.asarray(state.achieved_goal))
        result = rolled.take(np.clip(towards, -1.0, 1.0))
        assert not np.asarray(result.terminated).any()
        assert (np.asarray(result.truncated) == np.asarray(result.success)).all()
        ended += int(np.asarray(result.truncated).sum())
    assert ended > 3


def test_an_episode_that_ends_elsewhere_has_failed():
    rolled = Rolled(make("gym:TinyReachFalls-v0"))
    failed = sum(np.asarray(rolled.take([1.0, 0.0]).terminated).astype(int) for _ in range(STEPS - 1))
    assert (failed > 0).all()


def test_an_environment_that_is_opened_by_itself_draws_pictures():
    from kilolayer.envs.gym.adapter import open_env

    env = open_env(NAME, 5, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (64, 65, 3)


class Bare(gymnasium.Env):
    """Has the spaces that it is told to have."""

    observation_space = Dict(
        observation=Box(-1, 1, (2,)), achieved_goal=Box(-1, 1, (2,)), desired_goal=Box(-1, 1, (2,))
    )
    action_space = Box(-1, 1, (2,))

    def __init__(self, **spaces):
        if "breaks" in spaces:
            raise ValueError("no robot\nin here")
        if "action" in spaces:
            self.action_space = spaces.pop("action")
        self.observation_space = Dict({**self.observation_space.spaces, **spaces}) if spaces else self.observation_space


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        ({"action": Discrete(3)}, "actions are Discrete(3); they must be a Box of numbers"),
        ({"action": Box(-np.inf, np.inf, (2,))}, "they must have bounds"),
        ({"observation": Discrete(4)}, "observation is Discrete(4); it must be a Box"),
        ({"achieved_goal": Box(-1, 1, (3,))}, "achieved_goal has shape (3,), and desired_goal (2,)"),
        ({"breaks": True}, "cannot be made: ValueError: no robot in here"),
    ],
)
def test_what_does_not_fit_is_one_line(spaces, words):
    name = f"Bare{abs(hash(words))}-v0"
    gymnasium.register(name, entry_point=Bare, kwargs=spaces)
    assert words in refusal(make, f"gym:{name}")


def test_names_that_lead_nowhere_are_one_line(monkeypatch):
    assert "did you mean TinyReach-v0" in refusal(make, "gym:TinyReech-v0")
    assert "is unknown" in refusal(make, "gum:TinyReach-v0", error=UnknownNameError)
    assert "has no goals" in refusal(make, "gym:CartPole-v1")
    assert "module 'nowhere_to_be' cannot be imported" in refusal(make, "gym:nowhere_to_be:X-v0")
    assert "draws its starts and goals itself" in refusal(
        registry.spec(NAME).environment, NAME, *parts(), fixed_goals=True
    )
    assert "it runs on gym_sync, gym_async" in refusal(make, NAME, engine="point")
    assert "is no environment of Gymnasium" in refusal(lambda: engine_for("gym_sync", make("point_u_maze").task))
    assert "already registered" in refusal(register_source, Source("gym", (), ""))
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert "needs gymnasium, which is not installed: pip install 'kilolayer[gym]'" in refusal(make, NAME)


def test_one_after_another_is_what_auto_takes_on_any_machine(monkeypatch):
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert registry.spec(NAME).engine_name("auto", "default", 16) == "gym_sync"


def parts():
    made = make(NAME)
    return made.task, made.engine, STEPS


def engine_for(name, task):
    from kilolayer.envs.engines import engine_spec

    return engine_spec(name).build(task)


@pytest.mark.slow
def test_processes_of_their_own_give_the_same_episodes(environment):
    tiny = "gym:tiny_goal_env:TinyReach-v0"
    there, here = Rolled(make(tiny, engine="gym_async")), Rolled(environment)
    try:
        for _ in range(STEPS + 2):
            results = there.take([0.3, -0.2]), here.take([0.3, -0.2])
            np.testing.assert_array_equal(results[0].observation, results[1].observation)
            np.testing.assert_array_equal(results[0].success, results[1].success)
        np.testing.assert_array_equal(there.state.observation, here.state.observation)
    finally:
        there.environment.engine.close()


@pytest.mark.slow
def test_ogbench_shares_out_its_tasks_and_follows_its_seed():
    pytest.importorskip("ogbench")
    environment = make("ogbench:pointmaze-medium-v0")
    reset = jax.jit(environment.reset, static_argnums=1)
    state, again = reset(jax.random.key(0), 6), reset(jax.random.key(0), 6)
    np.testing.assert_array_equal(state.desired_goal, again.desired_goal)
    goals = np.asarray(state.desired_goal)
    cells = np.round(goals / 4.0)
    assert (cells[0] == cells[5]).all()  # there are five tasks
    assert len({tuple(cell) for cell in cells}) == 5
    assert not environment.has_success


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gym:FetchReach-v4", "gym:PointMaze_UMaze-v3"])
def test_environments_of_gymnasium_robotics_step(name):
    pytest.importorskip("gymnasium_robotics")
    rolled = Rolled(make(name))
    assert rolled.environment.has_success
    assert np.isfinite(np.asarray(rolled.take(0.5).observation)).all()
