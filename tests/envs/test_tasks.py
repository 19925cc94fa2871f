"""All robot tasks alike: sizes, finite numbers, episodes that end and begin again, the same bits from the same seed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ants import gap_to_walls, in_a_storm, thrash

from kilolayer.envs import LAYOUTS, Environment, EnvironmentState, Maze, StepResult, make
from kilolayer.envs.tasks import Humanoid

NUM_ENVS = 64
ANT_HEIGHTS = (0.2, 1.0)
HUMANOID_HEIGHTS = (1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a task should be."""

    sizes: tuple[int, int, int]
    """Of observation, goal and action."""
    heights: tuple[float, float] | None = None
    """Of the torso, observed third: outside of them an episode is lost. None: nothing ends it but its time."""
    goal_cells: bool = False
    """Goals are the centres of cells, of which the same can be drawn twice in a row."""
    goals_move: bool = False
    """Goals change within an episode."""


TASKS = {
    "ant": Facts((29, 2, 8), ANT_HEIGHTS),
    "ant_u_maze": Facts((29, 2, 8), ANT_HEIGHTS, goal_cells=True),
    "ant_big_maze": Facts((29, 2, 8), ANT_HEIGHTS, goal_cells=True),
    "ant_u_maze_gen_1f2f3f": Facts((29, 2, 8), ANT_HEIGHTS, goal_cells=True),
    "ant_ball": Facts((31, 2, 8), ANT_HEIGHTS),
    "ant_push": Facts((31, 2, 8), ANT_HEIGHTS),
    "humanoid": Facts((246, 3, 17), HUMANOID_HEIGHTS),
    "humanoid_u_maze": Facts((246, 3, 17), HUMANOID_HEIGHTS, goal_cells=True),
    "arm_reach": Facts((13, 3, 4)),
    "arm_push_easy": Facts((17, 3, 5)),
    "arm_push_hard": Facts((17, 3, 5)),
    "arm_binpick_easy": Facts((17, 3, 5)),
    "arm_binpick_hard": Facts((17, 3, 5)),
    "arm_grasp": Facts((23, 7, 5), goals_move=True),
    "reacher": Facts((10, 3, 2)),
    "pusher_easy": Facts((20, 3, 7)),
    "pusher_hard": Facts((20, 3, 7)),
    "half_cheetah": Facts((18, 1, 6)),
}

SHORT = (60, 20)
LONG = (1000, 150)
"""Steps, and steps in an episode."""
SLOW = pytest.mark.slow
LIKE_ANOTHER = (
    "ant_big_maze",
    "ant_u_maze_gen_1f2f3f",
    "ant_push",
    "humanoid_u_maze",
    "arm_push_hard",
    "arm_binpick_hard",
    "pusher_hard",
)
"""They differ from others only in where things are."""
ROBOTS = ("ant", "humanoid", "arm_push_easy")


def rolls(*lengths: tuple[int, int], fast: tuple[str, ...]) -> Any:
    """Run a test on rolls of all tasks; the short ones of the tasks in `fast` are not slow."""
    params = [
        pytest.param(
            (name, *length), id=f"{name}-{length[0]}", marks=[] if length is SHORT and name in fast else [SLOW]
        )
        for length in lengths
        for name in TASKS
    ]
    # Module scope, so that a roll is made once for all tests and forgotten before the next is made.
    return pytest.mark.parametrize("roll", params, indirect=True, scope="module")


MOST = tuple(name for name in TASKS if name not in LIKE_ANOTHER)
on_short_and_long_rolls = rolls(SHORT, LONG, fast=MOST)
on_short_rolls = rolls(SHORT, fast=MOST)
on_short_rolls_of_few = rolls(SHORT, fast=ROBOTS)


class History(eqx.Module):
    """What happened to many robots under random actions; leading axes are time and robots."""

    first: EnvironmentState
    last: EnvironmentState
    observation: jax.Array
    """Of the states after each step: of a new episode, where one ended."""
    desired_goal: jax.Array
    episode_step: jax.Array
    result: StepResult
    moved: tuple[jax.Array, jax.Array, jax.Array]
    """What the task says of the physics that the engine makes of the state before: observed, achieved, failed."""
    starts: jax.Array
    """Observations at other starts."""

    @property
    def done(self) -> np.ndarray:
        """Where an episode ended."""
        return np.asarray(self.result.terminated | self.result.truncated)

    def before(self, name: str) -> np.ndarray:
        """A field of the states before each step."""
        return np.concatenate([getattr(self.first, name)[None], getattr(self, name)[:-1]])


@dataclasses.dataclass
class Roll:
    """A task, and what came of a seed."""

    name: str
    environment: Environment
    run: Callable[[jax.Array], History]

    @property
    def facts(self) -> Facts:
        return TASKS[self.name]

    @functools.cached_property
    def history(self) -> History:
        return self.run(jax.random.key(0))


def prepare(name: str, num_steps: int, episode_length: int) -> Roll:
    """Make an environment, and a compiled function that takes random actions in it."""
    environment = make(name, engine="mujoco", episode_length=episode_length)
    task = environment.task

    def step(state, key):
        # Some actions are beyond the limits, and clipped.
        action = jax.random.uniform(key, (NUM_ENVS, task.action_size), minval=-1.2, maxval=1.2)
        moved = environment.engine.step(state.physics, jax.vmap(task.control)(jnp.clip(action, -1.0, 1.0)))
        moved = tuple(jax.vmap(read)(moved) for read in (task.observe, task.achieved_goal, task.failed))
        state, result = environment.step(state, action)
        return state, (state.observation, state.desired_goal, state.episode_step, result, moved)

    @jax.jit
    def run(key):
        reset_key, key, other_key = jax.random.split(key, 3)
        first = environment.reset(reset_key, NUM_ENVS)
        last, steps = jax.lax.scan(step, first, jax.random.split(key, num_steps))
        return History(first, last, *steps, starts=environment.reset(other_key, 512).observation)

    return Roll(name, environment, run)


@pytest.fixture(scope="module")
def roll(request) -> Roll:
    return prepare(*request.param)


@pytest.mark.parametrize("name", TASKS)
def test_sizes_are_the_papers(name: str) -> None:
    environment = make(name, engine="mujoco")
    assert (environment.observation_size, environment.goal_size, environment.action_size) == TASKS[name].sizes
    # The paper's humanoid sees its goal as one body more.
    sizes = (268, 3, 17) if "humanoid" in name else TASKS[name].sizes
    paper = make(name, engine="mujoco", variant="paper")
    assert (paper.observation_size, paper.goal_size, paper.action_size) == sizes


@pytest.mark.slow
@on_short_and_long_rolls
def test_all_numbers_are_finite(roll: Roll) -> None:
    for leaf in jax.tree.leaves(eqx.filter(roll.history, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()


@on_short_and_long_rolls
def test_episodes_end_when_lost_or_when_their_time_is_over(roll: Roll) -> None:
    history, result = roll.history, roll.history.result
    steps = history.before("episode_step") + 1
    terminated, truncated = np.asarray(result.terminated), np.asarray(result.truncated)
    if roll.facts.heights is None:
        assert not terminated.any()
    else:
        low, high = roll.facts.heights
        height = np.asarray(result.observation)[..., 2]
        np.testing.assert_array_equal(terminated, (height < low) | (height > high))
        assert terminated.any()
    assert not (terminated & truncated).any()
    np.testing.assert_array_equal(truncated, ~terminated & (steps == roll.environment.episode_length))
    assert truncated.any() or "humanoid" in roll.name, "no humanoid keeps on its feet for long"
    np.testing.assert_array_equal(history.episode_step, np.where(terminated | truncated, 0, steps))


@on_short_and_long_rolls
def test_a_step_returns_where_its_episode_went_even_if_it_ended(roll: Roll) -> None:
    result = roll.history.result
    observed, achieved, failed = roll.history.moved
    np.testing.assert_array_equal(result.observation, observed)
    np.testing.assert_array_equal(result.achieved_goal, achieved)
    np.testing.assert_array_equal(result.terminated, failed)
    done = roll.history.done
    np.testing.assert_array_equal(roll.history.observation[~done], observed[~done])


@on_short_and_long_rolls
def test_an_episode_that_ended_is_followed_by_a_fresh_start(roll: Roll) -> None:
    history = roll.history
    done = history.done
    low, high = np.min(history.starts, axis=0), np.max(history.starts, axis=0)
    # Noise at starts can be normal: 512 of them do not span all that there can be.
    margin = 0.5 * (high - low) + 1e-4

    def like_a_start(observation: jax.Array) -> np.ndarray:
        return ((observation >= low - margin) & (observation <= high + margin)).all(axis=-1)

    fresh, ended = np.asarray(history.observation)[done], np.asarray(history.result.observation)[done]
    assert like_a_start(fresh).all()
    assert like_a_start(ended).mean() < 0.1
    if (high > low).any():
        assert len(np.unique(fresh, axis=0)) == len(fresh)


@on_short_and_long_rolls
def test_each_episode_has_a_goal_of_its_own(roll: Roll) -> None:
    history = roll.history
    done = history.done
    before, after = history.before("desired_goal"), np.asarray(history.desired_goal)
    changed = (before != after).any(axis=-1)
    if not roll.facts.goals_move:
        assert not changed[~done].any()
    if roll.facts.goal_cells:
        cells = roll.environment.task.maze.centres(roll.environment.task.maze.free_cells)
        assert {tuple(goal) for goal in after[..., :2].reshape(-1, 2).tolist()} <= set(map(tuple, cells.tolist()))
        assert changed[done].mean() > 0.5
    else:
        assert changed[done].all()
    # Robots have different goals, too.
    assert len(np.unique(after[-1], axis=0)) > (3 if roll.facts.goal_cells else NUM_ENVS - 1)


def same_bits(one: History, other: History) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@on_short_rolls
def test_the_same_seed_gives_the_same_bits_and_another_does_not(roll: Roll) -> None:
    other = roll.run(jax.random.key(1))
    same_bits(roll.history, roll.run(jax.random.key(0)))
    # Arms begin in one pose always, and two actions may drive them to the same ends of their motors at first.
    assert (np.asarray(roll.history.result.observation) != other.result.observation).any(axis=-1).mean() > 0.99
    assert (np.asarray(roll.history.desired_goal) != other.desired_goal).any(axis=-1).mean() > 0.5


@on_short_rolls_of_few
def test_another_environment_of_the_same_kind_gives_the_same_bits(roll: Roll) -> None:
    same_bits(roll.history, prepare(roll.name, *SHORT).history)


# Walls


class Fallen(Humanoid):
    """Episodes go on when the humanoid lies on the floor: as long as it stands, its torso is above the walls."""

    healthy_height = (-100.0, 100.0)


def pushed_at_walls(angle: float, force: float, num_envs: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Torsos' heights, and their distances from walls, of humanoids that are drawn to one side."""
    task = in_a_storm(Fallen, angle, force)(Maze(LAYOUTS["u"], cell_size=2.0))
    observations, _ = thrash(task, num_envs=num_envs, steps=steps, hold=0.8)
    assert np.isfinite(observations).all()
    return observations[..., 2], gap_to_walls(task.model, observations[..., :2])


def check_walls(height: np.ndarray, gap: np.ndarray) -> None:
    low = height < Humanoid.wall_height
    assert (low & (gap < 0.3)).mean() > 0.05, "hardly any humanoid came near a wall"
    assert gap[low].min() > 0.0, "a torso is inside a wall"


def test_walls_hold_humanoids_back() -> None:
    check_walls(*pushed_at_walls(0.3, 6.0, num_envs=32, steps=150))


@pytest.mark.slow
def test_walls_hold_humanoids_back_for_long() -> None:
    """100,000 steps. Walls are 1 m high: a humanoid can get onto them, and over them."""
    parts = [
        pushed_at_walls(angle, force, num_envs=50, steps=250) for angle in (0.3, 1.9, 3.5, 5.0) for force in (6.0, 12.0)
    ]
    height, gap = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert height.size == 100_000
    check_walls(height, gap)
    assert (gap[height >= Humanoid.wall_height] < 0.0).any(), "no humanoid got onto a wall"
