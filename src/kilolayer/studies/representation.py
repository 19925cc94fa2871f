"""Where do encoders embed the states on the way to a goal (Wang et al. 2025, figures of embeddings)?"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from kilolayer.agents.core.contrastive_critic import ContrastiveAgent
from kilolayer.checkpoint_files import UNTRAINED
from kilolayer.envs import Environment, MazeTask
from kilolayer.envs.environment import Task
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.nn import effective_rank
from kilolayer.policies import Policy
from kilolayer.report.style import DARK, new_figure, tidy
from kilolayer.studies.core.agents import fitting_agents
from kilolayer.studies.core.budgets import SETTINGS, TASKS, shallow_and_deep
from kilolayer.studies.core.figures import draw_scores_over, having, values_of, with_caption
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Measured, Outcome, Row, Scope, Study
from kilolayer.training import Episodes, Setup, load_policy, load_with_setup, run_episodes

METRICS = ("spread_near_goal", "effective_rank", "variance_in_plane")

NUM_EPISODES = 32
"""Evaluation episodes; starts and goals are the same for all agents of a task."""

NEAR = 0.25
"""Steps near the goal are those in the nearest quarter of the distances on the way."""

SCORES = {
    "spread_near_goal": "spread near the goal, of the whole",
    "effective_rank": "effective rank of the embeddings",
}
"""Scores in panels of their own, with the labels of their axes."""


def cases(scope: Scope) -> list[Case]:
    """Return every task at a small and at a large depth.

    Raises:
        ConfigurationError: if the agent has no critic of two encoders, or its critic takes several actions at once.
    """
    grid = shallow_and_deep(scope)
    for case in {case.config.agent: case for case in grid}.values():
        agent = Setup.build(case.config).agent
        if not isinstance(agent, ContrastiveAgent):
            fitting = fitting_agents(case.config, lambda agent: isinstance(agent, ContrastiveAgent))
            raise ConfigurationError(
                f"agent={case.config.agent!r} has no embeddings of states and goals; take agent={' or '.join(fitting)}"
            )
        if agent.config.action_chunk > 1:
            raise ConfigurationError(
                f"{case.config.agent}.action_chunk={agent.config.action_chunk} embeds several actions at once, and "
                "this study embeds single steps; take 1"
            )
    return grid


@dataclasses.dataclass(frozen=True)
class Way:
    """The steps of an episode up to its goal, or all steps if it does not reach it."""

    observation: Float[np.ndarray, "steps observation"]
    action: Float[np.ndarray, "steps action"]
    goal: Float[np.ndarray, " goal"]
    """Desired goal in the last step."""
    distance: Float[np.ndarray, " steps"]
    """Distance to the goal; in mazes along the shortest path."""
    reached: bool


def distances(
    task: Task, achieved: Float[np.ndarray, "steps goal"], desired: Float[np.ndarray, "steps goal"]
) -> Float[np.ndarray, " steps"]:
    """Return the distance of each step to its goal: in mazes along the shortest path (m), else as the task has it."""
    if not isinstance(task, MazeTask):
        own = getattr(task, "distance_to_goal", None)
        return (
            np.linalg.norm(achieved - desired, axis=-1) if own is None else np.asarray(jax.vmap(own)(achieved, desired))
        )
    lengths = shortest_paths(task.maze, task.clearance, desired[0, :2])
    _, nearest = KDTree(free_points(task.maze, task.clearance)).query(achieved[:, :2])
    return lengths[nearest]


def ways(task: Task, episodes: Episodes) -> list[Way]:
    """Return the steps of each episode up to its goal."""
    assert episodes.steps is not None
    seen: Any = jax.tree.map(np.asarray, episodes.steps)
    achieved, length = np.asarray(episodes.achieved_goal), np.asarray(episodes.alive).sum(axis=0)
    success = np.asarray(episodes.success) & np.asarray(episodes.alive)
    reached: np.ndarray = success.any(axis=0)
    ends = np.where(reached, success.argmax(axis=0) + 1, length)
    return [
        Way(
            observation=seen.observation[:end, index],
            action=seen.action[:end, index],
            goal=seen.desired_goal[end - 1, index],
            distance=distances(task, achieved[:end, index], seen.desired_goal[:end, index]),
            reached=bool(reached[index]),
        )
        for index, end in enumerate(ends)
    ]


def chosen_way(found: Sequence[Way]) -> Way:
    """Return the way with the farthest start among those that reach their goal; if none does, the nearest one."""
    return max(found, key=lambda way: (way.reached, way.distance[0] if way.reached else -way.distance.min()))


def principal_plane(
    points: Float[np.ndarray, "points size"], *others: Float[np.ndarray, "others size"]
) -> tuple[list[Float[np.ndarray, "points 2"]], float]:
    """Project points onto the plane that holds most of the variance of `points`.

    Args:
        points: define the plane.
        others: arrays to project too.

    Returns:
        The coordinates of `points` and of each of `others` relative to the mean of `points`, with signs such that the
        last of all points has no negative coordinate; and the share of the variance in the plane.
    """
    mean = points.mean(axis=0)
    _, lengths, directions = np.linalg.svd(points - mean, full_matrices=False)
    plane = np.zeros((2, points.shape[1]))
    plane[: min(2, len(directions))] = directions[:2]
    projected = [(each - mean) @ plane.T for each in (points, *others)]
    signs = np.where(projected[-1][-1] < 0.0, -1.0, 1.0)
    variance = float(np.sum(lengths**2))
    share = float(np.sum(lengths[:2] ** 2)) / variance if variance > 0.0 else 1.0
    return [each * signs for each in projected], share


def near_goal(distance: Float[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """Return which steps are in the nearest share `NEAR` of the distances on the way."""
    return distance <= distance.min() + NEAR * np.ptp(distance)


def spread_near_goal(embeddings: Float[np.ndarray, "steps size"], distance: Float[np.ndarray, " steps"]) -> float:
    """Return the mean distance of the embeddings near the goal from their mean, divided by the same of all embeddings.

    The scale of the embeddings has no effect. 0 if all embeddings are equal, NaN if a single step is near.
    """

    def spread(points: np.ndarray) -> float:
        return float(np.linalg.norm(points - points.mean(axis=0), axis=-1).mean())

    near, whole = near_goal(distance), spread(embeddings)
    if near.sum() < 2:
        return np.nan
    return spread(embeddings[near]) / whole if whole > 0.0 else 0.0


def walk(policy: Policy, environment: Environment) -> list[Way]:
    """Run evaluation episodes with the deterministic policy and return the way of each."""
    episodes = run_episodes(
        policy.agent,
        policy.agent_state,
        environment,
        jax.random.key(0),
        num_episodes=NUM_EPISODES,
        keep_steps=True,
    )
    return ways(environment.task, episodes)


def measure(outcome: Outcome) -> Measured:
    """Embed the ways to goals: how they spread in the mean, and of one where its steps and the goal lie."""
    policy, setup = load_with_setup(outcome.run.path)
    scores, rows = _embedded(policy, setup.eval_environment)
    untrained, _ = _embedded(load_policy(outcome.run.path, checkpoint=UNTRAINED), setup.eval_environment)
    return Measured(scores, rows, untrained)


def _embedded(policy: Policy, environment: Environment) -> tuple[dict[str, float], list[Row]]:
    """Return the scores of a policy, and the rows of the way that is drawn."""
    agent, found = policy.agent, walk(policy, environment)
    assert isinstance(agent, ContrastiveAgent)  # `cases` has refused
    way = chosen_way(found)
    to_goals = [way, *(one for one in found if one.reached and one is not way)]
    critic = policy.agent_state.critic
    observation, action = (
        jnp.concatenate([getattr(one, name) for one in to_goals]) for name in ("observation", "action")
    )
    phi = critic.encode_state_action(observation, action)
    parts = np.split(np.asarray(phi, float), np.cumsum([len(one.distance) for one in to_goals])[:-1])
    psi = critic.encode_goal(jnp.asarray(way.goal))
    own = phi[: len(way.distance)]
    value = np.asarray(agent.energy.pairs(own, jnp.broadcast_to(psi, own.shape)))
    (steps, goal), share = principal_plane(parts[0], np.asarray(psi, float)[None])
    scores = {
        "spread_near_goal": _mean(
            [spread_near_goal(part, one.distance) for part, one in zip(parts, to_goals, strict=True)]
        ),
        "effective_rank": _mean([float(effective_rank(jnp.asarray(part))) for part in parts]),
        "variance_in_plane": share,
    }
    reached = "yes" if way.reached else "no"
    rows: list[Row] = [
        {
            "embedding": "phi",
            "step": step,
            "pc1": float(place[0]),
            "pc2": float(place[1]),
            "distance": float(way.distance[step]),
            "value": float(value[step]),
            "reached": reached,
        }
        for step, place in enumerate(steps)
    ]
    star: Row = {"embedding": "psi", "pc1": float(goal[0, 0]), "pc2": float(goal[0, 1]), "reached": reached}
    return scores, [*rows, star]


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task: the embeddings of the first seed at each depth, then the scores of every seed."""
    tasks, depths = values_of(outcomes, "task"), values_of(outcomes, "depth")
    figure = new_figure(3.7 * (len(depths) + len(SCORES)) + 0.4, 3.6 * len(tasks) + 0.2)
    grid = figure.subplots(len(tasks), len(depths) + len(SCORES), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        own = having(outcomes, task=task)
        pictures = [(axes, having(own, depth=depth)) for axes, depth in zip(line, depths, strict=False)]
        farthest = max(row["distance"] for _, found in pictures for row in _steps(found))
        for axes, found in pictures:
            if not found:
                axes.axis("off")
                continue
            _draw_plane(axes, found[0], Normalize(0.0, farthest))
        scale = matplotlib.cm.ScalarMappable(Normalize(0.0, farthest), "viridis_r")
        figure.colorbar(scale, ax=list(line[: len(depths)]), shrink=0.8, label="distance to the goal")
        for axes, (metric, name) in zip(line[len(depths) :], SCORES.items(), strict=True):
            draw_scores_over(axes, own, "depth", metric)
            axes.set_ylim(bottom=0.0)
            tidy(axes, str(task), "depth", name)
    return with_caption(
        figure,
        outcomes,
        "Embeddings along the way to a goal in their principal plane, first seed; the star is the embedded goal",
    )


def _steps(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return the rows of the first seed that are steps."""
    return [row for one in outcomes[:1] for row in one.measured.rows if row["embedding"] == "phi"]


def _draw_plane(axes: Axes, outcome: Outcome, scale: Normalize) -> None:
    """Draw the steps as dots coloured by distance, joined in order, and the goal as a star."""
    steps, star = _steps([outcome]), outcome.measured.rows[-1]
    x, y, distance = (np.array([row[name] for row in steps], float) for name in ("pc1", "pc2", "distance"))
    axes.plot(x, y, color=DARK, linewidth=0.5, alpha=0.4, zorder=1)
    axes.scatter(x, y, c=distance, norm=scale, cmap="viridis_r", s=14, zorder=2)
    axes.plot(star["pc1"], star["pc2"], "*", color="#f0c000", markeredgecolor=DARK, markersize=13, zorder=3)
    axes.set_aspect("equal", "datalim")
    share = outcome.score("variance_in_plane")
    missed = "" if star["reached"] == "yes" else ", goal missed"
    title = f"{outcome.case.labels['task']}, depth {outcome.case.labels['depth']}{missed}"
    tidy(axes, title, f"first component ({share:.0%} in this plane)", "second component")


REPRESENTATION = register_study(
    Study(
        name="representation",
        question="How do the embeddings of states spread on the way to a goal, and near it?",
        tasks=TASKS,
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        measure=measure,
    )
)
