"""The training step, in two halves over one state: collect (unroll, insert) and learn (sample, update).

Each half is one pure function, jitted with donated buffers. They are two programs, not one: collecting goes on alone
until the buffer holds enough, and a program that calls a C engine cannot be kept in the compilation cache, but the half
that takes long to compile can.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.agents import AgentState, grow_agent
from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert
from kilolayer.envs import EnvironmentState
from kilolayer.training.faults import CollectFaults, LearnFaults, finite_rows, first_false
from kilolayer.training.setup import Setup

GROWTH = 2**32 - 1
"""Folded into the seed's key for growth: evaluations fold in their env steps, which do not come that far."""


class TrainState(eqx.Module):
    """Everything that the future of a run depends on. A run that goes on from it goes on as if never stopped."""

    agent: AgentState
    buffer: ReplayBuffer
    environment: EnvironmentState
    key: PRNGKeyArray
    gradient_steps: Int[Array, ""]

    @property
    def env_steps(self) -> int:
        """Steps taken in all environments together (reads the device)."""
        return int(self.buffer.num_steps) * self.buffer.num_envs


def init_state(setup: Setup) -> TrainState:
    """Return the state of a run that has not begun; no two leaves share memory, so a step can consume it."""
    return init_states(setup, [setup.config.seed])[0]


def init_states(setup: Setup, seeds: Sequence[int]) -> list[TrainState]:
    """Return for each seed the state of a run that has not begun; see `init_state`."""
    init = jax.jit(lambda key: _init_state(setup, key))
    return [init(jax.random.key(seed)) for seed in seeds]


def _init_state(setup: Setup, seed: PRNGKeyArray) -> TrainState:
    config = setup.config
    agent_key, environment_key, key = jax.random.split(seed, 3)
    return TrainState(
        agent=setup.agent.init(agent_key),
        buffer=empty_buffer(
            config.replay_capacity,
            config.num_envs,
            setup.environment.observation_size,
            setup.environment.goal_size,
            setup.environment.action_size,
        ),
        environment=setup.environment.reset(environment_key, config.num_envs),
        key=key,
        gradient_steps=jnp.zeros((), jnp.int32),
    )


def collect_step(setup: Setup, state: TrainState) -> tuple[TrainState, CollectFaults]:
    """Unroll every environment with the policy, and insert what happened into the buffer."""
    key, act_key = jax.random.split(state.key)

    def act_and_step(
        environment: EnvironmentState, key: PRNGKeyArray
    ) -> tuple[EnvironmentState, tuple[Trajectory, Array, Array]]:
        action = setup.agent.collect(state.agent, environment.observation, environment.desired_goal, key)
        next_environment, result = setup.environment.step(environment, action)
        step = Trajectory(
            observation=environment.observation,
            achieved_goal=environment.achieved_goal,
            desired_goal=environment.desired_goal,
            action=action,
            terminated=result.terminated,
            done=result.done,
        )
        return next_environment, (step, finite_rows(action), finite_rows(result.observation))

    environment, (trajectory, action_finite, physics_finite) = jax.lax.scan(
        act_and_step, state.environment, jax.random.split(act_key, setup.config.unroll_length)
    )
    faults = CollectFaults(
        action_step=first_false(jnp.all(action_finite, axis=1)),
        physics_step=first_false(jnp.all(physics_finite, axis=1)),
        physics_env=first_false(jnp.all(physics_finite, axis=0)),
    )
    buffer = insert(state.buffer, trajectory)
    return dataclasses.replace(state, buffer=buffer, environment=environment, key=key), faults


def learn_step(setup: Setup, state: TrainState) -> tuple[TrainState, tuple[dict[str, Float[Array, ""]], LearnFaults]]:
    """Take a round of gradient steps; returns the agent's metrics too, each the round's mean."""
    key, learn_key = jax.random.split(state.key)
    gradient_steps = setup.config.gradient_steps_per_unroll
    data = setup.agent.prepare(state.agent, state.buffer)

    def learn(agent: AgentState, key: PRNGKeyArray) -> tuple[AgentState, dict[str, Array]]:
        return setup.agent.update(agent, data, key)

    agent, metrics = jax.lax.scan(learn, state.agent, jax.random.split(learn_key, gradient_steps))
    faults = LearnFaults(
        gradient_step={name: first_false(jnp.isfinite(values)) for name, values in metrics.items()},
        parameter=~jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(agent)])),
    )
    state = dataclasses.replace(state, agent=agent, key=key, gradient_steps=state.gradient_steps + gradient_steps)
    return state, ({name: jnp.mean(values) for name, values in metrics.items()}, faults)


def grow_state(setup: Setup, state: TrainState) -> TrainState:
    """Return `state` with the agent's networks as deep as `setup` has them; what they compute stays the same.

    The new blocks depend on the seed and the env steps alone: a run that goes on from any checkpoint grows alike.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(setup.config.seed), GROWTH), state.env_steps)
    agent = jax.jit(lambda agent, key: grow_agent(setup.agent, agent, key))(state.agent, key)
    return dataclasses.replace(state, agent=agent)


class Steps(NamedTuple):
    """Both halves of the training step, jitted for one setup; each consumes the state that it is given."""

    collect: jax.stages.Wrapped
    learn: jax.stages.Wrapped


def compile_steps(setup: Setup, *, stacked: bool = False) -> Steps:
    """Return `collect_step` and `learn_step` for a setup, jitted.

    Args:
        setup: whose seed plays no part: the state holds all randomness.
        stacked: the state is that of several seeds, with a leading axis over them, and so are the results.
    """
    lift = jax.vmap if stacked else lambda step: step
    return Steps(
        jax.jit(lift(lambda state: collect_step(setup, state)), donate_argnums=0),
        jax.jit(lift(lambda state: learn_step(setup, state)), donate_argnums=0),
    )
