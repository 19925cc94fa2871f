"""The study of collectors and learners: its grid, which it shares with the study of depth, and its figure."""

import types

import numpy as np
import pytest

from kilolayer.studies import STUDIES, Outcome
from kilolayer.studies.collector import ITSELF
from kilolayer.training import Setup

COLLECTOR = STUDIES["collector"]


def outcome(case, seed, level):
    """An outcome whose metrics rise to a level."""
    rows = [
        {"env_steps": step, "eval/success_any": level * step / 900, "eval/time_at_goal": 100 * level * step / 900}
        for step in (0, 300, 600, 900)
    ]
    return Outcome(case, seed, types.SimpleNamespace(metrics=lambda: rows))


def outcomes(cases):
    """Two seeds of each case; the deep learner on the deep collector's data is the best."""
    level = {4: 0.4, 16: 0.9, ITSELF: 0.9}
    return [
        outcome(case, seed, level[case.labels["collector"]] * level[case.labels["learner"]] + 0.02 * seed)
        for case in cases
        for seed in (0, 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["cpu", "gpu", "paper"])
def test_every_learner_meets_every_collector_and_builds(size):
    grid = COLLECTOR.grid(size)
    assert len({case.name for case in grid}) == len({case.directory for case in grid}) == len(grid)
    deep = 16 if size == "cpu" else 32
    for task in COLLECTOR.tasks[size]:
        own = [case for case in grid if case.labels["task"] == task]
        pairs = {(case.labels["collector"], case.labels["learner"]) for case in own}
        assert pairs == {(collector, learner) for collector in (ITSELF, 4, deep) for learner in (4, deep)}
    for case in grid:
        collector = case.labels["collector"]
        assert case.config.depth == case.labels["learner"]
        assert case.config.collector_depth == (None if collector == ITSELF else collector)
        if case.labels["task"] == COLLECTOR.tasks[size][0]:
            setup = Setup.build(case.config)
            assert hasattr(setup.agent, "active") == (collector != ITSELF)


def test_agents_that_collect_for_themselves_are_those_of_the_depth_study():
    of_depth = {case.directory for case in STUDIES["depth"].grid("cpu")}
    for case in COLLECTOR.grid("cpu"):
        assert (case.directory in of_depth) == (case.labels["collector"] == ITSELF)


def test_the_figure_has_a_panel_for_each_collector_and_a_curve_for_each_learner():
    figure = COLLECTOR.draw(outcomes(COLLECTOR.grid("cpu")))
    assert len(figure.axes) == 4  # two collectors, two metrics
    success = figure.axes[2:]
    assert [axes.get_title("left") for axes in success] == [f"reacher, data of depth {n}" for n in (4, 16)]
    for axes, collector in zip(success, (0.4, 0.9), strict=True):
        ends = {line.get_label(): line.get_ydata()[-1] for line in axes.lines if not line.get_label().startswith("_")}
        assert ends == {
            "learner of depth 4": pytest.approx(0.4 * collector + 0.01),
            "learner of depth 16": pytest.approx(0.9 * collector + 0.01),
            "depth 4 on its own data": pytest.approx(0.4 * 0.9 + 0.01),
            "depth 16 on its own data": pytest.approx(0.9 * 0.9 + 0.01),
        }
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert {line.get_label() for line in dashed} == {f"depth {depth} on its own data" for depth in (4, 16)}


@pytest.mark.parametrize(("collector", "panels"), [(ITSELF, 2), (16, 2)])
def test_some_of_the_cases_are_drawn_too(collector, panels):
    """While the study runs, and with --only, not all cases are there."""
    figure = COLLECTOR.draw(outcomes([case for case in COLLECTOR.grid("cpu") if case.labels["collector"] == collector]))
    assert len(figure.axes) == panels
    assert all(np.isfinite(line.get_ydata()).all() and len(line.get_ydata()) for line in figure.axes[0].lines)
