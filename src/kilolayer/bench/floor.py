"""Floors of computation time: how fast this device multiplies matrices, and how fast it moves bytes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.bench.timing import seconds_of

ROUNDS = 7


def fastest(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the seconds of the fastest of several runs, after one warm-up run that does not count."""
    jax.block_until_ready(run())
    return min(seconds_of(lambda: jax.block_until_ready(run())) for _ in range(rounds))


def matrix_rate(rows: int, width: int, products: int = 64) -> float:
    """Measure the rate of matrix products of `rows` x `width` by `width` x `width`.

    Each product takes the result of the one before and other weights, as in a deep network.

    Returns:
        Operations per second; a multiplication with an addition counts as two.
    """
    weights = jax.random.normal(jax.random.key(0), (products, width, width)) / width**0.5
    x = jax.random.normal(jax.random.key(1), (rows, width))
    chain = jax.jit(lambda x, weights: jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0])
    return 2.0 * rows * width**2 * products / fastest(lambda: chain(x, weights))


def copy_rate(size: int = 2**28) -> float:
    """Measure the rate at which the device reads memory and writes as much, in a buffer that it already holds.

    Args:
        size: of the buffer, in bytes.

    Returns:
        Bytes read per second.
    """
    copy = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    holder = [jnp.zeros(size // 4)]

    def run() -> jax.Array:
        holder[0] = copy(holder[0])
        return holder[0]

    return size / fastest(run)
