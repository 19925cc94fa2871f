"""Time to draw the batches of a round of gradient steps: kilolayer.data against relabelling one window per environment.

All forms draw 800 batches from the same buffer, of 256 rows unless said otherwise. It has the size that the paper
trains the ant with: 512 environments x 10,000 steps, observations of 29 numbers, goals of 2, actions of 8.

* `kilolayer` draws each batch from the whole buffer, at a constant cost per sample.
* `naive` takes one window of 1000 steps from every environment, weighs all pairs of its steps by discount^(j - i),
  draws a goal for each step, shuffles all samples and keeps 800 batches. `naive at once` does this for all environments
  together, which takes about 8 GiB; `naive one by one` does it for one environment after another.
* `survival labels` draws batches of 512 and labels when each goal is first reached in the 1000 steps that follow, and
  how near it is in each of them. In the same process a contrastive batch of as many rows is drawn in turn with it.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.bench.floor import copy_rate
from kilolayer.bench.memory import program_memory
from kilolayer.bench.process import device_name, peak_bytes, run_apart
from kilolayer.bench.timing import compile_program, seconds_of
from kilolayer.data import (
    Arrivals,
    Batch,
    Draw,
    ReplayBuffer,
    Trajectory,
    empty_buffer,
    insert,
    prepare_arrivals,
    sample_arrivals,
    sample_hindsight,
)
from kilolayer.errors import ConfigurationError

NUM_ENVS, CAPACITY = 512, 10_000
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8
NUM_BATCHES, BATCH_SIZE = 800, 256
LABELLED = 512
"""Rows in a batch of labels."""
DISCOUNT = 0.99
WINDOW = 1000
"""Steps that the naive forms relabel together, and that labels look ahead."""
RADIUS = 0.5
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
    contrastive_ratio: float | None
    """Of labels: `step_seconds` over that of contrastive batches of as many rows, which take turns with them."""
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
    forms = {"kilolayer": rounds, "survival labels": rounds}
    return _measure_forms(forms | ({"naive at once": 1, "naive one by one": 1} if against_naive else {}), log)


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


def _last_of(draw: Callable[[PRNGKeyArray], Any], key: PRNGKeyArray) -> Any:
    """Draw the batches one after another and return the last: all together, labels take gigabytes."""
    keys = jax.random.split(key, NUM_BATCHES)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(draw, keys[0]))
    return jax.lax.scan(lambda _, key: (draw(key), None), blank, keys)[0]


def _draw_contrastive(buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
    """Draw batches that have as many rows as those of labels."""
    return _last_of(lambda key: sample_hindsight(buffer, (LABELLED,), DISCOUNT, key), key)


def _draw_labels(buffer: ReplayBuffer, key: PRNGKeyArray) -> Arrivals:
    """Draw batches with labels. What is prepared once for a round of gradient steps counts too."""
    draw = Draw(
        success=lambda achieved, goal: jnp.linalg.norm(achieved - goal) < RADIUS,
        horizon=WINDOW,
        discount=DISCOUNT,
        own_goals=0.05,
        random_goals=0.1,
    )
    data = prepare_arrivals(buffer, draw)
    return _last_of(lambda key: sample_arrivals(data, LABELLED, draw, key), key)


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


FORMS: dict[str, Callable[[ReplayBuffer, PRNGKeyArray], Any]] = {
    "kilolayer": _draw_from_buffer,
    "survival labels": _draw_labels,
    "naive at once": lambda buffer, key: _draw_from_windows(buffer, key, at_once=NUM_ENVS),
    "naive one by one": lambda buffer, key: _draw_from_windows(buffer, key, at_once=1),
}


def measure(form: str, rounds: int) -> dict[str, Any]:
    """Measure one form in this process and return the fields of `ReplayCost`."""
    draw, labels = FORMS[form], form == "survival labels"
    buffer = jax.block_until_ready(_filled_buffer(jax.random.key(0)))
    program = compile_program(jax.jit(draw), buffer, jax.random.key(0))
    sides = [program.compiled]
    if labels:
        sides.append(compile_program(jax.jit(_draw_contrastive), buffer, jax.random.key(0)).compiled)

    def run(side: Any, seed: int) -> Any:
        return jax.block_until_ready(side(buffer, jax.random.key(seed)))

    batches, *_ = [run(side, 0) for side in sides]
    timed = [[seconds_of(run, side, seed) / NUM_BATCHES for side in sides] for seed in range(1, rounds + 1)]
    seconds, *contrastive = (list(column) for column in zip(*timed, strict=True))
    peak, scratch = peak_bytes(), program_memory(program.compiled).scratch
    bytes_of_batch = sum(leaf.nbytes for leaf in jax.tree.leaves(batches)) / (1 if labels else NUM_BATCHES)
    return {
        "form": form,
        "batch_size": LABELLED if labels else BATCH_SIZE,
        "num_batches": NUM_BATCHES,
        "num_envs": NUM_ENVS,
        "capacity": CAPACITY,
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "step_seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "contrastive_ratio": statistics.median(seconds) / statistics.median(contrastive[0]) if labels else None,
        "floor_seconds": bytes_of_batch / copy_rate(),
        "scratch_bytes": None if math.isnan(scratch) else int(scratch),
        "peak_bytes": peak,
        "device": device_name(),
    }
