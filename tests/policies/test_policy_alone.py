"""A policy by itself acts as its agent does in the run, where nothing but its files and the networks are there."""

import json

import jax
import numpy as np
import pytest
from policy_cases import BLOCK, case_of, config_of, pairs_of, run_python

import kilolayer as kl
from kilolayer.agents import agent_names
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.policies import Contract, VectorContract
from kilolayer.runs import Checkpoints, RunDirectory
from kilolayer.training import load_with_setup, run_episodes
from kilolayer.training.keys import stream
from small_runs import final_state

CASES = {name: (name, {}) for name in agent_names()} | {
    "tandem": ("crl", {"collector_depth": 8}),
    "grown": ("crl", {"grow": "4@0,8@200", "depth": 8}),
    "torso": ("crl", {"architecture": {"normalization": "none", "activation": "relu"}}),
}

ACT = (
    BLOCK
    + """
import pathlib, numpy as np, kilolayer
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    policy = kilolayer.load(folder / "policy")
    pair = np.load(folder / "observation.npy"), np.load(folder / "goal.npy")
    np.save(folder / "action.npy", policy(*pair))
    if policy.agent.has_value:
        np.save(folder / "value.npy", policy.value(*pair))
assert not [name for name in sys.modules if name.split(".")[0] in ("mujoco", "brax", "orbax", "tensorstore")]
"""
)


@pytest.mark.parametrize("cases", [["crl", "ppo", "tandem"], pytest.param([*CASES], marks=pytest.mark.slow)], ids=len)
def test_every_agent_acts_to_the_same_bits_without_environments(tmp_path, cases):
    expected = {}
    for case in cases:
        agent, settings = CASES[case]
        setup, state, policy = case_of(agent, **settings)
        pair, folder = pairs_of(policy), tmp_path / case
        folder.mkdir()
        policy.save(folder / "policy")
        np.save(folder / "observation.npy", pair[0])
        np.save(folder / "goal.npy", pair[1])
        action = jax.jit(setup.agent.act)(state, *pair, jax.random.key(7))
        value = jax.jit(setup.agent.value)(state, *pair) if setup.agent.has_value else None
        expected[case] = np.asarray(action), None if value is None else np.asarray(value)
    run_python(ACT, tmp_path)
    for case, (action, value) in expected.items():
        assert np.load(tmp_path / case / "action.npy").tobytes() == action.tobytes(), case
        assert np.ptp(action, axis=0).max() > 1e-3, case
        if value is not None:
            assert np.load(tmp_path / case / "value.npy").tobytes() == value.tobytes(), case


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "run"
    kl.train(config=config_of("crl", depth=8, collector_depth=4), run_dir=path, progress=False)
    return path


@pytest.mark.slow
def test_every_checkpoint_holds_its_policy(run):
    rows = {row["env_steps"]: row for row in RunDirectory.open(run).metrics()}
    policy, setup = load_with_setup(run)
    key = stream(jax.random.key(0), "evaluation", policy.env_steps)
    episodes = run_episodes(policy.agent, policy.agent_state, setup.eval_environment, key, num_episodes=4)
    assert episodes.metrics()["return"].mean() == rows[400]["eval/return"]
    for step in (200, 400):
        policy, state = kl.load(run, checkpoint=step), final_state(run, step).agent
        assert (policy.env_steps, policy.contract.gradient_steps) == (step, rows[step]["gradient_steps"])
        for found, expected in zip(
            jax.tree.leaves(policy.agent_state.actor), jax.tree.leaves(state.passive.actor), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_a_policy_holds_nothing_that_only_learning_needs(run):
    policy = kl.load(run)
    assert policy.agent_state.optimizers is None
    weights = (run / "checkpoints" / "400" / "policy" / "policy.safetensors").stat().st_size
    numbers = sum(leaf.size for leaf in jax.tree.leaves(policy.agent_state))
    assert 4 * numbers < weights < 4 * numbers + 8000


def test_the_best_and_the_latest_are_those_of_the_run(run):
    checkpoints = Checkpoints(RunDirectory.open(run).checkpoints)
    for wanted in (None, "latest", "best", 200, "200"):
        assert kl.load(run, checkpoint=wanted).env_steps == checkpoints.resolve(wanted)
    checkpoints.close()
    scores = {"200": 0.5, "400": 0.25}
    for step, score in scores.items():
        metrics = run / "checkpoints" / step / "metrics" / "metrics"
        metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"eval/success_any": score}))
    assert kl.load(run, checkpoint="best").env_steps == 200
    (run / "checkpoints" / "200" / "metrics" / "metrics").write_text("{")
    assert kl.load(run, checkpoint="best").env_steps == 400


def test_the_contract_names_all_that_it_is_made_of(run):
    contract = kl.load(run).contract
    assert json.loads(str(contract)) == json.loads(json.dumps(contract.to_dict()))
    assert Contract.from_dict(json.loads(str(contract))) == contract
    assert (contract.observation.size, contract.goal.size, contract.action.size) == (4, 2, 2)
    assert (contract.action.low, contract.action.high, contract.action.discrete) == (-1.0, 1.0, False)
    environment = contract.environment
    assert (environment.name, environment.maze, environment.engine) == ("point_u_maze", None, "point")
    assert (environment.episode_length, environment.control_step) == (20, pytest.approx(0.1))
    assert (contract.agent.name, contract.torso.name, contract.depth, contract.width) == ("crl", "residual_mlp", 8, 16)
    assert contract.versions["jax"] == jax.__version__


def test_names_of_the_task_are_in_the_contract(monkeypatch):
    names = ("x (m)", "y (m)", "x velocity (m/s)", "y velocity (m/s)")
    monkeypatch.setattr("kilolayer.envs.tasks.PointMaze.observation_names", names, raising=False)
    assert case_of("crl")[2].contract.observation == VectorContract(4, names)
    monkeypatch.setattr("kilolayer.envs.tasks.PointMaze.observation_names", names[:3], raising=False)
    with pytest.raises(ConfigurationError, match="names has 3 entries for size=4"):
        case_of("crl")


def test_a_maze_as_text_is_in_the_contract():
    maze = "#####\n#R G#\n#####"
    assert case_of("crl", env=maze)[2].contract.environment.maze == maze


def test_a_saved_policy_is_whole_or_absent(tmp_path, monkeypatch):
    policy = case_of("crl")[2]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(RunError, match="cannot be written: No space left") as error:
            policy.save(tmp_path / "a" / "policy")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a").exists()
    assert policy.save(tmp_path / "a" / "policy") == tmp_path / "a" / "policy"
    assert sorted(path.name for path in (tmp_path / "a" / "policy").iterdir()) == ["policy.json", "policy.safetensors"]
    with pytest.raises(RunError, match="exists already; choose another directory"):
        policy.save(tmp_path / "a" / "policy")
    again = kl.load(tmp_path / "a" / "policy")
    assert again.contract == policy.contract
    np.testing.assert_array_equal(again(*pairs_of(policy)), policy(*pairs_of(policy)))


def fail(handle):
    raise OSError(28, "No space left on device")


def test_a_checkpoint_is_absent_when_its_policy_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("kilolayer.policies.artifact._write", lambda path, data: fail(None))
    with pytest.raises(kl.TrainingError, match=r"could not be saved .*No space left"):
        kl.train(config=config_of("crl"), run_dir=tmp_path / "run", progress=False)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.steps() == []
    checkpoints.close()
    with pytest.raises(RunError, match="holds no checkpoint yet"):
        kl.load(tmp_path / "run")


def test_stochastic_actions_are_new_draws_and_the_same_in_every_process(tmp_path):
    policy = case_of("crl")[2]
    again = kl.load(policy.save(tmp_path / "policy"))
    pair = pairs_of(policy)
    draws = [policy(*pair, mode="stochastic") for _ in range(2)]
    assert np.all(draws[0] != draws[1])
    for draw in draws:
        np.testing.assert_array_equal(again(*pair, mode="stochastic"), draw)


@pytest.mark.parametrize("arguments", [{}, {"checkpoint": "best"}])
def test_a_directory_without_a_policy_is_one_line(tmp_path, arguments):
    with pytest.raises(RunError, match="is not a run directory") as error:
        kl.load(tmp_path, **arguments)
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_only_for_runs(tmp_path):
    path = case_of("crl")[2].save(tmp_path / "policy")
    with pytest.raises(ConfigurationError, match=r"checkpoint='latest' has no effect: .* is a policy, not a run"):
        kl.load(path, checkpoint="latest")


def test_a_checkpoint_that_is_not_there_is_one_line_that_lists_the_others(run):
    with pytest.raises(RunError, match="has no checkpoint 300; it has 200, 400, latest, best and untrained"):
        kl.load(run, checkpoint=300)
