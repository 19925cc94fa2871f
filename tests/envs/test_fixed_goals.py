"""Fixed goals: every environment keeps the start and the goal of its first episode."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import make
from kilolayer.runs import default_config
from kilolayer.training import Setup
from small_runs import SMALL


def episodes(environment, num_steps=22):
    """Return observation and goal of every environment at the start of each episode of five steps."""
    state = environment.reset(jax.random.key(0), 4)
    starts = [(state.observation, state.desired_goal)]
    step = jax.jit(environment.step)
    for time in range(num_steps):
        state, _ = step(state, jnp.full((4, environment.action_size), 0.5))
        if (time + 1) % 5 == 0:
            starts.append((state.observation, state.desired_goal))
    return starts


@pytest.mark.parametrize("engine", ["mujoco", pytest.param("mjx", marks=pytest.mark.slow)])
def test_starts_and_goals_are_kept(engine):
    environment = dataclasses.replace(make("reacher", episode_length=5, engine=engine), fixed_goals=True)
    first, *later = episodes(environment)
    assert len(later) == 4
    for start in later:
        jax.tree.map(np.testing.assert_array_equal, start, first)
    assert len(np.unique(first[1], axis=0)) == 4


def test_without_they_are_drawn_anew():
    first, *later = episodes(make("reacher", episode_length=5, engine="mujoco"))
    for _, goals in later:
        assert not np.any(np.all(goals == first[1], axis=1))


def test_a_run_trains_with_them_and_evaluates_without():
    setup = Setup.build(default_config("point_u_maze", **SMALL, fixed_goals=True))
    assert (setup.environment.fixed_goals, setup.eval_environment.fixed_goals) == (True, False)
