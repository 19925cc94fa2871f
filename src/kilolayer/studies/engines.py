"""Does an agent learn the same task on every engine, and how long does it take?"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from kilolayer.bench.env import variant_on
from kilolayer.errors import ConfigurationError
from kilolayer.report.style import PALETTE, new_figure, tidy
from kilolayer.studies.core.budgets import SUCCESS_ANY, TIME_AT_GOAL
from kilolayer.studies.core.figures import (
    draw_mean_curve,
    draw_over_seconds,
    finish_curves,
    having,
    metric_name,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Size, Study

ENGINES = ("mujoco", "mjx", "spring")

TASKS: Mapping[Size, str] = {"cpu": "reacher", "gpu": "ant", "paper": "humanoid"}

_BRIEF: Mapping[str, Any] = {
    "total_env_steps": 1_000_000,
    "num_evals": 10,
    "episode_length": 100,
    "num_envs": 128,
    "batch_size": 256,
    "unroll_length": 50,
    "gradient_steps_per_unroll": 64,
    "replay_capacity": 2000,
    "min_replay": 200,
}
"""The same for every engine; the variant `paper` would take the published budget."""

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": _BRIEF,
    "gpu": {"total_env_steps": 10_000_000, "num_evals": 20},
    "paper": {},
}

METRICS = (TIME_AT_GOAL, SUCCESS_ANY, "eval/success_final")


def cases(scope: Scope) -> list[Case]:
    """Return every task on every engine: the default variant, or the paper's on engines that move only that.

    Raises:
        ConfigurationError: if the user sets engine or variant, or for a task that none of the engines moves.
    """
    scope.refuse_changes("engine", "variant")
    found = []
    for task in scope.tasks:
        variants = {engine: variant for engine in ENGINES if (variant := variant_on(task, engine)) is not None}
        if not variants:
            raise ConfigurationError(
                f"task {task!r} runs on none of {', '.join(ENGINES)}; take a task with a robot, such as "
                f"{' or '.join(dict.fromkeys(TASKS.values()))}"
            )
        found += [
            scope.case({"task": task, "engine": engine, "variant": variant}, task, engine=engine, variant=variant)
            for engine, variant in variants.items()
        ]
    return found


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task time at the goal over env steps and over seconds, with a curve for each engine."""
    tasks = values_of(outcomes, "task")
    figure = new_figure(9.6, 3.2 * len(tasks) + 0.3)
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for engine, color in zip(values_of(outcomes, "engine"), PALETTE, strict=False):
            own = having(outcomes, task=task, engine=engine)
            label = f"{engine} ({own[0].case.labels['variant']})" if own else ""
            draw_mean_curve(line[0], own, TIME_AT_GOAL, label=label, color=color)
            draw_over_seconds(line[1], own, TIME_AT_GOAL, label=label, color=color)
        finish_curves(line[0], str(task), TIME_AT_GOAL)
        tidy(line[1], str(task), "seconds of training", metric_name(TIME_AT_GOAL))
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "The same task on each engine; mean and standard error over seeds")


ENGINES_STUDY = register_study(
    Study(
        name="engines",
        question="Does an agent learn the same task on every engine, and how long does it take?",
        tasks={size: (task,) for size, task in TASKS.items()},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        seeds=1,
    )
)
