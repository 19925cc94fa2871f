"""A policy that nobody trained: it pushes a disc straight towards its goal."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Seeker:
    executed_actions: int = 1
    has_value: bool = False

    def act(self, state, observation, desired_goal, key, mode="deterministic"):
        push = 2.0 * (desired_goal - observation[..., :2]) - observation[..., 2:]
        return jnp.tile(jnp.clip(push, -1.0, 1.0), self.executed_actions)


def seeker(executed_actions: int = 1) -> SimpleNamespace:
    """Return it as what a session takes for a policy."""
    return SimpleNamespace(agent=Seeker(executed_actions), agent_state=(), env_steps=0)
