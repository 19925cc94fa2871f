"""What survival agents share: a critic that learns when a goal is first reached, and the batches it learns from."""

import dataclasses
import math
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.action_chunks import ChunkConfig
from kilolayer.agents.core.base import DeepAgent
from kilolayer.agents.core.checks import (
    check_choice,
    check_counts,
    check_discount,
    check_finite,
    check_positive,
    check_share,
)
from kilolayer.agents.core.interface import AgentState, Metrics
from kilolayer.data import ArrivalBuffer, Arrivals, Draw, ReplayBuffer, prepare_arrivals, sample_arrivals
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Dense, Torso, call_together
from kilolayer.objectives import Spacing, Success, TimeBins, mean_where, survival

Scalar = Float[Array, ""]
Rows = Float[Array, "batch representation"]

Censoring = Literal["window", "observed"]

MODULATION = 0.1
"""How strongly a goal scales and shifts the embedding of a state-action."""


@dataclasses.dataclass(frozen=True)
class SurvivalCriticConfig(ChunkConfig):
    """Settings of the critic and of what it learns from."""

    discount: float = 0.999
    """Weight of step k in the actor's score is discount^k; a step is -log(discount) of embedding distance."""
    horizon: int = 1000
    """Steps that the critic looks ahead."""
    bins: int = 73
    """Bins of the hazard; see spacing."""
    spacing: Spacing = "geometric"
    """Ends of the bins: geometric (wider the later), or linear; with as many linear bins as the horizon, a bin is a
    step, as published."""
    hazard_bias: float = -5.0
    """Logit of the hazard of a step that a new critic expects; a bin of n steps starts at that of n such steps."""
    censoring: Censoring = "window"
    """What a row without arrival says: window (not in the whole horizon, as published), or observed (not in what was
    seen of its episode; after a failure, not at all)."""
    hindsight_discount: float = 0.99
    """A goal k steps ahead is drawn with weight hindsight_discount^k."""
    own_goals: float = 0.05
    """Share of the rows whose goal their own state achieves."""
    random_goals: float = 0.1
    """Share of the rows whose goal is of any other row."""
    goal_sequence: int = 1
    """Steps in a row that have to achieve their own goal each; more than 1 for bodies whose goals are passed by."""
    geometry: bool = True
    """Learn that the distance of embeddings is elapsed time."""
    separation: bool = True
    """Keep embeddings apart whose goals are not reached."""
    occupancy: bool = True
    """Learn how much of the time after a step is spent at the goal."""
    occupancy_bins: int = 32
    """Bins of the occupancy, geometric."""
    failures: bool = True
    """Weigh occupancy in the actor's score by the share of rows whose episode fails; needs occupancy."""
    representation_size: int = 64
    """Numbers in an embedding."""
    critic_depth: int | None = None
    """Depth of both encoders; None takes the depth of all networks."""
    head_depth: int | None = None
    """Depth of the network from both embeddings to hazards; None takes the critic's."""
    critic_width: int | None = None
    """Width of the encoders and of the head; None takes the width of all networks."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the critic."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_discount(self, one_is_valid=False)
        check_share(self, "own_goals", "random_goals")
        check_positive(self, "critic_learning_rate")
        check_choice(self, "censoring", get_args(Censoring))
        check_counts(self, "representation_size", "critic_width", "goal_sequence")
        self.check_chunk()
        if not 0.0 < self.hindsight_discount <= 1.0:
            raise ConfigurationError(f"hindsight_discount={self.hindsight_discount} must be above 0 and at most 1")
        if self.own_goals + self.random_goals > 1.0:
            raise ConfigurationError(
                f"own_goals={self.own_goals} and random_goals={self.random_goals} must be at most 1 together"
            )
        if self.failures and not self.occupancy:
            raise ConfigurationError("failures=True needs occupancy=True, which it weighs; or set failures=False")
        self.hazard_bins, self.bins_of_occupancy  # noqa: B018  (they validate themselves)

    @property
    def hazard_bins(self) -> TimeBins:
        """Bins of the hazard."""
        return TimeBins(self.horizon, self.bins, self.spacing)

    @property
    def bins_of_occupancy(self) -> TimeBins:
        """Bins of the occupancy."""
        return TimeBins(self.horizon, min(self.occupancy_bins, self.horizon), "geometric")

    @property
    def step_distance(self) -> float:
        """Distance of embeddings that a step is worth."""
        return -math.log(self.discount)


class TimeCritic(eqx.Module):
    """When a goal is reached: hazards and occupancy of a state-action and a goal."""

    phi: Torso
    psi: Torso
    modulation: Dense
    head: Torso

    def encode(
        self,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        goal: Float[Array, "*batch goals"],
    ) -> tuple[Float[Array, "*batch representation"], Float[Array, "*batch representation"]]:
        """Return phi(s, a) and psi(g)."""
        state_action = jnp.concatenate([observation, action], axis=-1)
        phi, psi = call_together([(self.phi, state_action), (self.psi, goal)])
        return phi, psi

    def head_input(
        self, phi: Float[Array, "*batch representation"], psi: Float[Array, "*batch representation"]
    ) -> Float[Array, "*batch in"]:
        """Return what the head takes: the state-action as the goal modulates it, the goal, difference and product."""
        scale, shift = jnp.split(self.modulation(psi), 2, axis=-1)
        phi = (1.0 + MODULATION * scale) * phi + MODULATION * shift
        return jnp.concatenate([phi, psi, phi - psi, phi * psi], axis=-1)


@dataclasses.dataclass(frozen=True)
class SurvivalCriticAgent(DeepAgent):
    """A learner of hazards and occupancy, from the data alone. Its `config` is a `SurvivalCriticConfig`."""

    PARTS = ("actor", "critic", "head")
    ENCODERS = ("phi", "psi")

    success: Success | None = None
    """Returns whether an achieved goal is at a goal; to act it is not needed."""

    def depth_of(self, part: str) -> int:
        """Return the depth of the networks that play a part; the head is as deep as the encoders unless asked."""
        inherits = part == "head" and self.config.head_depth is None
        return super().depth_of("critic" if inherits else part)

    def width_of(self, part: str) -> int:
        """Return the width of the networks that play a part; that of the head is the critic's."""
        return super().width_of("critic" if part == "head" else part)

    @property
    def action_chunk(self) -> int:
        """Actions that actor and critic take at once."""
        return self.config.action_chunk

    @property
    def executed_actions(self) -> int:
        """Actions of a chunk that are executed before the next is chosen."""
        return self.config.executed_actions

    @property
    def chunk_size(self) -> int:
        """Numbers in the actions that actor and critic take at once."""
        return self.action_chunk * self.action_size

    def new_critic(self, key: PRNGKeyArray) -> TimeCritic:
        """Draw phi(s, a), psi(g), and what reads both."""
        phi_key, psi_key, modulation_key, head_key = jax.random.split(key, 4)
        config, size = self.config, self.config.representation_size
        outputs = 1 + len(config.hazard_bins) + config.occupancy * len(config.bins_of_occupancy)
        return TimeCritic(
            phi=self.network("critic", self.observation_size + self.chunk_size, size, phi_key),
            psi=self.network("critic", config.goal_sequence * self.goal_size, size, psi_key),
            modulation=Dense(size, 2 * size, key=modulation_key),
            head=self.network("head", 4 * size, outputs, head_key),
        )

    def readout(
        self, critic: TimeCritic, phi: Float[Array, "*batch representation"], psi: Float[Array, "*batch representation"]
    ) -> tuple[Float[Array, "*batch hazards"], Float[Array, "*batch occupancies"]]:
        """Return the logits of the hazards, of now and of each bin, and those of the occupancy."""
        bins = self.config.hazard_bins
        logits = critic.head(critic.head_input(phi, psi))
        hazards, occupancy = logits[..., : 1 + len(bins)], logits[..., 1 + len(bins) :]
        return hazards + _expected_hazards(bins, self.config.hazard_bias), occupancy

    def score(
        self,
        critic: TimeCritic,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        desired_goal: Float[Array, "*batch goal"],
        beta: Scalar | float = 0.0,
    ) -> Float[Array, "*batch"]:
        """Return Q(s, a, g): soon at the goal, and, weighed by beta, long there."""
        config = self.config
        hazards, occupancy = self.readout(critic, *critic.encode(observation, action, self.repeated(desired_goal)))
        value = survival.survival_value(hazards, config.hazard_bins, config.discount)
        if not config.failures:
            return value
        return value + beta * survival.occupancy_value(occupancy, config.bins_of_occupancy, config.discount)

    def repeated(self, desired_goal: Float[Array, "*batch goal"]) -> Float[Array, "*batch goals"]:
        """Return a goal as psi takes it: to be held for a sequence of steps."""
        return jnp.tile(desired_goal, self.config.goal_sequence)

    @property
    def drawn(self) -> Draw:
        """What a batch is made of."""
        config = self.config
        assert self.success is not None  # agents that need success are not built without it, but to act
        return Draw(
            success=self.success,
            horizon=config.horizon,
            discount=config.hindsight_discount,
            own_goals=config.own_goals,
            random_goals=config.random_goals,
            action_chunk=config.action_chunk,
            sequence=config.goal_sequence,
            nearness=config.occupancy,
        )

    def prepare(self, state: AgentState, buffer: ReplayBuffer) -> ArrivalBuffer:
        """Return the buffer in the form that batches are drawn from."""
        del state
        return prepare_arrivals(buffer, self.drawn)

    def critic_loss(self, critic: TimeCritic, rows: Arrivals) -> tuple[Scalar, Metrics]:
        """Return the sum of the terms that are asked for, and each of them."""
        config = self.config
        phi, psi = critic.encode(rows.observation, rows.action, rows.goal.reshape(rows.goal.shape[0], -1))
        hazards, occupancy = self.readout(critic, phi, psi)

        seen = config.horizon if config.censoring == "window" else jnp.where(rows.failed, config.horizon, rows.observed)
        time = jnp.where(rows.arrived, rows.time, seen)
        likelihood = survival.hazard_loss(hazards, rows.arrived, time, config.hazard_bins)
        losses = {"hazard_loss": mean_where(rows.valid, likelihood)}
        if config.geometry:
            later = rows.valid & rows.arrived & (rows.time > 0)
            distance = jnp.sqrt(jnp.sum(jnp.square(phi - psi), axis=-1) + 1e-12)
            losses["geometry_loss"] = survival.time_geometry(distance, rows.time, later, config.step_distance)
        if config.separation:
            losses["separation_loss"] = self.separation_loss(phi, psi, rows)
        if config.occupancy:
            assert rows.nearness is not None
            bins = config.bins_of_occupancy
            target, is_seen = survival.occupancy_targets(rows.nearness, rows.observed, rows.failed, bins)
            losses["occupancy_loss"] = survival.occupancy_loss(occupancy, target, is_seen, rows.valid)
        loss = sum(losses.values(), jnp.zeros(()))
        arrived = mean_where(rows.valid, rows.arrived.astype(loss.dtype))
        return loss, {"critic_loss": loss, **losses, "arrived": arrived}

    def separation_loss(self, phi: Rows, psi: Rows, rows: Arrivals) -> Scalar:
        """Return the loss of pairs of rows whose goals are apart, and of rows whose own goal was not reached."""
        assert self.success is not None
        goal, eye = rows.goal[:, 0], jnp.eye(phi.shape[0], dtype=bool)
        apart = ~jnp.vectorize(self.success, signature="(goal),(goal)->()")(goal[:, None], goal[None])
        never = rows.valid & ~rows.arrived
        squares = jnp.sum(jnp.square(phi), -1)[:, None] + jnp.sum(jnp.square(psi), -1)[None] - 2.0 * phi @ psi.T
        distances = jnp.sqrt(jnp.maximum(squares, 0.0) + 1e-12)
        least = self.config.step_distance * self.config.horizon
        return survival.separation(distances, jnp.where(eye, never, apart), least)

    def draw(self, data: ArrivalBuffer, key: PRNGKeyArray) -> Arrivals:
        """Draw a batch from the whole buffer."""
        return sample_arrivals(data, self.batch_size, self.drawn, key)


def _expected_hazards(bins: TimeBins, bias: float) -> np.ndarray:
    """Return the logits that a new critic starts from: 0 for now; for a bin the hazard of its steps together."""
    survived = bins.sizes * -np.logaddexp(0.0, bias)  # log of surviving all steps of the bin
    return np.concatenate([[0.0], np.log(-np.expm1(survived)) - survived]).astype(np.float32)
