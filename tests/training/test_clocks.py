"""Runs by two clocks: evaluations, checkpoints, growth and the end are set by env steps or by gradient steps."""

import json

import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.runs import Checkpoints, Clocks, RunDirectory
from small_runs import assert_same_state, final_state, flags, small_config

# A round collects 40 env steps; from the third one on, it takes 3 gradient steps. The run ends at 400 and 24.


def clocks_of(path) -> list[Clocks]:
    return [Clocks.of_row(row) for row in RunDirectory.open(path).metrics()]


def train(path, **settings):
    return kl.train(config=small_config(**settings), run_dir=path, progress=False)


def without_times(path) -> str:
    rows = RunDirectory.open(path).metrics()
    return json.dumps([{name: row[name] for name in row if not name.startswith("perf/")} for row in rows])


def test_evaluations_and_checkpoints_follow_env_steps(tmp_path):
    train(tmp_path / "run", eval_every="130", checkpoint_every="80", checkpoints_to_keep=30)
    # The first rounds that reach 130, 260 and 390, and the end.
    assert clocks_of(tmp_path / "run") == [Clocks(0, 0), Clocks(160, 6), Clocks(280, 15), Clocks(400, 24)]
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [80, 160, 240, 280, 320, 400]


def test_evaluations_and_checkpoints_follow_gradient_steps(tmp_path):
    settings = {"eval_every": "10 gradient_steps", "checkpoint_every": "6 gradient_steps", "checkpoints_to_keep": 30}
    train(tmp_path / "run", **settings)
    assert clocks_of(tmp_path / "run") == [Clocks(0, 0), Clocks(240, 12), Clocks(360, 21), Clocks(400, 24)]
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [160, 240, 320, 360, 400]


def test_gradient_steps_end_a_run_and_more_of_them_resume_it(tmp_path):
    path = tmp_path / "run"
    result = train(path, total_gradient_steps=8, num_evals=1)
    assert (result.clocks, result.stopped_by) == (Clocks(200, 9), None)
    result = kl.train(resume=path, total_gradient_steps=20, progress=False)
    assert result.clocks == Clocks(360, 21)
    train(tmp_path / "whole", total_gradient_steps=20, num_evals=1)
    assert_same_state(final_state(path), final_state(tmp_path / "whole"))


def test_env_steps_end_a_run_whose_gradient_steps_would_end_later(tmp_path):
    assert train(tmp_path / "run", total_gradient_steps=1000, num_evals=1).clocks == Clocks(400, 24)


@pytest.mark.slow
def test_networks_grow_by_gradient_steps_and_resume_bit_for_bit(tmp_path):
    path = tmp_path / "run"
    settings = {"depth": 8, "grow": "4@0,8@8 gradient_steps", "checkpoint_every": "40", "checkpoints_to_keep": 30}
    train(path, total_env_steps=280, num_evals=7, **settings)
    depths = {row["env_steps"]: row["train/depth"] for row in RunDirectory.open(path).metrics()}
    assert depths == {0: 4, 40: 4, 80: 4, 120: 4, 160: 4, 200: 8, 240: 8, 280: 8}
    assert kl.load(path, checkpoint=160).agent_state.actor.depth == 4
    assert kl.load(path, checkpoint=200).agent_state.actor.depth == 8
    expected, rows = final_state(path), without_times(path)
    for checkpoint in (160, 200):
        kl.train(resume=path, checkpoint=checkpoint, progress=False)
        assert_same_state(final_state(path), expected)
        assert without_times(path) == rows


def test_a_checkpoint_holds_both_clocks(tmp_path):
    train(tmp_path / "run", num_evals=1)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.clocks(400) == Clocks(400, 24) == final_state(tmp_path / "run").clocks
    for file in (tmp_path / "run" / "checkpoints" / "400" / "clocks").iterdir():
        file.write_text("{}")
    with pytest.raises(kl.RunError, match=r"checkpoints/400 is damaged \(KeyError: 'env_steps'\)"):
        checkpoints.clocks(400)


def test_the_command_line_sets_the_clocks(tmp_path, capsys):
    arguments = ["--total-gradient-steps=9", "--eval-every=6 gradient_steps", "--checkpoint-every=120"]
    assert main(["train", "point_u_maze", f"--run-dir={tmp_path / 'run'}", "--quiet", *flags(), *arguments]) == 0
    assert "finished 200 env steps" in capsys.readouterr().out
    assert clocks_of(tmp_path / "run") == [Clocks(0, 0), Clocks(160, 6), Clocks(200, 9)]
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [120, 160, 200]
    assert main(["train", "point_u_maze", *flags(), "--eval-every=1M"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kilolayer: error: eval_every='1M': 1,000,000 env_steps are never reached")
