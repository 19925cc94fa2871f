"""Runs on environments of Gymnasium: trained, resumed, evaluated, reported and filmed."""

import json

import jax
import numpy as np
import pytest

import kilolayer as kl
import tiny_goal_env
from kilolayer.cli.main import main
from kilolayer.runs import RunDirectory
from kilolayer.training.step import begin_again
from small_runs import SMALL, assert_same_state, final_state

ENV = "gym:TinyReach-v0"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("gym") / "run"
    settings = SMALL | {"total_env_steps": 200, "min_replay": 10}
    kl.train(ENV, run_dir=path, progress=False, **settings)
    return path


def test_a_run_resumes_with_all_but_the_episodes(run, capfd):
    before = final_state(run)
    assert np.asarray(before.collector.episode_step).tolist() == [10] * 4
    state = begin_again(setup_of(run), before, 0)
    assert_same_state(state.agent, before.agent)
    np.testing.assert_array_equal(state.buffer.episode, before.buffer.episode)
    assert (np.asarray(state.buffer.open_episode) == np.asarray(before.buffer.open_episode) + 1).all()
    assert np.asarray(state.collector.episode_step).tolist() == [0] * 4
    assert (np.asarray(state.collector.observation) != np.asarray(before.collector.observation)).any()

    result = kl.train(resume=run, total_env_steps=280)
    assert result.env_steps == 280
    assert "cannot be saved in the middle of an episode" in capfd.readouterr().err
    after = final_state(run)
    first = np.asarray(after.buffer.episode)[int(before.buffer.num_steps) % after.buffer.capacity]
    assert (first == np.asarray(before.buffer.open_episode) + 1).all()


def setup_of(run):
    from kilolayer.training import Setup

    return Setup.build(RunDirectory.open(run).config())


def test_a_run_is_evaluated_reported_and_filmed(run, capsys):
    assert main(["eval", str(run), "--episodes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["eval/episode_length"] == 20.0
    assert main(["report", str(run)]) == 0
    assert main(["render", str(run), "--episodes", "2", "--quiet"]) == 0
    assert (run / "render" / "episodes.mp4").stat().st_size > 0
    for arguments, words in (
        (["--no-video"], "has no 3-D page"),
        (["--camera", "top"], "draws itself"),
        ([str(run), "--side-by-side"], "one by one"),
    ):
        capsys.readouterr()
        assert main(["render", str(run), "--episodes", "2", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_envs_show_describes_it(capsys):
    assert main(["envs", "show", ENV]) == 0
    assert "gym_sync (default)" in capsys.readouterr().out


def test_goals_are_relabelled_with_the_rewards_of_the_environment(tmp_path):
    result = kl.train(ENV, agent="sac_her", run_dir=tmp_path / "run", progress=False, **SMALL | {"num_evals": 1})
    assert result.env_steps == SMALL["total_env_steps"]
    with pytest.raises(kl.ConfigurationError, match="success"):
        kl.train("gym:TinyReachVague-v0", agent="sac_her", run_dir=tmp_path / "vague", **SMALL)


class Vague(tiny_goal_env.TinyReach):
    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)


def test_a_fault_of_the_environment_is_one_line(tmp_path, capfd):
    with pytest.raises(kl.TrainingError, match="the motor is on fire"):
        kl.train("gym:TinyReachBurns-v0", run_dir=tmp_path / "run", progress=False, **SMALL)


class Burns(tiny_goal_env.TinyReach):
    steps = 0

    def step(self, action):
        Burns.steps += 1
        if Burns.steps > 100:
            raise RuntimeError("the motor is on fire")
        return super().step(action)


def setup_module():
    import gymnasium

    gymnasium.register("TinyReachVague-v0", entry_point=Vague, max_episode_steps=20)
    gymnasium.register("TinyReachBurns-v0", entry_point=Burns, max_episode_steps=20)


@pytest.mark.slow
def test_two_seeds_have_environments_of_their_own(tmp_path):
    results = kl.train_seeds(ENV, seeds="0,1", run_dir=tmp_path / "both", progress=False, **SMALL)
    alone = kl.train(ENV, seed=1, run_dir=tmp_path / "alone", progress=False, **SMALL)
    jax.tree.map(
        np.testing.assert_array_equal,
        [final_state(one).buffer for one in (results[1].run.path,)],
        [final_state(alone.run.path).buffer],
    )


@pytest.mark.slow
def test_a_point_learns_to_reach(tmp_path):
    result = kl.train(ENV, run_dir=tmp_path / "run", progress=False, width=64, total_env_steps=40_000)
    assert result.metrics["eval/success_final"] >= 0.95
