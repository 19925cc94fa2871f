"""Runs with a collector: it fills the buffer, the learner is evaluated, and all that opens a run finds the learner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.report import write_report
from kilolayer.runs import RunDirectory
from kilolayer.training import Setup, compile_steps, init_state, load_with_setup, run_episodes
from kilolayer.training.keys import stream
from small_runs import SMALL, assert_same_state, final_state, flags, small_config

PAIR = {"depth": 8, "collector_depth": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a deep learner and a shallow collector, that was never stopped."""
    path = tmp_path_factory.mktemp("pair") / "run"
    asked = [*flags(**PAIR, num_evals=5, checkpoints_to_keep=9), "--diagnostics"]
    assert main(["train", "point_u_maze", f"--run-dir={path}", "--quiet", *asked]) == 0
    return path


@pytest.mark.slow
def test_the_data_are_those_of_an_agent_that_collects_for_itself(run):
    """With the same seed, and whatever the learner does: the collector cannot tell that another looks on."""
    setup = Setup.build(small_config(depth=PAIR["collector_depth"]))
    steps = compile_steps(setup)
    alone = init_state(setup, 0)
    while alone.env_steps < SMALL["total_env_steps"]:
        enough = alone.env_steps // SMALL["num_envs"] >= SMALL["min_replay"]
        alone, _ = steps.collect(alone)
        if enough:
            alone, _ = steps.learn(alone)
    both = final_state(run)
    assert_same_state(both.buffer, alone.buffer)
    assert_same_state(both.agent.active, alone.agent)


def test_the_learner_is_evaluated_and_loaded(run):
    policy, setup = load_with_setup(run)
    agent, state = setup.agent, final_state(run).agent
    assert (state.passive.actor.depth, state.active.actor.depth) == (8, 4)
    assert policy.agent_state.actor.depth == 8
    pair = jnp.ones((3, 4)), jnp.ones((3, 2))
    expected = agent.passive.act(state.passive, *pair, jax.random.key(0))
    np.testing.assert_allclose(policy(*pair), expected, atol=1e-6)
    np.testing.assert_allclose(policy.compile(batch=3)(*pair), expected, atol=1e-5)
    np.testing.assert_allclose(policy.value(*pair), agent.passive.value(state.passive, *pair), rtol=1e-5)
    assert np.all(np.abs(policy(*pair) - agent.active.act(state.active, *pair, jax.random.key(0))) > 1e-4)
    key = stream(jax.random.key(0), "evaluation", policy.env_steps)
    environment, episodes = setup.eval_environment, SMALL["num_eval_envs"]
    evaluated = run_episodes(agent.passive, state.passive, environment, key, num_episodes=episodes)
    row = RunDirectory.open(run).metrics()[-1]
    assert row["eval/return"] == pytest.approx(evaluated.metrics()["return"].mean())


def test_metrics_name_both_and_the_learner_is_looked_into(run):
    row = RunDirectory.open(run).metrics()[-1]
    assert row["train/critic_loss"] != row["train/active_critic_loss"]
    seen = RunDirectory.open(run).diagnostics()[-1]
    assert len(seen["phi/residual_norm"]) == 2
    assert not any("collector" in name for name in seen)


@pytest.mark.slow
def test_its_report_has_value_maps(run):
    assert write_report(run).stat().st_size > 10_000
    assert (run / "figures" / "maps.png").exists()


def test_it_resumes_bit_for_bit(run):
    expected = final_state(run)
    kl.train(resume=run, checkpoint=240, progress=False)
    assert_same_state(expected, final_state(run))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["threads", "vmap"])
def test_seeds_side_by_side_do_what_each_does_alone(run, tmp_path, mode):
    settings = SMALL | PAIR | {"run_dir": tmp_path / "runs", "progress": False}
    both = kl.train_seeds("point_u_maze", seeds=(0, 1), mode=mode, **settings)
    assert [one.env_steps for one in both] == [400, 400]
    if mode == "threads":
        assert_same_state(final_state(tmp_path / "runs" / "seed-0"), final_state(run))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"agent": "ppo"},
            ["agent='ppo'", "collector_depth=4", "its own policy alone", "take agent=c_learning or crl or"],
        ),
        ({"depth": 8, "grow": "4@0,8@200"}, ["collector_depth=4 and grow='4@0,8@200' exclude each other"]),
        ({"crl": {"actor_depth": 8}}, ["crl.actor_depth=8 and collector_depth=4 exclude each other"]),
        ({"collector_depth": 6}, ["collector_depth: depth=6", "4 or 8"]),
        ({"collector_depth": "deep"}, ["collector_depth='deep'"]),
    ],
)
def test_invalid_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(ConfigurationError) as error:
        small_config(**PAIR | settings)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_the_collector_of_a_run_cannot_change(run):
    with pytest.raises(ConfigurationError, match="collector_depth cannot change when a run is resumed"):
        kl.train(resume=run, collector_depth=8, progress=False)
