"""A straightforward gradient step of CRL, to compare with.

The networks are unrolled layer by layer, psi is computed once for each loss, and the logits come from all differences
of embeddings (batch x batch x representation). It takes its first parameters from the agent and shares no other code
with `kilolayer.nn` or with the agent's own step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from kilolayer.agents import CRL, CRLConfig, CRLState
from kilolayer.data import Batch
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture, ResidualArchitecture, ResidualMLP, Torso

Network = dict[str, Any]


class NaiveState(NamedTuple):
    """Parameters and optimiser states of the naive step."""

    actor: Network
    critic: dict[str, Network]
    log_alpha: Array
    optimizers: dict[str, optax.OptState]


def from_crl(agent: CRL, state: CRLState) -> NaiveState:
    """Return the parameters of an untrained agent, layer by layer.

    Raises:
        ConfigurationError: if the agent has another architecture or other settings than the defaults.
    """
    if not _is_plain(agent.architecture) or agent.config != CRLConfig():
        raise ConfigurationError("the naive step supports the default architecture and settings only")
    actor, critic = _layers(state.actor), {"phi": _layers(state.critic.phi), "psi": _layers(state.critic.psi)}
    parameters = {"actor": actor, "critic": critic, "alpha": state.log_alpha}
    optimizers = {name: optax.adam(3e-4).init(part) for name, part in parameters.items()}
    return NaiveState(actor, critic, state.log_alpha, optimizers)


def _is_plain(architecture: Architecture) -> bool:
    """Return whether networks compute what they do by default; how they compute it does not count."""
    if not isinstance(architecture, ResidualArchitecture):
        return False
    names = ("remat", "unroll", "chain", "kernels")
    return architecture == ResidualArchitecture(**{name: getattr(architecture, name) for name in names})


def _layers(network: Torso) -> Network:
    assert isinstance(network, ResidualMLP)

    def layer(hidden: Any) -> dict[str, Array]:
        norm = hidden.norm
        return {"w": hidden.dense.weight, "b": hidden.dense.bias, "scale": norm.scale, "offset": norm.offset}

    blocks = network.blocks
    if blocks is None:
        raise ConfigurationError("the naive step needs a depth of at least one block")
    size = network.architecture.block_size
    return {
        "input": layer(network.input_layer),
        "blocks": [
            [layer(jax.tree.map(lambda p, n=n, k=k: p[n, k], blocks)) for k in range(size)]
            for n in range(network.num_blocks)
        ],
        "head": {"w": network.head.weight, "b": network.head.bias},
    }


def _apply(network: Network, x: Array, factor: float) -> Array:
    def layer(p: dict[str, Array], x: Array) -> Array:
        x = x @ p["w"] + p["b"]
        mean, variance = jnp.mean(x, axis=-1, keepdims=True), jnp.var(x, axis=-1, keepdims=True)
        return jax.nn.swish((x - mean) / jnp.sqrt(variance + 1e-6) * p["scale"] + p["offset"])

    x = layer(network["input"], x)
    for block in network["blocks"]:
        h = x
        for p in block:
            h = layer(p, h)
        x = x + factor * h
    return x @ network["head"]["w"] + network["head"]["b"]


def learn(
    state: NaiveState, batch: Batch, key: PRNGKeyArray, *, factor: float = 1.0
) -> tuple[NaiveState, dict[str, Array]]:
    """Take the gradient step of `CRL.learn` with the paper's settings.

    Args:
        state: parameters and optimiser states.
        batch: to learn from.
        key: of the actor's noise.
        factor: scales the branch of every block.
    """
    action_size = batch.action.shape[-1]
    alpha = jnp.exp(state.log_alpha)

    def critic_loss(critic: dict[str, Network]) -> Array:
        phi = _apply(critic["phi"], jnp.concatenate([batch.observation, batch.action], axis=-1), factor)
        psi = _apply(critic["psi"], batch.desired_goal, factor)
        logits = -jnp.sqrt(jnp.sum((phi[:, None, :] - psi[None, :, :]) ** 2, axis=-1))
        normalizer = jax.nn.logsumexp(logits, axis=1)
        return jnp.mean(normalizer - jnp.diag(logits)) + 0.1 * jnp.mean(normalizer**2)

    def actor_loss(actor: Network) -> tuple[Array, Array]:
        output = _apply(actor, jnp.concatenate([batch.observation, batch.desired_goal], axis=-1), factor)
        mean, raw = output[:, :action_size], output[:, action_size:]
        log_std = -5.0 + 3.5 * (jnp.tanh(raw) + 1.0)
        noise = jax.random.normal(key, mean.shape)
        action = jnp.tanh(mean + jnp.exp(log_std) * noise)
        log_density = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi) - jnp.log(1.0 - action**2 + 1e-6)
        log_density = jnp.sum(log_density, axis=-1)
        phi = _apply(state.critic["phi"], jnp.concatenate([batch.observation, action], axis=-1), factor)
        psi = _apply(state.critic["psi"], batch.desired_goal, factor)
        value = -jnp.sqrt(jnp.sum((phi - psi) ** 2, axis=-1))
        return jnp.mean(alpha * log_density - value), -jnp.mean(log_density)

    (actor_value, entropy), actor_gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor)
    critic_value, critic_gradient = jax.value_and_grad(critic_loss)(state.critic)
    alpha_gradient = alpha * (entropy + 0.5 * action_size)

    optimizers = {}

    def adam(name: str, parameters: Any, gradient: Any) -> Any:
        updates, optimizers[name] = optax.adam(3e-4).update(gradient, state.optimizers[name])
        return optax.apply_updates(parameters, updates)

    new_state = NaiveState(
        actor=adam("actor", state.actor, actor_gradient),
        critic=adam("critic", state.critic, critic_gradient),
        log_alpha=adam("alpha", state.log_alpha, alpha_gradient),
        optimizers=optimizers,
    )
    return new_state, {"critic_loss": critic_value, "actor_loss": actor_value, "entropy": entropy}
