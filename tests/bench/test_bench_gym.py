"""`kilolayer bench gym`: both ways to step an environment take turns."""

import pytest

from kilolayer.bench import gym as bench
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError


def test_both_sides_step_and_the_ratio_is_that_of_each_round(monkeypatch, capsys):
    seconds = iter([1.0, 2.0, 3.0, 4.0, 2.0, 8.0])

    def timed(run):
        run()
        return next(seconds)

    monkeypatch.setattr(bench, "seconds_of", timed)
    assert main(["bench", "gym", "--envs=point_u_maze", "--num-envs=3", "--num-steps=4", "--rounds=3"]) == 0
    headings, row = capsys.readouterr().out.splitlines()
    assert headings.split()[0] == "task"
    assert row.split() == ["point_u_maze", "3", "6", "3", "50%"]  # 12 steps in 2 s and in 4 s; ratios 0.5, 0.75, 0.25


def test_an_unknown_environment_and_a_size_of_zero_are_refused_at_the_call():
    with pytest.raises(ConfigurationError, match="did you mean reacher"):
        bench.bench_gym(["reachr"])
    with pytest.raises(ConfigurationError, match="num_steps=0 must be at least 1"):
        bench.bench_gym(num_steps=0)
