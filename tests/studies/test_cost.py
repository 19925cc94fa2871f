"""The study of cost: what a run took by its own clock, what its program takes, and scores that not every seed has."""

import dataclasses
import json

import numpy as np
import pytest

from kilolayer.bench.flops import gradient_step_flops
from kilolayer.bench.memory import learn_memory
from kilolayer.studies import STUDIES, run_study, table, write_results
from kilolayer.studies.core.budgets import by_depth
from kilolayer.studies.core.results import data_tables, number_text, score_text
from kilolayer.studies.core.study import Measured
from kilolayer.studies.cost import COST, MIB, PANELS, pace, seconds_to
from kilolayer.training import Setup
from small_runs import SMALL

LABELS = {"task": "reacher"}
CHANGES = {**{name: value for name, value in SMALL.items() if name != "depth"}, "total_env_steps": 240, "num_evals": 3}


def row(env_steps, gradient_steps, seconds, eval_seconds, success=0.0):
    return {
        "env_steps": env_steps,
        "gradient_steps": gradient_steps,
        "perf/seconds": seconds,
        "perf/eval_seconds": eval_seconds,
        "eval/success_any": success,
    }


ROWS = [
    row(0, 0, 0.0, 5.0),
    row(100, 0, 6.0, 1.0),  # only collecting
    row(200, 10, 37.0, 1.0, 0.4),  # compiling: 30 s for 10 steps
    row(300, 20, 40.0, 1.0, 0.6),  # 2 s
    row(400, 30, 45.0, 1.0, 0.3),  # 4 s
]


def test_the_pace_is_the_median_of_the_stretches_without_evaluations():
    assert pace(ROWS) == (400.0, 25.0)
    assert pace(ROWS[3:]) == (400.0, 25.0)
    assert pace([*ROWS, row(500, 40, 47.0, 1.0)]) == (300.0, pytest.approx((100 / 4 + 100 / 2) / 2))


def test_without_gradient_steps_there_is_no_pace():
    assert np.isnan(pace(ROWS[:2])).all()
    assert np.isnan(pace(ROWS[:1])).all()


def test_seconds_to_a_success_are_those_from_which_it_lasts():
    assert seconds_to(0.3, ROWS) == 37.0
    assert seconds_to(0.4, ROWS[:-1]) == 37.0
    assert seconds_to(0.5, ROWS[:-1]) == 40.0
    assert np.isnan(seconds_to(0.4, ROWS))
    lucky = [row(0, 0, 0.0, 5.0, 0.9), *ROWS[1:]]
    assert seconds_to(0.3, lucky) == 37.0


def test_the_grid_is_that_of_the_depths_and_builds():
    for size in ("cpu", "gpu", "paper"):
        cases = COST.grid(size)
        assert [case.directory for case in cases] == [case.directory for case in STUDIES["depth"].grid(size)]
        for case in cases:
            if case.labels["depth"] == 4:
                Setup.build(case.config)
    assert COST.cases is by_depth


# ---- From trained runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """What tiny runs of two seeds came to."""
    (case,) = [case for case in COST.grid("cpu", changes=CHANGES) if case.labels["depth"] == 4]
    (found,) = run_study(COST, [case], (0, 1), tmp_path_factory.mktemp("cost"))
    return found


@pytest.fixture
def outcomes(shallow):
    """The same, and as if it had been trained at depth 8 too, at twice the cost."""
    deep = [
        dataclasses.replace(one, case=dataclasses.replace(one.case, labels=LABELS | {"depth": 8})) for one in shallow
    ]
    return [*shallow, *(with_scores(one, gflops=2.0 * one.score("gflops")) for one in deep)]


def with_scores(outcome, **scores):
    return dataclasses.replace(outcome, measured=Measured({**outcome.measured.scores, **scores}, outcome.measured.rows))


@pytest.mark.slow
def test_every_run_records_its_cost(shallow):
    for one in shallow:
        scores, setup = one.measured.scores, Setup.build(one.case.config)
        counts = setup.agent.parameter_counts()
        assert scores["parameters"] == sum(counts.values())
        assert scores["gflops"] == gradient_step_flops(setup) / 1e9
        assert scores["memory_mib"] > scores["scratch_mib"] > 0.0
        assert (scores["ms_per_gradient_step"], scores["env_steps_per_second"]) == pace(shallow[-1].rows)
        assert scores["seconds_per_million"] * scores["env_steps_per_second"] == pytest.approx(1e6)
        assert set(COST.metrics) - {"eval/success_any"} <= set(scores)
        (own,) = one.measured.rows
        assert own["seeds_side_by_side"] == 2
        assert own["actor_parameters"] == counts["actor"]
        assert own["seconds"] == one.rows[-1]["perf/seconds"]


@pytest.mark.slow
def test_memory_is_that_of_state_and_scratch_and_grows_with_depth(shallow):
    config = dataclasses.replace(shallow[0].case.config, depth=16)
    memory, parameters = learn_memory(Setup.build(config)), sum(Setup.build(config).agent.parameter_counts().values())
    steps, numbers = config.replay_capacity * config.num_envs, 4 + 2 + 2 + 2
    least = 4 * (3 * parameters + steps * numbers)  # Adam keeps two numbers for each parameter
    assert least < memory.state < 1.3 * least
    assert memory.peak == memory.state + memory.scratch
    less = shallow[0].measured.scores
    assert less["scratch_mib"] < memory.scratch / MIB
    assert less["memory_mib"] < memory.peak / MIB


@pytest.mark.slow
def test_the_figure_shows_every_cost_over_depth(outcomes, tmp_path):
    figure = COST.draw(outcomes)
    assert len(figure.axes) == len(PANELS) + 1
    *panels, last = figure.axes
    for axes in panels:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert "log" in type(axes.yaxis.get_major_locator()).__name__.lower()
    operations = panels[list(PANELS).index("gflops")]
    (proportion,) = [line for line in operations.lines if line.get_label() == "in proportion to depth"]
    taken = outcomes[0].score("gflops")
    np.testing.assert_allclose(proportion.get_xydata(), [(4, taken), (8, 2 * taken)])
    labels = [line.get_label() for line in last.lines]
    assert [label for label in labels if not label.startswith("_")] == ["depth 4", "depth 8"]
    assert len(last.lines[0].get_xdata()) == len(outcomes[0].rows)
    assert write_results(COST, outcomes, tmp_path).stat().st_size > 10_000
    assert len(data_tables(COST, outcomes)["measured.csv"]) == len(outcomes)


def test_a_single_depth_can_be_drawn(outcomes):
    assert len(COST.draw(outcomes[:1]).axes) == len(PANELS) + 1


def test_scores_that_some_seeds_lack_are_marked(outcomes, tmp_path):
    nan = float("nan")
    found = [
        with_scores(one, seconds_to_90=seconds) for one, seconds in zip(outcomes, (12.0, nan, nan, nan), strict=True)
    ]
    some, none = table(COST, found)
    assert (some["seconds_to_90"], some["seconds_to_90_seeds"]) == (12.0, 1)
    assert np.isnan(none["seconds_to_90"])
    assert none["seconds_to_90_seeds"] == 0
    assert "seconds_to_90_iqm" not in some | none
    assert "gflops_seeds" not in some
    assert score_text(some, "seconds_to_90") == "12.0 (1 of 2 seeds)"
    assert score_text(none, "seconds_to_90") == "-"
    write_results(COST, found, tmp_path)
    assert "12.0; -" in (tmp_path / "index.html").read_text()
    described = json.loads((tmp_path / "study.json").read_text())
    assert described["table"][0]["seconds_to_90"] == 12.0


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (0.25, None, "0.25"),
        (12.34, None, "12.3"),
        (1234567.0, None, "1,234,567"),
        (float("nan"), None, "-"),
        (1.6, 2000.0, "2"),
        (0.5, 123.0, "0.5"),
    ],
)
def test_numbers_have_the_digits_that_suit_their_size(value, like, text):
    assert number_text(value, like=like) == text
