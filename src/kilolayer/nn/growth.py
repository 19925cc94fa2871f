"""Deeper networks that begin as the same function: new residual blocks start as the identity.

A block adds the output of its branch to its input, so a branch that is zero makes it the identity. The last layer of a
new branch starts with a norm of scale and offset 0 (or, without normalisation, weight and bias 0), and its activation
maps 0 to 0 with a slope that is not 0: the branch is silent at first, and its gradient is not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.architecture import Architecture
from kilolayer.nn.layers import HiddenLayer
from kilolayer.nn.residual_mlp import ResidualMLP

GROWABLE_ACTIVATIONS = ("swish", "gelu")
"""Activations that map 0 to 0 with a slope that is not 0."""


def check_growable(architecture: Architecture) -> None:
    """Refuse networks in which no block can start as the identity and learn.

    Raises:
        ConfigurationError: naming the field, its value and what would be valid.
    """
    if not architecture.residual:
        raise ConfigurationError("residual=False cannot grow: no new layer would start as the identity; leave it True")
    if architecture.activation not in GROWABLE_ACTIVATIONS:
        raise ConfigurationError(
            f"activation={architecture.activation!r} cannot grow: new blocks would start where its slope is 0 and "
            f"never learn; choose one of {', '.join(GROWABLE_ACTIVATIONS)}"
        )


def grow(mlp: ResidualMLP, depth: int, *, key: PRNGKeyArray) -> ResidualMLP:
    """Return `mlp` with blocks appended up to `depth` layers inside blocks; it computes the same function.

    Args:
        mlp: the network. With `residual_scaling`, its `scaled_for_depth` must be set: the factor on every branch must
            not change.
        depth: layers inside the blocks of the new network, at least those of `mlp`.
        key: of the new blocks, whose parameters are drawn as for a new network, but for the last layer of each.

    Raises:
        ConfigurationError: if the architecture cannot grow, or not to this depth.
    """
    in_size, width = mlp.input_layer.dense.weight.shape
    out_size = mlp.head.bias.shape[0]
    deep = ResidualMLP(in_size, out_size, depth=depth, width=width, architecture=mlp.architecture, key=key)
    return graft(mlp, deep)


def graft(shallow: ResidualMLP, deep: ResidualMLP) -> ResidualMLP:
    """Return `deep` with everything that `shallow` holds, and what is left of its blocks silent.

    Adam's moments of a network have its form and grow in the same way: where those of `deep` are zero, as new ones are,
    those of new blocks are.

    Args:
        shallow: the network that grows.
        deep: a new network of the same sizes and at least as many blocks; its own architecture stays.

    Raises:
        ConfigurationError: if the architecture cannot grow, or not to this depth.
    """
    architecture = deep.architecture
    check_growable(architecture)
    kept = shallow.num_blocks
    if deep.num_blocks < kept:
        raise ConfigurationError(f"depth={deep.depth} is less than the network's own {shallow.depth}; it can only grow")
    if kept and shallow.architecture.branch_factor(kept) != architecture.branch_factor(deep.num_blocks):
        raise ConfigurationError(
            f"residual_scaling={architecture.residual_scaling!r} would change with the depth; "
            "set scaled_for_depth to the depth that the network grows to"
        )
    blocks = None if deep.blocks is None else _silent(deep.blocks)
    if shallow.blocks is not None:
        blocks = jax.tree.map(lambda old, new: jnp.concatenate([old, new[kept:]]), shallow.blocks, blocks)
    return eqx.tree_at(
        lambda mlp: (mlp.input_layer, mlp.blocks, mlp.head),
        deep,
        (shallow.input_layer, blocks, shallow.head),
        is_leaf=lambda node: node is None,
    )


def _silent(blocks: HiddenLayer) -> HiddenLayer:
    """Return stacked blocks, `(blocks, layers, ...)`, whose last layer gives zeros whatever its input."""

    def what_it_takes(blocks: HiddenLayer) -> eqx.Module:
        return blocks.dense if blocks.norm is None else blocks.norm

    silent = jax.tree.map(lambda p: p.at[:, -1].set(0.0), what_it_takes(blocks))
    return eqx.tree_at(what_it_takes, blocks, silent)
