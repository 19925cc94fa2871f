"""Failure in the score of an actor: a network learns whether the task survives, for tasks that end on failure.

Source: "Arrive and Survive" (Safe-CRL, 2026).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from kilolayer.agents.core.checks import check_counts, check_not_negative
from kilolayer.agents.core.registry import NetworkSettings
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso
from kilolayer.objectives import mean_of_rows

Scalar = Float[Array, ""]
Rows = Bool[Array, " batch"]

DEPTH = 4
"""Depth of the network, unless it is set."""


@dataclasses.dataclass(frozen=True)
class FailureConfig:
    """Settings of the network that learns survival."""

    survival_weight: float = 0.0
    """Weight of the log-probability of surviving in the actor's score, for tasks that end on failure (Safe-CRL, 2026).
    Above 0, a network learns that probability: that the task does not fail within a geometric number of steps."""
    survival_discount: float = 0.99
    """Surviving k steps counts with weight survival_discount^k."""
    survival_depth: int | None = None
    """Depth of the network that learns survival; None takes 4, whatever the depth of all networks."""

    def check_failure_settings(self) -> None:
        """Validate the settings by themselves.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_counts(self, "survival_depth")
        check_not_negative(self, "survival_weight")
        if not 0.0 < self.survival_discount < 1.0:
            raise ConfigurationError(f"survival_discount={self.survival_discount} must be above 0 and below 1")

    @property
    def learns_survival(self) -> bool:
        """Survival has a weight."""
        return self.survival_weight > 0.0

    @property
    def depth_of_survival(self) -> int:
        """Depth of the network."""
        return self.survival_depth or DEPTH

    def check_survival_depth(self, agent: str, networks: NetworkSettings) -> None:
        """Validate the depth of the network against the torso.

        Raises:
            ConfigurationError: if no network of that depth can be built.
        """
        if self.learns_survival:
            try:
                networks.architecture.num_blocks(self.depth_of_survival)
            except ConfigurationError as error:
                raise ConfigurationError(f"{agent}.survival_depth: {error}") from None


def survival_loss(logit: Float[Array, "batch 1"], survived: Rows, valid: Rows | None) -> Scalar:
    """Return the binary cross-entropy of having survived.

    Args:
        logit: of surviving, after the state-action of each row.
        survived: the task did not fail within the steps that the row looked ahead.
        valid: rows that count; None if all do.
    """
    return mean_of_rows(optax.sigmoid_binary_cross_entropy(logit[..., 0], survived), valid)


def log_survival(
    network: Torso, observation: Float[Array, "*batch observation"], action: Float[Array, "*batch chunk"]
) -> Float[Array, "*batch"]:
    """Return the log-probability of surviving after s and a."""
    return jax.nn.log_sigmoid(network(jnp.concatenate([observation, action], axis=-1))[..., 0])
