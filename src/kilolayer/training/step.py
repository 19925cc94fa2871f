"""The training step, in two halves over one state: collect (unroll, insert) and learn (sample, update).

Each half is one pure function, jitted with donated buffers. They are two programs, because the first rounds only
collect, because a run that learns from given data only learns, and because a program that calls a C engine cannot be
kept in the compilation cache while the half that takes long to compile can.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.agents import AgentState, grow_agent
from kilolayer.data import ReplayBuffer, draw_windows, empty_buffer, end_episodes, insert
from kilolayer.runs.clock import Clocks
from kilolayer.shards import Shards, each_on_its_device, spread
from kilolayer.training.collector import Collected, CollectorState
from kilolayer.training.faults import CollectFaults, LearnFaults, first_false
from kilolayer.training.keys import stream
from kilolayer.training.setup import Setup


class TrainState(eqx.Module):
    """Everything that the future of a run depends on. Resumed from it, a run continues as if it had never stopped."""

    agent: AgentState
    buffer: ReplayBuffer
    collector: CollectorState
    key: PRNGKeyArray
    gradient_steps: Int[Array, ""]
    collected_steps: Int[Array, ""]
    """Steps that every environment has taken in this run."""
    diverged: Int[Array, ""]
    """Episodes of this run that ended because the robot diverged."""

    @property
    def clocks(self) -> Clocks:
        """How far the run is, by both clocks (reads the device)."""
        return Clocks(self.env_steps, int(self.gradient_steps))

    @property
    def env_steps(self) -> int:
        """Steps taken in all environments together (reads the device)."""
        return int(self.collected_steps) * self.buffer.num_envs

    @property
    def episodes(self) -> int:
        """Episodes that have ended in all environments together (reads the device)."""
        return int(self.buffer.open_episode.sum())


def init_state(setup: Setup, seed: int, data: ReplayBuffer | None = None) -> TrainState:
    """Return the state of a run that has not begun.

    Args:
        setup: the parts of the run.
        seed: all randomness of the run follows from it.
        data: a replay buffer to begin with, which is copied; None begins with an empty one.

    Returns:
        A state of which no two leaves share memory, so that a training step can consume it.
    """
    return init_states(setup, [seed], data)[0]


def init_states(
    setup: Setup,
    seeds: Sequence[int],
    data: ReplayBuffer | None = None,
    homes: Sequence[jax.Device | None] | None = None,
) -> list[TrainState]:
    """Return for each seed the state of a run that has not begun; see `init_state` and, for `homes`, `on_devices`."""
    init = jax.jit(lambda key: _placed(setup, _init_state(setup, key)))
    states = [
        on_devices(setup, init(jax.random.key(seed)), home)
        for seed, home in zip(seeds, homes or [None] * len(seeds), strict=True)
    ]
    if data is None:
        return states
    data = dataclasses.replace(data, shards=setup.shards)
    if setup.shards.mesh is None:
        return [dataclasses.replace(state, buffer=jax.tree.map(jnp.copy, data)) for state in states]
    where = setup.shards.by_rings(data)
    return [
        dataclasses.replace(state, buffer=jax.tree.map(lambda leaf, on: spread(np.array(leaf), on), data, where))
        for state in states
    ]


def state_shape(setup: Setup) -> TrainState:
    """Return the state of a run with shapes and types in place of arrays; nothing is computed."""
    shape = jax.eval_shape(lambda: _init_state(setup, jax.random.key(0)))
    if (where := _shardings(setup.shards, shape)) is None:
        return shape
    return jax.tree.map(lambda leaf, on: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on), shape, where)


def _shardings(shards: Shards, state: TrainState) -> TrainState | None:
    """Return shardings in place of the arrays of a state, or of their shapes; None on a single device."""
    if shards.mesh is None:
        return None
    parts = {"buffer": shards.by_rings(state.buffer), "collector": shards.by_rows(state.collector)}
    return dataclasses.replace(shards.whole(state), **parts)


def _placed(setup: Setup, state: TrainState) -> TrainState:
    """Return a state, inside a program, whose arrays lie on the devices where they belong."""
    where = _shardings(setup.shards, state)
    return state if where is None else jax.lax.with_sharding_constraint(state, where)


def on_devices(setup: Setup, state: TrainState, home: jax.Device | None = None) -> TrainState:
    """Return a state whose arrays lie on the devices where they belong.

    Args:
        setup: the parts of the run.
        state: of a run.
        home: the device that has the whole state, if there is one.
    """
    where: Any = home if home is not None else _shardings(setup.shards, state)
    return state if where is None else jax.device_put(state, where)


def untrained_agent(setup: Setup, seed: int) -> AgentState:
    """Return the state of the agent of a run that has not begun; see `init_state`."""
    return jax.jit(lambda key: setup.agent.init(jax.random.split(key, 3)[0]))(jax.random.key(seed))


def _init_state(setup: Setup, seed: PRNGKeyArray) -> TrainState:
    collector = setup.collector
    agent_key, collector_key, key = jax.random.split(seed, 3)
    return TrainState(
        agent=setup.agent.init(agent_key),
        buffer=empty_buffer(
            setup.replay_capacity,
            collector.num_envs,
            collector.observation_size,
            collector.goal_size,
            collector.action_size,
            setup.shards,
        ),
        collector=collector.init(collector_key),
        key=key,
        gradient_steps=jnp.zeros((), jnp.int32),
        collected_steps=jnp.zeros((), jnp.int32),
        diverged=jnp.zeros((), jnp.int32),
    )


def begin_again(setup: Setup, state: TrainState, seed: int) -> TrainState:
    """Return a saved state whose environments begin new episodes, because theirs could not be saved.

    Args:
        setup: the parts of the run.
        state: as it was saved.
        seed: of the run. The new episodes depend on it and on the clocks only.
    """
    key = stream(jax.random.key(seed), "begin again", state.clocks.step)

    @jax.jit
    def begun(state: TrainState, key: PRNGKeyArray) -> TrainState:
        collector, interrupted = setup.collector.begin_again(state.collector, key)
        begun = dataclasses.replace(state, collector=collector, buffer=end_episodes(state.buffer, interrupted))
        return _placed(setup, begun)

    return begun(state, key)


def collect_step(setup: Setup, state: TrainState) -> tuple[TrainState, CollectFaults]:
    """Collect the data of a round with the policy, and insert them into the buffer."""
    key, collect_key = jax.random.split(state.key)
    collected = setup.collector.collect(state.agent, state.collector, collect_key)
    return _placed(setup, store(dataclasses.replace(state, key=key), collected)), collected.faults


def store(state: TrainState, collected: Collected) -> TrainState:
    """Return a state with the data of a round."""
    return dataclasses.replace(
        state,
        buffer=insert(state.buffer, collected.trajectory),
        collector=collected.state,
        collected_steps=state.collected_steps + collected.trajectory.done.shape[0],
        diverged=state.diverged + collected.faults.divergence.robots,
    )


def learn_step(setup: Setup, state: TrainState) -> tuple[TrainState, tuple[dict[str, Float[Array, ""]], LearnFaults]]:
    """Take the gradient steps of a round.

    Returns:
        The next state; the agent's metrics, each the mean over the round; and where a number was not finite.
    """
    key, learn_key = jax.random.split(state.key)
    gradient_steps = setup.gradient_steps_per_round
    buffer = state.buffer
    if setup.windows is not None:
        buffer = draw_windows(buffer, setup.windows, stream(learn_key, "windows"))
    data = setup.agent.prepare(state.agent, buffer)

    def learn(agent: AgentState, key: PRNGKeyArray) -> tuple[AgentState, dict[str, Array]]:
        return setup.agent.update(agent, data, key)

    agent, metrics = jax.lax.scan(learn, state.agent, jax.random.split(learn_key, gradient_steps))
    faults = LearnFaults(
        gradient_step={name: first_false(jnp.isfinite(values)) for name, values in metrics.items()},
        parameter=~jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(agent)])),
    )
    state = dataclasses.replace(state, agent=agent, key=key, gradient_steps=state.gradient_steps + gradient_steps)
    return _placed(setup, state), ({name: jnp.mean(values) for name, values in metrics.items()}, faults)


def grow_state(setup: Setup, state: TrainState, seed: int) -> TrainState:
    """Return a state whose networks are as deep as those of `setup` and compute the same as before.

    Args:
        setup: the parts of the run after growth.
        state: before growth.
        seed: of the run. The new blocks depend on it and on the clocks only, so that a run that is resumed from any
            checkpoint grows the same.
    """
    key = stream(jax.random.key(seed), "growth", state.clocks.step)
    agent = jax.jit(lambda agent, key: grow_agent(setup.agent, agent, key))(state.agent, key)
    return on_devices(setup, dataclasses.replace(state, agent=agent))


class Steps(NamedTuple):
    """Both halves of the training step, jitted for one setup; each consumes the state that it is given."""

    collect: jax.stages.Wrapped
    """Raises if the run collects nothing."""
    learn: jax.stages.Wrapped


def compile_steps(setup: Setup, *, stacked: bool = False, mesh: Mesh | None = None) -> Steps:
    """Return `collect_step` and `learn_step` for a setup, jitted.

    Args:
        setup: the parts of the run.
        stacked: the state is that of several seeds, with a leading axis over them, and so are the results.
        mesh: devices, each of which has as many of these seeds as any other; None takes one device.
    """

    def lift(step: Callable) -> Callable:
        return each_on_its_device(jax.vmap(step), mesh) if stacked else step

    return Steps(
        jax.jit(lift(lambda state: collect_step(setup, state)), donate_argnums=0),
        jax.jit(lift(lambda state: learn_step(setup, state)), donate_argnums=0),
    )
