"""Time to draw the batches of a step: kilolayer.replay against one relabelled window per environment.

Both sides draw 800 batches of 256 from the same buffer, of the size that the paper trains the ant with: 512
environments x 10,000 steps, observations of 29 numbers, goals of 2, actions of 8.

* `kilolayer.replay` draws each batch by itself, from the whole buffer, at a constant cost per sample.
* The straightforward way takes one window of 1000 steps from every environment, weighs all pairs of its steps
  by discount^(j - i), draws a goal for each step, shuffles all of them and keeps 800 batches. It is timed for
  all environments at once, which takes about 8 GiB, and for one environment after another.

    python benchmarks/replay.py [--json] [--repeats N]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.replay import Batch, ReplayBuffer, Trajectory, empty_buffer, insert, sample_hindsight

NUM_ENVS, CAPACITY = 512, 10_000
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8
NUM_BATCHES, BATCH_SIZE = 800, 256
DISCOUNT = 0.99
WINDOW = 1000
CHUNK = 500
MEAN_EPISODE = 400


def filled_buffer(key: PRNGKeyArray) -> ReplayBuffer:
    """Return a full buffer of episodes of random lengths, oldest step in row 0."""

    def chunk(key: PRNGKeyArray) -> Trajectory:
        observation_key, action_key, done_key = jax.random.split(key, 3)
        observation = jax.random.normal(observation_key, (CHUNK, NUM_ENVS, OBSERVATION_SIZE))
        return Trajectory(
            observation=observation,
            achieved_goal=observation[..., :GOAL_SIZE],
            action=jax.random.uniform(action_key, (CHUNK, NUM_ENVS, ACTION_SIZE), minval=-1.0, maxval=1.0),
            done=jax.random.bernoulli(done_key, 1.0 / MEAN_EPISODE, (CHUNK, NUM_ENVS)),
        )

    add = jax.jit(lambda buffer, key: insert(buffer, chunk(key)), donate_argnums=0)
    buffer = empty_buffer(CAPACITY, NUM_ENVS, OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    for chunk_key in jax.random.split(key, CAPACITY // CHUNK):
        buffer = add(buffer, chunk_key)
    return buffer


def draw_from_buffer(buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
    """Draw every batch by itself."""

    def draw(_: None, key: PRNGKeyArray) -> tuple[None, Batch]:
        return None, sample_hindsight(buffer, (BATCH_SIZE,), DISCOUNT, key)

    _, batches = jax.lax.scan(draw, None, jax.random.split(key, NUM_BATCHES))
    return batches


def draw_from_windows(buffer: ReplayBuffer, key: PRNGKeyArray, *, at_once: int) -> Batch:
    """Relabel one window of every environment, `at_once` together, shuffle, and keep as many batches."""
    start_key, goal_key, shuffle_key = jax.random.split(key, 3)
    starts = jax.random.randint(start_key, (NUM_ENVS,), 0, CAPACITY - WINDOW + 1)
    rows = starts[:, None] + jnp.arange(WINDOW)
    environments = jnp.arange(NUM_ENVS)[:, None]
    steps_ahead = jnp.arange(WINDOW) - jnp.arange(WINDOW)[:, None]
    weights = jnp.where(steps_ahead > 0, DISCOUNT ** steps_ahead.astype(jnp.float32), 0.0)

    def goal_indices(episode: Int[Array, " window"], key: PRNGKeyArray) -> Int[Array, " window"]:
        same_episode = episode[:, None] == episode
        # The weight on the diagonal is for steps without a future: their goal is their own state.
        probabilities = jnp.where(same_episode, weights, 0.0) + 1e-5 * jnp.eye(WINDOW)
        return jax.random.categorical(key, jnp.log(probabilities))

    episodes = buffer.episode[rows, environments]
    goal_keys = jax.random.split(goal_key, NUM_ENVS)
    if at_once == NUM_ENVS:
        goals = jax.vmap(goal_indices)(episodes, goal_keys)
    else:
        goals = jax.lax.map(lambda pair: goal_indices(*pair), (episodes, goal_keys), batch_size=at_once)
    goal_rows = jnp.take_along_axis(rows, goals, axis=1)

    num_samples = NUM_ENVS * (WINDOW - 1)
    kept = jax.random.permutation(shuffle_key, num_samples)[: NUM_BATCHES * BATCH_SIZE]

    def cut(ring: Float[Array, "capacity num_envs size"], rows: Int[Array, "num_envs window"]) -> Array:
        samples = ring[rows[:, :-1], environments].reshape(num_samples, -1)
        return samples[kept].reshape(NUM_BATCHES, BATCH_SIZE, -1)

    return Batch(
        observation=cut(buffer.observation, rows),
        action=cut(buffer.action, rows),
        desired_goal=cut(buffer.achieved_goal, goal_rows),
    )


def measure(draw: Callable[[ReplayBuffer, PRNGKeyArray], Batch], buffer: ReplayBuffer, repeats: int) -> dict[str, Any]:
    """Compile, run once to warm up, and time `repeats` runs."""
    compiled = jax.jit(draw).lower(buffer, jax.random.key(0)).compile()
    jax.block_until_ready(compiled(buffer, jax.random.key(0)))
    seconds = []
    for seed in range(1, repeats + 1):
        key = jax.random.key(seed)
        began = time.perf_counter()
        jax.block_until_ready(compiled(buffer, key))
        seconds.append(time.perf_counter() - began)
    memory = compiled.memory_analysis()
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "repeats": repeats,
        "scratch_gib": memory.temp_size_in_bytes / 2**30 if memory is not None else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to draw the batches of one training step.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of kilolayer.replay (default: 5)")
    parser.add_argument("--window-repeats", type=int, default=1, help="timed runs of the other way (default: 1)")
    options = parser.parse_args()
    buffer = jax.block_until_ready(filled_buffer(jax.random.key(0)))
    rows = {"kilolayer.replay": measure(draw_from_buffer, buffer, options.repeats)}
    for name, at_once in (("windows, all at once", NUM_ENVS), ("windows, one after another", 1)):
        rows[name] = measure(partial(draw_from_windows, at_once=at_once), buffer, options.window_repeats)
    own = rows["kilolayer.replay"]["seconds"]
    for row in rows.values():
        row["ratio"] = row["seconds"] / own
    device = jax.devices()[0].device_kind
    if options.json:
        settings = {
            "batches": NUM_BATCHES,
            "batch_size": BATCH_SIZE,
            "num_envs": NUM_ENVS,
            "capacity": CAPACITY,
        }
        machine = {"device": device, "cores": os.cpu_count(), "jax": jax.__version__}
        print(json.dumps({**machine, **settings, "rows": rows}, indent=2))
        return
    print(f"{NUM_BATCHES} batches of {BATCH_SIZE} from {NUM_ENVS} x {CAPACITY} steps on {device}\n")
    print(f"{'':28}{'seconds':>10}{'fastest':>10}{'slowest':>10}{'runs':>6}{'scratch GiB':>13}{'ratio':>8}")
    for name, row in rows.items():
        scratch = "" if row["scratch_gib"] is None else f"{row['scratch_gib']:.2f}"
        print(
            f"{name:28}{row['seconds']:>10.3f}{row['fastest']:>10.3f}{row['slowest']:>10.3f}"
            f"{row['repeats']:>6}{scratch:>13}{row['ratio']:>8.1f}"
        )


if __name__ == "__main__":
    main()
