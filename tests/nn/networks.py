"""Networks of every kind with random parameters, and what tests ask of them."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.nn import torso_spec


def shapes(name, in_size=5, out_size=3, depth=8, width=8, **options):
    """Return the form of a network of a kind, without parameters."""
    architecture = torso_spec(name).settings(**options)
    return jax.eval_shape(
        lambda key: architecture.build(in_size, out_size, depth=depth, width=width, key=key), jax.random.key(0)
    )


def drawn(name, in_size=5, out_size=3, depth=8, width=8, seed=0, **options):
    """Return a new network of a kind, as training starts with."""
    architecture = torso_spec(name).settings(**options)
    return architecture.build(in_size, out_size, depth=depth, width=width, key=jax.random.key(seed))


def build(name, **options):
    """Return a network whose every parameter, biases and scales too, is random and depends on its name."""

    def draw(path, leaf):
        rng = np.random.default_rng(list(jax.tree_util.keystr(path).encode()))
        return jnp.asarray(0.4 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(name, **options))


def inputs(*shape, seed=1):
    """Return normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


apply = jax.jit(lambda network, x: network(x))


def loss(network, x):
    """Return the sum of squared outputs."""
    return jnp.sum(jnp.square(apply(network, x)))


gradient = jax.jit(jax.grad(loss))


def saved_activations(network, x):
    """Count what the backward pass keeps of a batch: all residuals with an axis as long as the batch."""
    pullback = jax.eval_shape(lambda m: jax.vjp(lambda m: loss(m, x), m)[1], network)
    return sum(leaf.size for leaf in jax.tree.leaves(pullback) if len(x) in leaf.shape)


def count_equations(value):
    """Count the equations of a jaxpr and of all jaxprs within it."""
    if isinstance(value, (list, tuple)):
        return sum(map(count_equations, value))
    value = getattr(value, "jaxpr", value)
    if not hasattr(value, "eqns"):
        return 0
    return sum(1 + count_equations(list(equation.params.values())) for equation in value.eqns)
