"""Does the agent know the walls, shallow and deep? The steps it needs from every place, and its critic's value there
(the paper's Q-maps of the ant).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.checkpoint_files import UNTRAINED
from kilolayer.envs import Environment, Maze, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.report.maze import draw_field, extent_in_cells
from kilolayer.report.steps_to_goal import StepsMap, can_start_anywhere, steps_map
from kilolayer.report.style import new_figure
from kilolayer.report.values import ValueMap, chosen_goals, value_map, value_maps
from kilolayer.studies.core.budgets import SETTINGS, shallow_and_deep
from kilolayer.studies.core.figures import having, untrained_mean, values_of, with_caption
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.statistics import mean_and_error
from kilolayer.studies.core.study import Case, Label, Measured, Outcome, Row, Scope, Size, Study
from kilolayer.training import Setup, load_policy, load_with_setup

STEPS_METRICS = ("steps_correlation", "places_reached")
VALUE_METRICS = ("rank_correlation", "euclidean_correlation")
METRICS = (*STEPS_METRICS, *VALUE_METRICS)

TASKS: Mapping[Size, tuple[str, ...]] = {
    "cpu": ("point_u_maze",),
    "gpu": ("ant_big_maze",),
    "paper": ("ant_u4_maze", "ant_big_maze"),
}

DRAWN_PER_CELL = 5
"""Places along the edge of a cell in the rows and the figure of values; correlations use twice as many."""


def cases(scope: Scope) -> list[Case]:
    """Return every maze at a small and a great depth.

    Raises:
        ConfigurationError: if a task is not a maze, if its robot cannot start anywhere, or if the agent has no value.
    """
    grid = shallow_and_deep(scope)
    for case in {case.labels["task"]: case for case in grid}.values():
        setup = Setup.build(case.config)
        name = setup.environment.name
        if not isinstance(setup.eval_environment.task, MazeTask):
            raise ConfigurationError(
                f"tasks={name!r} has no walls, so there is no map to draw; take mazes, such as point_u_maze or "
                "ant_u4_maze"
            )
        if not can_start_anywhere(setup.eval_environment):
            raise ConfigurationError(
                f"tasks={name!r}: its robot cannot be put at any place; take mazes of discs, ants or humanoids"
            )
        if not setup.agent.has_value:
            raise ConfigurationError(
                f"agent={case.config.agent!r} has no value to draw a map of; take one with a critic, such as crl"
            )
    return grid


def task_of(outcome: Outcome) -> MazeTask:
    """Return the task that the agent is evaluated in."""
    task = Setup.build(outcome.case.config).eval_environment.task
    assert isinstance(task, MazeTask)  # `cases` has validated it
    return task


def straight_line_correlation(task: MazeTask) -> float:
    """Return the rank correlation of the straight-line distance with the true distance, mean over the same goals."""
    points, found = free_points(task.maze, task.clearance), []
    for goal in chosen_goals(task.maze):
        distance = shortest_paths(task.maze, task.clearance, goal)
        reachable = np.isfinite(distance)
        perfect = ValueMap(goal, points[reachable], -distance[reachable], distance[reachable])
        found.append(perfect.euclidean_correlation)
    return float(np.mean(found))


def measure(outcome: Outcome) -> Measured:
    """Compute correlations of steps and values for a few goals, and both maps for the farthest of them."""
    policy, setup = load_with_setup(outcome.run.path)
    environment = setup.eval_environment
    goals = chosen_goals(task_of(outcome).maze)
    scores, steps = _scores(policy, environment, goals)
    untrained, _ = _scores(load_policy(outcome.run.path, checkpoint=UNTRAINED), environment, goals)
    drawn = value_map(policy, environment, goals[0], per_cell=DRAWN_PER_CELL)
    return Measured(scores, [*rows_of_steps(steps[0]), *rows_of_values(drawn)], untrained)


def _scores(policy: Policy, environment: Environment, goals: np.ndarray) -> tuple[dict[str, float], Sequence[StepsMap]]:
    """Return the scores of a policy, means over the goals, and its steps to each goal."""
    steps = steps_map(policy, environment, goals)
    values = value_maps(policy, environment, goals)
    scores = {
        "steps_correlation": float(np.mean([each.rank_correlation for each in steps])),
        "places_reached": float(np.mean([each.reached for each in steps])),
    } | {metric: float(np.mean([getattr(each, metric) for each in values])) for metric in VALUE_METRICS}
    return scores, steps


def rows_of_steps(steps: StepsMap) -> list[Row]:
    """Return a row for each place of a map: metres and env steps, with -1 steps where the goal is not reached."""
    numbers = np.where(np.isfinite(steps.steps), steps.steps, -1.0)
    return _rows("steps", steps.goal, steps.points, numbers, steps.distance)


def rows_of_values(values: ValueMap) -> list[Row]:
    """Return a row for each place of a map: metres, and the value in the agent's own unit."""
    return _rows("value", values.goal, values.points, values.value, values.distance)


def _rows(kind: str, goal: np.ndarray, points: np.ndarray, numbers: np.ndarray, distance: np.ndarray) -> list[Row]:
    first: dict[str, Label] = {"map": kind, "goal_x": float(goal[0]), "goal_y": float(goal[1])}
    return [
        first | {"x": float(x), "y": float(y), "number": float(number), "distance": float(away)}
        for (x, y), number, away in zip(points, numbers, distance, strict=True)
    ]


def maps_of(outcome: Outcome) -> tuple[StepsMap, ValueMap]:
    """Return both maps for the farthest goal, from the rows."""
    steps, value = (_columns(outcome.measured.rows, kind) for kind in ("steps", "value"))
    numbers = np.where(steps["number"] < 0.0, np.inf, steps["number"])
    return (
        StepsMap(_goal(steps), _points(steps), numbers, steps["distance"]),
        ValueMap(_goal(value), _points(value), value["number"], value["distance"]),
    )


def _columns(rows: Sequence[Row], kind: str) -> dict[str, np.ndarray]:
    own = [row for row in rows if row["map"] == kind]
    return {name: np.array([row[name] for row in own], float) for name in own[0] if name != "map"}


def _goal(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.array([columns["goal_x"][0], columns["goal_y"][0]])


def _points(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([columns["x"], columns["y"]], axis=-1)


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw two rows for each task, for its farthest goal and the first seed of each depth: the true distance and the
    steps that the agent needs, and below them the critic's values.
    """
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    places = [task_of(having(outcomes, task=task)[0]) for task in tasks]
    extents = [extent_in_cells(place.maze) for place in places]
    heights = [3.4 * rows / columns + 0.6 for rows, columns in extents for _ in range(2)]
    figure = new_figure(4.3 * (1 + len(depths)), sum(heights) + 0.3)
    grid = figure.subplots(2 * len(tasks), 1 + len(depths), squeeze=False, height_ratios=heights)
    for line, below, task, place in zip(grid[::2], grid[1::2], tasks, places, strict=True):
        maze, own = place.maze, having(outcomes, task=task)
        first = maps_of(own[0])[1]
        title = f"{task}: true distance (m)\ncorrelation of a straight line {straight_line_correlation(place):.2f}"
        _draw_map(line[0], maze, first, first.distance, title, "viridis_r")
        below[0].axis("off")
        for axes, other, depth in zip(line[1:], below[1:], depths, strict=True):
            of_depth = having(own, depth=depth)
            if not of_depth:
                axes.axis("off")
                other.axis("off")
                continue
            scores = {metric: _scores_text(of_depth, metric) for metric in METRICS}
            steps, values = maps_of(of_depth[0])
            title = f"depth {depth}: steps that the agent needs\ncorrelation {scores['steps_correlation']}"
            _draw_map(axes, maze, steps, steps.steps, title, "viridis_r")
            title = (
                f"depth {depth}: the critic's value\ncorrelation {scores['rank_correlation']}\n"
                f"with a straight line {scores['euclidean_correlation']}"
            )
            _draw_map(other, maze, values, values.value, title, "viridis")
    return with_caption(
        figure,
        outcomes,
        "Maps for the farthest goal, first seed; bright is near, orange does not arrive; rank correlations over goals "
        "and seeds",
        untrained="in brackets: untrained",
    )


def _scores_text(outcomes: Sequence[Outcome], metric: str) -> str:
    """Return mean and standard error of a score, and in brackets the mean before training, if it is known."""
    mean, error = mean_and_error([one.score(metric) for one in outcomes])
    untrained = untrained_mean(outcomes, metric)
    return (
        f"{mean:.2f}"
        + ("" if np.isnan(error) else f" ± {error:.2f}")
        + ("" if np.isnan(untrained) else f" ({untrained:.2f})")
    )


def _draw_map(axes: Axes, maze: Maze, places: StepsMap | ValueMap, field: np.ndarray, title: str, cmap: str) -> None:
    image = draw_field(axes, maze, places.points, field, places.goal, title, cmap=cmap)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


VALUE_MAP = Study(
    name="value_map",
    question="Does the agent know the walls, shallow and deep?",
    tasks=TASKS,
    settings=SETTINGS,
    cases=cases,
    metrics=METRICS,
    draw=draw,
    measure=measure,
)

register_study(VALUE_MAP)
