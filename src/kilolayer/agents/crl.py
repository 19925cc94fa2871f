"""Contrastive RL (Eysenbach et al., 2022) with deep residual networks, as "1000 Layer Networks for Self-Supervised RL"
(Wang et al., NeurIPS 2025) trains it. Read it beside the paper's section 3: the critic and its loss, which discrete
actions share, are in `kilolayer.agents.core.contrastive_critic`; the actor, the entropy and the order of steps are
here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.action_chunks import ChunkConfig
from kilolayer.agents.core.base import Optimizers, Probe, sizes_of
from kilolayer.agents.core.behaviour_cloning import CloningConfig, climb_and_clone
from kilolayer.agents.core.checks import check_choice, check_counts, check_positive
from kilolayer.agents.core.contrastive_critic import (
    ContrastiveAgent,
    ContrastiveConfig,
    Critic,
    Embeddings,
    Scalar,
    critic_inputs,
)
from kilolayer.agents.core.failure import FailureConfig, log_survival, survival_loss
from kilolayer.agents.core.gaussian_policy import choose, hold_entropy, policy, policy_input, split_policy
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.agents.core.registry import AgentSpec, NetworkSettings, Problem, register_agent
from kilolayer.data import Batch, ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso, call_together
from kilolayer.objectives import tanh_gaussian

ActorGoals = Literal["hindsight", "resampled"]

OPTIONAL = 2**32 - 1
"""Folded into the key of a new agent for a second critic and for survival."""

SHUFFLE = 2**32 - 1
"""Folded into the key of the actor's loss for the order of resampled goals."""


@dataclasses.dataclass(frozen=True)
class CRLConfig(CloningConfig, FailureConfig, ChunkConfig, ContrastiveConfig):
    """Settings of contrastive RL; the defaults are the paper's."""

    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the logarithm of the entropy coefficient."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension; with a chunk, of each of its actions."""
    actor_goals: ActorGoals = "hindsight"
    """Goals of the actor's loss: each state's own hindsight goal, or the goals of the batch in a random order."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""
    critics: int = 1
    """Critics, 1 or 2, each with both encoders. With 2 the smaller score counts for the actor (E-CRL, 2026)."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_positive(self, "actor_learning_rate", "alpha_learning_rate")
        check_choice(self, "actor_goals", get_args(ActorGoals))
        check_counts(self, "actor_width", "candidates")
        self.check_chunk()
        self.check_failure_settings()
        self.check_cloning()
        if self.critics not in (1, 2):
            raise ConfigurationError(f"critics={self.critics} must be 1 or 2")


class Learning(NamedTuple):
    """The networks that learn by gradients of one sum of losses."""

    actor: Torso
    critics: tuple[Critic, ...]
    survival: Torso | None


class Judge(NamedTuple):
    """What says how good the actor's actions are. It is constant in the actor's loss."""

    critics: tuple[Critic, ...]
    psis: list[Embeddings]
    """psi(g) of the actor's goals, for each critic."""
    survival: Torso | None
    """The logit of surviving, if it has a weight."""


class CRLState(eqx.Module):
    """The state of a CRL agent."""

    actor: Torso
    critic: Critic
    log_alpha: Scalar
    optimizers: Optimizers
    second_critic: Critic | None = None
    """With two critics."""
    survival: Torso | None = None
    """The logit of surviving after s and a, if it has a weight."""

    @property
    def critics(self) -> tuple[Critic, ...]:
        """All critics."""
        return (self.critic,) if self.second_critic is None else (self.critic, self.second_critic)

    @property
    def learning(self) -> Learning:
        """The networks."""
        return Learning(self.actor, self.critics, self.survival)


@dataclasses.dataclass(frozen=True)
class CRL(ContrastiveAgent):
    """Contrastive RL for continuous actions.

    The critic learns from the data alone which goals follow which actions; the actor learns to act so that its
    hindsight goals follow. No reward is used.
    """

    PARTS = ("actor", "critic", "goal_encoder")
    ACTS_WITH = ("actor", "critic", "second_critic")
    has_action_value = True

    config: CRLConfig = CRLConfig()

    @classmethod
    def build(cls, problem: Problem, config: CRLConfig, networks: NetworkSettings) -> "CRL":
        """Return the agent for a problem.

        Raises:
            ConfigurationError: if a chunk of actions is longer than an episode, or the depth of the network of survival
                is not valid.
        """
        config.check_chunk_fits("crl", problem)
        config.check_survival_depth("crl", networks)
        return cls(**sizes_of(problem, networks), config=config)

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def action_chunk(self) -> int:
        """Actions that actor and critic take at once."""
        return self.config.action_chunk

    @property
    def executed_actions(self) -> int:
        """Actions of a chunk that are executed before the next is chosen."""
        return self.config.executed_actions

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.chunk_size

    def depth_of(self, part: str) -> int:
        """Return the depth of the networks that play a part."""
        if part == "survival":
            return self.config.depth_of_survival
        return super().depth_of(part)

    @property
    def failure_discount(self) -> float | None:
        """How far ahead a row looks for failures, if survival has a weight."""
        return self.config.survival_discount if self.config.learns_survival else None

    @cached_property
    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """The optimiser of each part; a second critic and survival have the critic's."""
        own = super().optimizers
        return {**own, "second_critic": own["critic"], "survival": own["critic"]}

    def init(self, key: PRNGKeyArray) -> CRLState:
        """Return the state of a new agent: pi(s, g), phi(s, a), psi(g), alpha = 1, and what else is asked for."""
        actor_key, phi_key, psi_key = jax.random.split(key, 3)
        critic = self.new_critic(phi_key, psi_key)
        # One head of twice the action size is the paper's two heads, mean and log_std, side by side.
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.chunk_size, actor_key)
        log_alpha = jnp.zeros(())
        second, survival_key = jax.random.split(jax.random.fold_in(key, OPTIONAL))
        optional: dict[str, Any] = {}
        if self.config.critics == 2:
            optional["second_critic"] = self.new_critic(*jax.random.split(second))
        if self.config.learns_survival:
            optional["survival"] = self.network("survival", self.observation_size + self.chunk_size, 1, survival_key)
        return CRLState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, alpha=log_alpha, **optional),
            **optional,
        )

    def networks(self, state: CRLState) -> dict[str, Torso]:
        """Return actor, phi and psi, and those of a second critic and of survival."""
        found = {"actor": state.actor, "phi": state.critic.phi, "psi": state.critic.psi}
        if state.second_critic is not None:
            found |= {"phi_2": state.second_critic.phi, "psi_2": state.second_critic.psi}
        return found if state.survival is None else found | {"survival": state.survival}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: CRLState) -> Torso:
        """Return the network of the policy: it returns the means first, then the raw log standard deviations.

        With action chunks, the means of the first action come first.
        """
        return state.actor

    def act(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return actions in [-1, 1]: tanh(mean), a draw, or the best of `candidates` draws by the critic.

        They are those of a chunk that are executed, side by side.

        Raises:
            ConfigurationError: for an unknown mode.
        """
        mean, log_std = policy(state.actor, observation, desired_goal)

        def score(actions: Array) -> Array:
            lead = actions.shape[:-1]
            return self.score(
                state.critics,
                jnp.broadcast_to(observation, (*lead, self.observation_size)),
                actions,
                [jnp.broadcast_to(psi, (*lead, psi.shape[-1])) for psi in goals],
            )

        goals = [critic.encode_goal(desired_goal) for critic in state.critics] if mode == "best_of" else []

        chunk = choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)
        return chunk[..., : self.executed_actions * self.action_size]

    def value(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g) at the policy's deterministic action."""
        mean, _ = policy(state.actor, observation, desired_goal)
        goals = [critic.encode_goal(desired_goal) for critic in state.critics]
        return self.score(state.critics, observation, tanh_gaussian.mode(mean), goals)

    def action_value(
        self,
        state: CRLState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g), of two critics the smaller."""
        return self.score(state.critics, observation, action, [one.encode_goal(desired_goal) for one in state.critics])

    def score(
        self,
        critics: Sequence[Critic],
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        goals: Sequence[Float[Array, "*batch representation"]],
    ) -> Float[Array, "*batch"]:
        """Return f(s, a, g), of two critics the smaller.

        Args:
            critics: one or two.
            observation: s.
            action: a, of all actions of a chunk.
            goals: psi(g) of each critic.
        """
        state_action = jnp.concatenate([observation, action], axis=-1)
        phis = call_together([(critic.phi, state_action) for critic in critics])
        energies = [self.energy.pairs(phi, psi) for phi, psi in zip(phis, goals, strict=True)]
        return energies[0] if len(energies) == 1 else jnp.minimum(*energies)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def dealt(self, of_goals: Float[Array, "batch n"], key: PRNGKeyArray) -> Float[Array, "batch n"]:
        """Return what belongs to the goals of a batch, such as psi(g), in the order of the actor's goals."""
        if self.config.actor_goals == "hindsight":
            return of_goals
        return of_goals[jax.random.permutation(jax.random.fold_in(key, SHUFFLE), of_goals.shape[0])]

    def actor_loss(
        self,
        mean: Float[Array, "batch chunk"],
        log_std: Float[Array, "batch chunk"],
        judge: Judge,
        alpha: Scalar,
        batch: Batch,
        key: PRNGKeyArray,
    ) -> tuple[Scalar, Metrics]:
        """Return the mean of alpha log pi(a | s, g) - f(s, a, g) (Wang et al., 2025, section 3).

        With a weight on survival, weight log P(survive | s, a) is part of the score f (Safe-CRL, 2026). With a weight
        on imitating the data, the loss is that of `climb_and_clone`.

        Args:
            mean: of pi(. | s, g), before the tanh.
            log_std: its log standard deviation.
            judge: what says how good actions are.
            alpha: entropy coefficient.
            batch: with the states s.
            key: randomness of the actions.
        """
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        action = tanh_gaussian.mode(mean) if self.config.clones else action
        value = self.score(judge.critics, batch.observation, action, judge.psis)
        if judge.survival is not None:
            value = value + self.config.survival_weight * log_survival(judge.survival, batch.observation, action)
        if self.config.clones:
            loss, metrics = climb_and_clone(mean, value, batch.action, self.config.behaviour_cloning, batch.valid)
        else:
            loss, metrics = jnp.mean(alpha * log_density - value), {"actor_value": jnp.mean(value)}
        return loss, {**metrics, "actor_loss": loss, "entropy": -jnp.mean(log_density)}

    def losses(self, learning: Learning, alpha: Scalar, batch: Batch, key: PRNGKeyArray) -> tuple[Scalar, Metrics]:
        """Return the sum of all losses, and metrics. Critics are constant in the actor's: the gradients do not mix.

        The networks do not wait for each other, and psi(g) serves both losses.
        """
        (phi_input, psi_input), goal = critic_inputs(batch), self.dealt(batch.desired_goal, key)
        calls = [call for critic in learning.critics for call in ((critic.phi, phi_input), (critic.psi, psi_input))]
        calls.append((learning.actor, policy_input(batch.observation, goal)))
        if learning.survival is not None:
            calls.append((learning.survival, phi_input))
        outputs = call_together(calls)
        embeddings = [outputs[2 * place : 2 * place + 2] for place in range(len(learning.critics))]
        head, *logits = outputs[2 * len(learning.critics) :]

        (loss, metrics), *others = [self.critic_loss(phi, psi, batch.valid) for phi, psi in embeddings]
        for second_loss, second in others:
            loss, metrics = loss + second_loss, {**metrics, "second_critic_loss": second["critic_loss"]}
        for logit in logits:
            assert batch.survived is not None
            own = survival_loss(logit, batch.survived, batch.valid)
            loss, metrics = loss + own, {**metrics, "survival_loss": own, "survived": jnp.mean(batch.survived)}

        psis = [self.dealt(psi, key) for _, psi in embeddings]
        judge = jax.lax.stop_gradient(Judge(learning.critics, psis, learning.survival))
        actor_loss, actor_metrics = self.actor_loss(*split_policy(head), judge, alpha, batch, key)
        return loss + actor_loss, metrics | actor_metrics

    def learn(self, state: CRLState, batch: Batch, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old networks."""
        alpha = jnp.exp(state.log_alpha)
        gradient, metrics = jax.grad(self.losses, has_aux=True)(state.learning, alpha, batch, key)
        critic, optimizers = self.descend("critic", state.critic, gradient.critics[0], state.optimizers)
        actor, optimizers = self.descend("actor", state.actor, gradient.actor, optimizers)
        second_critic, survival = state.second_critic, state.survival
        if second_critic is not None:
            second_critic, optimizers = self.descend("second_critic", second_critic, gradient.critics[1], optimizers)
        if survival is not None:
            survival, optimizers = self.descend("survival", survival, gradient.survival, optimizers)

        log_alpha, optimizers, of_alpha = hold_entropy(self, state.log_alpha, metrics["entropy"], optimizers)
        return CRLState(actor, critic, log_alpha, optimizers, second_critic, survival), metrics | of_alpha

    def update(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[CRLState, Metrics]:
        """Draw a batch of state-actions with hindsight goals from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: CRLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor, phi and psi with the gradients of their losses on a batch; of two critics, the first."""
        sample_key, learn_key = jax.random.split(key)
        batch = self.draw(data, sample_key)
        alpha = jnp.exp(state.log_alpha)
        gradient = jax.grad(self.losses, has_aux=True)(state.learning, alpha, batch, learn_key)[0]
        actor_input = policy_input(batch.observation, self.dealt(batch.desired_goal, learn_key))
        actor_probe = Probe(state.actor, gradient.actor, actor_input)
        return {"actor": actor_probe, **self.critic_probes(state.critic, gradient.critics[0], batch)}


register_agent(
    AgentSpec("crl", "contrastive RL, the paper's method", CRLConfig, CRL, offline={"behaviour_cloning": 0.1})
)
