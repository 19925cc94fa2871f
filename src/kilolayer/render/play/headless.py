"""Episodes that nobody watches, and what is to be said of them."""

import dataclasses

import jax
import numpy as np

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment
from kilolayer.envs.entries import common_unit
from kilolayer.errors import TrainingError
from kilolayer.policies import Policy
from kilolayer.render.play.actors import Actions, actor_of, check_actions
from kilolayer.training import Episodes, run_episodes, summarize


@dataclasses.dataclass(frozen=True)
class Played:
    """What episodes came to."""

    actions: Actions
    """What chose the actions."""
    metrics: dict[str, float]
    """Means over episodes and their standard errors, as `summarize` has them, and `eval/distance_moved`: the farthest
    that the achieved goal gets from where it is at the start."""
    unit: str
    """Of the distance moved, such as m; empty if the task does not name its goals."""


def play_headless(
    environment: Environment,
    policy: Policy | None = None,
    *,
    actions: str | None = None,
    num_episodes: int,
    mode: ActionMode = "deterministic",
    seed: int = 0,
) -> Played:
    """Run whole episodes.

    Args:
        environment: to run in.
        policy: that can choose the actions; None for none.
        actions: `policy`, `zero` or `random`; None for the policy, or else `random`.
        num_episodes: how many.
        mode: how the policy chooses.
        seed: of starts, goals and actions.

    Raises:
        ConfigurationError: if there is no policy to choose the actions.
        TrainingError: if an observation or an action is not finite.
    """
    chosen = check_actions(actions, policy)
    actor, state = actor_of(chosen, environment, policy)
    episodes = run_episodes(actor, state, environment, jax.random.key(seed), num_episodes=num_episodes, mode=mode)
    if not bool(episodes.finite):
        raise TrainingError(f"an episode in {environment.name} is not finite")
    moved = _moved(episodes)
    error = float(moved.std(ddof=1) / moved.size**0.5) if moved.size > 1 else float("nan")
    metrics = summarize(episodes) | {
        "eval/distance_moved": float(moved.mean()),
        "eval/distance_moved_stderr": error,
    }
    return Played(chosen, metrics, common_unit(environment.task, "goal"))


def _moved(episodes: Episodes) -> np.ndarray:
    """Return for each episode how far its achieved goal gets from the first one."""
    achieved, alive = np.asarray(episodes.achieved_goal), np.asarray(episodes.alive)
    away = np.linalg.norm(achieved[1:] - achieved[:1], axis=-1)
    return np.where(alive, away, 0.0).max(axis=0)
