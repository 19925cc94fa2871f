import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import stats

from kilolayer.envs import LAYOUTS, Environment, EnvironmentState, Maze, StepResult, make, names
from kilolayer.envs.engines import PointEngine
from kilolayer.envs.tasks import PointMaze


class LinePhysics(eqx.Module):
    place: Float[Array, "*num_envs 1"]


class LineEngine:
    def init(self, start: Float[Array, "num_envs 1"]) -> LinePhysics:
        return LinePhysics(start)

    def restart(self, physics: LinePhysics, start: Float[Array, "num_envs 1"], where) -> LinePhysics:
        return LinePhysics(jnp.where(where[:, None], start, physics.place))

    def step(self, physics: LinePhysics, control: Float[Array, "num_envs 1"]) -> LinePhysics:
        return LinePhysics(physics.place + control)


@dataclasses.dataclass(frozen=True)
class LineTask:
    """Walk along a line; beyond `cliff` the episode is lost."""

    cliff: float = 10.0
    observation_size = 2
    goal_size = 1
    action_size = 1

    flight = 0.0
    """How far the goal moves ahead of whoever comes near, in each step."""
    engines = ("line",)

    def reset(self, key):
        start_key, goal_key = jax.random.split(key)
        return jax.random.uniform(start_key, (1,)), jax.random.uniform(goal_key, (1,), minval=2.0, maxval=5.0)

    def current_goal(self, physics, desired_goal):
        return desired_goal + self.flight

    def control(self, action):
        return 2.0 * action

    def observe(self, physics):
        return jnp.concatenate([physics.place, physics.place**2])

    def achieved_goal(self, physics):
        return physics.place

    def success(self, achieved_goal, desired_goal):
        return jnp.abs(achieved_goal - desired_goal)[0] < 1.0

    def reward(self, achieved_goal, desired_goal):
        return -jnp.abs(achieved_goal - desired_goal)[0]

    def failed(self, physics):
        return physics.place[0] > self.cliff


def line(episode_length: int = 7, cliff: float = 10.0) -> Environment:
    return Environment(name="line", task=LineTask(cliff), engine=LineEngine(), episode_length=episode_length)


@partial(jax.jit, static_argnums=0)
def roll(
    environment: Environment, state: EnvironmentState, actions: jax.Array
) -> tuple[EnvironmentState, EnvironmentState, StepResult, jax.Array]:
    """States before and after each step, the results, and what they say is done; time first."""

    def step(state: EnvironmentState, action: jax.Array):
        after, result = environment.step(state, action)
        return after, (state, after, result, result.done)

    return jax.lax.scan(step, state, actions)[1]


def random_actions(environment: Environment, num_steps: int, num_envs: int, seed: int = 0) -> jax.Array:
    shape = (num_steps, num_envs, environment.action_size)
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.5, maxval=1.5)


@pytest.mark.parametrize("environment", [line(), make("point_u_maze")], ids=lambda environment: environment.name)
def test_reset_draws_a_start_and_a_goal_for_each_environment(environment: Environment) -> None:
    state = environment.reset(jax.random.key(0), 32)
    assert state.observation.shape == (32, environment.observation_size)
    assert state.achieved_goal.shape == state.desired_goal.shape == (32, environment.goal_size)
    assert not state.episode_step.any()
    assert len(np.unique(state.observation[:, 0])) == 32
    assert len(np.unique(state.desired_goal, axis=0)) >= 5
    other = environment.reset(jax.random.key(1), 32)
    assert not (state.observation[:, 0] == other.observation[:, 0]).any()
    assert not jnp.array_equal(state.desired_goal, other.desired_goal)


def test_sizes_are_the_tasks() -> None:
    environment = line()
    assert (environment.observation_size, environment.goal_size, environment.action_size) == (2, 1, 1)


@pytest.mark.parametrize("episode_length", [1, 4])
def test_episodes_last_episode_length_steps_and_are_truncated(episode_length: int) -> None:
    environment = line(episode_length)
    state = environment.reset(jax.random.key(0), 5)
    before, after, result, done = roll(environment, state, jnp.zeros((12, 5, 1)))
    step = np.arange(12)[:, None] % episode_length
    np.testing.assert_array_equal(before.episode_step, np.broadcast_to(step, (12, 5)))
    at_end = np.broadcast_to(step == episode_length - 1, (12, 5))
    np.testing.assert_array_equal(result.truncated, at_end)
    np.testing.assert_array_equal(done, at_end)
    assert not result.terminated.any()
    np.testing.assert_array_equal(after.episode_step, np.where(at_end, 0, step + 1))


def test_a_failed_task_terminates_its_own_environment_only() -> None:
    environment = line(episode_length=100, cliff=5.0)
    state = environment.reset(jax.random.key(0), 2)
    actions = jnp.tile(jnp.array([[1.0], [-1.0]]), (4, 1, 1))
    before, after, result, done = roll(environment, state, actions)
    start = state.observation[0, 0]
    assert 0.0 < start < 1.0
    np.testing.assert_array_equal(result.terminated, [[False, False], [False, False], [True, False], [False, False]])
    assert not result.truncated.any()
    np.testing.assert_array_equal(done, result.terminated)
    np.testing.assert_array_equal(after.episode_step, [[1, 1], [2, 2], [0, 3], [1, 4]])
    np.testing.assert_allclose(after.observation[:, 1, 0], state.observation[1, 0] - 2.0 * np.arange(1, 5), rtol=1e-6)
    np.testing.assert_array_equal(after.desired_goal[:, 1], jnp.broadcast_to(state.desired_goal[1], (4, 1)))
    assert after.desired_goal[2, 0, 0] != before.desired_goal[2, 0, 0]


def test_failing_exactly_at_the_time_limit_is_termination_not_truncation() -> None:
    environment = line(episode_length=3, cliff=5.0)
    state = environment.reset(jax.random.key(0), 2)
    actions = jnp.tile(jnp.array([[1.0], [0.0]]), (3, 1, 1))
    _, after, result, done = roll(environment, state, actions)
    np.testing.assert_array_equal(result.terminated[-1], [True, False])
    np.testing.assert_array_equal(result.truncated[-1], [False, True])
    np.testing.assert_array_equal(done, [[False, False], [False, False], [True, True]])
    np.testing.assert_array_equal(after.episode_step[-1], [0, 0])


def test_the_result_holds_the_true_last_step_and_the_state_the_next_episodes_first() -> None:
    environment = line(episode_length=3, cliff=5.0)
    state = environment.reset(jax.random.key(0), 16)
    before, after, result, done = roll(environment, state, random_actions(environment, 60, 16))
    actions = np.clip(random_actions(environment, 60, 16), -1, 1)
    place = np.asarray(before.observation[..., 0]) + 2.0 * actions[..., 0]
    np.testing.assert_allclose(result.observation[..., 0], place, atol=1e-6)
    np.testing.assert_allclose(result.observation[..., 1], place**2, atol=1e-4)
    np.testing.assert_array_equal(result.achieved_goal, result.observation[..., :1])
    goal = np.asarray(before.desired_goal[..., 0])
    np.testing.assert_allclose(result.reward, -np.abs(place - goal), atol=1e-5)
    np.testing.assert_array_equal(result.success, np.abs(result.achieved_goal - before.desired_goal)[..., 0] < 1.0)
    np.testing.assert_array_equal(result.terminated, result.observation[..., 0] > 5.0)
    done = np.asarray(done)
    assert done.any()
    assert not done.all()
    np.testing.assert_array_equal(after.observation[~done], result.observation[~done])
    np.testing.assert_array_equal(after.desired_goal[~done], before.desired_goal[~done])
    fresh = np.asarray(after.observation[done][:, 0])
    assert ((fresh >= 0.0) & (fresh < 1.0)).all()
    assert (np.abs(fresh - result.observation[done][:, 0]) > 1e-6).all()
    assert (after.desired_goal[done] != before.desired_goal[done]).all()
    assert len(np.unique(fresh)) == len(fresh)


def test_success_and_reward_are_judged_by_the_goal_of_the_episode_that_ends() -> None:
    environment = line(episode_length=1)
    state = environment.reset(jax.random.key(0), 256)
    action = (state.desired_goal - state.achieved_goal) / 2.0
    after, result = environment.step(state, action)
    reached = jnp.abs(action[:, 0]) <= 1.0
    assert reached.any()
    assert result.truncated.all()
    assert result.success[reached].all()
    np.testing.assert_allclose(result.reward[reached], 0.0, atol=1e-6)
    assert not (jnp.abs(after.desired_goal - state.desired_goal)[:, 0] < 1.0).all()


@pytest.mark.parametrize("beyond", [1.001, 5.0, jnp.inf])
def test_actions_are_clipped(beyond: float) -> None:
    environment = make("point_u_maze")
    state = environment.reset(jax.random.key(0), 2)
    sign = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    at_limit, beyond_limit, inside = (environment.step(state, sign * size)[1] for size in (1.0, beyond, 0.9))
    assert eqx.tree_equal(at_limit, beyond_limit)
    assert not jnp.array_equal(at_limit.observation, inside.observation)


def test_the_same_key_gives_the_same_bits() -> None:
    environment = make("point_big_maze", episode_length=5)
    actions = random_actions(environment, 40, 8)
    first, again, other = (roll(environment, environment.reset(jax.random.key(seed), 8), actions) for seed in (0, 0, 1))
    assert eqx.tree_equal(first, again)
    assert not jnp.array_equal(first[1].desired_goal, other[1].desired_goal)
    assert not jnp.array_equal(first[2].observation, other[2].observation)


@pytest.mark.slow
def test_step_is_the_same_plain_jitted_and_scanned() -> None:
    environment = make("point_u_maze", episode_length=3)
    actions = random_actions(environment, 4, 4)
    state = environment.reset(jax.random.key(0), 4)
    _, scanned, _, _ = roll(environment, state, actions)
    plain = jitted = state
    step = jax.jit(environment.step)
    for time, action in enumerate(actions):
        plain, _ = environment.step(plain, action)
        jitted, _ = step(jitted, action)
        for one in (plain, jitted):
            np.testing.assert_allclose(one.observation, scanned.observation[time], atol=1e-5)
            np.testing.assert_array_equal(one.desired_goal, scanned.desired_goal[time])
            np.testing.assert_array_equal(one.episode_step, scanned.episode_step[time])
    jitted_reset = jax.jit(environment.reset, static_argnums=1)(jax.random.key(0), 4)
    np.testing.assert_allclose(jitted_reset.observation, state.observation, atol=1e-6)
    np.testing.assert_array_equal(jitted_reset.desired_goal, state.desired_goal)


def test_mapped_over_worlds_each_goes_as_alone_and_resets_are_computed_when_one_needs_them() -> None:
    environment = line(cliff=2.0)
    states = jax.vmap(lambda key: environment.reset(key, 4))(jax.random.split(jax.random.key(0), 3))
    actions = jnp.stack([random_actions(environment, 20, 4, seed) for seed in range(3)])
    mapped = jax.vmap(partial(roll, environment))(states, actions)
    done = np.asarray(mapped[3]).any(axis=-1)
    assert (done.any(axis=0) & ~done.all(axis=0)).any()  # in some steps one world needs resets and another does not
    for world in range(3):
        alone = roll(environment, jax.tree.map(lambda leaf, w=world: leaf[w], states), actions[world])
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            np.testing.assert_allclose(a[world], b, rtol=1e-5)
    assert str(jax.make_jaxpr(jax.vmap(environment.step))(states, actions[:, 0])).count("cond[") == 1


def test_a_step_can_be_differentiated() -> None:
    environment = line()
    state = environment.reset(jax.random.key(0), 3)
    slope = jax.grad(lambda action: environment.step(state, action)[0].observation[:, 0].sum())(jnp.zeros((3, 1)))
    np.testing.assert_allclose(slope, 2.0)


@pytest.mark.parametrize("name", ["point_u_maze", "point_hardest_maze"])
def test_states_are_finite_and_agree_with_the_task(name: str) -> None:
    environment = make(name, episode_length=50)
    task = environment.task
    state = environment.reset(jax.random.key(0), 16)
    before, after, result, _ = roll(environment, state, random_actions(environment, 400, 16))
    for leaf in jax.tree.leaves((after.observation, after.achieved_goal, after.desired_goal, after.physics, result)):
        assert jnp.isfinite(leaf).all()
    over_all = lambda function: jax.vmap(jax.vmap(function))  # noqa: E731
    np.testing.assert_array_equal(after.observation, over_all(task.observe)(after.physics))
    np.testing.assert_array_equal(after.achieved_goal, over_all(task.achieved_goal)(after.physics))
    np.testing.assert_array_equal(after.observation[..., :2], after.physics.position)
    np.testing.assert_array_equal(after.observation[..., 2:], after.physics.velocity)
    np.testing.assert_array_equal(result.achieved_goal, result.observation[..., :2])
    distance = np.linalg.norm(np.asarray(result.achieved_goal - before.desired_goal, float), axis=-1)
    np.testing.assert_allclose(result.reward, -distance, atol=1e-5)
    clear = np.abs(distance - task.success_distance) > 1e-5
    np.testing.assert_array_equal(result.success[clear], distance[clear] < task.success_distance)
    assert result.success.any()
    assert not result.success.all()


NUM_EPISODES = 1000


@pytest.fixture(scope="module")
def many_episodes() -> tuple[Environment, np.ndarray, np.ndarray]:
    """The far goals' U-maze in episodes of one step: goals and first observations, by episode and slot."""
    environment = make("point_u_maze", episode_length=1)
    state = environment.reset(jax.random.key(3), 32)
    before, _, _, _ = roll(environment, state, jnp.zeros((NUM_EPISODES, 32, 2)))
    return environment, np.asarray(before.desired_goal), np.asarray(before.observation)


def goal_numbers(environment: Environment, goals: np.ndarray) -> np.ndarray:
    centres = environment.task.maze.centres(environment.task.maze.goal_cells)
    matches = (goals[..., None, :] == centres).all(axis=-1)
    assert (matches.sum(axis=-1) == 1).all()
    return matches.argmax(axis=-1)


def test_every_slot_gets_every_goal_equally_often(
    many_episodes: tuple[Environment, np.ndarray, np.ndarray],
) -> None:
    environment, goals, _ = many_episodes
    numbers = goal_numbers(environment, goals)
    counts = np.stack([np.bincount(slot, minlength=6) for slot in numbers.T])
    assert counts.shape == (32, 6)
    assert counts.min() > 0
    p_values = stats.chisquare(counts, axis=1).pvalue
    assert p_values.min() > 1e-4
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_one_episodes_goal_says_nothing_of_the_next_or_the_neighbours(
    many_episodes: tuple[Environment, np.ndarray, np.ndarray],
) -> None:
    environment, goals, _ = many_episodes
    numbers = goal_numbers(environment, goals)
    pairs = {
        "next": (numbers[:-1], numbers[1:]),
        "neighbour": (numbers[:, :-1], numbers[:, 1:]),
    }
    for first, second in pairs.values():
        counts = np.bincount((6 * first + second).ravel(), minlength=36)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_starts_are_spread_round_the_start_cell_almost_at_rest(
    many_episodes: tuple[Environment, np.ndarray, np.ndarray],
) -> None:
    environment, _, observations = many_episodes
    task = environment.task
    offset = (observations[..., :2] - task.maze.centres(task.maze.start_cells)[0]).reshape(-1, 2)
    assert np.abs(offset).max() <= task.start_noise + 1e-6
    for axis in range(2):
        noise = stats.uniform(-task.start_noise, 2 * task.start_noise)
        assert stats.kstest(offset[:, axis], noise.cdf).pvalue > 1e-4
        velocity = observations[..., 2 + axis].ravel()
        assert stats.kstest(velocity, stats.norm(scale=task.start_speed).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(offset.T)[0, 1]) < 0.03


def test_starts_are_new_in_every_episode(many_episodes: tuple[Environment, np.ndarray, np.ndarray]) -> None:
    _, _, observations = many_episodes
    assert len(np.unique(observations[..., 0])) > 0.98 * observations[..., 0].size


def test_every_start_cell_is_used_equally_often() -> None:
    maze = Maze("#######\n#R.G.R#\n#######\n#R...##\n#######")
    task = PointMaze(maze)
    places = jax.vmap(task._start)(jax.random.split(jax.random.key(0), 3000)).position
    cells = np.round(np.asarray(places) / maze.cell_size).astype(int)
    found, counts = np.unique(cells, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, maze.start_cells)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("name", [name for name in names() if isinstance(make(name).engine, PointEngine)])
def test_discs_start_clear_of_the_walls(name: str) -> None:
    environment = make(name)
    start = jax.vmap(environment.task._start)(jax.random.split(jax.random.key(0), 2000))
    at_rest = eqx.tree_at(lambda physics: physics.velocity, start, jnp.zeros((2000, 2)))
    moved = environment.engine.step(at_rest, jnp.zeros((2000, 2)))
    np.testing.assert_allclose(moved.position, start.position, atol=1e-6)
    assert environment.task.clearance == environment.engine.radius


def test_success_is_within_the_success_distance() -> None:
    task = PointMaze(Maze(LAYOUTS["u"]), success_distance=0.3)
    goal = jnp.array([1.0, 2.0])
    for distance, reached in ((0.29, True), (0.31, False)):
        assert bool(task.success(goal + jnp.array([0.0, distance]), goal)) is reached


def test_force_and_resting_observation_of_the_point() -> None:
    task = PointMaze(Maze(LAYOUTS["u"]), force=3.0)
    np.testing.assert_array_equal(task.control(jnp.array([1.0, -0.5])), [3.0, -1.5])
    passing = np.asarray(task.observations_at(jnp.array([1.0, 2.0])))
    np.testing.assert_array_equal(passing[:, :2], [[1.0, 2.0]] * 8)
    np.testing.assert_allclose(np.linalg.norm(passing[:, 2:], axis=1), task.cruising_speed, rtol=1e-6)
    np.testing.assert_allclose(passing[:, 2:].mean(axis=0), 0.0, atol=1e-6)
    assert not task.failed(task._start(jax.random.key(0)))
