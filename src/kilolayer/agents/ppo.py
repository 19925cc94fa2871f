"""Goal-conditioned proximal policy optimisation (Schulman et al., 2017) with GAE (Schulman et al., 2016)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from kilolayer.agents.core.base import DeepAgent, Optimizers, Probe, sizes_of
from kilolayer.agents.core.checks import (
    check_counts,
    check_discount,
    check_finite,
    check_not_negative,
    check_positive,
    check_share,
)
from kilolayer.agents.core.gaussian_policy import choose, policy
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.agents.core.registry import AgentSpec, NetworkSettings, Problem, register_agent
from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso
from kilolayer.objectives import (
    Success,
    generalized_advantages,
    mean_where,
    normalized,
    sparse_reward,
    tanh_gaussian,
)

Scalar = Float[Array, ""]

MAX_LOG_RATIO = 20.0
"""Where a policy has become so much likelier to act as it did, its ratio is held: soon it would not be a number. A
narrow tanh-Gaussian gets there near its edges with actions that turned out badly, which clipping does not hold back."""

EPOCHS = 4
"""Epochs of a round that have an order of their own; the presets ask for no more, and further ones repeat them."""


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimisation. The value loss has no weight: actor and critic share no parameter."""

    discount: float = 0.99
    """Weight of a reward one step later."""
    gae_lambda: float = 0.95
    """Weight of a temporal difference one step later in an advantage: 0 trusts the critic, 1 the rewards alone."""
    clip_range: float = 0.2
    """How far the probability ratio of an action may move from 1 before the objective stops rewarding it."""
    entropy_coefficient: float = 1e-3
    """Weight of the policy's entropy."""
    normalize_advantages: bool = True
    """Give the advantages of a round mean 0 and standard deviation 1."""
    max_gradient_norm: float = 0.5
    """Longer gradients, of the actor and of the critic each, are scaled down to this length."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    critic_depth: int | None = None
    """Depth of the critic; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    critic_width: int | None = None
    """Width of the critic; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the critic."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=False)
        check_share(self, "gae_lambda")
        check_positive(self, "clip_range", "max_gradient_norm", "actor_learning_rate", "critic_learning_rate")
        check_not_negative(self, "entropy_coefficient")
        check_counts(self, "actor_width", "critic_width")


class PPOState(eqx.Module):
    """The state of a PPO agent, and what its minibatches are drawn by."""

    actor: Torso
    critic: Torso
    optimizers: Optimizers
    order_seed: UInt32[Array, ""]
    """Seed of the order of steps in all epochs."""
    gradient_steps: Int[Array, ""]


class Experience(eqx.Module):
    """Steps of the policy that collected them, and what they say about its actions."""

    observation: Float[Array, "*steps observation"]
    desired_goal: Float[Array, "*steps goal"]
    action: Float[Array, "*steps action"]
    log_density: Float[Array, "*steps"]
    """log pi(a | s, g) of the policy that collected."""
    advantage: Float[Array, "*steps"]
    value_target: Float[Array, "*steps"]
    """Advantage and value together: an estimate of the return."""
    reward: Float[Array, "*steps"]
    known: Bool[Array, "*steps"]
    """What follows is known; all other steps have no weight."""


class Unroll(eqx.Module):
    """The steps of one round, their orders, and when learning from them began."""

    experience: Experience
    order: Int[Array, "epochs steps"]
    gradient_steps: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class PPO(DeepAgent):
    """Proximal policy optimisation for continuous actions, with the reward 1 for every step that ends at the goal.

    A round learns from the latest `unroll_length` steps of every environment, which its own policy must have taken, in
    epochs: each draws minibatches without replacement, in an order of its own; what does not fill a minibatch is left
    out of that epoch.
    """

    config: PPOConfig = PPOConfig()
    success: Success | None = dataclasses.field(default=None, kw_only=True)
    """Returns whether an achieved goal is at a desired goal; None for an agent that only acts."""
    unroll_length: int = dataclasses.field(kw_only=True)
    """Steps of each environment in a round."""

    def __post_init__(self) -> None:
        """Validate sizes.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.unroll_length < 2:
            raise ConfigurationError(f"unroll_length={self.unroll_length} must be at least 2")

    @classmethod
    def build(cls, problem: Problem, config: PPOConfig, networks: NetworkSettings) -> "PPO":
        """Return the agent for a problem."""
        return cls(
            **sizes_of(problem, networks),
            config=config,
            success=problem.success,
            unroll_length=problem.unroll_length,
        )

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    def network_optimizer(self, learning_rate: float) -> optax.GradientTransformation:
        """Return an optimiser of networks, which clips gradients."""
        return self.optimizer.build(learning_rate, max_gradient_norm=self.config.max_gradient_norm)

    def init(self, key: PRNGKeyArray) -> PPOState:
        """Return the state of a new agent: pi(s, g) and V(s, g)."""
        actor_key, critic_key, order_key = jax.random.split(key, 3)
        in_size = self.observation_size + self.goal_size
        actor = self.network("actor", in_size, 2 * self.action_size, actor_key)
        critic = self.network("critic", in_size, 1, critic_key)
        return PPOState(
            actor=actor,
            critic=critic,
            optimizers=self.init_optimizers(actor=actor, critic=critic),
            order_seed=jax.random.bits(order_key, dtype=jnp.uint32),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def networks(self, state: PPOState) -> dict[str, Torso]:
        """Return actor and critic."""
        return {"actor": state.actor, "critic": state.critic}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        state: PPOState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Return actions in [-1, 1]: tanh(mean), or a draw.

        Raises:
            ConfigurationError: for an unknown mode, and for `best_of`: the critic judges states, not actions.
        """
        return choose(*policy(state.actor, observation, desired_goal), key, mode)

    def value(
        self,
        state: PPOState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return V(s, g), the discounted number of steps at the goal to come."""
        return critic_value(state.critic, observation, desired_goal)

    # ---- What happened -------------------------------------------------------------------------------------------

    def prepare(self, state: PPOState, buffer: ReplayBuffer) -> Unroll:
        """Judge the newest `unroll_length` steps of every environment, which the policy of `state` has taken.

        The last step of an unroll, and one that an episode was truncated with, has no known next state: its value is
        what the steps before it look ahead to, and it has no weight itself.

        Raises:
            ConfigurationError: if the buffer holds less than an unroll, or an unroll less than a minibatch.
        """
        if buffer.capacity < self.unroll_length:
            raise ConfigurationError(f"replay_capacity={buffer.capacity} must hold an unroll ({self.unroll_length})")
        num_steps = self.unroll_length * buffer.num_envs
        if self.batch_size > num_steps:
            raise ConfigurationError(f"batch_size={self.batch_size} must be at most {num_steps} (an unroll)")
        rows = (buffer.num_steps - self.unroll_length + jnp.arange(self.unroll_length)) % buffer.capacity
        observation, desired_goal, action = buffer.observation[rows], buffer.desired_goal[rows], buffer.action[rows]
        terminated, episode = buffer.terminated[rows], buffer.episode[rows]
        has_next = jnp.zeros_like(terminated).at[:-1].set(episode[1:] == episode[:-1])
        assert self.success is not None
        reward = sparse_reward(
            self.success, jnp.roll(buffer.achieved_goal[rows], -1, axis=0), jnp.roll(desired_goal, -1, axis=0), has_next
        )
        value = critic_value(state.critic, observation, desired_goal)
        advantage = generalized_advantages(
            reward, value, has_next, terminated, self.config.discount, self.config.gae_lambda
        )
        steps = Experience(
            observation=observation,
            desired_goal=desired_goal,
            action=action,
            log_density=tanh_gaussian.log_density(*policy(state.actor, observation, desired_goal), action),
            advantage=advantage,
            value_target=advantage + value,
            reward=reward,
            known=has_next | terminated,
        )
        experience = jax.tree.map(lambda each: each.reshape(num_steps, *each.shape[2:]), steps)
        if self.config.normalize_advantages:
            advantage = normalized(experience.advantage, experience.known)
            experience = dataclasses.replace(experience, advantage=advantage)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(state.order_seed), state.gradient_steps), EPOCHS)
        order = jax.vmap(lambda key: jax.random.permutation(key, num_steps))(keys)
        return Unroll(experience, order, state.gradient_steps)

    def minibatch(self, state: PPOState, data: Unroll) -> Experience:
        """Return the next minibatch of the epoch."""
        per_epoch = data.order.shape[1] // self.batch_size
        epoch, place = jnp.divmod(state.gradient_steps - data.gradient_steps, per_epoch)
        rows = jax.lax.dynamic_slice(data.order, (epoch % EPOCHS, place * self.batch_size), (1, self.batch_size))[0]
        return jax.tree.map(lambda each: each[rows], data.experience)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def actor_loss(self, actor: Torso, batch: Experience, key: PRNGKeyArray) -> tuple[Scalar, Metrics]:
        """Return minus the clipped surrogate objective, less the entropy that a draw from the policy shows."""
        config = self.config
        mean, log_std = policy(actor, batch.observation, batch.desired_goal)
        log_ratio = tanh_gaussian.log_density(mean, log_std, batch.action) - batch.log_density
        ratio = jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))
        clipped = jnp.clip(ratio, 1.0 - config.clip_range, 1.0 + config.clip_range)
        surrogate = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
        _, own_log_density = tanh_gaussian.sample(mean, log_std, key)
        entropy = -mean_where(batch.known, own_log_density)
        loss = -mean_where(batch.known, surrogate) - config.entropy_coefficient * entropy
        return loss, {
            "actor_loss": loss,
            "entropy": entropy,
            "kl": mean_where(batch.known, ratio - 1.0 - log_ratio),
            "clipped": mean_where(batch.known, (ratio != clipped).astype(ratio.dtype)),
        }

    def critic_loss(self, critic: Torso, batch: Experience) -> tuple[Scalar, Metrics]:
        """Return half the mean squared error of the value."""
        value = critic_value(critic, batch.observation, batch.desired_goal)
        loss = 0.5 * mean_where(batch.known, jnp.square(value - batch.value_target))
        return loss, {
            "critic_loss": loss,
            "value": mean_where(batch.known, value),
            "reward": mean_where(batch.known, batch.reward),
        }

    def learn(self, state: PPOState, batch: Experience, key: PRNGKeyArray) -> tuple[PPOState, Metrics]:
        """Take one gradient step on `batch`, with actor and critic each."""
        actor_gradient, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, batch, key)
        critic_gradient, critic_metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        actor, optimizers = self.descend("actor", state.actor, actor_gradient, state.optimizers)
        critic, optimizers = self.descend("critic", state.critic, critic_gradient, optimizers)
        new_state = PPOState(
            actor=actor,
            critic=critic,
            optimizers=optimizers,
            order_seed=state.order_seed,
            gradient_steps=state.gradient_steps + 1,
        )
        return new_state, actor_metrics | critic_metrics

    def update(self, state: PPOState, data: Unroll, key: PRNGKeyArray) -> tuple[PPOState, Metrics]:
        """Learn from the next minibatch of the epoch; the key is the entropy's."""
        return self.learn(state, self.minibatch(state, data), key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: PPOState, data: Unroll, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor and critic with the gradients of their losses on a minibatch."""
        batch = self.minibatch(state, data)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, batch, key)
        critic_gradient, _ = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch)
        inputs = jnp.concatenate([batch.observation, batch.desired_goal], axis=-1)
        return {
            "actor": Probe(state.actor, actor_gradient, inputs),
            "critic": Probe(state.critic, critic_gradient, inputs),
        }


def critic_value(
    critic: Torso, observation: Float[Array, "*batch observation"], desired_goal: Float[Array, "*batch goal"]
) -> Float[Array, "*batch"]:
    """Return V(s, g)."""
    return critic(jnp.concatenate([observation, desired_goal], axis=-1))[..., 0]


def preset(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return training settings for PPO: keep one unroll, learn from each unroll once, in `EPOCHS` epochs.

    Args:
        settings: the training settings so far, not validated yet.
    """
    unroll_length, num_envs, batch_size = (settings[name] for name in ("unroll_length", "num_envs", "batch_size"))
    if not all(isinstance(size, int) and size > 0 for size in (unroll_length, num_envs, batch_size)):
        return {}  # the configuration refuses them, by name
    steps = unroll_length * num_envs
    batch_size = min(batch_size, steps)
    return {
        "replay_capacity": unroll_length,
        "min_replay": 0,
        "batch_size": batch_size,
        "gradient_steps_per_unroll": EPOCHS * (steps // batch_size),
    }


register_agent(
    AgentSpec(
        "ppo",
        "proximal policy optimisation with a sparse reward",
        PPOConfig,
        PPO,
        needs_success=True,
        on_policy=True,
        preset=preset,
    )
)
