"""A transformer over groups of the input's numbers (Vaswani et al., 2017; pre-norm blocks)."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError
from kilolayer.nn.dense import Dense, lax_precision
from kilolayer.nn.layers import ACTIVATIONS, Activation, LayerNorm, check_activation
from kilolayer.nn.quantized import QuantizedDense
from kilolayer.nn.remat import BlockNumbers
from kilolayer.nn.stack import BlockOutput, StackedArchitecture, StackedTorso
from kilolayer.nn.torso import TorsoSpec, check_sizes, register_torso

POSITION_SCALE = 0.02
"""Standard deviation of new position embeddings."""


@dataclasses.dataclass(frozen=True)
class TransformerArchitecture(StackedArchitecture):
    """Settings of the transformer torso. `depth` counts the dense layers inside blocks, four in each: queries, keys and
    values; attention's output; and the two of the MLP. Depth 4 is one block.
    """

    tokens: int = 8
    """Largest number of tokens. The input is cut into groups of equal size, one for each token, padded with zeros; an
    input of fewer numbers has one token for each number."""
    heads: int = 4
    """Heads of the attention; must divide the width."""
    expansion: int = 4
    """Units inside a block's MLP, as a multiple of the width."""
    activation: Activation = "gelu"
    """Activation inside a block's MLP."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        check_sizes(tokens=self.tokens, heads=self.heads, expansion=self.expansion)
        check_activation(self.activation)

    @property
    def layers_per_block(self) -> int:
        """Dense layers in a block."""
        return 4

    def block_numbers(self, width: int) -> BlockNumbers:
        """Return how many numbers a block of this width has to keep."""
        inner = self.expansion * width
        # Queries, keys and values; attended values; attention's output; inside the MLP; and the scores of all heads.
        # The last product of the MLP is not kept: it is only added to the stream.
        products = self.tokens * (5 * width + inner + self.heads * self.tokens)
        parameters = 4 * width * width + 2 * width * inner + 9 * width + inner
        return BlockNumbers(parameters=parameters, stream=self.tokens * width, products=products)

    def group_size(self, in_size: int) -> int:
        """Return how many of the input's numbers make a token."""
        return -(-in_size // self.tokens)

    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> "Transformer":
        """Return a new network; see `Transformer`."""
        return Transformer(in_size, out_size, depth=depth, width=width, architecture=self, key=key)

    def check_growable(self) -> None:
        """Check that networks can grow: they always can."""

    def check_heads(self, width: int) -> None:
        """Check that the heads divide a width.

        Raises:
            ConfigurationError: if they do not; the line names the nearest numbers of heads that do.
        """
        if width % self.heads:
            below = max(heads for heads in range(1, min(self.heads, width) + 1) if width % heads == 0)
            above = min(heads for heads in range(min(self.heads, width), width + 1) if width % heads == 0)
            choices = dict.fromkeys((below, above))
            raise ConfigurationError(
                f"heads={self.heads} does not divide width={width}; try {' or '.join(map(str, choices))}"
            )


class TransformerBlock(eqx.Module):
    """The parameters of a block: attention and an MLP, each after a LayerNorm."""

    attention_norm: LayerNorm
    queries_keys_values: Dense | QuantizedDense
    attention_out: Dense | QuantizedDense
    mlp_norm: LayerNorm
    up: Dense | QuantizedDense
    down: Dense | QuantizedDense

    def __init__(self, width: int, architecture: TransformerArchitecture, *, key: PRNGKeyArray):
        """Draw the parameters of a block of `width` units."""
        keys, inner, precision = jax.random.split(key, 4), architecture.expansion * width, architecture.precision
        self.attention_norm = LayerNorm(width)
        self.queries_keys_values = Dense(width, 3 * width, precision=precision, key=keys[0])
        self.attention_out = Dense(width, width, precision=precision, key=keys[1])
        self.mlp_norm = LayerNorm(width)
        self.up = Dense(width, inner, precision=precision, key=keys[2])
        self.down = Dense(inner, width, precision=precision, key=keys[3])


class Transformer(StackedTorso):
    """A transformer whose tokens are groups of the input's numbers.

        x[t] = W[t] group[t] + position[t]                                           (t = one of the tokens)
        repeat depth / 4 times:  x = x + attention(norm(x));  x = x + mlp(norm(x))
        output = dense(mean over tokens of norm(x))

    Every token has its own weights W[t], because numbers at different places of an observation mean different things.
    Scores and weighted sums of the attention are float32 (TF32 on a GPU, unless `precision` is float32).
    """

    tokens: Dense
    """One dense layer for each token, stacked on the leading axis."""
    position: Float[Array, "*stack tokens width"]
    blocks: TransformerBlock | None
    final_norm: LayerNorm
    head: Dense
    architecture: TransformerArchitecture = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        depth: int = 4,
        width: int = 256,
        architecture: TransformerArchitecture | None = None,
        key: PRNGKeyArray,
    ):
        """Draw the parameters.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            depth: dense layers inside the blocks, a multiple of four.
            width: numbers of a token.
            architecture: all other settings; None takes the defaults.
            key: randomness of the parameters.

        Raises:
            ConfigurationError: if a size is below one, the depth not a multiple of four, or the width not a multiple of
                the heads.
        """
        architecture = architecture or TransformerArchitecture()
        check_sizes(in_size=in_size, out_size=out_size, width=width)
        architecture.check_heads(width)
        num_blocks, precision = architecture.num_blocks(depth), architecture.precision
        group = architecture.group_size(in_size)
        num_tokens = -(-in_size // group)

        def token(key: PRNGKeyArray) -> Dense:
            return Dense(group, width, use_bias=False, precision=precision, key=key)

        token_key, position_key, block_key, head_key = jax.random.split(key, 4)
        self.tokens = jax.vmap(token)(jax.random.split(token_key, num_tokens))
        self.position = POSITION_SCALE * jax.random.normal(position_key, (num_tokens, width))
        self.blocks = None
        if num_blocks:
            block_keys = jax.random.split(block_key, num_blocks)
            self.blocks = jax.vmap(lambda key: TransformerBlock(width, architecture, key=key))(block_keys)
        self.final_norm = LayerNorm(width)
        self.head = Dense(width, out_size, precision=precision, key=head_key)
        self.architecture = architecture

    def embed(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch tokens width"]:
        """Cut the input into groups and map each to a token."""
        num_tokens, group, _ = self.tokens.weight.shape
        padding = [(0, 0)] * (x.ndim - 1) + [(0, num_tokens * group - x.shape[-1])]
        groups = jnp.pad(x, padding).reshape(*x.shape[:-1], num_tokens, group)
        return jax.vmap(lambda dense, x: dense(x), in_axes=(0, -2), out_axes=-2)(self.tokens, groups) + self.position

    def block(self, x: Float[Array, "*batch tokens width"], parameters: TransformerBlock) -> BlockOutput:
        """Apply attention and the MLP, each to the normalised stream, and add what they return."""
        attended = self._attention(parameters.queries_keys_values(parameters.attention_norm(x)))
        h = x + parameters.attention_out(attended)
        units = ACTIVATIONS[self.architecture.activation](parameters.up(parameters.mlp_norm(h)))
        stream = h + parameters.down(units)
        return BlockOutput(stream, stream - x, [units])

    def _attention(self, x: Float[Array, "*batch tokens three_widths"]) -> Float[Array, "*batch tokens width"]:
        """Return the values of all heads, weighted by the softmax of scaled products of queries and keys."""
        heads, precision = self.architecture.heads, lax_precision(self.architecture.precision)
        queries, keys, values = jnp.moveaxis(x.reshape(*x.shape[:-1], 3, heads, -1), -3, 0)
        scores = jnp.einsum("...qhd,...khd->...hqk", queries, keys, precision=precision) * queries.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores, axis=-1)
        attended = jnp.einsum("...hqk,...khd->...qhd", weights, values, precision=precision)
        return attended.reshape(*x.shape[:-1], -1)

    def read_out(self, x: Float[Array, "*batch tokens width"]) -> Float[Array, "*batch out"]:
        """Apply the final norm, take the mean over tokens, and apply the head."""
        return self.head(jnp.mean(self.final_norm(x), axis=-2))

    def identity_blocks(self) -> TransformerBlock | None:
        """Return the blocks with zeros in the last dense layer of attention and MLP. Their gradients are not zero."""
        if self.blocks is None:
            return None

        def outputs(blocks: TransformerBlock) -> tuple[Dense | QuantizedDense, ...]:
            return blocks.attention_out, blocks.down

        return eqx.tree_at(outputs, self.blocks, jax.tree.map(jnp.zeros_like, outputs(self.blocks)))


register_torso(
    TorsoSpec("transformer", "pre-norm transformer over groups of the input's numbers", TransformerArchitecture)
)
