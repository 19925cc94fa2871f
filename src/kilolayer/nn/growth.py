"""A deeper network that computes the same function: new residual blocks start as the identity."""

from jaxtyping import PRNGKeyArray

from kilolayer.nn.residual_mlp import ResidualMLP


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
    return deep.graft(mlp)
