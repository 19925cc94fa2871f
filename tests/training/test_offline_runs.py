"""Runs that learn from data sets, recordings, and runs that begin with what another one has learnt."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import agent_specs
from kilolayer.checkpoint_files import steps_in
from kilolayer.cli.main import main
from kilolayer.data import ReplayBuffer, empty_buffer
from kilolayer.data.datasets import Dataset, read_dataset, write_dataset
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.runs import Clocks, RunDirectory, default_config
from kilolayer.training.given_data import fitted, with_dataset
from kilolayer.training.initial import poured
from kilolayer.training.recording import Exploring, _episodes, record
from kilolayer.training.setup import Setup
from small_datasets import numbered
from small_runs import assert_same_state, final_state, flags, small_config

OFFLINE = {
    "width": 16,
    "batch_size": 16,
    "gradient_steps_per_unroll": 3,
    "total_gradient_steps": 12,
    "num_evals": 2,
    "num_eval_envs": 4,
    "episode_length": 20,
}


@pytest.fixture(scope="module")
def wandering() -> Dataset:
    """Random actions in a maze, each held for some steps."""
    return record("point_u_maze", episodes=6, how=Exploring("random", hold=5))


@pytest.fixture(scope="module")
def file(tmp_path_factory, wandering):
    path = tmp_path_factory.mktemp("data") / "maze.npz"
    write_dataset(wandering, path, "npz")
    return path


def train(path, file, env="point_u_maze", **settings):
    return kl.train(env, dataset=str(file), run_dir=path, progress=False, **OFFLINE | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, file):
    """A run that was never stopped, with all its checkpoints."""
    path = tmp_path_factory.mktemp("offline") / "run"
    assert train(path, file, None, num_evals=4, checkpoints_to_keep=9).clocks == Clocks(0, 12)
    return path


# ---- Learning from a data set ------------------------------------------------------------------------------


def test_a_run_learns_from_a_data_set_and_keeps_its_name(whole, file, wandering):
    config = RunDirectory.open(whole).config()
    assert (config.env, config.dataset, config.total_env_steps) == ("point_u_maze", str(file), 0)
    assert (config.num_envs, config.replay_capacity) == (1, wandering.rows)
    assert config.agent_settings.behaviour_cloning == 0.1  # as suits data that nobody adds to
    assert_same_state(final_state(whole).buffer, wandering.to_buffer())
    assert [row["gradient_steps"] for row in RunDirectory.open(whole).metrics()] == [0, 3, 6, 9, 12]


def test_it_resumes_bit_for_bit_without_the_file(whole, file, tmp_path):
    train(tmp_path / "run", file, total_gradient_steps=6, num_evals=2)
    moved = file.with_name("moved.npz")
    file.rename(moved)
    try:
        kl.train(resume=tmp_path / "run", total_gradient_steps=12, progress=False)
    finally:
        moved.rename(file)
    assert_same_state(final_state(tmp_path / "run"), final_state(whole))


def test_without_a_checkpoint_the_data_set_is_read_again(whole, tmp_path):
    RunDirectory.create(tmp_path / "run", RunDirectory.open(whole).config())
    kl.train(resume=tmp_path / "run", progress=False)
    assert_same_state(final_state(tmp_path / "run"), final_state(whole))


def test_the_layout_of_the_file_changes_nothing(whole, wandering, tmp_path):
    write_dataset(wandering, tmp_path / "maze.npz", "ogbench")
    train(tmp_path / "run", tmp_path / "maze.npz")
    assert_same_state(final_state(tmp_path / "run"), final_state(whole))


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(spec.name, marks=[] if spec.name == "gcbc" else [pytest.mark.slow])
        for spec in agent_specs()
        if not spec.on_policy and not spec.discrete
    ],
)
def test_every_agent_that_does_not_need_its_own_actions_learns(file, tmp_path, agent):
    settings = {} if agent not in ("survival", "srl") else {agent: {"horizon": 20, "bins": 8}}
    train(tmp_path / "run", file, agent=agent, **settings)
    row = RunDirectory.open(tmp_path / "run").metrics()[-1]
    assert all(np.isfinite(value) for name, value in row.items() if name.startswith("train/"))
    config = RunDirectory.open(tmp_path / "run").config()
    for name, value in next(spec for spec in agent_specs() if spec.name == agent).offline.items():
        assert getattr(config.agent_settings, name) == value


def test_survival_believes_only_what_was_observed():
    config = default_config("point_u_maze", dataset="x.npz", agent="survival")
    assert config.agent_settings.censoring == "observed"
    assert default_config("point_u_maze", agent="survival").agent_settings.censoring == "window"
    chosen = default_config("point_u_maze", dataset="x.npz", agent="survival", survival={"censoring": "window"})
    assert chosen.agent_settings.censoring == "window"


@pytest.mark.slow
def test_several_seeds_learn_from_a_data_set(whole, file, tmp_path):
    kl.train_seeds("point_u_maze", seeds=(0, 1), dataset=str(file), run_dir=tmp_path, progress=False, **OFFLINE)
    assert_same_state(final_state(tmp_path / "seed-0"), final_state(whole))
    kl.train_seeds(resume=tmp_path, total_gradient_steps=15, progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"total_env_steps": 400}, ["total_env_steps=400 and dataset=", "leave total_env_steps out"]),
        ({"num_envs": 8}, ["num_envs=8 has no effect with dataset="]),
        ({"unroll_length": 10}, ["unroll_length=10 has no effect with dataset="]),
        ({"min_replay": 10}, ["min_replay=10 has no effect with dataset="]),
        ({"fixed_goals": True}, ["fixed_goals=True has no effect with dataset="]),
        ({"collector_depth": 4}, ["total_env_steps=0 collects nothing", "collector_depth=4 has no effect"]),
        ({"replay_capacity": 7}, ["batch_size=16 is more than", "at most 7"]),
        ({"replay_capacity": 70}, ["replay_capacity=70 and dataset=", "it has 1206 rows; leave replay_capacity out"]),
        ({"batch_size": 2000}, ["batch_size=2000 is more than", "at most 1206"]),
        ({"agent": "ppo"}, ["agent='ppo' learns only from what its own policy"]),
        ({"dataset": None, "dataset_dir": "x"}, ["dataset_dir='x' has no effect without dataset"]),
        ({"dataset_dir": "x"}, ["dataset_dir='x' has no effect with the path"]),
        ({"dataset": "nowhere"}, ["dataset='nowhere': there is no such file"]),
        ({"env": "reacher"}, ["its observation has 4 numbers, and that of env 'reacher' has 10"]),
        ({"init_data": True}, ["init_data=True has no effect without init_from"]),
        ({"data": "some"}, ["data and dataset=", "exclude each other"]),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(file, wandering, tmp_path, settings, words):
    arguments = {"env": "point_u_maze", "dataset": str(file)} | OFFLINE | settings
    if settings.get("data"):
        arguments["data"] = wandering.to_buffer()
    with pytest.raises(ConfigurationError) as error:
        kl.train(**arguments, run_dir=tmp_path / "run", progress=False)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_data_without_goals_need_an_environment_whose_goals_are_observations(wandering):
    environment = Setup.build(small_config()).environment
    bare = dataclasses.replace(wandering, achieved_goal=None, desired_goal=None)
    with pytest.raises(ConfigurationError, match="tells no achieved goals, and those of env 'point_u_maze' are not"):
        fitted(bare, environment, "bare")

    class WholeStates:
        name, observation_size, goal_size, action_size, has_success = "whole", 4, 4, 2, False

    found = fitted(bare, WholeStates(), "bare")
    np.testing.assert_array_equal(found.achieved_goal, bare.observation)


def test_an_episode_that_ends_at_its_goal_did_not_fail(wandering):
    environment = Setup.build(small_config()).environment
    goal = np.repeat(wandering.achieved_goal[wandering.last][:, :], 201, axis=0)
    goal[: 201 * 3] += 100.0  # of the first three episodes, far away
    found = fitted(dataclasses.replace(wandering, failed=wandering.last, desired_goal=goal), environment, "data")
    np.testing.assert_array_equal(found.failed[found.last], [True] * 3 + [False] * 3)


def test_the_preset_of_the_published_runs():
    pytest.importorskip("ogbench")
    config = default_config("ogbench:antmaze-giant-v0", preset="ogbench", dataset="ogbench:antmaze-giant-navigate-v0")
    crl = config.agent_settings
    assert (config.batch_size, config.width, config.total_gradient_steps) == (1024, 512, 1_000_000)
    assert (crl.behaviour_cloning, crl.discount, crl.critics, crl.loss, crl.energy) == (
        0.1,
        0.995,
        2,
        "binary_nce",
        "dot",
    )
    assert crl.temperature == pytest.approx(512**0.5)
    of_ql = default_config("ogbench:pointmaze-large-v0", preset="ogbench", dataset="x", agent="gciql").agent_settings
    assert (of_ql.behaviour_cloning, of_ql.discount) == (0.003, 0.99)


# ---- The command line --------------------------------------------------------------------------------------


def test_the_command_line_records_and_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recording = ["record", "point_u_maze", "--actions=random", "--hold=5", "--episodes=2"]
    assert main([*recording, "--output=a.npz"]) == 0
    assert capsys.readouterr().out == "a.npz: 2 episodes, 400 steps, npz\n"
    assert main([*recording, "--output=b.npz", "--format=ogbench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": "b.npz", "format": "ogbench", "episodes": 2, "steps": 400}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OFFLINE.items()]
    arguments = ["train", "--dataset=b.npz", *options, "--agent=gcbc", "--quiet"]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--run-dir=run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gradient_steps"] == 12
    assert main([*recording, "--output=a.npz"]) == 2
    assert capsys.readouterr().err == "kilolayer: error: a.npz exists already; choose another --output\n"
    assert main([*recording, "--output=c", "--format=csv"]) == 2
    assert "format='csv' is unknown; choose one of minari, npz, ogbench" in capsys.readouterr().err
    assert main(["train", "point_u_maze", *flags(), "--dataset=b.npz"]) == 2
    assert "and dataset='b.npz' exclude each other" in capsys.readouterr().err


# ---- Recording ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    kl.train(config=small_config(), run_dir=path, progress=False)
    return path


def test_a_recording_is_what_the_policy_does(trained):
    data = record(trained, episodes=3)
    assert (data.episodes, data.steps, data.environment) == (3, 60, "point_u_maze")
    policy = kl.load(trained)
    np.testing.assert_allclose(data.action[:20], policy(data.observation[:20], data.desired_goal[:20]), atol=1e-5)
    np.testing.assert_array_equal(data.achieved_goal, data.observation[:, :2])
    buffer = data.to_buffer()
    assert not np.asarray(buffer.terminated).any()


def test_the_same_arguments_give_the_same_data_and_noise_gives_others(trained):
    plain, noisy = record(trained, episodes=3), record(trained, episodes=3, how=Exploring(noise=0.3))
    again = record(trained, episodes=3)
    for name in ("observation", "action", "desired_goal"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(again, name))
    np.testing.assert_array_equal(plain.observation[0], noisy.observation[0])
    assert np.abs(plain.action[0] - noisy.action[0]).max() > 1e-3
    assert np.abs(noisy.action).max() <= 1.0
    other = record(trained, episodes=3, seed=1)
    assert not np.array_equal(plain.observation[0], other.observation[0])


def test_held_actions_last(wandering):
    changes = (np.diff(wandering.action[:200], axis=0) != 0).any(axis=1)[:199]
    assert 0.08 < changes.mean() < 0.35  # a fifth


def test_steps_that_diverge_are_left_out():
    data = record("point_u_maze", episodes=1, how=Exploring("random"))
    from kilolayer.training.recording import Recorded

    def rows(array):
        return np.repeat(array[:4, None], 3, axis=1)

    alive = np.array([[True, True, True], [True, True, False], [True, True, False], [True, False, False]])
    diverged = np.zeros_like(alive)
    diverged[2, 1] = diverged[0, 2] = True
    failed = np.zeros_like(alive)
    failed[3, 0] = True
    fields = {name: rows(getattr(data, name)) for name in ("observation", "achieved_goal", "desired_goal", "action")}
    following = {f"next_{name}": value + 1 for name, value in fields.items() if name != "action"}
    parts = _episodes(Recorded(**fields, **following, failed=failed, diverged=diverged, alive=alive), 3)
    assert [len(part["last"]) for part in parts] == [5, 3]  # of the third, nothing is left
    assert [bool(part["failed"][-1]) for part in parts] == [True, False]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"actions": "human"}, "actions='human' is unknown; choose one of policy, random"),
        ({"noise": -1.0}, "noise=-1.0 must not be negative"),
        ({"noise": float("nan")}, "noise=nan must not be negative, and finite"),
        ({"hold": 0}, "hold=0 must be at least 1"),
        ({"hold": 5}, "hold=5 has no effect with a policy"),
        ({"actions": "random", "noise": 0.1}, "noise=0.1 has no effect with actions='random'"),
        ({"actions": "random", "mode": "stochastic"}, "mode='stochastic' has no effect with actions='random'"),
    ],
)
def test_what_makes_no_sense_to_record_is_refused(no_type_checks, how, message):
    with pytest.raises(ConfigurationError, match=message):
        Exploring(**how)


def test_a_run_or_an_environment_is_recorded(trained):
    with pytest.raises(RunError, match="is not a run directory"):
        record("point_u_maze", episodes=1)
    with pytest.raises(ConfigurationError, match="checkpoint=3 has no effect with actions='random'"):
        record("point_u_maze", episodes=1, how=Exploring("random"), checkpoint=3)
    with pytest.raises(ConfigurationError, match="episodes=0 must be at least 1"):
        record(trained, episodes=0)
    assert record(trained, episodes=1, how=Exploring("random")).steps == 20  # as long as the run's


# ---- Beginning with another run ----------------------------------------------------------------------------


def test_networks_are_those_of_the_other_run_and_collecting_goes_on(whole, tmp_path):
    settings = {name: value for name, value in small_config().to_dict().items() if name in SMALL_COLLECTING}
    config = default_config("point_u_maze", init_from=str(whole), **settings)
    assert (config.width, config.agent_settings.behaviour_cloning) == (16, 0.0)
    from kilolayer.training.seed_run import SeedRun, first_states

    directory = RunDirectory.create(tmp_path / "first", config)
    run = SeedRun(directory, config)
    (state,) = first_states(Setup.build(config), [run], resumed=False)
    run.close()
    learnt = final_state(whole).agent
    assert_same_state(state.agent.actor, learnt.actor)
    assert_same_state(state.agent.critic, learnt.critic)
    assert int(state.buffer.num_steps) == 0
    assert float(jnp.abs(jax.tree.leaves(state.agent.optimizers["actor"])[1]).max()) == 0.0  # begins anew
    result = kl.train(config=config, run_dir=tmp_path / "run", progress=False)
    assert result.clocks == Clocks(400, 24)
    expected = final_state(tmp_path / "run")
    kl.train(resume=tmp_path / "run", checkpoint=200, progress=False)
    assert_same_state(final_state(tmp_path / "run"), expected)


SMALL_COLLECTING = (
    *("batch_size", "num_envs", "unroll_length", "gradient_steps_per_unroll", "replay_capacity", "min_replay"),
    *("total_env_steps", "num_evals", "num_eval_envs", "episode_length"),
)


@pytest.mark.slow
def test_the_data_come_along_if_asked_for(whole, wandering, tmp_path):
    settings = {name: value for name, value in small_config().to_dict().items() if name in SMALL_COLLECTING}
    settings |= {"replay_capacity": 400, "total_env_steps": 160}
    kl.train("point_u_maze", init_from=str(whole), init_data=True, run_dir=tmp_path / "run", progress=False, **settings)
    buffer = final_state(tmp_path / "run").buffer
    share = wandering.rows // 4
    np.testing.assert_array_equal(buffer.observation[:share, 0], wandering.observation[:share])
    assert int(buffer.num_steps) == share + 40
    assert (np.asarray(buffer.episode[share]) > np.asarray(buffer.episode[share - 1])).all()  # nothing goes on


def test_poured_steps_stay_in_their_episodes():
    source = numbered((5, 7, 4)).to_buffer()
    target = poured(source, empty_buffer(20, 3, 3, 2, 2))
    assert int(target.num_steps) == 5
    for ring in range(3):
        rows = np.asarray(target.observation[:5, ring])
        for time in range(5):
            end = int(target.last_time[int(target.episode[time, ring]), ring])
            assert (rows[time : end + 1, 0] == rows[time, 0]).all()
    small = poured(source, empty_buffer(2, 3, 3, 2, 2))
    np.testing.assert_array_equal(small.observation[1, 0], target.observation[4, 0])  # the latest of each part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_from": "nowhere"}, "nowhere is not a run directory"),
        ({"width": 8}, "width=8 differs from that of init_from=.*, which has 16; leave width out"),
        ({"agent": "gcbc"}, "agent='gcbc' differs from that of init_from=.*, which has 'crl'"),
        ({"crl": {"representation_size": 8}}, "its networks do not fit this run's: critic.phi"),
        ({"collector_depth": 4}, "init_from=.* and collector_depth=4 exclude each other"),
        ({"init_data": True, "num_envs": 2000, "min_replay": 0, "total_env_steps": 40_000}, "fewer than num_envs=2000"),
    ],
    ids=str,
)
def test_what_cannot_be_begun_with_is_refused(whole, tmp_path, settings, message):
    own = {name: value for name, value in small_config().to_dict().items() if name in SMALL_COLLECTING}
    with pytest.raises((ConfigurationError, RunError), match=message) as error:
        kl.train(**{"env": "point_u_maze", "init_from": str(whole)} | own | settings, run_dir=tmp_path / "run")
    assert "\n" not in str(error.value)


def test_a_run_without_a_checkpoint_has_nothing_to_begin_with(whole, tmp_path):
    RunDirectory.create(tmp_path / "empty", RunDirectory.open(whole).config())
    assert steps_in(tmp_path / "empty" / "checkpoints") == []
    with pytest.raises(RunError, match="checkpoint"):
        kl.train("point_u_maze", init_from=str(tmp_path / "empty"), run_dir=tmp_path / "run")


def test_a_plan_knows_the_size_of_the_data(file, wandering):
    config, data = with_dataset(default_config("point_u_maze", dataset=str(file)))
    assert isinstance(data, ReplayBuffer)
    assert config.replay_capacity == wandering.rows
    same = read_dataset(str(file))
    np.testing.assert_array_equal(same.observation, wandering.observation)
