"""A pruned policy as a run: it acts as the masked one, goes on by distillation, and bad input leaves nothing."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.report.pruning import pruning_rows, write_pruning
from kilolayer.runs import RunDirectory
from kilolayer.training.pruning import actor_of, rank
from small_runs import assert_same_state, final_state, small_config

FEW = {"episodes": 4, "states": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    kl.train(config=small_config(depth=8, num_evals=1), run_dir=path, progress=False)
    return path


@pytest.fixture(scope="module")
def pruned(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "run"
    kl.prune(run, 1, run_dir=path, progress=False, settings={"total_env_steps": 400, "num_evals": 1}, **FEW)
    return path


def test_a_pruned_run_acts_with_the_blocks_that_stay(run, pruned):
    pruning = rank(run, **FEW)
    kept = RunDirectory.open(pruned).config().agent_settings.kept_blocks
    assert kept == pruning.order.kept(1)
    policy, inputs = kl.load(pruned), np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    left = actor_of(pruning.policy).keep_blocks(kept)
    expected = np.tanh(left(jnp.asarray(inputs))[:, :2])
    np.testing.assert_allclose(policy(inputs[:, :4], inputs[:, 4:]), expected, atol=1e-6)
    assert policy.agent.actor(policy.agent_state).depth == 4
    (row,) = RunDirectory.open(pruned).metrics()
    assert row["env_steps"] == 0
    untrained = kl.load(pruned, checkpoint="untrained")
    np.testing.assert_allclose(untrained(inputs[:, :4], inputs[:, 4:]), policy(inputs[:, :4], inputs[:, 4:]))


def test_a_pruned_run_is_fine_tuned_at_once_or_by_resuming_to_the_same_bits(run, pruned, tmp_path):
    settings = {"num_evals": 1}
    kl.prune(run, 1, run_dir=tmp_path / "at_once", fine_tune=400, progress=False, settings=settings, **FEW)
    result = kl.train(resume=pruned, progress=False)
    assert result.env_steps == 400
    at_once, resumed = final_state(tmp_path / "at_once"), final_state(pruned)
    assert_same_state(at_once, resumed)


def test_table_and_figure_have_a_row_for_each_number_of_blocks(run, tmp_path):
    pruning = rank(run, **FEW)
    rows = list(pruning_rows(run, pruning, episodes=4, calls=0))
    table, figure = write_pruning(tmp_path / "new", pruning, rows)
    with table.open() as file:
        first, second = csv.DictReader(file)
    assert (first["blocks"], first["depth"], first["action_error"], first["left_out"]) == ("2", "8", "0.0", "")
    assert (second["blocks"], second["left_out"]) == ("1", str(pruning.order.left_out[0]))
    assert float(second["action_error"]) == pruning.order.errors[0] > 0.0
    assert figure.stat().st_size > 10_000


@pytest.mark.slow
def test_the_command_measures_time_and_prints_json(run, tmp_path, capsys):
    flags = ["--episodes=4", "--states=16", "--calls=10", "--json", "--quiet", f"--results={tmp_path}"]
    assert main(["prune", str(run), *flags]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["blocks"] for row in rows] == [2, 1]
    assert all(row["act_seconds"] > 0.0 for row in rows)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--keep=0", "--run-dir=NEW"], "keep=0 must be from 1 to 2"),
        (["--keep=2", "--run-dir=NEW"], "leaves all blocks"),
        (["--keep=1", "--run-dir=NEW", "--fine-tune=7"], "total_env_steps=7"),
        (["--keep=1", "--points=3"], "leave it out with --keep"),
        (["--fine-tune=400"], "--fine-tune needs --keep"),
        (["--states=0"], "states=0 must be at least 1"),
        (["--results=/proc/none"], "/proc/none cannot be written"),
        (["--checkpoint=7"], "has no checkpoint 7"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert main(["prune", str(run), "--quiet", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())
