"""A buffer of several shards: it holds what one of a single shard holds, and every shard gives its share of a batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_model import empty_like, encoded_trajectory

from kilolayer.data import (
    Draw,
    GoalShares,
    draw_windows,
    insert,
    prepare_arrivals,
    sample_arrivals,
    sample_goal_transitions,
    sample_hindsight,
    sample_transitions,
)
from kilolayer.errors import ConfigurationError
from kilolayer.runs.spread import check_shards
from kilolayer.shards import Shards
from small_runs import small_config

ENVS, SHARDS, ROWS = 6, 3, 12


def near(achieved, goal):
    return jnp.sum(jnp.abs(achieved - goal)) < 1.0


def arrivals(buffer, rows, key):
    draw = Draw(near, horizon=5, discount=0.9, own_goals=0.1, random_goals=0.3)
    return sample_arrivals(prepare_arrivals(buffer, draw), rows, draw, key)


SAMPLERS = {
    "hindsight": lambda buffer, rows, key: sample_hindsight(buffer, (rows,), 0.9, key, action_chunk=2, repeats=2),
    "transitions": lambda buffer, rows, key: sample_transitions(buffer, (rows,), key=key, relabeled=0.5),
    "arrivals": arrivals,
    "goal transitions": lambda buffer, rows, key: sample_goal_transitions(
        buffer, rows, GoalShares(0.9, own=0.2, random=0.3), key
    ),
}


@pytest.fixture(scope="module")
def buffers():
    """The same steps, whole and in shards; the second number of an observation tells the environment."""
    done = np.random.default_rng(0).random((24, ENVS)) < 0.2
    whole = empty_like(16, ENVS)
    for first in (0, 12):
        whole = insert(whole, encoded_trajectory(done[first : first + 12], first))
    return whole, dataclasses.replace(whole, shards=Shards(SHARDS))


@pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)
def test_every_shard_gives_its_share_as_if_it_were_alone(buffers, sample):
    whole, cut = buffers
    key = jax.random.key(0)
    rows = jax.jit(sample, static_argnums=1)(cut, ROWS, key)
    share, each = ROWS // SHARDS, ENVS // SHARDS
    np.testing.assert_array_equal(rows.observation[:, 1] // each, np.repeat(np.arange(SHARDS), share))
    for shard, own_key in enumerate(jax.random.split(key, SHARDS)):
        own = slice(shard * each, (shard + 1) * each)
        alone = jax.tree.map(lambda x, own=own: x if x.ndim == 0 else x[own] if x.ndim == 1 else x[:, own], whole)
        for ours, expected in zip(jax.tree.leaves(rows), jax.tree.leaves(sample(alone, share, own_key)), strict=True):
            np.testing.assert_array_equal(ours[shard * share : (shard + 1) * share], expected)


def test_windows_keep_the_shards(buffers):
    whole, cut = buffers
    windows = [draw_windows(buffer, 5, jax.random.key(1)) for buffer in (whole, cut)]
    assert windows[1].shards == Shards(SHARDS)
    for a, b in zip(*map(jax.tree.leaves, windows), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 3}, "num_envs=4 cannot be cut into devices=3 equal parts; take 3 or 6"),
        ({"shards": 2, "batch_size": 15}, "batch_size=15 cannot be cut into shards=2 equal parts; take 14 or 16"),
        ({"devices": 4, "num_eval_envs": 2}, "num_eval_envs=2 cannot be cut into devices=4 equal parts; take 4"),
        ({"devices": 4, "shards": 2}, "shards=2 cannot be spread over devices=4; take a multiple of 4"),
        ({"devices": 2, "overlap": True}, "overlap=True and devices=2 exclude each other"),
        (
            {"devices": 2, "dataset": "data.npz", "total_env_steps": 0, "num_envs": 1, "unroll_length": 1}
            | {"min_replay": 0, "total_gradient_steps": 10},
            "devices=2 and dataset='data.npz' exclude each other: a data set is one ring",
        ),
        ({"shards": 0}, "shards=0 must be at least 1"),
        ({"shards": 2, "agent": "ppo"}, "shards=2 has no effect with agent='ppo'"),
    ],
)
def test_what_does_not_divide_is_one_line(settings, message):
    with pytest.raises(ConfigurationError) as error:
        check_shards(small_config(**settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
