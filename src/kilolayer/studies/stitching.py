"""Trained on short ways along a corridor, does an agent reach far goals (Wang et al. 2025, stitching)?"""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.checkpoint_files import UNTRAINED
from kilolayer.envs import Environment, make, registry
from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.report.style import DARK, GREY, new_figure, tidy
from kilolayer.runs import TrainConfig
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, by_depth
from kilolayer.studies.core.figures import (
    having,
    interval_of,
    metric_name,
    shades_of,
    untrained_mean,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.statistics import interquartile_mean, interval_or_range
from kilolayer.studies.core.study import Case, Label, Measured, Outcome, Row, Scope, Size, Study
from kilolayer.training import Episodes, load_policy, run_episodes
from kilolayer.training.keys import stream

TASKS: Mapping[Size, tuple[str, ...]] = {
    "cpu": ("point_u_maze_gen_1f2f3f", "point_u4_maze_gen_1f2f3f"),
    "gpu": ("ant_u_maze_gen_1f2f3f",),
    "paper": ("ant_u_maze_gen_1f2f3f",),
}

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": SHALLOW_AND_DEEP, "gpu": (4, 16, 64), "paper": (4, 16, 64)}

EPISODES = 100
"""Mean number of episodes for each distance; distances are drawn at random."""

METRIC = "success_any"


def cases(scope: Scope) -> list[Case]:
    """Return every corridor at every depth.

    Raises:
        ConfigurationError: for a task that is not a corridor, or that trains on its longest pairs already.
    """
    for task in scope.tasks:
        corridor = _corridor(task)
        if max(corridor.distances) == corridor.length:
            raise ConfigurationError(
                f"task {task!r} trains on pairs {corridor.length} cells apart already, the length of its corridor; "
                "this study needs longer pairs to test"
            )
    return by_depth(scope, DEPTHS[scope.size])


@functools.lru_cache(maxsize=8)
def _corridor(task: str) -> Corridor:
    """Return the corridor of a task.

    Raises:
        ConfigurationError: if it is not a corridor.
    """
    corridor = getattr(registry.spec(registry.resolve(task)).make_task(), "corridor", None)
    if corridor is None or "_gen_" not in task:
        raise ConfigurationError(
            f"task {task!r} is not a corridor with short pairs, which this study needs; take one such as "
            f"{' or '.join(dict.fromkeys(TASKS['cpu'] + TASKS['gpu']))}"
        )
    return corridor


def measure(outcome: Outcome) -> Measured:
    """Run the trained policy on pairs of every distance in its corridor, and count successes."""
    policy, untrained = (load_policy(outcome.run.path, checkpoint=which) for which in (None, UNTRAINED))
    trained = _corridor(outcome.case.config.env)
    environment = _all_distances(outcome.case.config)
    key = stream(jax.random.key(outcome.seed), "stitching", policy.env_steps)
    number = EPISODES * trained.length

    def rows_of(policy: Policy) -> list[Row]:
        episodes = run_episodes(policy.agent, policy.agent_state, environment, key, num_episodes=number)
        return by_distance(trained, episodes)

    rows = rows_of(policy)
    return Measured(scores_of(rows), rows, scores_of(rows_of(untrained)))


@functools.lru_cache(maxsize=8)
def _all_distances(config: TrainConfig) -> Environment:
    """Return the corridor of a case with pairs of all distances; cached, so that seeds share a compiled program."""
    stem = config.env.partition("_gen_")[0]
    distances = "".join(f"{distance}f" for distance in range(1, _corridor(config.env).length + 1))
    return make(
        f"{stem}_gen_{distances}",
        episode_length=config.episode_length,
        engine=config.engine,
        variant=config.variant,
    )


def by_distance(trained: Corridor, episodes: Episodes) -> list[Row]:
    """Return a row for each distance, from 1 to the longest, with the results of its episodes.

    Args:
        trained: the corridor, with the distances trained on.
        episodes: with pairs of any distances in the corridor.
    """
    starts, goals = np.asarray(episodes.achieved_goal)[0, :, :2], np.asarray(episodes.desired_goal)[:, :2]
    distances = trained.distances_between(starts, goals)
    values = episodes.metrics()
    rows: list[Row] = []
    for distance in range(1, trained.length + 1):
        own = distances == distance
        if own.any():
            row: dict[str, Label] = {
                "distance": distance,
                "trained_on": "yes" if distance in trained.distances else "no",
                METRIC: float(values[METRIC][own].mean()),
                "time_at_goal": float(values["time_at_goal"][own].mean()),
                "episodes": int(own.sum()),
            }
            rows.append(row)
    return rows


def scores_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return the success on the distances trained on, and success and steps at the goal on longer distances.

    Every distance has the same weight, whatever its number of episodes.
    """
    trained = [row for row in rows if row["trained_on"] == "yes"]
    longest = max(float(row["distance"]) for row in trained)
    longer = [row for row in rows if float(row["distance"]) > longest]
    return {
        "success_short": float(np.mean([row[METRIC] for row in trained])),
        "success_long": float(np.mean([row[METRIC] for row in longer])),
        "time_at_goal_long": float(np.mean([row["time_at_goal"] for row in longer])),
    }


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task and distance a group of bars, one for each depth."""
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    spans = {task: len(having(outcomes, task=task)[0].measured.rows) for task in tasks}
    figure = new_figure(0.62 * sum(spans.values()) + 2.8, 3.5)
    grid = figure.subplots(
        1, len(tasks), squeeze=False, sharey=True, width_ratios=[span + 1 for span in spans.values()]
    )
    for axes, task in zip(grid[0], tasks, strict=True):
        own = having(outcomes, task=task)
        _shade(axes, own)
        trained, longer = (
            [float(row["distance"]) for row in own[0].measured.rows if row["trained_on"] == answer]
            for answer in ("yes", "no")
        )
        for number, (depth, color) in enumerate(shades_of(depths).items()):
            of_depth = having(own, depth=depth)
            _draw_bars(axes, of_depth, number, len(depths), label=f"depth {depth}", color=color)
            for score, places in (("success_short", trained), ("success_long", longer)):
                level = untrained_mean(of_depth, score)
                axes.plot([places[0] - 0.5, places[-1] + 0.5], [level, level], color=color, linewidth=1.2, ls=":")
        axes.set_xticks(range(1, spans[task] + 1))
        axes.set_xlim(0.4, spans[task] + 0.6)
        axes.set_ylim(0.0, 1.08)
        tidy(axes, str(task), "cells from start to goal", metric_name(METRIC) if axes is grid[0, 0] else "")
    with_legend(figure, grid[0, 0])
    what = f"Trained on short ways, tested on longer ones; IQM, {interval_of(outcomes)}, seeds"
    return with_caption(figure, outcomes, what)


def _shade(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Shade the distances trained on."""
    label = "trained on"
    for row in outcomes[0].measured.rows:
        if row["trained_on"] == "yes":
            place = float(row["distance"])
            axes.axvspan(place - 0.5, place + 0.5, color=GREY, alpha=0.16, lw=0, label=label)
            label = ""


def _draw_bars(axes: Axes, outcomes: Sequence[Outcome], number: int, count: int, *, label: str, color: str) -> None:
    """Draw the bars of one depth, number `number` of `count`: interquartile mean, its interval, and every seed."""
    if not outcomes:
        return
    width = 0.8 / count
    scores = np.array([[float(row[METRIC]) for row in one.measured.rows] for one in outcomes])
    places = np.array([float(row["distance"]) for row in outcomes[0].measured.rows]) + width * (
        number - 0.5 * (count - 1)
    )
    axes.bar(
        places, [interquartile_mean(column[:, None]) for column in scores.T], 0.92 * width, color=color, label=label
    )
    for place, column in zip(places, scores.T, strict=True):
        axes.plot([place, place], interval_or_range(column), color=DARK, linewidth=1.4)
        axes.plot(
            np.full(column.size, place),
            column,
            "o",
            color="white",
            markeredgecolor=DARK,
            markersize=3,
            markeredgewidth=0.6,
        )


STITCHING = register_study(
    Study(
        name="stitching",
        question="Trained on short ways only, does an agent combine them to reach far goals?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=("success_short", "success_long", "time_at_goal_long", *METRICS),
        draw=draw,
        measure=measure,
    )
)
