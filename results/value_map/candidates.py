"""Which map of a trained agent orders the places of a maze by their distance to a goal?

For runs in point mazes: rank correlation of many candidate maps with minus the shortest-path distance, for a few goals
and checkpoints, beside the success rate. For contrastive agents at the end of a run also the quantity that the critic
estimates, log p(g | s, a) / p(g), counted in the agent's own episodes. `docs/studies/value_map.md` explains the
candidates.

    kilolayer train point_u_maze --seed 0 --run-dir runs/demo --checkpoints-to-keep 20
    python results/value_map/candidates.py runs/demo [--checkpoints 204800 800000] [--out results/value_map]
"""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from scipy.spatial import KDTree
from scipy.special import logsumexp

from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.policies import Policy
from kilolayer.report.steps_to_goal import starting_at
from kilolayer.report.values import chosen_goals
from kilolayer.runs import RunDirectory
from kilolayer.runs.run_directory import describe_system
from kilolayer.training import Setup, load_policy, load_with_setup, run_episodes

PER_CELL = 5
"""Places along the edge of a cell, at which maps are compared."""
ROLLOUT = 100
"""Steps in which an agent can reach the goal from a place."""
SPEEDS = (2.0, 4.0)
"""Metres per second: how fast the disc passes a place. The trained discs drive at 2 on average, and at 4 at most."""
EPISODES, QUERIES, NEIGHBOURS, FUTURES, NEAR = 1024, 1500, 64, 16, 0.3
"""To count the log-ratio: episodes of the agent, steps in them at which it is counted, steps like each of them, futures
drawn for each of these, and metres within which a future counts as at the goal."""

ANGLES = np.arange(16) * (np.pi / 8)
ACTIONS = np.concatenate([np.zeros((1, 2)), np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)]).astype(np.float32)
"""Actions that a critic is asked to compare: no push, and pushes in 16 directions."""


def score(agent: Any, state: Any, observation: Any, action: Any, goal: Any) -> jax.Array:
    """Return the critic's value of an action, for any of the agents that have one."""
    critic = state.critic
    if hasattr(critic, "phi"):
        return agent.energy.pairs(critic.encode_state_action(observation, action), critic.encode_goal(goal))
    if hasattr(critic, "least"):
        return critic.least(observation, action, goal)
    return agent.score(critic, observation, action, goal)


class Probe:
    """A maze, its places and goals, and compiled functions that ask the agent of a run about them."""

    def __init__(self, policy: Policy, setup: Setup):
        """Lay out the places."""
        self.agent, self.training_environment = setup.agent, setup.environment
        self.environment: Any = setup.eval_environment
        task: Any = self.environment.task
        maze, clearance = task.maze, task.clearance
        self.places = free_points(maze, clearance, per_cell=PER_CELL).astype(np.float32)
        self.goals = chosen_goals(maze).astype(np.float32)
        centres = maze.centres(maze.free_cells).astype(np.float32)
        self.references = np.concatenate([self.places, centres, self.goals])
        """Goals that values are asked for: all places, the centres of all free cells, and the goals of the maps."""
        self.of_places = slice(0, len(self.places))
        self.of_centres = slice(len(self.places), len(self.places) + len(centres))
        self.of_goals = slice(len(self.places) + len(centres), None)
        self.distance = np.stack(
            [shortest_paths(maze, clearance, goal, per_cell=PER_CELL) for goal in self.references], axis=-1
        )
        self.values = jax.jit(self._values)
        self.action_values = jax.jit(self._action_values)
        self.from_places = [
            starting_at(self.environment, self.places, np.broadcast_to(goal, self.places.shape)) for goal in self.goals
        ]
        self.rollout = jax.jit(self._rollout, static_argnames="environment")

    def _values(self, state: Any, observation: jax.Array) -> jax.Array:
        """Return the value of each observation for each reference goal, on a last axis."""

        def of_goal(goal: jax.Array) -> jax.Array:
            return self.agent.value(state, observation, jnp.broadcast_to(goal, (*observation.shape[:-1], 2)))

        return jnp.moveaxis(jax.lax.map(of_goal, jnp.asarray(self.references)), 0, -1)

    def _action_values(self, state: Any, observation: jax.Array, goal: jax.Array) -> jax.Array:
        """Return the critic's value of each of `ACTIONS`, on a last axis."""
        shape = (*observation.shape[:-1], len(ACTIONS))
        return score(
            self.agent,
            state,
            jnp.broadcast_to(observation[..., None, :], (*shape, observation.shape[-1])),
            jnp.broadcast_to(jnp.asarray(ACTIONS), (*shape, 2)),
            jnp.broadcast_to(goal[..., None, :], (*shape, 2)),
        )

    def _rollout(self, state: Any, environment: Any) -> jax.Array:
        """Return the steps to the goal where the critic alone chooses among `ACTIONS`; `ROLLOUT` if not reached."""

        def step(now: Any, _: None) -> tuple[Any, jax.Array]:
            best = jnp.argmax(self._action_values(state, now.observation, now.desired_goal), axis=-1)
            now, result = environment.step(now, jnp.asarray(ACTIONS)[best])
            return now, result.success

        _, success = jax.lax.scan(step, environment.reset(jax.random.key(0), len(self.places)), length=ROLLOUT)
        return jnp.where(success.any(axis=0), success.argmax(axis=0), ROLLOUT)

    def states(self, speed: float) -> np.ndarray:
        """Return each place with the disc at rest, or passing in eight directions: places x states x 4."""
        if speed == 0.0:
            return np.concatenate([self.places, np.zeros_like(self.places)], axis=-1)[:, None]
        velocity = np.broadcast_to(speed * ACTIONS[1::2], (len(self.places), 8, 2))
        places = np.broadcast_to(self.places[:, None], velocity.shape)
        return np.concatenate([places, velocity], axis=-1).astype(np.float32)

    def correlations(self, maps: np.ndarray, *, rows: np.ndarray | None = None) -> list[float]:
        """Return the rank correlation for each goal of maps (places x goals) with minus the distance."""
        distance = self.distance[:, self.of_goals]
        distance = distance if rows is None else distance[rows]
        return [
            float(scipy.stats.spearmanr(value, -true).statistic) for value, true in zip(maps.T, distance.T, strict=True)
        ]


def offsets(probe: Probe, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return what can be taken from values (... x references) to remove an offset of the state."""
    of_places = values[..., probe.of_places]
    return {
        "": np.zeros(1),
        " - mean over cell centres": values[..., probe.of_centres].mean(axis=-1, keepdims=True),
        " - mean over places": of_places.mean(axis=-1, keepdims=True),
        " - logsumexp over places": logsumexp(of_places, axis=-1, keepdims=True),
        " - max over places": of_places.max(axis=-1, keepdims=True),
    }


def candidates(probe: Probe, state: Any) -> dict[str, list[float]]:
    """Return the rank correlations of all maps for each goal."""
    count = len(probe.places)
    exact = (probe.distance[:, probe.of_centres].mean(axis=1, keepdims=True) - probe.distance)[:, probe.of_goals]
    found = {"minus the distance - mean over cell centres": probe.correlations(exact)}
    number = np.arange(count)
    for speed in (0.0, *SPEEDS):
        name = f"value at {speed:.0f} m/s" if speed else "value at rest"
        values = np.asarray(probe.values(state, probe.states(speed)))
        for taken, offset in offsets(probe, values).items():
            found[name + taken] = probe.correlations((values - offset)[..., probe.of_goals].mean(axis=1))
        own = values[number, :, number][..., None]
        found[f"{name} - value of its own place"] = probe.correlations((values - own)[..., probe.of_goals].mean(axis=1))
        if speed:
            found[f"{name}, best direction"] = probe.correlations(values[..., probe.of_goals].max(axis=1))
        of_places, of_goals = values[..., probe.of_places], values[..., probe.of_goals]
        below = [(of_places < of_goals[..., [j]]).mean(axis=(1, 2)) for j in range(len(probe.goals))]
        found[f"{name}: share of places valued below the goal"] = probe.correlations(np.stack(below, axis=-1))
        square = of_places.mean(axis=1)
        centred = square - square.mean(axis=0) - square.mean(axis=1, keepdims=True)
        nearest = KDTree(probe.places).query(probe.goals)[1]
        found[f"{name}, doubly centred, both ways"] = probe.correlations((centred + centred.T)[:, nearest])
    found |= of_actions(probe, state)
    if hasattr(state.critic, "psi"):
        psi = np.asarray(state.critic.encode_goal(jnp.asarray(probe.references)))
        away = np.linalg.norm(psi[:count, None] - psi[None, probe.of_goals], axis=-1)
        found["psi(place) to psi(goal)"] = probe.correlations(-away)
    return found


def of_actions(probe: Probe, state: Any) -> dict[str, list[float]]:
    """Return the rank correlations of maps that compare actions, or follow them."""
    rest, found = probe.states(0.0)[:, 0], {}
    values = np.stack(
        [
            np.asarray(probe.action_values(state, rest, np.broadcast_to(goal, rest[:, :2].shape)))
            for goal in probe.goals
        ],
        axis=1,
    )
    found["best action at rest"] = probe.correlations(values.max(axis=-1))
    found["best action at rest - no push"] = probe.correlations(values.max(axis=-1) - values[..., 0])
    found["best action at rest - mean action"] = probe.correlations(values.max(axis=-1) - values.mean(axis=-1))
    by_critic = [np.asarray(probe.rollout(state, environment)) for environment in probe.from_places]
    found["steps to the goal, actions chosen by the critic alone"] = probe.correlations(-np.stack(by_critic, axis=-1))
    by_policy = []
    for environment in probe.from_places:
        episodes = run_episodes(probe.agent, state, environment, jax.random.key(0), num_episodes=len(probe.places))
        success = np.asarray(episodes.success)[:ROLLOUT]
        by_policy.append(np.where(success.any(axis=0), success.argmax(axis=0), ROLLOUT))
    found["steps to the goal, actions of the policy"] = probe.correlations(-np.stack(by_policy, axis=-1))
    return found


def log_ratio(probe: Probe, policy: Policy, state: Any) -> dict[str, list[float]]:
    """Count log p(g | s, a) / p(g) in episodes of the stochastic policy, and compare it with critic and distance.

    p(g | s, a) is counted over the steps most like (s, a), each with goals drawn from its future as in training.
    """
    environment = probe.training_environment
    episodes = run_episodes(
        probe.agent,
        state,
        environment,
        jax.random.key(1),
        num_episodes=EPISODES,
        mode="stochastic",
        keep_steps=True,
    )
    assert episodes.steps is not None
    seen, done = np.asarray(episodes.steps.observation), np.asarray(episodes.steps.action)
    achieved = np.asarray(episodes.achieved_goal)[:-1]
    length = len(seen)
    draws = np.random.default_rng(0)
    steps = np.concatenate([seen, done], axis=-1).reshape(-1, 6)
    tree = KDTree(steps / [0.2, 0.2, 0.5, 0.5, 0.5, 0.5])
    # Steps before the goal is reached: the disc is on its way.
    reached = np.asarray(episodes.success)
    first = np.where(reached.any(axis=0), reached.argmax(axis=0), length - 1)
    time, number = np.nonzero(np.arange(length)[:, None] <= first)
    chosen = draws.permutation(len(time))[:QUERIES]
    time, number = time[chosen], number[chosen]
    like = np.asarray(
        tree.query(steps.reshape(length, -1, 6)[time, number] / [0.2, 0.2, 0.5, 0.5, 0.5, 0.5], k=NEIGHBOURS)[1]
    )

    discount = policy.contract.agent.settings["discount"]

    def futures(rows: np.ndarray) -> np.ndarray:
        when, who = np.divmod(rows, EPISODES)
        horizon = (length - 1 - when)[..., None]
        uniform = draws.uniform(size=(*rows.shape, FUTURES))
        ahead = np.floor(np.log1p(-uniform * (1 - discount**horizon)) / np.log(discount)).astype(int) + 1
        return achieved[when[..., None] + np.minimum(ahead, horizon), who[..., None]]

    def share(places: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return (np.linalg.norm(places - goal, axis=-1) < NEAR).mean(axis=(-2, -1))

    own, anywhere = futures(like), futures(draws.integers(len(steps), size=(1, 20_000)))
    least = 0.5 / (NEIGHBOURS * FUTURES)
    ratios = np.stack([np.log((share(own, g) + least) / (share(anywhere, g) + least)) for g in probe.goals], axis=-1)
    observation, action = seen[time, number], done[time, number]
    critic = np.stack(
        [
            np.asarray(score(probe.agent, state, observation, action, np.broadcast_to(goal, action.shape)))
            for goal in probe.goals
        ],
        axis=-1,
    )
    place = np.asarray(KDTree(probe.places).query(observation[:, :2])[1])

    def between(a: np.ndarray, b: np.ndarray) -> list[float]:
        return [float(scipy.stats.spearmanr(x, y).statistic) for x, y in zip(a.T, b.T, strict=True)]

    return {
        "on the way: critic with counted log-ratio": between(critic, ratios),
        "on the way: counted log-ratio": probe.correlations(ratios, rows=place),
        "on the way: critic": probe.correlations(critic, rows=place),
    }


def rows_of(run: Path, checkpoints: list[str]) -> list[dict[str, Any]]:
    """Return a row for each checkpoint and candidate of a run."""
    directory = RunDirectory.open(run)
    success = {row["env_steps"]: row["eval/success_any"] for row in directory.metrics()}
    policy, setup = load_with_setup(run)
    config = directory.config()
    probe, rows = Probe(policy, setup), []
    for checkpoint in checkpoints:
        if checkpoint == "untrained":
            state, env_steps = probe.agent.init(jax.random.key(config.seed)), 0
        else:
            loaded = policy if checkpoint == "latest" else load_policy(run, checkpoint=int(checkpoint))
            state, env_steps = loaded.agent_state, loaded.env_steps
        found = candidates(probe, state)
        if checkpoint == "latest" and hasattr(state.critic, "psi"):
            found |= log_ratio(probe, policy, state)
        setting = {"env": config.env, "agent": config.agent, "seed": config.seed}
        setting |= {"env_steps": env_steps, "success_any": success.get(env_steps, "")}
        for name, ranks in found.items():
            by_goal = {f"goal_{number}": round(rank, 4) for number, rank in enumerate(ranks, 1)}
            rows.append(setting | {"candidate": name, "rank_correlation": round(float(np.mean(ranks)), 4)} | by_goal)
        print(run, env_steps, flush=True)
    return rows


def main() -> None:
    """Write the rows of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--checkpoints", nargs="*", default=[], help="env steps, besides the untrained and the latest")
    parser.add_argument("--out", type=Path, default=None, help="directory of candidates.csv and candidates.json")
    arguments = parser.parse_args()
    write: Callable[[str], Any] = print
    rows = [row for run in arguments.runs for row in rows_of(run, ["untrained", *arguments.checkpoints, "latest"])]
    if arguments.out is None:
        for row in rows:
            write(
                f"{row['env']} {row['agent']} {row['seed']} {row['env_steps']:>8} {row['rank_correlation']:6.2f} "
                f"{row['candidate']}"
            )
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "candidates.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    settings = {
        "places_per_cell": PER_CELL,
        "rollout_steps": ROLLOUT,
        "speeds": SPEEDS,
        "log_ratio": {
            "episodes": EPISODES,
            "queries": QUERIES,
            "neighbours": NEIGHBOURS,
            "futures": FUTURES,
            "near": NEAR,
        },
        "checkpoints": ["untrained", *arguments.checkpoints, "latest"],
        "runs": len(arguments.runs),
        "system": describe_system(),
    }
    (arguments.out / "candidates.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
