"""Whether the fused kernels run on this device, and give what XLA gives there."""

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from kilolayer.nn.dense import Precision
from kilolayer.nn.layers import Activation, HiddenLayer, Normalization
from kilolayer.nn.short_chain import walk_layers

ROWS = 40
"""Rows of the check: more than a tile, and no multiple of one."""

BLOCKS = 2
"""Blocks of the check."""

TOLERANCE = {"tf32": 0.01, "bfloat16": 0.05}
"""Largest distance from products in float32, relative to the length of what is compared. A wrong kernel is far beyond:
the steps of TF32 are 0.001 of a number, those of bfloat16 0.008, and errors of a few layers add up."""


@functools.cache
def kernels_agree(
    width: int,
    *,
    block_size: int,
    residual: bool,
    normalization: Normalization,
    activation: Activation,
    precision: Precision,
) -> bool:
    """Return whether the kernels compile and run here, and values and gradients are within `TOLERANCE` of XLA's.

    Where they do not, one line of the log says why. The answer is kept for the process.

    Args:
        width: of the networks.
        block_size: layers in a block.
        residual: add each block's input to its output.
        normalization: of the layers.
        activation: of the layers.
        precision: of the products.
    """

    def layers(precision: Precision) -> HiddenLayer:
        def layer(key: Array) -> HiddenLayer:
            return HiddenLayer(
                width, width, normalization=normalization, activation=activation, precision=precision, key=key
            )

        keys = jax.random.split(jax.random.key(0), (BLOCKS, block_size))
        return jax.vmap(jax.vmap(layer))(keys)

    def with_gradients(precision: Precision, *, fused: bool) -> Any:
        def loss(x: Array, blocks: HiddenLayer) -> tuple[Array, Array]:
            out = walk_layers(x, blocks, factor=1.0, residual=residual, fused=fused)
            return jnp.sum(jnp.sin(out)), out

        x = jax.random.normal(jax.random.key(1), (ROWS, width))
        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, layers(precision))

    try:
        with jax.ensure_compile_time_eval():
            found, expected = with_gradients(precision, fused=True), with_gradients("float32", fused=False)
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
            furthest = max(float(_distance(*pair)) for pair in pairs)
    except Exception as error:  # whatever a compiler, a driver or a missing package raises: XLA takes over
        reason = f"they do not run here ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        if furthest <= TOLERANCE[precision]:
            return True
        reason = f"they are {furthest:.2g} away from what XLA gives, more than {TOLERANCE[precision]}"
    logging.getLogger(__name__).warning(
        "kernels: XLA walks networks of width %d, not the fused kernels: %s", width, reason
    )
    return False


def _distance(found: Array, expected: Array) -> Array:
    """Return how far two arrays are apart, relative to the length of the second; infinite if one is not finite."""
    distance = jnp.linalg.norm((found - expected).ravel()) / (jnp.linalg.norm(expected.ravel()) + 1e-12)
    return jnp.where(jnp.isfinite(distance), distance, jnp.inf)
