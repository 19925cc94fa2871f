"""Networks that the fused kernels walk, and the same in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.nn import ResidualArchitecture, ResidualMLP

TOLERANCE = {"tf32": 3e-3, "bfloat16": 3e-2}
"""Of each array, relative to its length: TF32 rounds to 0.0005 of a number, bfloat16 to 0.004, in every layer."""

FORMS = {
    "as the paper has it": {},
    "rms": {"normalization": "rms"},
    "no normalisation": {"normalization": "none", "activation": "relu"},
    "no residual connections": {"residual": False},
    "scaled branches": {"residual_scaling": "inverse_sqrt", "activation": "gelu"},
    "blocks of one layer": {"block_size": 1},
    "bfloat16": {"precision": "bfloat16"},
}


def network(form, kernels, *, depth=8, width=64, seed=0):
    architecture = ResidualArchitecture(chain="short" if kernels == "fused" else "plain", kernels=kernels, **form)
    torso = ResidualMLP(5, 3, depth=depth, width=width, architecture=architecture, key=jax.random.key(seed))
    keys = iter(jax.random.split(jax.random.key(seed + 1), 100))
    # Biases, scales and offsets away from 0 and 1, at which mistakes do not show.
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape) if p.ndim < 4 else p, torso)


def inputs(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_gradients(network, x):
    def loss(network, x):
        out = network(x)
        return jnp.sum(jnp.sin(out)), out

    gradients, out = jax.grad(loss, argnums=(0, 1), has_aux=True)(network, x)
    return out, gradients


def in_float64(function, *arguments):
    with jax.enable_x64(True):
        arguments = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), arguments)
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def exact(form):
    """The form without what rounds products."""
    return {**form, "precision": "float32"}


def assert_close(found, expected, tolerance):
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert own.shape == other.shape
        assert np.linalg.norm(own - other) <= tolerance * np.linalg.norm(other) + 1e-9
