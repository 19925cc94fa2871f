"""`kilolayer bench seeds`: three modes of the same training, each measured in every round."""

import pytest

from kilolayer.bench import seeds as bench
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from small_runs import SMALL


@pytest.mark.slow
def test_every_mode_trains_and_steps(monkeypatch):
    settings = {name: value for name, value in SMALL.items() if name not in ("total_env_steps", "num_evals")}
    monkeypatch.setitem(bench.CASES, "small", {"env": "point_u_maze", **settings})
    config = bench.short_config(bench.CASES["small"])
    assert config.total_env_steps == config.prefill_env_steps + bench.LEARNING_STEPS * config.env_steps_per_unroll
    for mode in bench.MODES:
        assert bench.time_training(mode, config, range(2)) > 0.0
        assert bench.time_step(mode, config, range(2)) > 0.0


def test_the_ratios_are_those_of_each_round(monkeypatch, capsys):
    """One after another takes 8 and 6 seconds, threads 4 and 2, vmap 8 and 3."""
    seconds = {"alone": [8.0, 6.0], "threads": [4.0, 2.0], "vmap": [8.0, 3.0]}
    asked = []

    def measured(case, mode, seeds):
        asked.append(mode)
        number = asked.count(mode) - 1
        return {"train_seconds": seconds[mode][number], "step_seconds": 2.0 * seconds[mode][number]}

    monkeypatch.setattr(bench, "_measure_apart", measured)
    log = []
    rows = list(bench.bench_seeds(["point-4x64"], seeds=(0, 1), rounds=2, log=log.append))
    assert asked == [*bench.MODES, *bench.MODES]  # in turn, round by round
    assert log[0] == "point-4x64: alone, round 1 of 2"
    assert [row.mode for row in rows] == list(bench.MODES)
    assert [row.train_seconds for row in rows] == [7.0, 3.0, 5.5]
    assert [row.train_seconds_ratio for row in rows] == [1.0, 2.5, 1.5]
    assert [row.step_seconds_ratio for row in rows] == [1.0, 2.5, 1.5]
    asked.clear()
    assert main(["bench", "seeds", "--cases=point-4x64", "--rounds=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["mode", *bench.MODES]


def test_the_whole_rounds_before_ctrl_c_are_not_lost(monkeypatch):
    asked = []

    def measured(case, mode, seeds):
        asked.append(mode)
        if len(asked) == len(bench.MODES) + 2:
            raise KeyboardInterrupt
        return {"train_seconds": 1.0, "step_seconds": 1.0}

    monkeypatch.setattr(bench, "_measure_apart", measured)
    rows = bench.bench_seeds(["point-4x64"], seeds=(0, 1), rounds=2)
    assert [len(next(rows).rounds) for _ in bench.MODES] == [1, 1, 1]
    with pytest.raises(KeyboardInterrupt):
        next(rows)


@pytest.mark.slow
def test_a_mode_is_measured_in_a_process_of_its_own():
    found = bench._measure_apart("point-4x64", "threads", (0, 1))
    assert set(found) == {"train_seconds", "step_seconds"}
    assert 0.0 < found["step_seconds"] < found["train_seconds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cases": ["point-4x63"]}, "case='point-4x63' is unknown; did you mean point-4x64"),
        ({"seeds": ()}, "seeds holds 0 seeds; it must be 1 to 1024"),
        ({"seeds": (3, 3)}, "seeds: 3 appears twice"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
    ],
)
def test_invalid_options_are_refused_at_the_call(options, message):
    with pytest.raises(ConfigurationError, match=message):
        bench.bench_seeds(**options)
