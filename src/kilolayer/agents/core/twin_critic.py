"""What SAC and TD3 share: two critics and their slow copies, sparse rewards, and goals relabelled in hindsight."""

import dataclasses
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent, Optimizers, Probe, sizes_of
from kilolayer.agents.core.checks import check_counts, check_discount, check_finite, check_positive, check_share
from kilolayer.agents.core.gaussian_policy import policy_input
from kilolayer.agents.core.interface import AgentState, Metrics
from kilolayer.agents.core.registry import NetworkSettings, Problem
from kilolayer.data import ReplayBuffer, Transitions, sample_transitions
from kilolayer.nn import Torso, call_together
from kilolayer.objectives import Success, mean_where, sparse_reward

Scalar = Float[Array, ""]
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class TwinCriticConfig:
    """Settings that SAC and TD3 share."""

    discount: float = 0.99
    """Weight of a reward one step later."""
    target_rate: float = 0.005
    """How far a target network moves towards its network whenever it is updated."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    critic_depth: int | None = None
    """Depth of both critics; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    critic_width: int | None = None
    """Width of both critics; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the critics."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=False)
        check_share(self, "target_rate")
        check_positive(self, "target_rate", "actor_learning_rate", "critic_learning_rate")
        check_counts(self, "actor_width", "critic_width", "candidates")


@dataclasses.dataclass(frozen=True)
class HERConfig(TwinCriticConfig):
    """Settings of hindsight experience replay (Andrychowicz et al., 2017) with the `future` strategy."""

    relabel_ratio: float = 0.8
    """Share of the transitions whose goal is replaced by one that their episode achieves later."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_share(self, "relabel_ratio")


class TwinCritic(eqx.Module):
    """Two estimates of Q(s, a, g), the discounted number of steps at the goal (Fujimoto et al., 2018)."""

    first: Torso
    second: Torso

    def __call__(
        self,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "2 *batch"]:
        """Return both estimates."""
        inputs = critic_input(observation, action, desired_goal)
        return jnp.stack([q[..., 0] for q in call_together([(self.first, inputs), (self.second, inputs)])])

    def least(
        self,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the lower estimate, against overestimation."""
        return jnp.min(self(observation, action, desired_goal), axis=0)


def critic_input(
    observation: Float[Array, "*batch observation"],
    action: Float[Array, "*batch action"],
    desired_goal: Float[Array, "*batch goal"],
) -> Float[Array, "*batch in"]:
    """Return what a critic takes: s, a and g, one behind the other."""
    return jnp.concatenate([observation, action, desired_goal], axis=-1)


@dataclasses.dataclass(frozen=True)
class TwinCriticAgent(DeepAgent):
    """A goal-conditioned learner of Q with the reward 1 for every step that ends at the goal, and 0 for all others.

    An agent's state has `actor`, `critic` and `optimizers`; tanh of the actor's first outputs is the deterministic
    action.
    """

    has_action_value: ClassVar[bool] = True

    success: Success | None = dataclasses.field(default=None, kw_only=True)
    """Returns whether an achieved goal is at a desired goal; None for an agent that only acts."""

    @classmethod
    def build(cls, problem: Problem, config: TwinCriticConfig, networks: NetworkSettings) -> "TwinCriticAgent":
        """Return the agent for a problem."""
        return cls(**sizes_of(problem, networks), config=config, success=problem.success)

    @property
    def relabel_ratio(self) -> float:
        """Share of transitions whose goal is relabelled in hindsight, with the reward computed again."""
        return getattr(self.config, "relabel_ratio", 0.0)

    # ---- Networks ------------------------------------------------------------------------------------------------

    def new_critic(self, key: PRNGKeyArray) -> TwinCritic:
        """Draw two critics."""
        in_size = self.observation_size + self.action_size + self.goal_size
        first_key, second_key = jax.random.split(key)
        return TwinCritic(self.network("critic", in_size, 1, first_key), self.network("critic", in_size, 1, second_key))

    def networks(self, state: AgentState) -> dict[str, Torso]:
        """Return the actor and both critics."""
        return {"actor": state.actor, "critic_1": state.critic.first, "critic_2": state.critic.second}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def deterministic_action(
        self,
        actor: Torso,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch action"]:
        """Return the deterministic action."""
        return jnp.tanh(actor(policy_input(observation, desired_goal))[..., : self.action_size])

    def value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the lower Q(s, a, g) at the policy's deterministic action."""
        action = self.deterministic_action(state.actor, observation, desired_goal)
        return state.critic.least(observation, action, desired_goal)

    def action_value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the lower Q(s, a, g)."""
        return state.critic.least(observation, action, desired_goal)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Transitions:
        """Draw transitions from the whole buffer."""
        return sample_transitions(buffer, (self.batch_size,), key, relabeled=self.relabel_ratio)

    def reward(self, batch: Transitions) -> Float[Array, " batch"]:
        """Return 1 where the next state is at the goal; a step that the task fails with is never."""
        assert self.success is not None
        return sparse_reward(self.success, batch.next_achieved_goal, batch.next_desired_goal, ~batch.terminated)

    def backup(self, batch: Transitions, next_value: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Return r + discount * V(s', g), where nothing follows a failure."""
        return self.reward(batch) + jnp.where(batch.terminated, 0.0, self.config.discount * next_value)

    def critic_loss(
        self, critic: TwinCritic, batch: Transitions, target: Float[Array, " batch"]
    ) -> tuple[Scalar, Metrics]:
        """Return the mean squared error of both critics, summed, over the transitions whose next state is known."""
        q = critic(batch.observation, batch.action, batch.desired_goal)
        target = jax.lax.stop_gradient(target)
        loss = mean_where(batch.known, jnp.sum(jnp.square(q - target), axis=0))
        return loss, {"critic_loss": loss, "q": mean_where(batch.known, q[0]), "reward": self.mean_reward(batch)}

    def improve_critic(
        self, state: AgentState, batch: Transitions, target: Float[Array, " batch"]
    ) -> tuple[TwinCritic, Optimizers, Metrics]:
        """Take an optimiser step of both critics towards `target`."""
        gradient, metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch, target)
        return *self.descend("critic", state.critic, gradient, state.optimizers), metrics

    def mean_reward(self, batch: Transitions) -> Scalar:
        """Return the share of the transitions that end at their goal."""
        return mean_where(batch.known, self.reward(batch))

    def learn(self, state: AgentState, batch: Transitions, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on `batch`."""
        raise NotImplementedError

    def update(self, state: AgentState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Draw transitions from the whole buffer and learn from them."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes_on(
        self, state: AgentState, batch: Transitions, actor_gradient: Torso, target: Float[Array, " batch"]
    ) -> dict[str, Probe]:
        """Return actor and critics with the gradients of their losses on a batch."""
        critic_gradient, _ = jax.grad(self.critic_loss, has_aux=True)(state.critic, batch, target)
        actor_in = policy_input(batch.observation, batch.desired_goal)
        critic_in = critic_input(batch.observation, batch.action, batch.desired_goal)
        return {
            "actor": Probe(state.actor, actor_gradient, actor_in),
            "critic_1": Probe(state.critic.first, critic_gradient.first, critic_in),
            "critic_2": Probe(state.critic.second, critic_gradient.second, critic_in),
        }


def polyak_update(target: Tree, online: Tree, rate: float) -> Tree:
    """Return the target network after a step towards the online network: target + rate * (online - target)."""
    return jax.tree.map(lambda slow, fast: slow + rate * (fast - slow), target, online)
