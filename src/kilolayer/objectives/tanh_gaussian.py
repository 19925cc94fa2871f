"""The tanh-Gaussian policy distribution (Haarnoja et al., 2018, appendix C)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0
SATURATION_EPSILON = 1e-6


def squash_log_std(raw: Float[Array, "*batch action"]) -> Float[Array, "*batch action"]:
    """Map any number into [LOG_STD_MIN, LOG_STD_MAX] by a tanh."""
    return LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (jnp.tanh(raw) + 1.0)


def sample(
    mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], key: PRNGKeyArray
) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch"]]:
    """Draw actions a = tanh(u), u ~ N(mean, exp(log_std)^2), with their log-densities.

    The change of variables subtracts log(1 - a^2 + 1e-6), as the paper's code does: it stays bounded near |a| = 1.
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    before_tanh = mean + jnp.exp(log_std) * noise
    return jnp.tanh(before_tanh), _log_density(noise, log_std, before_tanh)


def log_density(
    mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], action: Float[Array, "*batch action"]
) -> Float[Array, "*batch"]:
    """Return the log-densities of given actions in [-1, 1], as `sample` returns them with its draws.

    Actions nearer to -1 or 1 than the correction's 1e-6 can resolve are clipped, which bounds the value before the
    tanh by 7.6.
    """
    largest = 1.0 - 0.5 * SATURATION_EPSILON
    before_tanh = jnp.arctanh(jnp.clip(action, -largest, largest))
    return _log_density((before_tanh - mean) * jnp.exp(-log_std), log_std, before_tanh)


def _log_density(
    noise: Float[Array, "*batch action"],
    log_std: Float[Array, "*batch action"],
    before_tanh: Float[Array, "*batch action"],
) -> Float[Array, "*batch"]:
    log_density = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    # 1 - tanh(u)^2, which subtraction would round to a few digits where |u| is large
    decay = jnp.exp(-2.0 * jnp.abs(before_tanh))
    slope = 4.0 * decay / jnp.square(1.0 + decay)
    return jnp.sum(log_density - jnp.log(slope + SATURATION_EPSILON), axis=-1)


def divergence(
    mean: Float[Array, "*batch action"],
    log_std: Float[Array, "*batch action"],
    other_mean: Float[Array, "*batch action"],
    other_log_std: Float[Array, "*batch action"],
) -> Float[Array, "*batch"]:
    """Return the Kullback-Leibler divergence KL(p || q) of two policies.

    The tanh maps each action to one value before it and back, so the divergence of the policies is that of the
    Gaussians before the tanh: log(s_q / s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2, summed over the action.

    Args:
        mean: of p.
        log_std: of p.
        other_mean: of q.
        other_log_std: of q.
    """
    squares = jnp.exp(2.0 * (log_std - other_log_std)) + jnp.square((mean - other_mean) * jnp.exp(-other_log_std))
    return jnp.sum(other_log_std - log_std + 0.5 * squares - 0.5, axis=-1)


def mode(mean: Float[Array, "*batch action"]) -> Float[Array, "*batch action"]:
    """Return the deterministic action, tanh(mean)."""
    return jnp.tanh(mean)
