"""What a computation must cost at least: how fast this device multiplies, and how fast it moves bytes."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

ROUNDS = 7


def fastest(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the seconds of the fastest of several runs, after one that is not counted."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def matrix_rate(rows: int, width: int, products: int = 64) -> float:
    """Return the operations per second of products of `rows` x `width` by `width` x `width`, each with other weights.

    The products depend on each other as those of a deep network do. A multiplication with an addition counts two.
    """
    weights = jax.random.normal(jax.random.key(0), (products, width, width)) / width**0.5
    x = jax.random.normal(jax.random.key(1), (rows, width))
    chain = jax.jit(lambda x, weights: jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0])
    return 2.0 * rows * width**2 * products / fastest(lambda: chain(x, weights))


def copy_rate(size: int = 2**28) -> float:
    """Return the bytes per second that are read while as many are written, in memory that is in use already."""
    copy = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    holder = [jnp.zeros(size // 4)]

    def run() -> jax.Array:
        holder[0] = copy(holder[0])
        return holder[0]

    return size / fastest(run)
