"""What contrastive agents share: two encoders, the loss that they learn by, and the batches it is computed on."""

import dataclasses
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent, Probe
from kilolayer.agents.core.checks import (
    check_choice,
    check_counts,
    check_discount,
    check_finite,
    check_not_negative,
    check_positive,
)
from kilolayer.agents.core.interface import Metrics
from kilolayer.data import Batch, ReplayBuffer, sample_hindsight
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso, call_together
from kilolayer.objectives import (
    Energy,
    EnergyName,
    LossName,
    contrastive_metrics,
    logsumexp_penalty,
    loss_function,
)

Scalar = Float[Array, ""]
Embeddings = Float[Array, "batch representation"]
Rows = Bool[Array, " batch"]

Negatives = Literal["global", "local"]


class Critic(eqx.Module):
    """The two encoders: f(s, a, g) is the energy of phi(s, a) and psi(g)."""

    phi: Torso
    psi: Torso

    def encode_state_action(
        self, observation: Float[Array, "*batch observation"], action: Float[Array, "*batch action"]
    ) -> Float[Array, "*batch representation"]:
        """Return phi(s, a); with action chunks, `a` is all actions of one."""
        return self.phi(jnp.concatenate([observation, action], axis=-1))

    def encode_goal(self, goal: Float[Array, "*batch goal"]) -> Float[Array, "*batch representation"]:
        """Return psi(g)."""
        return self.psi(goal)


def critic_inputs(batch: Batch) -> tuple[Float[Array, "batch in"], Float[Array, "batch goal"]]:
    """Return what phi and psi take: s and a, one behind the other; and g."""
    return jnp.concatenate([batch.observation, batch.action], axis=-1), batch.desired_goal


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig:
    """Settings of the critic, which contrastive agents share; the defaults are the paper's."""

    energy: EnergyName = "l2"
    """Similarity of two embeddings: l2 (minus the distance), squared_l2, dot or cosine."""
    temperature: float | None = None
    """Divisor of the energy; None takes 1, and 0.1 for cosine."""
    loss: LossName = "infonce_forward"
    """Contrastive loss of the critic."""
    negatives: Negatives = "global"
    """What a row is contrasted with: global (the whole batch, whatever devices hold it), or local (the rows of its own
    shard: another loss, of as many smaller batches)."""
    logsumexp_penalty: float = 0.1
    """Weight of the mean squared logsumexp of the logits."""
    discount: float = 0.99
    """A goal k steps ahead is drawn with weight discount^k."""
    trajectory_repeats: int = 1
    """State-actions of the same episode in a batch, each a negative for the others (Contrastive Representations for
    Temporal Reasoning, 2025); it divides the batch size. 1 draws each independently."""
    representation_size: int = 64
    """Numbers in an embedding."""
    critic_depth: int | None = None
    """Depth of the encoders of the critic; None takes the depth of all networks."""
    goal_encoder_depth: int | None = None
    """Depth of the goal encoder psi; None takes the critic's."""
    critic_width: int | None = None
    """Width of both encoders of the critic; None takes the width of all networks."""
    critic_learning_rate: float = 3e-4
    """Learning rate of the critic."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        Energy(self.energy, self.temperature)
        loss_function(self.loss)
        check_choice(self, "negatives", get_args(Negatives))
        check_discount(self, one_is_valid=True)
        check_not_negative(self, "logsumexp_penalty")
        check_positive(self, "critic_learning_rate")
        check_counts(self, "representation_size", "critic_width", "trajectory_repeats")


@dataclasses.dataclass(frozen=True)
class ContrastiveAgent(DeepAgent):
    """A learner of f(s, a, g): which goals follow which actions, from the data alone.

    Its `config` is a `ContrastiveConfig`.
    """

    ENCODERS = ("phi", "psi")

    def __post_init__(self) -> None:
        """Validate sizes.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.batch_size < 2:
            raise ConfigurationError("batch_size=1 leaves contrastive RL no negatives; take at least 2")
        self._check_shards()
        repeats, share = self.config.trajectory_repeats, self.batch_size // self.shards
        if share % repeats:
            fitting = [size for size in range(1, share + 1) if share % size == 0]
            nearest = sorted(sorted(fitting, key=lambda size: abs(size - repeats))[:2])
            of_each = "" if self.shards == 1 else f" in each of {self.shards} shards, of {share} rows"
            raise ConfigurationError(
                f"trajectory_repeats={repeats} does not divide batch_size={self.batch_size}{of_each}; "
                f"take {' or '.join(map(str, nearest))}"
            )

    def _check_shards(self) -> None:
        if self.config.negatives == "global":
            return
        if self.shards == 1:
            raise ConfigurationError("negatives='local' has no effect with one shard, which holds the whole batch")
        if self.batch_size == self.shards:
            raise ConfigurationError(
                f"negatives='local' leaves no negatives where each of {self.shards} shards has one row of "
                f"batch_size={self.batch_size}; take negatives='global', or a larger batch"
            )

    def depth_of(self, part: str) -> int:
        """Return the depth of the networks that play a part; psi is as deep as phi unless asked otherwise."""
        inherits = part == "goal_encoder" and self.config.goal_encoder_depth is None
        return super().depth_of("critic" if inherits else part)

    def width_of(self, part: str) -> int:
        """Return the width of the networks that play a part; that of both encoders is the critic's."""
        return super().width_of("critic" if part == "goal_encoder" else part)

    @property
    def energy(self) -> Energy:
        """The similarity of two embeddings."""
        return Energy(self.config.energy, self.config.temperature)

    @property
    def chunk_size(self) -> int:
        """Numbers in the actions that phi takes."""
        return self.action_chunk * self.action_size

    @property
    def action_chunk(self) -> int:
        """Actions that phi takes at once."""
        return 1

    @property
    def failure_discount(self) -> float | None:
        """Rows say whether they survived k steps, drawn with weight failure_discount^k; None if they do not."""
        return None

    def new_critic(self, phi_key: PRNGKeyArray, psi_key: PRNGKeyArray) -> Critic:
        """Draw phi(s, a) and psi(g)."""
        size = self.config.representation_size
        return Critic(
            phi=self.network("critic", self.observation_size + self.chunk_size, size, phi_key),
            psi=self.network("goal_encoder", self.goal_size, size, psi_key),
        )

    def critic_loss(self, phi: Embeddings, psi: Embeddings, valid: Rows | None = None) -> tuple[Scalar, Metrics]:
        """Contrast the own future goal of each state-action with all other goals (Wang et al., 2025, section 3).

        Args:
            phi: phi(s, a) of each state-action.
            psi: psi(g) of its own goal, in the same row.
            valid: the state-action is one that was taken: its chunk of actions is within an episode. None if all are.
        """
        if self.config.negatives == "global":
            return self.contrast(phi, psi, valid)
        rows = jax.tree.map(lambda each: each.reshape(self.shards, -1, *each.shape[1:]), (phi, psi, valid))
        return jax.tree.map(jnp.mean, jax.vmap(self.contrast)(*rows))

    def contrast(self, phi: Embeddings, psi: Embeddings, valid: Rows | None = None) -> tuple[Scalar, Metrics]:
        """Return the loss of rows that are contrasted with each other, and metrics; see `critic_loss`."""
        logits = self.energy.logits(phi, psi)
        contrastive = loss_function(self.config.loss)(logits, valid)
        loss = contrastive + self.config.logsumexp_penalty * logsumexp_penalty(logits, valid)
        return loss, {"critic_loss": loss, **contrastive_metrics(logits, phi, psi, valid)}

    def loss_of_critic(self, critic: Critic, batch: Batch) -> tuple[Scalar, Metrics]:
        """Return the loss of the encoders on a batch, and metrics."""
        inputs = critic_inputs(batch)
        phi, psi = call_together(list(zip((critic.phi, critic.psi), inputs, strict=True)))
        return self.critic_loss(phi, psi, batch.valid)

    def draw(self, buffer: ReplayBuffer, key: PRNGKeyArray) -> Batch:
        """Draw state-actions with goals that their own episodes reach later."""
        config = self.config
        return sample_hindsight(
            buffer,
            (self.batch_size,),
            config.discount,
            key,
            action_chunk=self.action_chunk,
            repeats=config.trajectory_repeats,
            failure_discount=self.failure_discount,
        )

    @staticmethod
    def critic_probes(critic: Critic, gradient: Critic, batch: Batch) -> dict[str, Probe]:
        """Return phi and psi with the gradient of their loss on a batch."""
        state_action, goal = critic_inputs(batch)
        return {
            "phi": Probe(critic.phi, gradient.phi, state_action),
            "psi": Probe(critic.psi, gradient.psi, goal),
        }
