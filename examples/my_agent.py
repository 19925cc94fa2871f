"""An agent of your own in one file: contrastive RL whose actor also imitates the data.

    kilolayer --import examples/my_agent.py train reacher --agent my_agent --my-agent.strength 0.5

Nothing in the library knows of this file. `--help` shows its settings, runs resume, studies train it.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents import CRL, AgentSpec, CRLConfig, Judge, Metrics, register_agent
from kilolayer.data import Batch
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import tanh_gaussian


@dataclasses.dataclass(frozen=True)
class MyAgentConfig(CRLConfig):
    """Settings of contrastive RL with imitation."""

    strength: float = 0.1
    """Weight of imitation in the actor's loss."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.strength < 0.0:
            raise ConfigurationError(f"strength={self.strength} must not be negative")


@dataclasses.dataclass(frozen=True)
class MyAgent(CRL):
    """Contrastive RL; the actor's loss is that of CRL minus strength * log pi(a | s, g) of the action in the data."""

    config: MyAgentConfig = MyAgentConfig()

    def actor_loss(
        self,
        mean: Float[Array, "batch chunk"],
        log_std: Float[Array, "batch chunk"],
        judge: Judge,
        alpha: Float[Array, ""],
        batch: Batch,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Return the loss, and metrics."""
        loss, metrics = super().actor_loss(mean, log_std, judge, alpha, batch, key)
        imitation_loss = -jnp.mean(tanh_gaussian.log_density(mean, log_std, batch.action))
        loss = loss + self.config.strength * imitation_loss
        return loss, metrics | {"actor_loss": loss, "imitation_loss": imitation_loss}


register_agent(AgentSpec("my_agent", "contrastive RL whose actor also imitates the data", MyAgentConfig, MyAgent))
