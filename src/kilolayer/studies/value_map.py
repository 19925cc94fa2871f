"""Does the critic know the walls? Its value of every place, shallow and deep (the paper's Q-maps of the ant)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilolayer.envs import Maze, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.report.maze import ValueMap, chosen_goals, draw_field, value_map
from kilolayer.report.style import new_figure
from kilolayer.studies.core.budgets import SETTINGS, shallow_and_deep
from kilolayer.studies.core.figures import having, values_of, with_caption
from kilolayer.studies.core.statistics import mean_and_error
from kilolayer.studies.core.study import Case, Measured, Outcome, Row, Scope, Size, Study
from kilolayer.training import Setup, load_with_setup

METRICS = ("rank_correlation", "euclidean_correlation")

TASKS: Mapping[Size, tuple[str, ...]] = {
    "cpu": ("point_u_maze",),
    "gpu": ("ant_big_maze",),
    "paper": ("ant_u4_maze", "ant_big_maze"),
}

DRAWN_PER_CELL = 5
"""Places along a cell's edge that are drawn and written down; the correlations are over twice as many."""


def cases(scope: Scope) -> list[Case]:
    """Return every maze at a small and a great depth.

    Raises:
        ConfigurationError: if a task is no maze, or the agent has no value.
    """
    grid = shallow_and_deep(scope)
    for case in grid:
        setup = Setup.build(case.config)
        if not isinstance(setup.eval_environment.task, MazeTask):
            raise ConfigurationError(
                f"tasks={setup.environment.name!r} has no walls, so there is no map to draw; take mazes, such as "
                "point_u_maze or ant_u4_maze"
            )
        if not setup.agent.has_value:
            raise ConfigurationError(
                f"agent={case.config.agent!r} has no value to draw a map of; take one with a critic, such as crl"
            )
    return grid


def task_of(outcome: Outcome) -> MazeTask:
    """Return the task that the agent is evaluated in."""
    task = Setup.build(outcome.case.config).eval_environment.task
    assert isinstance(task, MazeTask)  # `cases` has refused
    return task


def straight_line_correlation(task: MazeTask) -> float:
    """Return the rank correlation of a map that knows no walls with the true distance, the mean over the same goals."""
    points, found = free_points(task.maze, task.clearance), []
    for goal in chosen_goals(task.maze):
        distance = shortest_paths(task.maze, task.clearance, goal)
        reachable = np.isfinite(distance)
        perfect = ValueMap(goal, points[reachable], -distance[reachable], distance[reachable])
        found.append(perfect.euclidean_correlation)
    return float(np.mean(found))


def measure(outcome: Outcome) -> Measured:
    """Ask the critic about every place: correlations for a few goals, and the map for the farthest of them."""
    policy, setup = load_with_setup(outcome.run.path)
    environment = setup.eval_environment
    goals = chosen_goals(task_of(outcome).maze)
    maps = [value_map(policy, environment, goal) for goal in goals]
    drawn = value_map(policy, environment, goals[0], per_cell=DRAWN_PER_CELL)
    scores = {metric: float(np.mean([getattr(each, metric) for each in maps])) for metric in METRICS}
    return Measured(scores, rows_of(drawn))


def rows_of(values: ValueMap) -> list[Row]:
    """Return a row for each place of a map: all in metres but the value, which is in the agent's own unit."""
    goal = {"goal_x": float(values.goal[0]), "goal_y": float(values.goal[1])}
    return [
        goal | {"x": float(x), "y": float(y), "value": float(value), "distance": float(distance)}
        for (x, y), value, distance in zip(values.points, values.value, values.distance, strict=True)
    ]


def map_of(outcome: Outcome) -> ValueMap:
    """Return the map for the farthest goal, from the rows."""
    columns = {name: np.array([row[name] for row in outcome.measured.rows], float) for name in outcome.measured.rows[0]}
    return ValueMap(
        goal=np.array([columns["goal_x"][0], columns["goal_y"][0]]),
        points=np.stack([columns["x"], columns["y"]], axis=-1),
        value=columns["value"],
        distance=columns["distance"],
    )


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task: the true distance to its farthest goal, and a map of the first seed for each depth."""
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    places = [task_of(having(outcomes, task=task)[0]) for task in tasks]
    shapes = [place.maze.walls.shape for place in places]
    heights = [3.5 * rows / columns + 0.6 for rows, columns in shapes]
    figure = new_figure(4.3 * (1 + len(depths)), sum(heights) + 0.3)
    grid = figure.subplots(len(tasks), 1 + len(depths), squeeze=False, height_ratios=heights)
    for line, task, place in zip(grid, tasks, places, strict=True):
        maze, own = place.maze, having(outcomes, task=task)
        first = map_of(own[0])
        straight = straight_line_correlation(place)
        title = f"{task}: minus the true distance (m)\ncorrelation of a straight line {straight:.2f}"
        _draw_map(line[0], maze, first, -first.distance, title)
        for axes, depth in zip(line[1:], depths, strict=True):
            of_depth = having(own, depth=depth)
            if not of_depth:
                axes.axis("off")
                continue
            true, straight_line = (_with_error([one.score(metric) for one in of_depth]) for metric in METRICS)
            found = map_of(of_depth[0])
            title = f"depth {depth}: the critic's value\ncorrelation {true}, with a straight line {straight_line}"
            _draw_map(axes, maze, found, found.value, title)
    return with_caption(
        figure,
        outcomes,
        "Critic's value of every place for the farthest goal, first seed; rank correlations over goals and seeds",
    )


def _with_error(values: Sequence[float]) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")


def _draw_map(axes: Axes, maze: Maze, values: ValueMap, field: np.ndarray, title: str) -> None:
    image = draw_field(axes, maze, values.points, field, values.goal, title, per_cell=DRAWN_PER_CELL)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


VALUE_MAP = Study(
    name="value_map",
    question="Does the critic know the walls, shallow and deep?",
    tasks=TASKS,
    settings=SETTINGS,
    cases=cases,
    metrics=METRICS,
    draw=draw,
    measure=measure,
)
