"""Runs that learn from given data: nothing is collected, and gradient steps are the only clock."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert
from kilolayer.runs import Checkpoints, Clocks, RunDirectory, default_config
from kilolayer.training import NoCollector, Setup, init_state
from small_runs import SMALL, assert_same_state, final_state, flags

CORRIDOR = "#######\n#R...G#\n#######\n"
COLLECTING = ("num_envs", "unroll_length", "replay_capacity", "min_replay", "total_env_steps")
OFFLINE = {name: value for name, value in SMALL.items() if name not in COLLECTING} | {"total_gradient_steps": 12}


def random_data(env: str, num_envs: int, steps: int, **settings) -> ReplayBuffer:
    """Return a full buffer of steps with actions drawn uniformly."""
    environment = Setup.build(default_config(env, **settings)).environment

    def step(state, key):
        action = jax.random.uniform(key, (num_envs, environment.action_size), minval=-1.0, maxval=1.0)
        next_state, result = environment.step(state, action)
        seen = (state.observation, state.achieved_goal, state.desired_goal, action)
        return next_state, Trajectory(*seen, result.terminated, result.done, result.diverged)

    reset_key, act_key = jax.random.split(jax.random.key(7))
    start = environment.reset(reset_key, num_envs)
    _, trajectory = jax.jit(lambda start, keys: jax.lax.scan(step, start, keys))(
        start, jax.random.split(act_key, steps)
    )
    sizes = environment.observation_size, environment.goal_size, environment.action_size
    return insert(empty_buffer(steps, num_envs, *sizes), trajectory)


@pytest.fixture(scope="module")
def data() -> ReplayBuffer:
    return random_data("point_u_maze", 4, 60, episode_length=20)


def train(path, data, **settings):
    return kl.train("point_u_maze", data=data, run_dir=path, progress=False, **OFFLINE | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """A run of four rounds that was never stopped, with all its checkpoints."""
    path = tmp_path_factory.mktemp("given") / "run"
    before = jax.tree.map(np.asarray, data)
    result = train(path, data, num_evals=4, checkpoints_to_keep=9, diagnostics=True)
    assert (result.clocks, result.stopped_by) == (Clocks(0, 12), None)
    assert_same_state(before, data)  # the data still belong to the caller
    return path


@pytest.mark.slow
def test_an_agent_learns_from_random_data(tmp_path):
    data = random_data(CORRIDOR, 32, 600, episode_length=60)
    result = kl.train(
        CORRIDOR,
        data=data,
        run_dir=tmp_path / "run",
        progress=False,
        width=64,
        batch_size=128,
        episode_length=60,
        gradient_steps_per_unroll=100,
        total_gradient_steps=2000,
        num_evals=2,
        num_eval_envs=64,
    )
    first, *_, last = result.run.metrics()
    assert first["eval/success_any"] <= 0.3
    assert last["eval/success_any"] >= 0.9
    assert (last["env_steps"], last["gradient_steps"]) == (0, 2000)


def test_only_gradient_steps_count_and_name_checkpoints(whole, data):
    run = RunDirectory.open(whole)
    rows = [(row["env_steps"], row["gradient_steps"]) for row in run.metrics()]
    assert rows == [(0, 0), (0, 3), (0, 6), (0, 9), (0, 12)]
    assert [row["gradient_steps"] for row in run.diagnostics()] == [0, 3, 6, 9, 12]
    assert Checkpoints(run.checkpoints).steps() == [3, 6, 9, 12]
    state = final_state(whole)
    assert (state.clocks, state.collector) == (Clocks(0, 12), None)
    assert_same_state(state.buffer, data)
    config = run.config()
    assert (config.num_envs, config.replay_capacity, config.total_env_steps) == (4, 60, 0)
    assert isinstance(Setup.build(config).collector, NoCollector)
    evaluated = [row["eval/return"] for row in run.metrics()[1:]]
    assert len(set(evaluated)) == 4  # each evaluation draws other episodes


@pytest.mark.slow
def test_it_resumes_bit_for_bit_with_the_data_and_without(whole, data, tmp_path):
    for name, again in (("with", data), ("without", None)):
        path = tmp_path / name
        train(path, data, total_gradient_steps=6, num_evals=2, diagnostics=True)
        result = kl.train(resume=path, data=again, total_gradient_steps=12, progress=False)
        assert result.gradient_steps == 12
        assert_same_state(final_state(path), final_state(whole))
    expected, evaluations = final_state(whole), RunDirectory.open(whole).metrics()
    kl.train(resume=whole, checkpoint=6, progress=False)
    assert_same_state(final_state(whole), expected)
    again = RunDirectory.open(whole).metrics()
    assert [row["eval/return"] for row in again] == [row["eval/return"] for row in evaluations]


def test_other_data_do_not_resume_it(whole, data):
    other = dataclasses.replace(data, action=data.action + 1e-3)
    with pytest.raises(kl.ConfigurationError, match="data are not those that checkpoint 12 learned from"):
        kl.train(resume=whole, data=other, progress=False)


@pytest.mark.slow
def test_without_a_checkpoint_the_data_are_needed_again(whole, data, tmp_path):
    RunDirectory.create(tmp_path / "run", RunDirectory.open(whole).config())
    with pytest.raises(kl.ConfigurationError, match="data is missing"):
        kl.train(resume=tmp_path / "run", progress=False)
    kl.train(resume=tmp_path / "run", data=data, progress=False)
    assert_same_state(final_state(tmp_path / "run"), final_state(whole))


def test_the_policy_is_loaded_and_evaluated(whole, capsys):
    assert kl.load(whole, checkpoint="best")(np.zeros((3, 4)), np.ones((3, 2))).shape == (3, 2)
    assert main(["eval", str(whole), "--episodes=2", "--checkpoint=6", "--json"]) == 0


@pytest.mark.parametrize("mode", ["threads", pytest.param("vmap", marks=pytest.mark.slow)])
def test_several_seeds_learn_from_the_same_data(whole, data, tmp_path, mode):
    results = kl.train_seeds(
        "point_u_maze", seeds=(0, 1), mode=mode, data=data, run_dir=tmp_path, progress=False, **OFFLINE
    )
    assert [result.clocks for result in results] == [Clocks(0, 12)] * 2
    first, second = (final_state(tmp_path / f"seed-{seed}") for seed in (0, 1))
    assert_same_state(first.buffer, data)
    assert not np.array_equal(first.agent.actor.head.weight, second.agent.actor.head.weight)
    if mode == "threads":
        assert_same_state(first, final_state(whole))


@pytest.mark.slow
def test_networks_grow_by_gradient_steps(data, tmp_path):
    settings = {"depth": 8, "grow": "4@0,8@5 gradient_steps", "checkpoints_to_keep": 9, "num_evals": 4}
    train(tmp_path / "run", data, **settings)
    assert [row["train/depth"] for row in RunDirectory.open(tmp_path / "run").metrics()] == [4, 4, 8, 8, 8]
    expected = final_state(tmp_path / "run")
    for checkpoint in (3, 6):
        kl.train(resume=tmp_path / "run", checkpoint=checkpoint, progress=False)
        assert_same_state(final_state(tmp_path / "run"), expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"agent": "ppo"},
            ["agent='ppo' learns only from what its own policy", "use agent=c_learning or crl"],
        ),
        ({"total_env_steps": 400}, ["total_env_steps=400 and data exclude each other", "leave total_env_steps out"]),
        ({"num_envs": 8}, ["num_envs=8 and data exclude each other: the data have num_envs=4"]),
        ({"replay_capacity": 50}, ["the data have replay_capacity=60"]),
        ({"unroll_length": 10}, ["unroll_length=10 has no effect with data"]),
        ({"min_replay": 20}, ["min_replay=20 has no effect with data"]),
        ({"collector_depth": 4}, ["collector_depth=4 has no effect with data"]),
        ({"total_gradient_steps": None}, ["total_gradient_steps is missing"]),
        ({"depth": 8, "grow": "4@0,8@200"}, ["grow: 8@200: 200 env_steps", "count gradient_steps"]),
        ({"eval_every": "100"}, ["eval_every='100'", "count gradient_steps"]),
        ({"batch_size": 241}, ["batch_size=241", "at most 240"]),
        ({"env": "reacher"}, ["data.observation is float32[60, 4, 4]", "needs float32[60, 4, 10]"]),
    ],
)
def test_impossible_combinations_are_refused_in_one_line(data, tmp_path, settings, words):
    with pytest.raises(kl.ConfigurationError) as error:
        kl.train(**{"env": "point_u_maze"} | OFFLINE | settings, data=data, run_dir=tmp_path / "run", progress=False)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_data_and_configuration_must_fit(whole, data, tmp_path):
    config = RunDirectory.open(whole).config()
    arguments = {"run_dir": tmp_path / "run", "progress": False}
    with pytest.raises(kl.ConfigurationError, match="total_env_steps=400 and data exclude each other"):
        kl.train(config=dataclasses.replace(config, total_env_steps=400, min_replay=20), data=data, **arguments)
    with pytest.raises(kl.ConfigurationError, match=r"pass data to kilolayer\.train"):
        kl.train(config=config, **arguments)
    empty = dataclasses.replace(data, num_steps=jnp.zeros((), jnp.int32))
    with pytest.raises(kl.ConfigurationError, match="data hold no steps"):
        kl.train(config=config, data=empty, **arguments)
    with pytest.raises(kl.ConfigurationError, match="total_env_steps=400 cannot replace 0"):
        kl.train(resume=whole, total_env_steps=400, progress=False)


def test_the_command_line_says_where_data_come_from(capsys):
    arguments = ["train", "point_u_maze", *flags(total_env_steps=0), "--total-gradient-steps=6"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("kilolayer: error: total_env_steps=0 collects nothing to learn from: pass data to kilolayer.train")
    assert main([*arguments, "--dry-run", "--json"]) == 0


def test_a_state_begins_with_a_copy_of_the_data(whole, data):
    state = init_state(Setup.build(RunDirectory.open(whole).config()), 0, data)
    assert_same_state(state.buffer, data)
    for mine, given in zip(jax.tree.leaves(state.buffer), jax.tree.leaves(data), strict=True):
        assert mine is not given
        assert mine.unsafe_buffer_pointer() != given.unsafe_buffer_pointer()
