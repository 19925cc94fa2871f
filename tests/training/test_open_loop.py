"""Chunks of actions are executed open loop: in collecting, in evaluation, by policies, and after a run resumed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import CRL, agent_spec
from kilolayer.envs import make
from kilolayer.errors import ConfigurationError
from kilolayer.training import Setup, compile_steps, init_state, load_with_setup, run_episodes
from small_runs import assert_same_state, final_state, small_config

CHUNK = 3
ACTION = 2
SETTINGS = {"crl": {"action_chunk": CHUNK}, "episode_length": 17}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was never stopped. Neither its unrolls nor its episodes are a whole number of chunks."""
    path = tmp_path_factory.mktemp("chunks") / "run"
    kl.train(config=small_config(**SETTINGS, checkpoints_to_keep=9), run_dir=path, progress=False)
    return path


# ---- The environment -----------------------------------------------------------------------------------------


def chooser(calls):
    """Return a function that chooses chunks in which every number says when it was chosen and where it stands."""

    def choose(observation, goal):
        jax.debug.callback(lambda: calls.append(1), ordered=True)
        numbers = jnp.arange(CHUNK * ACTION, dtype=jnp.float32) / 100 + observation[:, :1] / 1000
        return jnp.broadcast_to(numbers, (len(observation), CHUNK * ACTION))

    return choose


def test_a_chunk_is_executed_action_by_action_and_an_episode_begins_with_a_new_one():
    environment, calls = make("point_u_maze", episode_length=4), []
    state = environment.reset(jax.random.key(0), 2, action_chunk=CHUNK)
    step = jax.jit(lambda state: environment.advance(state, chooser(calls)))
    seen, taken = [], []
    for _ in range(9):
        seen.append(np.asarray(state.observation[:, 0]))
        state, action, _ = step(state)
        taken.append(np.asarray(action))
    # Chunks begin at the steps 0 and 3, and with each new episode: 4, 7, 8.
    begins = [0, 0, 0, 3, 4, 4, 4, 7, 8]
    for time, (begin, action) in enumerate(zip(begins, taken, strict=True)):
        place = 2 * (time - begin)
        expected = np.array([place, place + 1]) / 100 + seen[begin][:, None] / 1000
        np.testing.assert_allclose(action, expected, rtol=1e-6)
    assert len(calls) == len(set(begins))


def test_robots_are_each_in_their_own_phase():
    """One that begins a new episode chooses anew; the other goes on with its chunk."""
    environment = make("point_u_maze", episode_length=50)
    state = environment.reset(jax.random.key(0), 2, action_chunk=CHUNK)
    state = dataclasses.replace(state, episode_step=jnp.array([49, 0]))
    first = jnp.broadcast_to(jnp.arange(6.0) / 10, (2, 6))
    state, _, result = environment.advance(state, lambda observation, goal: first)
    assert result.done.tolist() == [True, False]
    assert state.chunk.phase.tolist() == [0, 1]
    state, action, _ = environment.advance(state, lambda observation, goal: -first)
    np.testing.assert_allclose(action, [[0.0, -0.1], [0.2, 0.3]], rtol=1e-6)


def test_without_chunks_nothing_is_carried():
    state = make("point_u_maze").reset(jax.random.key(0), 2)
    assert state.chunk is None


# ---- Runs ----------------------------------------------------------------------------------------------------


def test_collected_actions_are_those_of_the_chunks():
    """The agent sees the first observation of a chunk, and all its actions follow."""
    setup = Setup.build(small_config(**SETTINGS))
    state = init_state(setup, 0)
    asked = []

    class Recorder(CRL):
        def collect(self, state, observation, desired_goal, key):
            chunk = super().collect(state, observation, desired_goal, key)
            jax.debug.callback(lambda *each: asked.append(each), observation, chunk, ordered=True)
            return chunk

    fields = {field.name: getattr(setup.agent, field.name) for field in dataclasses.fields(CRL)}
    collector = dataclasses.replace(setup.collector, agent=Recorder(**fields))
    collected = jax.jit(collector.collect)(state.agent, state.collector, jax.random.key(0))
    jax.effects_barrier()
    steps = collected.trajectory
    assert len(asked) == -(-steps.action.shape[0] // CHUNK)
    for number, (observation, chunk) in enumerate(asked):
        begin = CHUNK * number
        np.testing.assert_array_equal(steps.observation[begin], observation)
        taken = np.asarray(steps.action[begin : begin + CHUNK])
        each = np.asarray(chunk).reshape(-1, CHUNK, ACTION).swapaxes(0, 1)
        np.testing.assert_array_equal(taken, each[: len(taken)])


def test_a_run_resumes_in_the_middle_of_a_chunk_bit_for_bit(run):
    expected = final_state(run)
    middle = final_state(run, 200)
    assert np.all(np.asarray(middle.collector.chunk.phase) > 0)
    kl.train(resume=run, checkpoint=200, progress=False)
    assert_same_state(expected, final_state(run))


def test_evaluation_and_the_policy_execute_the_same_chunks(run):
    policy, setup = load_with_setup(run)
    assert policy.contract.action.chunk == CHUNK
    episodes = run_episodes(
        policy.agent, policy.agent_state, setup.eval_environment, jax.random.key(0), num_episodes=4, keep_steps=True
    )
    steps, fast = episodes.steps, policy.compile(batch=4)
    for time in range(7):
        pair = np.asarray(steps.observation[time]), np.asarray(steps.desired_goal[time])
        np.testing.assert_allclose(policy(*pair), steps.action[time], atol=1e-5)
        np.testing.assert_allclose(fast(*pair), steps.action[time], atol=1e-5)
    whole = policy.chunk(*pair)
    assert whole.shape == (4, CHUNK, ACTION)
    policy.reset()
    fast.reset()
    for place in range(CHUNK):
        np.testing.assert_allclose(policy(*pair), whole[:, place], atol=1e-6)
        np.testing.assert_allclose(fast(*pair), whole[:, place], atol=1e-5)


def test_the_first_action_alone_is_executed_when_asked_for():
    settings = {"action_chunk": CHUNK, "execute": "first"}
    setup = Setup.build(small_config(crl=settings))
    assert setup.agent.executed_actions == 1
    assert init_state(setup, 0).collector.chunk is None


def test_settings_of_chunks_are_validated():
    with pytest.raises(ConfigurationError, match=r"execute='first' has no effect with action_chunk=1"):
        small_config(crl={"execute": "first"})
    with pytest.raises(ConfigurationError, match=r"survival.action_chunk=21 is longer than an episode"):
        Setup.build(small_config(agent="survival", survival={"action_chunk": 21}))


@pytest.mark.parametrize("agent", ["crl", "survival"])
def test_agents_with_chunks_learn_and_act_by_chunks(agent):
    setup = Setup.build(small_config(agent=agent, **{agent: {"action_chunk": CHUNK}}))
    assert agent_spec(agent).name == agent
    assert setup.agent.executed_actions == CHUNK
    steps, state = compile_steps(setup), init_state(setup, 0)
    state, _ = steps.collect(state)
    state, (metrics, _) = steps.learn(state)
    assert all(np.isfinite(np.asarray(value)).all() for value in jax.tree.leaves(metrics))
