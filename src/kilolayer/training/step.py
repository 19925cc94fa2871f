"""The training step: unroll, insert, sample, learn. One pure function over one state, jitted with donated buffers."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.agents import AgentState
from kilolayer.envs import EnvironmentState
from kilolayer.replay import ReplayBuffer, Trajectory, empty_buffer, insert
from kilolayer.training.faults import Faults, finite_rows, first_false
from kilolayer.training.setup import Setup


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


class StepOutput(eqx.Module):
    """What a training step tells beside the new state."""

    metrics: dict[str, Float[Array, ""]]
    """The agent's metrics, each the mean over the gradient steps."""
    faults: Faults


def init_state(setup: Setup) -> TrainState:
    """Return the state of a run that has not begun; no two leaves share memory, so a step can consume it."""
    return jax.jit(lambda: _init_state(setup))()


def _init_state(setup: Setup) -> TrainState:
    config = setup.config
    agent_key, environment_key, key = jax.random.split(jax.random.key(config.seed), 3)
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


def training_step(setup: Setup, state: TrainState) -> tuple[TrainState, StepOutput]:
    """Collect an unroll and take a round of gradient steps on the whole buffer."""
    return _step(setup, state, setup.config.gradient_steps_per_unroll)


def prefill_step(setup: Setup, state: TrainState) -> tuple[TrainState, StepOutput]:
    """Collect an unroll, and learn nothing yet."""
    return _step(setup, state, 0)


StepFunction = Callable[[TrainState], tuple[TrainState, StepOutput]]


def compile_steps(setup: Setup) -> tuple[StepFunction, StepFunction]:
    """Return `prefill_step` and `training_step`, jitted; each consumes the state that it is given."""
    prefill, train = (
        jax.jit(lambda state, step=step: step(setup, state), donate_argnums=0) for step in (prefill_step, training_step)
    )
    return prefill, train


def _step(setup: Setup, state: TrainState, gradient_steps: int) -> tuple[TrainState, StepOutput]:
    key, act_key, learn_key = jax.random.split(state.key, 3)

    # Unroll
    def act_and_step(
        environment: EnvironmentState, key: PRNGKeyArray
    ) -> tuple[EnvironmentState, tuple[Trajectory, Array, Array]]:
        action = setup.agent.act(state.agent, environment.observation, environment.desired_goal, key, "stochastic")
        next_environment, result = setup.environment.step(environment, action)
        step = Trajectory(environment.observation, environment.achieved_goal, action, result.done)
        return next_environment, (step, finite_rows(action), finite_rows(result.observation))

    environment, (trajectory, action_finite, physics_finite) = jax.lax.scan(
        act_and_step, state.environment, jax.random.split(act_key, setup.config.unroll_length)
    )

    # Insert
    buffer = insert(state.buffer, trajectory)

    # Sample and learn
    def learn(agent: AgentState, key: PRNGKeyArray) -> tuple[AgentState, dict[str, Array]]:
        return setup.agent.update(agent, buffer, key)

    agent: AgentState = state.agent
    metrics: dict[str, Array] = {}
    if gradient_steps:
        agent, metrics = jax.lax.scan(learn, agent, jax.random.split(learn_key, gradient_steps))

    faults = Faults(
        action_step=first_false(jnp.all(action_finite, axis=1)),
        physics_step=first_false(jnp.all(physics_finite, axis=1)),
        physics_env=first_false(jnp.all(physics_finite, axis=0)),
        gradient_step={name: first_false(jnp.isfinite(values)) for name, values in metrics.items()},
        parameter=~jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(agent)])),
    )
    new_state = TrainState(
        agent=agent,
        buffer=buffer,
        environment=environment,
        key=key,
        gradient_steps=state.gradient_steps + gradient_steps,
    )
    return new_state, StepOutput({name: jnp.mean(values) for name, values in metrics.items()}, faults)
