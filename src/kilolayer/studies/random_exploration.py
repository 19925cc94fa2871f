"""What does a critic learn about a maze from random exploration alone, with shallow and with deep networks?

Discs move through a maze under random forces, from starts everywhere. An agent learns from this recording and collects
nothing itself. The study measures the rank correlation of its value with the shortest path to six goals, and success.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from kilolayer.checkpoint_files import UNTRAINED
from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert
from kilolayer.envs import Environment, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.report.style import new_figure, tidy
from kilolayer.runs import TrainConfig
from kilolayer.studies.core.budgets import SUCCESS_ANY, TIME_AT_GOAL
from kilolayer.studies.core.figures import (
    draw_mean_line,
    draw_untrained,
    having,
    shades_of,
    values_of,
    with_caption,
    with_legend,
)
from kilolayer.studies.core.mazes import DRAWN, maze_text
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.results import short_name
from kilolayer.studies.core.study import Case, Measured, Outcome, Row, Scope, Size, Study
from kilolayer.training import Setup, load_policy

NUM_ENVS, NUM_STEPS = 128, 1000
"""Of the recording: 128,000 env steps."""

HOLD = 10
"""Mean number of steps that a random force lasts."""

GOALS, PER_CELL = 6, 5
"""Goals of the rank correlation, and places along the edge of a cell."""

RECORDING: Mapping[str, Any] = {"total_env_steps": 0, "num_envs": NUM_ENVS, "replay_capacity": NUM_STEPS}
"""Settings of a run that collects nothing and learns from the recording."""

_COMMON: Mapping[str, Any] = {"gradient_steps_per_unroll": 500, "episode_length": 200}
_GPU: Mapping[str, Any] = {
    **_COMMON,
    "width": 256,
    "batch_size": 512,
    "total_gradient_steps": 50_000,
    "num_evals": 10,
}

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {**_COMMON, "width": 64, "batch_size": 256, "total_gradient_steps": 9000, "num_evals": 6},
    "gpu": _GPU,
    "paper": _GPU,
}
"""The paper has no such experiment; its size is that of one GPU."""

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": (4, 16), "gpu": (4, 16, 64), "paper": (4, 16, 64)}

RANK = "rank_correlation"

METRICS = (RANK, TIME_AT_GOAL, SUCCESS_ANY, "train/critic_loss")

PANELS: Mapping[str, str] = {
    RANK: "rank correlation with the path",
    TIME_AT_GOAL: "steps at the goal",
    SUCCESS_ANY: "episodes that reach their goal",
    "train/critic_loss": "loss of the critic",
}


# ---- The recording -----------------------------------------------------------------------------------------


@eqx.filter_jit
def explore(environment: Environment, key: jax.Array) -> Trajectory:
    """Record `NUM_STEPS` steps of `NUM_ENVS` discs under random forces, each of which lasts `HOLD` steps on average."""
    reset_key, *keys = jax.random.split(key, NUM_STEPS + 1)

    def step(carried: Any, key: jax.Array) -> tuple[Any, Trajectory]:
        state, force = carried
        force_key, change_key = jax.random.split(key)
        fresh = jax.random.uniform(force_key, force.shape, minval=-1.0, maxval=1.0)
        force = jnp.where(jax.random.bernoulli(change_key, 1.0 / HOLD, (NUM_ENVS, 1)), fresh, force)
        after, result = environment.step(state, force)
        return (after, force), Trajectory(
            observation=state.observation,
            achieved_goal=state.achieved_goal,
            desired_goal=state.desired_goal,
            action=force,
            terminated=result.terminated,
            done=result.done,
            diverged=result.diverged,
        )

    start = (environment.reset(reset_key, NUM_ENVS), jnp.zeros((NUM_ENVS, environment.action_size)))
    return jax.lax.scan(step, start, jnp.stack(keys))[1]


def record(config: TrainConfig) -> ReplayBuffer:
    """Return a replay buffer full of random exploration, the same for every depth and seed."""
    environment = Setup.build(config).environment
    sizes = (environment.observation_size, environment.goal_size, environment.action_size)
    return insert(empty_buffer(NUM_STEPS, NUM_ENVS, *sizes), explore(environment, jax.random.key(0)))


def rank_correlation(policy: Policy, task: MazeTask) -> float:
    """Return the rank correlation of a policy's value with minus the length of the shortest path, mean over some goals.

    The value of a place is its mean over the observations that the task has there.
    """
    points = free_points(task.maze, task.clearance, per_cell=PER_CELL)
    seen = np.asarray(jax.vmap(task.observations_at)(jnp.asarray(points, jnp.float32)))
    centres = task.maze.centres(task.maze.goal_cells)
    goals = centres[np.random.default_rng(0).permutation(len(centres))[:GOALS]]
    found = []
    for goal in goals:
        value = policy.value(seen, np.broadcast_to(goal.astype(np.float32), (*seen.shape[:2], goal.size))).mean(axis=1)
        path = shortest_paths(task.maze, task.clearance, goal, per_cell=PER_CELL)
        found.append(scipy.stats.spearmanr(value, -path).statistic)
    return float(np.mean(found))


# ---- The study ---------------------------------------------------------------------------------------------


def cases(scope: Scope) -> list[Case]:
    """Return every maze at every depth.

    Raises:
        ConfigurationError: for a task that is not a maze of this study; if the user sets the depth or a setting of the
            recording; or if the agent has no value, or learns from its own actions only.
    """
    scope.refuse_changes("grow", "collector_depth", "checkpoints_to_keep")
    grid = [
        scope.case({"task": task, "depth": depth}, maze_text(task), depth=depth, **RECORDING)
        for task in scope.tasks
        for depth in DEPTHS[scope.size]
    ]
    # Every evaluation keeps its checkpoint, so that `measure` can read the policy of each.
    grid = [
        dataclasses.replace(
            case, config=dataclasses.replace(case.config, checkpoints_to_keep=case.config.num_evals + 1)
        )
        for case in grid
    ]
    for case in grid:
        if not Setup.build(case.config).agent.has_value:
            raise ConfigurationError(f"agent={case.config.agent!r} has no value to compare with the paths")
    return grid


def measure(outcome: Outcome) -> Measured:
    """Return the scores of every evaluation, with the rank correlation of its checkpoint."""
    task = Setup.build(outcome.case.config).environment.task
    assert isinstance(task, MazeTask)
    rows: list[Row] = []
    for row in outcome.rows:
        steps = row["gradient_steps"]
        policy = load_policy(outcome.run.path, checkpoint=steps or UNTRAINED)
        rows.append(
            {
                "gradient_steps": steps,
                RANK: rank_correlation(policy, task),
                **{short_name(name): row[name] for name in METRICS if name in row},
            }
        )
    return Measured(_scores(rows[-1]), rows, _scores(rows[0]))


def _scores(row: Row) -> dict[str, float]:
    """Return the scores in a row of `measured.csv`, by the names of the metrics."""
    return {name: float(row[short_name(name)]) for name in METRICS if short_name(name) in row}


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each maze the scores over gradient steps, with a curve for each depth."""
    tasks = values_of(outcomes, "task")
    figure = new_figure(3.6 * len(PANELS) + 1.2, 3.0 * len(tasks) + 0.3)
    grid = figure.subplots(len(tasks), len(PANELS), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for axes, (metric, title) in zip(line, PANELS.items(), strict=True):
            for depth, color in shades_of(values_of(outcomes, "depth")).items():
                own = having(outcomes, task=task, depth=depth)
                column = short_name(metric)
                if own and column in own[0].measured.rows[-1]:
                    rows = [[row for row in one.measured.rows if column in row] for one in own]
                    steps = [float(row["gradient_steps"]) for row in rows[0]]
                    values = np.array([[row[column] for row in seed] for seed in rows], float)
                    draw_mean_line(axes, steps, values, label=f"depth {depth}", color=color)
                    draw_untrained(axes, own, metric, color=color)
            tidy(axes, f"{task}: {title}", "gradient steps")
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Learnt from random exploration alone; mean and standard error over seeds")


RANDOM_EXPLORATION = register_study(
    Study(
        name="random_exploration",
        question="What does a critic learn about a maze from random exploration alone?",
        tasks=dict.fromkeys(("cpu", "gpu", "paper"), ("hardest", f"{DRAWN}10")),
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        measure=measure,
        data=record,
        seeds=2,
    )
)
