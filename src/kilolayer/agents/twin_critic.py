"""What SAC and TD3 share: two critics and their slow copies, sparse rewards, and goals relabelled in hindsight."""

import dataclasses
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.agent import Metrics
from kilolayer.agents.checks import check_share
from kilolayer.agents.deep_agent import DeepAgent
from kilolayer.agents.sparse_reward import Success, mean_where, sparse_reward
from kilolayer.nn import ResidualMLP
from kilolayer.replay import ReplayBuffer, Transitions, sample_transitions

Scalar = Float[Array, ""]
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class HERConfig:
    """Settings of hindsight experience replay (Andrychowicz et al., 2017), for `sac_her` and `td3_her`."""

    ratio: float = 0.8
    """Share of the transitions whose goal is one that their episode achieves later (the `future` strategy)."""

    def __post_init__(self) -> None:
        """Refuse a ratio that is none.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_share(self, "ratio")


class TwinCritic(eqx.Module):
    """Two estimates of Q(s, a, g), the discounted number of steps at the goal (Fujimoto et al., 2018)."""

    first: ResidualMLP
    second: ResidualMLP

    def __call__(
        self,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "2 *batch"]:
        """Return both estimates."""
        inputs = jnp.concatenate([observation, action, desired_goal], axis=-1)
        return jnp.stack([self.first(inputs)[..., 0], self.second(inputs)[..., 0]])

    def least(
        self,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return the lower estimate, against overestimation."""
        return jnp.min(self(observation, action, desired_goal), axis=0)


@dataclasses.dataclass(frozen=True)
class TwinCriticAgent(DeepAgent):
    """A goal-conditioned learner of Q with the reward 1 for every step that ends at the goal, and 0 for all others.

    `relabeled` is the share of transitions whose goal is relabelled in hindsight, with the reward computed anew.
    """

    success: Success = dataclasses.field(kw_only=True)
    relabeled: float = dataclasses.field(default=0.0, kw_only=True)

    def new_critic(self, key: PRNGKeyArray) -> TwinCritic:
        """Draw two critics."""
        in_size = self.observation_size + self.action_size + self.goal_size
        first_key, second_key = jax.random.split(key)
        return TwinCritic(self.network("critic", in_size, 1, first_key), self.network("critic", in_size, 1, second_key))

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Transitions:
        """Draw transitions from the whole buffer."""
        return sample_transitions(buffer, (self.batch_size,), key, relabeled=self.relabeled)

    def reward(self, batch: Transitions) -> Float[Array, " batch"]:
        """Return 1 where the next state is at the goal; a step that the task fails with is never."""
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

    def mean_reward(self, batch: Transitions) -> Scalar:
        """Return the share of the transitions that end at their goal."""
        return mean_where(batch.known, self.reward(batch))


def follow(target: Tree, online: Tree, rate: float) -> Tree:
    """Move the slow copy of parameters towards them: target + rate * (online - target)."""
    return jax.tree.map(lambda slow, fast: slow + rate * (fast - slow), target, online)
