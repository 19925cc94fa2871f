"""What agents with a tanh-Gaussian policy share: reading the actor, choosing actions, and holding the entropy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import Optimizers
from kilolayer.agents.core.interface import ActionMode, Metrics, check_action_mode
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian

Scalar = Float[Array, ""]

Score = Callable[[Float[Array, "*candidates action"]], Float[Array, "*candidates"]]
"""Says how good actions are: larger is better."""


def policy(
    actor: Torso, observation: Float[Array, "*batch observation"], desired_goal: Float[Array, "*batch goal"]
) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch action"]]:
    """Return mean and log standard deviation of pi(. | s, g), before the tanh."""
    return split_policy(actor(policy_input(observation, desired_goal)))


def policy_input(
    observation: Float[Array, "*batch observation"], desired_goal: Float[Array, "*batch goal"]
) -> Float[Array, "*batch in"]:
    """Return what the network of a policy takes: s and g, one behind the other."""
    return jnp.concatenate([observation, desired_goal], axis=-1)


def split_policy(
    output: Float[Array, "*batch out"],
) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch action"]]:
    """Return mean and log standard deviation from what the network of a policy returns."""
    mean, log_std = jnp.split(output, 2, axis=-1)
    return mean, tanh_gaussian.squash_log_std(log_std)


def choose(
    mean: Float[Array, "*batch action"],
    log_std: Float[Array, "*batch action"],
    key: PRNGKeyArray,
    mode: ActionMode,
    *,
    candidates: int = 1,
    score: Score | None = None,
) -> Float[Array, "*batch action"]:
    """Return actions in [-1, 1]: tanh(mean), a draw, or the best by `score` of `candidates` draws.

    Raises:
        ConfigurationError: for an unknown mode, or `best_of` without a score.
    """
    check_action_mode(mode, has_critic=score is not None)
    if mode == "deterministic":
        return tanh_gaussian.mode(mean)
    if mode == "stochastic" or score is None:
        return tanh_gaussian.sample(mean, log_std, key)[0]
    shape = (candidates, *mean.shape)
    actions, _ = tanh_gaussian.sample(jnp.broadcast_to(mean, shape), jnp.broadcast_to(log_std, shape), key)
    return best_of(actions, score)


def scored_by(
    q: Callable[[Array, Array, Array], Array],
    observation: Float[Array, "*batch observation"],
    desired_goal: Float[Array, "*batch goal"],
) -> Score:
    """Return what says how good actions are here, candidates on the leading axis: q(s, a, g)."""

    def score(actions: Float[Array, "candidates *batch action"]) -> Float[Array, "candidates *batch"]:
        lead = actions.shape[:-1]
        every_observation = jnp.broadcast_to(observation, (*lead, observation.shape[-1]))
        return q(every_observation, actions, jnp.broadcast_to(desired_goal, (*lead, desired_goal.shape[-1])))

    return score


def best_of(actions: Float[Array, "candidates *batch action"], score: Score) -> Float[Array, "*batch action"]:
    """Return of all candidates the one with the highest score, each batch entry for itself."""
    best = jnp.argmax(score(actions), axis=0)
    return jnp.take_along_axis(actions, best[None, ..., None], axis=0)[0]


def alpha_loss(log_alpha: Scalar, entropy: Scalar, target_entropy: float) -> Scalar:
    """Return a loss that raises alpha where the entropy is below its target, and lowers it where it is above.

    Source: Haarnoja et al., 2018, "Algorithms and Applications", section 5.
    """
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target_entropy)


def hold_entropy(
    agent: Any, log_alpha: Scalar, entropy: Scalar, optimizers: Optimizers
) -> tuple[Scalar, Optimizers, Metrics]:
    """Raise alpha where the entropy is below the agent's target, lower it where it is above.

    An agent whose actor imitates the data holds no entropy, and its alpha stays.

    Returns:
        The logarithm of alpha, the states of all optimisers, and metrics.
    """
    if agent.config.clones:
        return log_alpha, optimizers, {}
    loss, gradient = jax.value_and_grad(alpha_loss)(log_alpha, entropy, agent.target_entropy)
    new, optimizers = agent.descend("alpha", log_alpha, gradient, optimizers)
    return new, optimizers, {"alpha_loss": loss, "alpha": jnp.exp(log_alpha)}
