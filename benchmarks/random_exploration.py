"""What does a critic learn of a maze from random exploration alone, shallow and deep?

A disc wanders through a maze with random forces, from starts everywhere; an agent learns from what was recorded, and
collects nothing itself. Written down: the rank correlation of its value with the way to six goals, and its success.

    python benchmarks/random_exploration.py [--maze hardest] [--depths 4 16] [--seeds 2] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from kilolayer.data import ReplayBuffer, Trajectory
from kilolayer.data.ring_buffer import empty_buffer, insert
from kilolayer.envs import Environment
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.envs.mazes.layouts import LAYOUTS
from kilolayer.runs import TrainConfig
from kilolayer.runs.run_directory import describe_system
from kilolayer.training import Setup, run_episodes

NUM_ENVS, NUM_STEPS = 128, 1000
"""Of the recording: 128,000 env steps, and 640 episodes."""
HOLD = 10
"""Steps that a random force is held for, in the mean."""
EVALUATIONS, EPISODES, GOALS, PER_CELL = 6, 128, 6, 5


def perfect_maze(size: int, *, openings: float = 0.1) -> list[str]:
    """Return a maze of size x size rooms with a single way between any two, then with some walls opened."""
    edge = 2 * size + 1
    walls = np.ones((edge, edge), bool)
    draws = np.random.default_rng(0)
    walls[1, 1], stack = False, [(1, 1)]
    while stack:
        i, j = stack[-1]
        ways = [(a, b) for a, b in ((2, 0), (-2, 0), (0, 2), (0, -2)) if 0 < i + a < edge and 0 < j + b < edge]
        ways = [(a, b) for a, b in ways if walls[i + a, j + b]]
        if not ways:
            stack.pop()
            continue
        a, b = ways[draws.integers(len(ways))]
        walls[i + a // 2, j + b // 2] = walls[i + a, j + b] = False
        stack.append((i + a, j + b))
    inner = [(i, j) for i in range(1, edge - 1) for j in range(1, edge - 1) if walls[i, j] and i % 2 != j % 2]
    for i, j in inner:
        walls[i, j] = draws.random() >= openings
    return ["".join("#" if wall else "." for wall in row) for row in walls]


def with_starts_and_goals(rows: list[str]) -> str:
    """Make every free cell a start or a goal, like the fields of a chessboard."""
    return "".join(
        "".join("#" if cell == "#" else "RG"[(i + j) % 2] for j, cell in enumerate(row)) + "\n"
        for i, row in enumerate(rows)
    )


@eqx.filter_jit
def explore(environment: Environment, key: jax.Array) -> Trajectory:
    """Push every disc with a random force, and now and then with another one."""
    reset_key, *keys = jax.random.split(key, NUM_STEPS + 1)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, Trajectory]:
        state, force = carry
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
        )

    start = (environment.reset(reset_key, NUM_ENVS), jnp.zeros((NUM_ENVS, environment.action_size)))
    return jax.lax.scan(step, start, jnp.stack(keys))[1]


def learn(setup: Setup, buffer: ReplayBuffer, seeds: int, gradient_steps: int) -> list[dict[str, Any]]:
    """Learn from the recording, all seeds at once; a row for each evaluation."""
    agent, environment = setup.agent, setup.environment
    task: Any = environment.task
    points = free_points(task.maze, task.clearance, per_cell=PER_CELL)
    seen = jax.vmap(task.observations_at)(points.astype(np.float32))
    centres = task.maze.centres(task.maze.goal_cells)
    goals = centres[np.random.default_rng(0).permutation(len(centres))[:GOALS]]
    ways = [shortest_paths(task.maze, task.clearance, goal, per_cell=PER_CELL) for goal in goals]

    @eqx.filter_jit
    def updates(states: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        def one(state: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            keys = jax.random.split(key, gradient_steps // EVALUATIONS)
            return jax.lax.scan(lambda state, key: agent.update(state, buffer, key), state, keys)

        return jax.vmap(one)(states, jax.random.split(key, seeds))

    @eqx.filter_jit
    def values(states: Any, goal: jax.Array) -> jax.Array:
        everywhere = jnp.broadcast_to(goal, (*seen.shape[:2], goal.size))
        return jax.vmap(lambda state: agent.value(state, seen, everywhere).mean(axis=1))(states)

    @eqx.filter_jit
    def successes(states: Any, key: jax.Array) -> jax.Array:
        return jax.vmap(lambda state: run_episodes(agent, state, environment, key, num_episodes=EPISODES).success)(
            states
        )

    states = eqx.filter_vmap(agent.init)(jax.random.split(jax.random.key(1), seeds))
    begun, rows = time.perf_counter(), []
    for number in range(EVALUATIONS):
        states, metrics = updates(states, jax.random.fold_in(jax.random.key(2), number))
        ranks = [
            [scipy.stats.spearmanr(value, -way).statistic for value in values(states, jnp.float32(goal))]
            for goal, way in zip(goals, ways, strict=True)
        ]
        rows.append(
            {
                "gradient_steps": (number + 1) * (gradient_steps // EVALUATIONS),
                "critic_loss": np.asarray(metrics["critic_loss"])[:, -200:].mean(axis=1).tolist(),
                "rank_correlation": np.mean(ranks, axis=0).tolist(),
                "success_any": np.asarray(successes(states, jax.random.key(3))).any(axis=1).mean(axis=-1).tolist(),
                "seconds": round(time.perf_counter() - begun, 1),
            }
        )
        print(f"depth {setup.depth}: {rows[-1]}", flush=True)
    return rows


def main() -> None:
    """Explore once, learn at each depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maze", default="hardest", help="a layout, or the edge of a drawn maze in rooms, such as 10")
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--gradient-steps", type=int, default=9000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    layout = LAYOUTS.get(arguments.maze)
    maze = with_starts_and_goals(layout.split() if layout else perfect_maze(int(arguments.maze)))
    settings: dict[str, Any] = {"width": 64, "batch_size": 256, "episode_length": 200}
    found: dict[str, Any] = {"maze": maze, "settings": settings, "system": describe_system(), "depths": {}}
    for depth in arguments.depths:
        setup = Setup.build(TrainConfig(env=maze, depth=depth, **settings))
        environment = setup.environment
        sizes = (environment.observation_size, environment.goal_size, environment.action_size)
        recorded = explore(environment, jax.random.key(0))
        buffer = insert(empty_buffer(NUM_STEPS, NUM_ENVS, *sizes), recorded)
        found["depths"][depth] = learn(setup, buffer, arguments.seeds, arguments.gradient_steps)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
