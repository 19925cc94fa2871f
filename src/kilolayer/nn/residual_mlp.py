"""The deep residual MLP: one template for actor, state-action encoder and goal encoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.architecture import Architecture
from kilolayer.nn.layers import Dense, HiddenLayer


class ResidualMLP(eqx.Module):
    """A residual MLP of any depth (method 1.1).

        x = layer(input)
        repeat depth / block_size times:  x = x + scale * layer(... layer(x))     (block_size layers)
        output = dense(x)

    where a layer is dense, normalisation, activation. The sum comes after the block's last activation; nothing
    follows it. `depth` counts the layers inside the blocks, so depth 0 is the input layer and the head alone.

    The parameters of all blocks are stacked on a leading axis and `jax.lax.scan` walks them, so the compile time
    does not grow with depth.

    A plain building block, good without the rest of the library:

        >>> encoder = ResidualMLP(29, 64, depth=16, width=256, key=jax.random.key(0))
        >>> encoder(jnp.zeros((512, 29))).shape
        (512, 64)
    """

    input_layer: HiddenLayer
    blocks: HiddenLayer | None
    head: Dense
    architecture: Architecture = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        depth: int = 4,
        width: int = 256,
        architecture: Architecture | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the parameters of a network from `in_size` to `out_size` numbers.

        Raises:
            ConfigurationError: if a size is below one or the depth no multiple of the block size.
        """
        architecture = architecture or Architecture()
        for name, value in (("in_size", in_size), ("out_size", out_size), ("width", width)):
            if value < 1:
                raise ConfigurationError(f"{name}={value} must be at least 1")
        num_blocks = architecture.num_blocks(depth)

        def hidden_layer(size: int, key: PRNGKeyArray) -> HiddenLayer:
            return HiddenLayer(
                size,
                width,
                activation=architecture.activation,
                normalization=architecture.normalization,
                precision=architecture.precision,
                key=key,
            )

        input_key, block_key, head_key = jax.random.split(key, 3)
        self.input_layer = hidden_layer(in_size, input_key)
        self.blocks = None
        if num_blocks:
            block_keys = jax.random.split(block_key, (num_blocks, architecture.block_size))
            self.blocks = jax.vmap(jax.vmap(lambda k: hidden_layer(width, k)))(block_keys)
        self.head = Dense(width, out_size, precision=architecture.precision, key=head_key)
        self.architecture = architecture

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks."""
        return 0 if self.blocks is None else self.blocks.dense.bias.shape[0]

    @property
    def depth(self) -> int:
        """The number of dense layers inside residual blocks."""
        return self.num_blocks * self.architecture.block_size

    @property
    def branch_factor(self) -> float:
        """The factor on what every block adds."""
        return self.architecture.branch_factor(self.num_blocks)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""
        return self.head(self.trunk(x))

    def trunk(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch width"]:
        """Return the features in front of the head."""
        x = self.input_layer(x)
        if self.blocks is None:
            return x
        group = self.architecture.blocks_per_checkpoint()
        if group is None:
            return self._walk(x, self.blocks)
        whole = self.num_blocks - self.num_blocks % group
        walk = jax.checkpoint(lambda x, blocks: self._walk(x, blocks), prevent_cse=False)
        if whole:
            groups = jax.tree.map(lambda p: p[:whole].reshape(-1, group, *p.shape[1:]), self.blocks)
            x, _ = jax.lax.scan(lambda x, blocks: (walk(x, blocks), None), x, groups)
        if whole < self.num_blocks:
            x = walk(x, jax.tree.map(lambda p: p[whole:], self.blocks))
        return x

    def _walk(self, x: Float[Array, "*batch width"], blocks: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply stacked `blocks` one after the other."""

        def apply(x: Array, block: HiddenLayer) -> Array:
            return self._block(x, block)

        if self.architecture.checkpoint != "none":
            # What lies between two matrix products is cheaper to compute again than to write to memory and read back.
            policy = jax.checkpoint_policies.dots_saveable
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=False)
        x, _ = jax.lax.scan(lambda x, block: (apply(x, block), None), x, blocks, unroll=self.architecture.unroll)
        return x

    def _block(self, x: Float[Array, "*batch width"], block: HiddenLayer) -> Float[Array, "*batch width"]:
        """Apply one residual block, whose layers are stacked on the leading axis."""
        h = self.branch_factor * self._branch(x, block)[-1]
        return x + h if self.architecture.residual else h

    def branch_activations(
        self, x: Float[Array, "*batch width"], block: HiddenLayer
    ) -> Float[Array, "layers *batch width"]:
        """Return what each layer of one residual block gives; the last one, times `branch_factor`, is added to `x`."""
        return jnp.stack(self._branch(x, block))

    def _branch(self, x: Array, block: HiddenLayer) -> list[Array]:
        activations = [x]
        for index in range(self.architecture.block_size):
            layer = jax.tree.map(lambda p, i=index: p[i], block)
            activations.append(layer(activations[-1]))
        return activations[1:]
