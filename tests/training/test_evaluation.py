"""Evaluation: what episodes amount to, counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.training import Episodes, Setup, init_state, run_episodes, summarize
from kilolayer.training.evaluation import remarks
from small_runs import small_config


def episodes(success, alive, reward=None, begins_at_goal=None):
    success, alive = jnp.array(success, bool).T, jnp.array(alive, bool).T
    length, count = success.shape
    return Episodes(
        desired_goal=jnp.zeros((count, 2)),
        achieved_goal=jnp.zeros((length + 1, count, 2)),
        success=success,
        reward=jnp.ones((length, count)) if reward is None else jnp.array(reward, jnp.float32).T,
        alive=alive,
        begins_at_goal=jnp.zeros(count, bool) if begins_at_goal is None else jnp.array(begins_at_goal, bool),
        diverged=jnp.zeros(count, bool),
        finite=jnp.ones((), bool),
    )


def test_metrics_are_what_their_names_say():
    metrics = episodes(
        success=[[0, 1, 1, 0], [0, 0, 0, 1], [0, 1, 1, 1]],
        alive=[[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]],  # the third ends with its second step
        reward=[[1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 7, 8]],
    ).metrics()
    np.testing.assert_array_equal(metrics["time_at_goal"], [2, 1, 1])
    np.testing.assert_array_equal(metrics["success_any"], [1, 1, 1])
    np.testing.assert_array_equal(metrics["success_final"], [0, 1, 1])
    np.testing.assert_array_equal(metrics["return"], [10, 0, 11])
    np.testing.assert_array_equal(metrics["episode_length"], [4, 4, 2])


def test_success_after_the_end_does_not_count():
    metrics = episodes(success=[[0, 0, 1, 1]], alive=[[1, 1, 0, 0]]).metrics()
    assert (metrics["success_any"][0], metrics["time_at_goal"][0]) == (0, 0)


def test_summary_is_mean_and_standard_error():
    summary = summarize(episodes(success=[[1, 1], [0, 1], [0, 0], [0, 0]], alive=np.ones((4, 2))))
    times = np.array([2, 1, 0, 0])
    assert summary["eval/time_at_goal"] == times.mean()
    assert summary["eval/time_at_goal_stderr"] == pytest.approx(times.std(ddof=1) / 2)
    assert summary["eval/success_any"] == 0.5
    assert (summary["eval/begins_at_goal"], summary["eval/diverged"]) == (0.0, 0.0)
    assert summary["eval/success_any_elsewhere"] == 0.5


def test_episodes_that_begin_at_their_goal_are_counted_apart():
    run = episodes(success=[[1, 1], [1, 0], [0, 0]], alive=np.ones((3, 2)), begins_at_goal=[1, 0, 0])
    summary = summarize(run)
    assert summary["eval/begins_at_goal"] == pytest.approx(1 / 3)
    assert summary["eval/success_any"] == pytest.approx(2 / 3)
    assert summary["eval/success_any_elsewhere"] == 0.5
    assert remarks(summary) == ["33.3% of the episodes begin at their goal; of the others success_any is 0.500"]
    everywhere = summarize(episodes(success=[[1, 1]], alive=np.ones((1, 2)), begins_at_goal=[1]))
    assert np.isnan(everywhere["eval/success_any_elsewhere"])
    assert remarks(everywhere) == ["100.0% of the episodes begin at their goal"]
    assert remarks(everywhere | {"eval/begins_at_goal": 0.0, "eval/diverged": 0.25}) == [
        "25.0% of the episodes ended because the robot diverged"
    ]


@pytest.fixture(scope="module")
def setup():
    return Setup.build(small_config())


def test_episodes_run_from_reset_to_end_with_the_goal_they_began_with(setup):
    state = init_state(setup, 0).agent
    run = run_episodes(setup.agent, state, setup.eval_environment, jax.random.key(0), num_episodes=6)
    assert run.achieved_goal.shape == (21, 6, 2)
    assert bool(run.alive.all())
    assert bool(run.finite)
    far_goals = {tuple(goal) for goal in np.asarray(run.desired_goal).tolist()}
    maze = setup.eval_environment.task.maze
    assert far_goals <= {tuple(goal) for goal in maze.centres(maze.goal_cells).tolist()}
    again = run_episodes(setup.agent, state, setup.eval_environment, jax.random.key(0), num_episodes=6)
    np.testing.assert_array_equal(run.achieved_goal, again.achieved_goal)
    other = run_episodes(setup.agent, state, setup.eval_environment, jax.random.key(1), num_episodes=6)
    assert not np.array_equal(run.achieved_goal, other.achieved_goal)


def test_steps_are_kept_when_asked_for(setup):
    state, key = init_state(setup, 0).agent, jax.random.key(0)
    plain = run_episodes(setup.agent, state, setup.eval_environment, key, num_episodes=3)
    run = run_episodes(setup.agent, state, setup.eval_environment, key, num_episodes=3, keep_steps=True)
    assert plain.steps is None
    np.testing.assert_array_equal(run.achieved_goal, plain.achieved_goal)
    np.testing.assert_array_equal(run.steps.observation[..., :2], run.achieved_goal[:-1])  # a point sees its place
    np.testing.assert_array_equal(run.steps.desired_goal, np.tile(run.desired_goal, (20, 1, 1)))
    action = setup.agent.act(state, run.steps.observation, run.steps.desired_goal, key)
    np.testing.assert_allclose(run.steps.action, action, rtol=1e-5, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Expert:
    """Pushes straight towards the goal, and brakes."""

    executed_actions = 1

    def act(self, state, observation, desired_goal, key, mode):
        return 2.0 * (desired_goal - observation[..., :2]) - observation[..., 2:]


def test_an_expert_is_seen_to_succeed_and_to_stay():
    setup = Setup.build(small_config(env="#######\n#R.G..#\n#######\n", eval_env=None, episode_length=60))
    run = run_episodes(Expert(), None, setup.eval_environment, jax.random.key(0), num_episodes=8)
    summary = summarize(run)
    assert summary["eval/success_any"] == 1.0
    assert summary["eval/success_final"] == 1.0
    assert 10 < summary["eval/time_at_goal"] < 60
    assert summary["eval/return"] < 0.0


def test_action_modes_change_the_episodes(setup):
    state = init_state(setup, 0).agent
    places = {
        mode: np.asarray(
            run_episodes(
                setup.agent, state, setup.eval_environment, jax.random.key(0), num_episodes=4, mode=mode
            ).achieved_goal
        )
        for mode in ("deterministic", "stochastic", "best_of")
    }
    assert not np.array_equal(places["deterministic"], places["stochastic"])
    assert not np.array_equal(places["best_of"], places["stochastic"])
