"""Time to draw the batches of a round of gradient steps: kilolayer.data against relabelling one window per environment.

All forms draw 800 batches of 256 from the same buffer. It has the size that the paper trains the ant with: 512
environments x 10,000 steps, observations of 29 numbers, goals of 2, actions of 8.

* `kilolayer` draws each batch from the whole buffer, at a constant cost per sample.
* `naive` takes one window of 1000 steps from every environment, weighs all pairs of its steps by discount^(j - i),
  draws a goal for each step, shuffles all samples and keeps 800 batches. `naive at once` does this for all environments
  together, which takes about 8 GiB; `naive one by one` does it for one environment after another.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.bench.floor import copy_rate
from kilolayer.bench.memory import program_memory
from kilolayer.bench.process import device_name, peak_bytes, run_apart
from kilolayer.bench.timing import compile_program, seconds_of
from kilolayer.data import Batch, ReplayBuffer, Trajectory, empty_buffer, insert, sample_hindsight
from kilolayer.errors import ConfigurationError

NUM_ENVS, CAPACITY = 512, 10_000
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8
NUM_BATCHES, BATCH_SIZE = 800, 256
DISCOUNT = 0.99
WINDOW = 1000
CHUNK = 500
MEAN_EPISODE = 400


@dataclasses.dataclass(frozen=True)
class ReplayCost:
    """One line of the table."""

    form: str
    batch_size: int
    num_batches: int
    num_envs: int
    capacity: int
    trace_seconds: float
    compile_seconds: float
    step_seconds: float
    """Time to draw all batches divided by their number; median over the rounds."""
    fastest_seconds: float
    slowest_seconds: float
    floor_seconds: float
    """Bytes of a batch divided by the copy rate."""
    scratch_bytes: int | None
    """Memory that the program needs beyond the buffer and the batches."""
    peak_bytes: int
    device: str


def bench_replay(
    *, rounds: int = 5, against_naive: bool = False, log: Callable[[str], object] = id
) -> Iterator[ReplayCost]:
    """Measure each form in a process of its own.

    Args:
        rounds: to take the median of; the naive forms get one.
        against_naive: measure the naive forms too.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read, one line for each form.

    Raises:
        ConfigurationError: at the call, for less than one round.
        KilolayerError: while measuring, if a process fails, for example without enough memory.
    """
    if rounds < 1:
        raise ConfigurationError(f"rounds={rounds} must be at least 1")
    forms = ("kilolayer", *(("naive at once", "naive one by one") if against_naive else ()))
    return _measure_forms({form: rounds if form == "kilolayer" else 1 for form in forms}, log)


def _measure_forms(rounds: Mapping[str, int], log: Callable[[str], object]) -> Iterator[ReplayCost]:
    for form, count in rounds.items():
        log(f"{form}: drawing {NUM_BATCHES} batches")
        yield ReplayCost(**run_apart(f"{__name__}:measure", {"form": form, "rounds": count}))


def _filled_buffer(key: PRNGKeyArray) -> ReplayBuffer:
    """Return a full buffer with episodes of random lengths; the oldest step is in row 0."""

    def chunk(key: PRNGKeyArray) -> Trajectory:
        observation_key, action_key, done_key = jax.random.split(key, 3)
        observation = jax.random.normal(observation_key, (CHUNK, NUM_ENVS, OBSERVATION_SIZE))
        return Trajectory(
            observation=observation,
            achieved_goal=observation[..., :GOAL_SIZE],
            desired_goal=observation[..., -GOAL_SIZE:],
            action=jax.random.uniform(action_key, (CHUNK, NUM_ENVS, ACTION_SIZE), minval=-1.0, maxval=1.0),
            terminated=jnp.zeros((CHUNK, NUM_ENVS), bool),
            diverged=jnp.zeros((CHUNK, NUM_ENVS), bool),
            done=jax.random.bernoulli(done_key, 1.0 / MEAN_EPISODE, (CHUNK, NUM_ENVS)),
        )

    add = jax.jit(lambda buffer, key: insert(buffer, chunk(key)), donate_argnums=0)
    buffer = empty_buffer(CAPACITY, NUM_ENVS, OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    for chunk_key in jax.random.split(key, CAPACITY // CHUNK):
        buffer = add(buffer, chunk_key)
    return buffer


def _draw_from_buffer(buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
    """Draw the batches one after another."""

    def draw(_: None, key: PRNGKeyArray) -> tuple[None, Batch]:
        return None, sample_hindsight(buffer, (BATCH_SIZE,), DISCOUNT, key)

    _, batches = jax.lax.scan(draw, None, jax.random.split(key, NUM_BATCHES))
    return batches


def _draw_from_windows(buffer: ReplayBuffer, key: PRNGKeyArray, *, at_once: int) -> Batch:
    """Relabel one window of every environment, `at_once` environments together; then shuffle and keep as many samples
    as the other form draws."""
    start_key, goal_key, shuffle_key = jax.random.split(key, 3)
    starts = jax.random.randint(start_key, (NUM_ENVS,), 0, CAPACITY - WINDOW + 1)
    rows = starts[:, None] + jnp.arange(WINDOW)
    environments = jnp.arange(NUM_ENVS)[:, None]
    steps_ahead = jnp.arange(WINDOW) - jnp.arange(WINDOW)[:, None]
    weights = jnp.where(steps_ahead > 0, DISCOUNT ** steps_ahead.astype(jnp.float32), 0.0)

    def goal_indices(episode: Int[Array, " window"], key: PRNGKeyArray) -> Int[Array, " window"]:
        same_episode = episode[:, None] == episode
        # A step without a future takes its own state as the goal: that is the weight on the diagonal.
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


def measure(form: str, rounds: int) -> dict[str, Any]:
    """Measure one form in this process and return the fields of `ReplayCost`."""
    buffer = jax.block_until_ready(_filled_buffer(jax.random.key(0)))
    forms: dict[str, Callable[[ReplayBuffer, PRNGKeyArray], Batch]] = {
        "kilolayer": _draw_from_buffer,
        "naive at once": partial(_draw_from_windows, at_once=NUM_ENVS),
        "naive one by one": partial(_draw_from_windows, at_once=1),
    }
    draw = forms[form]
    program = compile_program(jax.jit(draw), buffer, jax.random.key(0))

    def run(seed: int) -> Batch:
        return jax.block_until_ready(program.compiled(buffer, jax.random.key(seed)))

    batches = run(0)
    seconds = [seconds_of(run, seed) / NUM_BATCHES for seed in range(1, rounds + 1)]
    peak, scratch = peak_bytes(), program_memory(program.compiled).scratch
    return {
        "form": form,
        "batch_size": BATCH_SIZE,
        "num_batches": NUM_BATCHES,
        "num_envs": NUM_ENVS,
        "capacity": CAPACITY,
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "step_seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "floor_seconds": sum(leaf.nbytes for leaf in jax.tree.leaves(batches)) / NUM_BATCHES / copy_rate(),
        "scratch_bytes": None if math.isnan(scratch) else int(scratch),
        "peak_bytes": peak,
        "device": device_name(),
    }
