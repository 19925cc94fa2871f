"""`untrained` in place of a checkpoint: the networks that a run began with."""

import json

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import Tandem
from kilolayer.cli.main import main
from kilolayer.training import Setup, init_state
from small_runs import small_config

RUNS = {
    "plain": {"depth": 4},
    "tandem": {"depth": 4, "collector_depth": 8},
    "growing": {"depth": 8, "grow": "4@0,8@150"},
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(how, id=name, marks=[pytest.mark.slow] * (name == "tandem")) for name, how in RUNS.items()],
)
def run(request, tmp_path_factory):
    config = small_config(**request.param, seed=3)
    path = tmp_path_factory.mktemp("untrained") / "run"
    kl.train(config=config, run_dir=path, progress=False)
    return path, config


def test_it_is_what_the_run_began_with(run):
    path, config = run
    policy = kl.load(path, checkpoint="untrained")
    assert (policy.env_steps, policy.contract.gradient_steps) == (0, 0)
    setup = Setup.build(config)
    began = init_state(setup, config.seed).agent
    agent, expected = setup.agent.acting(began)
    assert not isinstance(agent, Tandem)
    for own, other in zip(jax.tree.leaves(policy.agent_state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(own, other)


def test_training_moved_it(run):
    path, _ = run
    before, after = (jax.tree.leaves(kl.load(path, checkpoint=which).agent_state) for which in ("untrained", "latest"))
    assert len(before) == len(after)
    assert any(one.shape != other.shape or (one != other).any() for one, other in zip(before, after, strict=True))


def test_the_command_line_evaluates_it(run, capsys):
    path, _ = run
    assert main(["eval", str(path), "--checkpoint=untrained", "--episodes=4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["eval/success_any"] >= 0.0
