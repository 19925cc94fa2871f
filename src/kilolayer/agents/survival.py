"""Survival: a critic that learns when a goal is first reached, and an actor that is there soon and stays.

Sources: ChronoSRL (2026), whose four terms can each be switched off, and Survival RL (2026), which is the hazard alone:
the preset `srl`. The equations are in `kilolayer.objectives.survival`, the critic and its loss in
`kilolayer.agents.core.survival_critic`; here are the actor, the order of steps, and what the actor climbs:

    Q(s, a, g) = -sum_k discount^k P(T > k)  +  beta sum_k discount^k P(at g in step k)

with T the first arrival, and beta the share of rows whose episode fails. No reward, no target network, and no value of
a next state is used.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe, sizes_of
from kilolayer.agents.core.behaviour_cloning import CloningConfig, climb_and_clone
from kilolayer.agents.core.checks import check_counts, check_positive
from kilolayer.agents.core.gaussian_policy import choose, hold_entropy, policy, scored_by
from kilolayer.agents.core.interface import ActionMode, Metrics
from kilolayer.agents.core.registry import AgentSpec, NetworkSettings, Problem, register_agent
from kilolayer.agents.core.survival_critic import SurvivalCriticAgent, SurvivalCriticConfig, TimeCritic
from kilolayer.data import ArrivalBuffer, Arrivals
from kilolayer.nn import Torso
from kilolayer.objectives import mean_where, tanh_gaussian

Scalar = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class SurvivalConfig(CloningConfig, SurvivalCriticConfig):
    """Settings of survival agents."""

    critic_first: bool = True
    """The actor's step uses the critic after its step of the same batch; else the one before."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the logarithm of the entropy coefficient."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each number of its action."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_positive(self, "actor_learning_rate", "alpha_learning_rate")
        check_counts(self, "actor_width", "candidates")
        self.check_cloning()


class SurvivalState(eqx.Module):
    """The state of a survival agent."""

    actor: Torso
    critic: TimeCritic
    log_alpha: Scalar
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class Survival(SurvivalCriticAgent):
    """Survival critics for continuous actions."""

    has_action_value: ClassVar[bool] = True

    config: SurvivalConfig = SurvivalConfig()

    @classmethod
    def build(cls, problem: Problem, config: SurvivalConfig, networks: NetworkSettings) -> "Survival":
        """Return the agent for a problem.

        Raises:
            ConfigurationError: if a chunk of actions is longer than an episode.
        """
        config.check_chunk_fits("survival", problem)
        return cls(**sizes_of(problem, networks), config=config, success=problem.success)

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    @property
    def target_entropy(self) -> float:
        """Entropy that the policy is held at."""
        return self.config.target_entropy * self.chunk_size

    def init(self, key: PRNGKeyArray) -> SurvivalState:
        """Return the state of a new agent, with alpha = 1."""
        actor_key, critic_key = jax.random.split(key)
        critic = self.new_critic(critic_key)
        actor = self.network("actor", self.observation_size + self.goal_size, 2 * self.chunk_size, actor_key)
        log_alpha = jnp.zeros(())
        return SurvivalState(
            actor=actor,
            critic=critic,
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, alpha=log_alpha),
        )

    def networks(self, state: SurvivalState) -> dict[str, Torso]:
        """Return actor, phi, psi and head."""
        critic = state.critic
        return {"actor": state.actor, "phi": critic.phi, "psi": critic.psi, "head": critic.head}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        state: SurvivalState,
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
        score = scored_by(functools.partial(self.score, state.critic), observation, desired_goal)
        chunk = choose(mean, log_std, key, mode, candidates=self.config.candidates, score=score)
        return chunk[..., : self.executed_actions * self.action_size]

    def value(
        self,
        state: SurvivalState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the expected discounted steps until the goal, at the policy's deterministic action."""
        mean, _ = policy(state.actor, observation, desired_goal)
        return self.score(state.critic, observation, tanh_gaussian.mode(mean), desired_goal)

    def action_value(
        self,
        state: SurvivalState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the expected discounted steps until the goal after an action."""
        return self.score(state.critic, observation, action, desired_goal)

    # ---- Learning ------------------------------------------------------------------------------------------------

    def actor_loss(
        self, actor: Torso, critic: TimeCritic, alpha: Scalar, rows: Arrivals, key: PRNGKeyArray
    ) -> tuple[Scalar, Metrics]:
        """Return the mean of alpha log pi(a | s, g) - Q(s, a, g); with a weight on imitating the data, the loss of
        `climb_and_clone`.
        """
        goal, clones = rows.goal[:, 0], self.config.clones
        mean, log_std = policy(actor, rows.observation, goal)
        action, log_density = tanh_gaussian.sample(mean, log_std, key)
        action = tanh_gaussian.mode(mean) if clones else action
        beta = mean_where(rows.valid, rows.failed.astype(alpha.dtype))
        value = self.score(critic, rows.observation, action, goal, beta)
        more = {"entropy": -jnp.mean(log_density), "failure_share": beta}
        if clones:
            loss, metrics = climb_and_clone(mean, value, rows.action, self.config.behaviour_cloning, rows.valid)
            return loss, metrics | more
        loss = jnp.mean(alpha * log_density - value)
        return loss, {"actor_loss": loss, "actor_value": jnp.mean(value)} | more

    def learn(self, state: SurvivalState, rows: Arrivals, key: PRNGKeyArray) -> tuple[SurvivalState, Metrics]:
        """Take one gradient step of the critic, and one of actor and alpha."""
        alpha = jnp.exp(state.log_alpha)
        gradient, critic_metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, rows)
        critic, optimizers = self.descend("critic", state.critic, gradient, state.optimizers)
        judge = critic if self.config.critic_first else state.critic
        gradient, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, judge, alpha, rows, key)
        actor, optimizers = self.descend("actor", state.actor, gradient, optimizers)
        log_alpha, optimizers, of_alpha = hold_entropy(self, state.log_alpha, metrics["entropy"], optimizers)
        new_state = SurvivalState(actor=actor, critic=critic, log_alpha=log_alpha, optimizers=optimizers)
        return new_state, critic_metrics | metrics | of_alpha

    def update(self, state: SurvivalState, data: ArrivalBuffer, key: PRNGKeyArray) -> tuple[SurvivalState, Metrics]:
        """Draw a batch from the whole buffer and learn from it."""
        sample_key, learn_key = jax.random.split(key)
        return self.learn(state, self.draw(data, sample_key), learn_key)

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: SurvivalState, data: ArrivalBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return actor, phi, psi and head with the gradients of their losses on a batch."""
        sample_key, learn_key = jax.random.split(key)
        rows = self.draw(data, sample_key)
        critic, goals = state.critic, rows.goal.reshape(rows.goal.shape[0], -1)
        of_critic = jax.grad(self.critic_loss, has_aux=True)(critic, rows)[0]
        alpha = jnp.exp(state.log_alpha)
        of_actor = jax.grad(self.actor_loss, has_aux=True)(state.actor, critic, alpha, rows, learn_key)[0]
        embeddings = critic.encode(rows.observation, rows.action, goals)
        return {
            "actor": Probe(state.actor, of_actor, jnp.concatenate([rows.observation, rows.goal[:, 0]], axis=-1)),
            "phi": Probe(critic.phi, of_critic.phi, jnp.concatenate([rows.observation, rows.action], axis=-1)),
            "psi": Probe(critic.psi, of_critic.psi, goals),
            "head": Probe(critic.head, of_critic.head, critic.head_input(*embeddings)),
        }


@dataclasses.dataclass(frozen=True)
class SRLConfig(SurvivalConfig):
    """Settings of survival RL: the hazard alone."""

    geometry: bool = False
    """Learn that the distance of embeddings is elapsed time."""
    separation: bool = False
    """Keep embeddings apart whose goals are not reached."""
    occupancy: bool = False
    """Learn how much of the time after a step is spent at the goal."""
    failures: bool = False
    """Weigh occupancy in the actor's score by the share of rows whose episode fails; needs occupancy."""


def suited_to_episodes(agent: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings for episodes shorter than the horizon: no agent looks ahead of the end of an episode.

    The discount keeps its place in the horizon: 0.999 for 1,000 steps is 0.99 for 100.

    Args:
        agent: name of the agent.
        settings: the training settings so far, not validated yet.
    """
    length, published = settings["episode_length"], SurvivalConfig()
    if not isinstance(length, int) or not 1 < length < published.horizon:
        return {}
    own = {"horizon": length, "bins": min(published.bins, length), "discount": 1.0 - 1.0 / length}
    return {agent: own}


for _name, _summary, _settings in (
    ("survival", "hazards of the first arrival, with time geometry and occupancy (ChronoSRL)", SurvivalConfig),
    ("srl", "survival RL: the hazard alone", SRLConfig),
):
    register_agent(
        AgentSpec(
            _name,
            _summary,
            _settings,
            Survival,
            needs_success=True,
            # A data set's episodes may end before the horizon: what was not seen is not known.
            offline={"behaviour_cloning": 0.1, "censoring": "observed"},
            preset=functools.partial(suited_to_episodes, _name),
        )
    )
