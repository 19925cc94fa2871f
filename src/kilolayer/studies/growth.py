"""Networks that grow while they train, compared with shallow and with deep ones, and checked when they grow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from kilolayer.report.style import GREY, PALETTE, new_figure, tidy
from kilolayer.runs import Checkpoints, RunDirectory, TrainConfig
from kilolayer.runs.growth_schedule import GrowthSchedule, Stage
from kilolayer.studies.core.budgets import METRICS, TASKS, TIME_AT_GOAL
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
from kilolayer.studies.core.study import Case, Measured, Outcome, Row, Scope, Size, Study
from kilolayer.training import Setup, TrainState, compile_steps, run_episodes, state_shape, summarize
from kilolayer.training.step import grow_state

SCHEDULES: Mapping[Size, str] = {"cpu": "4@0,16@800K", "gpu": "4@0,16@5M", "paper": "4@0,64@50M"}
"""Default schedule: half of the env steps at the first depth."""

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {"num_evals": 25},
    "gpu": {"num_evals": 10, "total_env_steps": 10_000_000},
    "paper": {"variant": "paper"},
}

KEPT: Mapping[Size, int] = {"cpu": 30, "gpu": 12, "paper": 3}
"""Checkpoints of growing runs. At cpu and gpu they reach back to the growth; at paper they would fill disks."""

EPISODES = 128
"""Evaluation episodes before and after the networks grow."""

GROWING = "growing"


def cases(scope: Scope) -> list[Case]:
    """Return on every task networks that grow, networks of the first depth, and networks of the last depth.

    The user may change the schedule by the setting `grow`.

    Raises:
        ConfigurationError: if the user sets the depth or how many checkpoints to keep, or for an invalid schedule.
    """
    scope.refuse_changes("depth", "checkpoints_to_keep")
    schedule = str(scope.changes.get("grow", SCHEDULES[scope.size]))
    first, *_, last = GrowthSchedule.parse(schedule).stages
    fixed = dataclasses.replace(scope, changes={name: value for name, value in scope.changes.items() if name != "grow"})
    found = []
    for task in scope.tasks:
        labels = {"task": task, "networks": GROWING, "depth": schedule}
        found.append(scope.case(labels, task, grow=schedule, checkpoints_to_keep=KEPT[scope.size]))
        for name, depth in (("shallow", first.depth), ("deep", last.depth)):
            found.append(fixed.case({"task": task, "networks": name, "depth": depth}, task, depth=depth))
    return found


def measure(outcome: Outcome) -> Measured:
    """Compare the networks before and after they grow first, by repeating the training steps from a checkpoint.

    The comparison is on all observations in the replay buffer. Nothing is measured in runs whose networks do not grow,
    or that no longer have a checkpoint from before.
    """
    config = outcome.run.config()
    restored = None if config.grow is None else _restore_before_growth(outcome.run, config)
    if restored is None:
        return Measured()
    setup, state = restored
    steps = compile_steps(setup)
    while setup.at(state.clocks) is setup:
        state, _ = steps.collect(state)
        state, _ = steps.learn(state)
    deep = setup.at(state.clocks)
    grown = grow_state(deep, state, config.seed)

    observation = state.buffer.observation.reshape(-1, state.buffer.observation.shape[-1])
    # Goals are achieved goals of the same buffer in reverse order, so that they belong to other observations.
    goal = state.buffer.achieved_goal[::-1].reshape(len(observation), -1)
    key = jax.random.key(config.seed)
    sides = []
    for own, agent in ((setup, state.agent), (deep, grown.agent)):
        action = jax.jit(own.agent.act)(agent, observation, goal, key)
        value = jax.jit(own.agent.value)(agent, observation, goal) if own.agent.has_value else jnp.zeros(1)
        episodes = run_episodes(own.agent, agent, own.eval_environment, key, num_episodes=EPISODES)
        sides.append((action, value, summarize(episodes)["eval/success_any"]))
    (action, value, success), (grown_action, grown_value, grown_success) = sides
    scores = {
        "largest_action_change": float(jnp.abs(grown_action - action).max()),
        "largest_value_change": float(jnp.abs(grown_value - value).max()),
    }
    row: Row = {
        "env_steps": state.env_steps,
        "depth_before": setup.depth,
        "depth_after": deep.depth,
        "observations": len(observation),
        **scores,
        "least_value": float(value.min()),
        "greatest_value": float(value.max()),
        "success_before": float(success),
        "success_after": float(grown_success),
    }
    return Measured(scores, [row])


def _restore_before_growth(run: RunDirectory, config: TrainConfig) -> tuple[Setup, TrainState] | None:
    """Restore the last checkpoint before the networks grow for the first time; None if there is none."""
    first = Setup.build(config)
    checkpoints = Checkpoints(run.checkpoints)
    try:
        before = [step for step in checkpoints.steps() if first.at(checkpoints.clocks(step)) is first]
        return (first, checkpoints.restore(state_shape(first), before[-1])) if before else None
    finally:
        checkpoints.close()


def _env_steps_of(outcome: Outcome, stage: Stage) -> int:
    """Return the env steps at which a stage of growth begins in a run."""
    timetable = outcome.case.config.timetable
    return timetable.clocks(timetable.rounds_until(stage.begins)).env_steps


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each task time at the goal over env steps, growth as dotted lines, and over seconds."""
    tasks = values_of(outcomes, "task")
    figure = new_figure(9.6, 3.2 * len(tasks) + 0.3)
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for name, color in zip(values_of(outcomes, "networks"), PALETTE, strict=False):
            own = having(outcomes, task=task, networks=name)
            label = f"{name}, {own[0].case.labels['depth']}" if own else ""
            draw_mean_curve(line[0], own, TIME_AT_GOAL, label=label, color=color)
            draw_over_seconds(line[1], own, TIME_AT_GOAL, label=label, color=color)
        for outcome in having(outcomes, task=task, networks=GROWING)[:1]:
            for stage in GrowthSchedule.parse(outcome.case.config.grow or "").stages[1:]:
                line[0].axvline(_env_steps_of(outcome, stage), color=GREY, linewidth=0.8, linestyle=":")
        finish_curves(line[0], str(task), TIME_AT_GOAL)
        tidy(line[1], str(task), "seconds of training", metric_name(TIME_AT_GOAL))
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Growing, shallow and deep networks; mean and standard error over seeds")


GROWTH = register_study(
    Study(
        name="growth",
        question="Do networks that grow reach what deep ones reach, in less time?",
        tasks={**TASKS, "cpu": ("point_u_maze",)},
        settings=SETTINGS,
        cases=cases,
        metrics=(*METRICS, "largest_action_change", "largest_value_change"),
        draw=draw,
        measure=measure,
        seeds=1,
    )
)
