"""Runs of PPO: every unroll is learnt from once, right after it was collected, whatever the sizes."""

import json

import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.runs import RunDirectory, default_config
from small_runs import SMALL

SIZES = {name: SMALL[name] for name in ("width", "num_envs", "episode_length", "unroll_length", "total_env_steps")}


@pytest.mark.slow
def test_every_unroll_is_learnt_from_once(tmp_path):
    result = kl.train(
        "point_u_maze",
        agent="ppo",
        run_dir=tmp_path / "run",
        progress=False,
        diagnostics=True,
        batch_size=12,
        num_evals=2,
        num_eval_envs=4,
        **SIZES | {"total_env_steps": 120},
    )
    # Three unrolls of 40 steps, each in 4 epochs of 3 minibatches of 12.
    assert result.metrics["gradient_steps"] == 3 * 4 * 3
    assert result.metrics["train/kl"] >= 0.0
    rows = RunDirectory.open(tmp_path / "run").diagnostics()
    assert [row["env_steps"] for row in rows] == [80, 120]  # there is nothing to look at before the first unroll


def test_the_preset_follows_the_sizes_asked_for():
    config = default_config("point_u_maze", agent="ppo", unroll_length=30, num_envs=10, batch_size=64)
    assert (config.replay_capacity, config.min_replay, config.batch_size) == (30, 0, 64)
    assert config.gradient_steps_per_unroll == 4 * (300 // 64)
    assert config.prefill_env_steps == 0
    assert default_config("point_u_maze", agent="ppo", unroll_length=2, num_envs=10).batch_size == 20
    asked = default_config("point_u_maze", agent="ppo", gradient_steps_per_unroll=7, replay_capacity=99)
    assert (asked.gradient_steps_per_unroll, asked.replay_capacity) == (7, 99)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_envs": 0}, "num_envs=0 must be at least 1"),
        ({"unroll_length": "long"}, "unroll_length='long'"),
        ({"min_replay": -1}, "min_replay=-1 must be at least 0"),
        ({"replay_capacity": 9, "unroll_length": 10}, "unroll_length=10 does not fit replay_capacity=9"),
        ({"sac": {"discount": 0.5}}, "sac.discount=0.5 has no effect with agent='ppo'"),
    ],
)
def test_invalid_settings_are_refused_by_name(settings, words):
    with pytest.raises(ConfigurationError) as error:
        default_config("point_u_maze", agent="ppo", **settings)
    assert words in str(error.value)


@pytest.mark.slow
def test_the_preset_follows_flags_too(capsys):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    assert main(["train", "point_u_maze", "--agent=ppo", "--batch-size=20", *flags, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["env_steps"], plan["gradient_steps"]) == (400, 10 * 4 * 2)
