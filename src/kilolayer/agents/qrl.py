"""Quasimetric RL (Wang, Torralba, Isola and Zhang, 2023): the steps that the shortest way takes are the largest
quasimetric in which no transition is longer than one step.

A goal is what a state achieves, and need not be a state: it gets an encoder of its own, and an edge of length 0 from
every state that achieves it, by a second constraint. The largest quasimetric then measures from a state to a goal the
way to the nearest state that achieves it, whatever else is true of that state, and as no edge leads back from a goal
nothing else is shortened. What it costs: one more constraint, which holds within its tolerance only, so that a goal's
last few tenths of a step are not resolved; and the goal encoder has to learn a minimum over states from samples.

The method is for worlds with hardly any chance in them: a step that may lead to several states is as good as its best.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers, Probe
from kilolayer.agents.core.behaviour_cloning import CloningConfig
from kilolayer.agents.core.checks import check_counts, check_finite, check_not_negative, check_positive, check_share
from kilolayer.agents.core.interface import Metrics
from kilolayer.agents.core.random_goal_actor import RandomGoalActor, has_next
from kilolayer.agents.core.registry import AgentSpec, register_agent
from kilolayer.data import ReplayBuffer, Transitions
from kilolayer.nn import Torso
from kilolayer.objectives import check_components, interval_quasimetric, mean_where

Scalar = Float[Array, ""]
Embedding = Float[Array, "*batch representation"]


@dataclasses.dataclass(frozen=True)
class QRLConfig(CloningConfig):
    """Settings of quasimetric RL."""

    representation_size: int = 256
    """Numbers in an embedding."""
    component_size: int = 8
    """Numbers in a component of an embedding; each component spans a union of so many intervals."""
    distance_offset: float = 500.0
    """Distance about which random pairs are no longer pulled apart; more than any way is long, in steps."""
    distance_sharpness: float = 0.01
    """How suddenly the pull ends about there, for each step of distance."""
    tolerance: float = 0.25
    """Steps by which a constraint may be broken, as a root mean square."""
    initial_multiplier: float = 1.0
    """Weight of both constraints at the start."""
    multiplier_learning_rate: float = 0.01
    """Adam step size of the logarithms of the constraints' weights."""
    dynamics_weight: float = 1.0
    """Weight of the error of the transition model, in squared steps."""
    hindsight: float = 0.5
    """Share of the actor's goals that its own episode achieves later; the others are random achieved goals."""
    actor_depth: int | None = None
    """Depth of the actor; None takes the depth of all networks."""
    critic_depth: int | None = None
    """Depth of both encoders and of the transition model; None takes the depth of all networks."""
    actor_width: int | None = None
    """Width of the actor; None takes the width of all networks."""
    critic_width: int | None = None
    """Width of both encoders and of the transition model; None takes the width of all networks."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-4
    """Learning rate of both encoders and of the transition model."""
    alpha_learning_rate: float = 3e-4
    """Adam step size of the entropy coefficient's logarithm; 0 keeps it where it begins."""
    initial_alpha: float = 0.1
    """Entropy coefficient at the start, in steps."""
    target_entropy: float = -0.5
    """Entropy that the policy is held at, for each action dimension."""
    candidates: int = 16
    """Samples that best_of action selection chooses among."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_components(self.representation_size, self.component_size)
        check_share(self, "hindsight")
        check_positive(
            self,
            "distance_offset",
            "distance_sharpness",
            "tolerance",
            "initial_multiplier",
            "multiplier_learning_rate",
            "dynamics_weight",
            "actor_learning_rate",
            "critic_learning_rate",
            "initial_alpha",
        )
        check_not_negative(self, "alpha_learning_rate")
        check_counts(self, "actor_width", "critic_width", "candidates")
        self.check_cloning()


class QuasimetricCritic(eqx.Module):
    """Embeddings of states and of goals, and a model of what an action does to the embedding of a state."""

    state_encoder: Torso
    goal_encoder: Torso
    dynamics: Torso
    component_size: int = eqx.field(static=True)

    def predict(
        self,
        embedding: Embedding,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
    ) -> Embedding:
        """Return what the next state's embedding should be, given that of the state."""
        return embedding + self.dynamics(jnp.concatenate([observation, action], axis=-1))

    def distance(self, start: Embedding, end: Embedding) -> Float[Array, "*batch"]:
        """Return the steps from one embedding to another."""
        return interval_quasimetric(start, end, self.component_size)


class QRLState(eqx.Module):
    """The state of a QRL agent."""

    actor: Torso
    critic: QuasimetricCritic
    log_multipliers: Float[Array, " constraints"]
    """Logarithms of the weights of the constraints: on transitions, then on goals."""
    log_alpha: Scalar
    optimizers: Optimizers


@dataclasses.dataclass(frozen=True)
class QRL(RandomGoalActor):
    """Quasimetric RL for continuous actions. No reward, no discount and no target network is used."""

    ENCODERS = ("state_encoder", "goal_encoder")

    config: QRLConfig = QRLConfig()

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    def init(self, key: PRNGKeyArray) -> QRLState:
        """Return the state of a new agent."""
        actor_key, state_key, goal_key, dynamics_key = jax.random.split(key, 4)
        config, size = self.config, self.config.representation_size
        critic = QuasimetricCritic(
            state_encoder=self.network("critic", self.observation_size, size, state_key),
            goal_encoder=self.network("critic", self.goal_size, size, goal_key),
            dynamics=self.network("critic", self.observation_size + self.action_size, size, dynamics_key),
            component_size=config.component_size,
        )
        log_multipliers = jnp.full(2, math.log(config.initial_multiplier), jnp.float32)
        actor, log_alpha = self.new_actor(actor_key)
        return QRLState(
            actor=actor,
            critic=critic,
            log_multipliers=log_multipliers,
            log_alpha=log_alpha,
            optimizers=self.init_optimizers(actor=actor, critic=critic, multiplier=log_multipliers, alpha=log_alpha),
        )

    def networks(self, state: QRLState) -> dict[str, Torso]:
        """Return actor, both encoders and the transition model."""
        critic = state.critic
        return {
            "actor": state.actor,
            "state_encoder": critic.state_encoder,
            "goal_encoder": critic.goal_encoder,
            "dynamics": critic.dynamics,
        }

    # ---- Acting --------------------------------------------------------------------------------------------------

    def score(
        self,
        critic: QuasimetricCritic,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch action"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the distance to the goal from where the model says that the action leads."""
        following = critic.predict(critic.state_encoder(observation), observation, action)
        return -critic.distance(following, critic.goal_encoder(desired_goal))

    def value(
        self,
        state: QRLState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return minus the distance from the state to the goal, in steps."""
        critic = state.critic
        return -critic.distance(critic.state_encoder(observation), critic.goal_encoder(desired_goal))

    # ---- Learning ------------------------------------------------------------------------------------------------

    def critic_loss(
        self, critic: QuasimetricCritic, log_multipliers: Float[Array, " constraints"], batch: Transitions
    ) -> tuple[Scalar, tuple[Float[Array, " constraints"], Metrics]]:
        """Pull states and random goals apart, under two constraints; teach the model what transitions do.

        softplus(sharpness * (offset - d(s, g))) / sharpness for random pairs, plus, each times its multiplier,
        max(d(s, s') - 1, 0)^2 for transitions and d(s, g)^2 for a state and the goal that it achieves, plus the mean of
        d(model, s')^2 and d(s', model)^2. All are means over the batch.

        Returns:
            The loss, and beside it by how much each mean square exceeds the tolerance's, with the metrics.
        """
        config, follows = self.config, has_next(batch)
        state, following = critic.state_encoder(batch.observation), critic.state_encoder(batch.next_observation)
        goal = critic.goal_encoder(batch.next_achieved_goal)

        # A goal that another transition achieved is a goal drawn at random.
        apart = critic.distance(state, jnp.roll(goal, 1, axis=0))
        softened = jax.nn.softplus(config.distance_sharpness * (config.distance_offset - apart))
        pull = jnp.mean(softened) / config.distance_sharpness

        step = critic.distance(state, following)
        # Where no next state is known, it stands for the state itself, whose goal it achieves all the same.
        achieved = critic.distance(following, goal)
        squares = jnp.stack([mean_where(follows, jnp.square(jax.nn.relu(step - 1.0))), jnp.mean(jnp.square(achieved))])
        multipliers = jnp.exp(jax.lax.stop_gradient(log_multipliers))

        predicted = critic.predict(state, batch.observation, batch.action)
        errors = jnp.square(critic.distance(predicted, following)) + jnp.square(critic.distance(following, predicted))
        dynamics = 0.5 * mean_where(follows, errors)

        loss = pull + jnp.sum(multipliers * squares) + config.dynamics_weight * dynamics
        metrics = {
            "critic_loss": loss,
            "dynamics_loss": dynamics,
            "distance": jnp.mean(apart),
            "step_distance": mean_where(follows, step),
            "achieved_distance": jnp.mean(achieved),
            "step_multiplier": multipliers[0],
            "goal_multiplier": multipliers[1],
        }
        return loss, (squares - config.tolerance**2, metrics)

    def learn(self, state: QRLState, batch: Transitions, key: PRNGKeyArray) -> tuple[QRLState, Metrics]:
        """Take one gradient step on `batch`, all losses with the old critic."""
        gradient, (excess, critic_metrics) = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, state.log_multipliers, batch
        )
        critic, optimizers = self.descend("critic", state.critic, gradient, state.optimizers)
        multiplier_gradient = jax.grad(multiplier_loss)(state.log_multipliers, excess)
        log_multipliers, optimizers = self.descend("multiplier", state.log_multipliers, multiplier_gradient, optimizers)
        actor, log_alpha, optimizers, actor_metrics = self.learn_actor(state, batch, optimizers, key)
        new_state = QRLState(
            actor=actor, critic=critic, log_multipliers=log_multipliers, log_alpha=log_alpha, optimizers=optimizers
        )
        return new_state, actor_metrics | critic_metrics

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: QRLState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return all networks with the gradients of their losses on a batch."""
        sample_key, actor_key = jax.random.split(key)
        batch, critic = self.draw(data, sample_key), state.critic
        critic_gradient, _ = jax.grad(self.critic_loss, has_aux=True)(critic, state.log_multipliers, batch)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, critic, jnp.exp(state.log_alpha), batch, actor_key
        )
        actor_input = jnp.concatenate([batch.observation, self.actor_goals(batch)], axis=-1)
        state_action = jnp.concatenate([batch.observation, batch.action], axis=-1)
        return {
            "actor": Probe(state.actor, actor_gradient, actor_input),
            "state_encoder": Probe(critic.state_encoder, critic_gradient.state_encoder, batch.observation),
            "goal_encoder": Probe(critic.goal_encoder, critic_gradient.goal_encoder, batch.next_achieved_goal),
            "dynamics": Probe(critic.dynamics, critic_gradient.dynamics, state_action),
        }


def multiplier_loss(log_multipliers: Float[Array, " constraints"], excess: Float[Array, " constraints"]) -> Scalar:
    """Raise the weight of a constraint that is broken by more than its tolerance, lower it otherwise."""
    return -jnp.sum(jnp.exp(log_multipliers) * jax.lax.stop_gradient(excess))


register_agent(
    AgentSpec(
        "qrl",
        "quasimetric RL: the shortest path as the largest quasimetric, for worlds that are nearly deterministic",
        QRLConfig,
        QRL,
        offline={"behaviour_cloning": 0.003},
    )
)
