"""An actor that climbs its critic and imitates the data: DDPG+BC (Fujimoto and Gu, 2021; Park et al., 2024).

Where nothing is collected, a critic is wrong about actions that no data show, and an actor that climbs it alone finds
those. So the actor climbs the critic's score, whose size it is divided by, and stays near the actions of the data.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kilolayer.agents.core.checks import check_not_negative
from kilolayer.agents.core.interface import Metrics
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import mean_of_rows, tanh_gaussian

Scalar = Float[Array, ""]
Rows = Bool[Array, " batch"]

ENTROPY = ("target_entropy", "alpha_learning_rate")
"""Settings of an actor that is held at an entropy."""


@dataclasses.dataclass(frozen=True)
class CloningConfig:
    """Settings of agents whose actor can imitate the data besides climbing its critic."""

    behaviour_cloning: float = 0.0
    """Weight of imitating the data's actions in the actor's loss, for learning from data that nobody adds to (DDPG+BC).
    Above 0, the deterministic action climbs the critic's score, divided by its mean size, and no entropy is held."""

    @property
    def clones(self) -> bool:
        """The actor imitates the data."""
        return self.behaviour_cloning > 0.0

    def check_cloning(self) -> None:
        """Validate the settings by themselves.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_not_negative(self, "behaviour_cloning")
        defaults: Any = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ENTROPY:
            if self.clones and getattr(self, name) != defaults[name]:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)} has no effect with behaviour_cloning={self.behaviour_cloning}, "
                    "which holds no entropy; leave one of them out"
                )


def climb_and_clone(
    mean: Float[Array, "batch action"],
    score: Float[Array, " batch"],
    action: Float[Array, "batch action"],
    weight: float,
    valid: Rows | None = None,
) -> tuple[Scalar, Metrics]:
    """Return the mean of -Q(s, pi(s, g), g) / mean|Q| - weight log N(a; pi(s, g), 1) (Park et al., 2024, appendix C).

    Args:
        mean: of the policy, before the tanh.
        score: Q of the policy's deterministic action.
        action: what the data did in the same state.
        weight: of imitating it.
        valid: rows that count; None if all do.
    """
    size = jax.lax.stop_gradient(mean_of_rows(jnp.abs(score), valid))
    likelihood = mean_of_rows(constant_width_density(mean, action), valid)
    loss = -mean_of_rows(score, valid) / (size + 1e-6) - weight * likelihood
    return loss, {"actor_loss": loss, "actor_value": mean_of_rows(score, valid), "action_likelihood": likelihood}


def constant_width_density(
    mean: Float[Array, "*batch action"], action: Float[Array, "*batch action"]
) -> Float[Array, "*batch"]:
    """Return the log-density of actions under a Gaussian of width 1 around the deterministic action, but a constant."""
    return -0.5 * jnp.sum(jnp.square(tanh_gaussian.mode(mean) - action), axis=-1)
