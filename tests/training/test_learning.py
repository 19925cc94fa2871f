"""End to end: agents that learn, and networks of a thousand layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.errors import ConfigurationError
from kilolayer.training import Setup, compile_steps, init_state
from small_runs import small_config

CORRIDOR = "#######\n#R...G#\n#######\n"


@pytest.mark.slow
def test_an_agent_learns_to_reach_the_end_of_a_corridor(tmp_path):
    before = kl.train(
        CORRIDOR,
        run_dir=tmp_path / "run",
        progress=False,
        width=64,
        batch_size=128,
        num_envs=32,
        episode_length=60,
        unroll_length=30,
        gradient_steps_per_unroll=40,
        replay_capacity=600,
        min_replay=60,
        total_env_steps=50_000,
        num_evals=5,
        num_eval_envs=64,
    )
    first, *_, last = before.run.metrics()
    assert first["eval/success_any"] <= 0.3
    assert last["eval/success_any"] >= 0.9
    assert last["train/categorical_accuracy"] > 2 / 128


@pytest.mark.slow
def test_discrete_actions_are_learnt_from_too(tmp_path):
    result = kl.train(
        config=small_config(env="point_u_maze_discrete", diagnostics=True), run_dir=tmp_path / "run", progress=False
    )
    rows = result.run.metrics()
    assert result.run.config().agent == "crl_discrete"
    assert np.isfinite(rows[-1]["train/critic_loss"])
    assert "train/actor_loss" not in rows[-1]
    policy = kl.load(tmp_path / "run")
    action = policy(np.zeros((3, 4)), np.ones((3, 2)), mode="stochastic")
    np.testing.assert_array_equal(np.sort(action, axis=-1), [[0.0] * 8 + [1.0]] * 3)
    with pytest.raises(ConfigurationError, match="agent='crl_discrete' has no actor network"):
        policy.compile()


def finite_steps(depth: int, **settings):
    config = small_config(depth=depth, **settings)
    setup = Setup.build(config)
    steps = compile_steps(setup)
    state = init_state(setup, 0)
    while int(state.buffer.num_steps) < config.min_replay:
        state, _ = steps.collect(state)
    before = jax.tree.map(jnp.copy, state.agent)
    state, (metrics, _) = steps.learn(state)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.agent))
    for network in (before.actor, before.critic.phi, before.critic.psi):
        assert network.depth == depth
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.actor.blocks, state.agent.actor.blocks)
    assert all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_a_deep_actor_and_critic_take_finite_steps():
    finite_steps(256)


@pytest.mark.slow
def test_a_thousand_layers_of_the_papers_width_take_finite_steps():
    finite_steps(
        1024,
        width=256,
        batch_size=256,
        num_envs=16,
        gradient_steps_per_unroll=2,
        total_env_steps=1000,
        architecture={"remat": "block"},
    )


@pytest.mark.slow
def test_a_thousand_layers_learn_where_their_branches_are_scaled_and_die_where_not(tmp_path):
    seen = {}
    for scaling in ("auto", "none"):
        result = kl.train(
            "point_u_maze",
            depth=1024,
            width=32,
            batch_size=128,
            gradient_steps_per_unroll=50,
            total_env_steps=51_200,
            num_evals=8,
            num_eval_envs=4,
            diagnostics=True,
            architecture={"residual_scaling": scaling},
            run_dir=tmp_path / scaling,
            progress=False,
        )
        losses = [row["train/critic_loss"] for row in result.run.metrics() if row["gradient_steps"]]
        seen[scaling] = losses, result.run.diagnostics()
        assert result.metrics["gradient_steps"] >= 200
    losses, rows = seen["auto"]
    assert losses[-1] < losses[0] < 20.0
    for row in rows:
        assert max(row["actor/stream_norm"] + row["phi/stream_norm"] + row["psi/stream_norm"]) < 60.0
        assert min(row["actor/gradient_norm"]) > 0.0
    losses, rows = seen["none"]
    assert losses[0] > 20.0
    assert max(rows[-1]["actor/stream_norm"]) > 100.0


@pytest.mark.slow
def test_the_demo_reaches_the_far_goals_with_at_least_four_of_five_seeds(tmp_path):
    reached = [
        kl.train("point_u_maze", seed=seed, run_dir=tmp_path / str(seed), progress=False).metrics["eval/success_any"]
        for seed in range(5)
    ]
    assert sum(success >= 0.95 for success in reached) >= 4, reached
