"""What moves a robot: its policy, nothing, or chance."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy

Actions = Literal["policy", "zero", "random"]
"""What chooses the actions. Of discrete actions, `zero` is the first."""

ACTIONS: tuple[Actions, ...] = get_args(Actions)


@dataclasses.dataclass(frozen=True)
class Unlearnt:
    """Chooses actions without a look at observation or goal; acts as an agent does."""

    kind: Actions
    action_size: int
    executed_actions: int = 1
    """Actions that are chosen at once."""

    def act(
        self,
        state: Any,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return zeros, or the tanh of normal numbers, as an untrained policy draws them; see `Agent.act`."""
        del state, desired_goal, mode
        shape = (*observation.shape[:-1], self.executed_actions * self.action_size)
        return jnp.zeros(shape) if self.kind == "zero" else jnp.tanh(jax.random.normal(key, shape))


def actions_of(policy: Policy | None) -> tuple[Actions, ...]:
    """Return what there is to choose from with a policy, or without one; the first is the default."""
    return ACTIONS if policy is not None else ("random", "zero")


def check_actions(actions: str | None, policy: Policy | None) -> Actions:
    """Return what chooses the actions: by default the policy, or else chance.

    Raises:
        ConfigurationError: for an unknown word, or `policy` without one.
    """
    there = actions_of(policy)
    if actions is None:
        return there[0]
    for one in there:
        if actions == one:
            return one
    if actions == "policy":
        raise ConfigurationError("actions='policy' needs a run; an environment alone has 'random' and 'zero'")
    raise ConfigurationError(f"actions={actions!r} must be one of {', '.join(map(repr, there))}")


def actor_of(
    actions: Actions, environment: Environment, policy: Policy | None, *, executed_actions: int = 1
) -> tuple[Any, Any]:
    """Return what acts, with its state.

    Args:
        actions: what it is.
        environment: whose actions it chooses.
        policy: needed for `policy`.
        executed_actions: actions that the others choose at once.
    """
    if actions == "policy":
        assert policy is not None
        return policy.agent, policy.agent_state
    return Unlearnt(actions, environment.action_size, executed_actions), ()
