"""The transformer over groups of the input's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import apply, build, inputs, shapes

from kilolayer.errors import ConfigurationError
from kilolayer.nn import TransformerArchitecture, block_statistics

NAME = "transformer"
ACTIVATIONS = {
    "swish": lambda x: x / (1.0 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
}


def reference(network, x):
    """Compute the network by loops over rows, tokens and heads, in numpy."""
    options, depth = network.architecture, network.num_blocks
    network, x = jax.tree.map(np.asarray, (network, x))

    def norm(p, x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p.scale + p.offset

    def dense(p, x):
        return x @ p.weight + p.bias

    def attention(block, x):
        width = x.shape[1]
        size = width // options.heads
        q, k, v = np.split(dense(block.queries_keys_values, x), 3, axis=1)
        heads = []
        for head in range(options.heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(size))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        return dense(block.attention_out, np.concatenate(heads, axis=1))

    outputs = []
    for row in x:
        num_tokens, group, _ = network.tokens.weight.shape
        row = np.pad(row, (0, num_tokens * group - len(row)))
        groups = row.reshape(num_tokens, group)
        h = np.stack([groups[t] @ network.tokens.weight[t] + network.position[t] for t in range(num_tokens)])
        for n in range(depth):
            block = jax.tree.map(lambda p, n=n: p[n], network.blocks)
            h = h + attention(block, norm(block.attention_norm, h))
            units = ACTIVATIONS[options.activation](dense(block.up, norm(block.mlp_norm, h)))
            h = h + dense(block.down, units)
        outputs.append(dense(network.head, norm(network.final_norm, h).mean(0)))
    return np.stack(outputs)


@pytest.mark.parametrize("depth", [0, 4, 8])
@pytest.mark.parametrize(
    "options",
    [{}, {"tokens": 2}, {"tokens": 1}, {"heads": 1}, {"heads": 8}, {"activation": "relu"}, {"expansion": 2}],
    ids=str,
)
def test_equals_an_unrolled_reimplementation(x64, depth, options):
    network, x = build(NAME, depth=depth, **options), inputs(6, 5)
    np.testing.assert_allclose(apply(network, x), reference(network, x), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    ("in_size", "tokens", "groups"),
    [(5, 8, (5, 1)), (8, 8, (8, 1)), (9, 8, (5, 2)), (31, 8, (8, 4)), (17, 8, (6, 3)), (1, 8, (1, 1)), (9, 1, (1, 9))],
)
def test_the_input_is_cut_into_groups_that_hold_all_of_it(in_size, tokens, groups):
    network = shapes(NAME, in_size=in_size, tokens=tokens)
    assert network.tokens.weight.shape == (*groups, 8)
    assert network.position.shape == (groups[0], 8)
    assert groups[0] <= tokens
    assert groups[0] * groups[1] >= in_size > (groups[0] - 1) * groups[1], "a token of padding alone"


def test_tokens_hear_of_each_other_in_blocks_alone(x64):
    x = inputs(1, 5)[0]
    network = build(NAME, depth=4)
    change = jax.jacobian(network.embed)(x)
    assert np.array_equal(np.any(change, axis=1), np.eye(5, dtype=bool))
    assert np.all(np.any(jax.jacobian(network.trunk)(x), axis=1))


def test_the_place_of_a_number_matters():
    network, x = build(NAME), inputs(6, 5)
    assert np.abs(apply(network, x) - apply(network, x[:, ::-1])).max() > 1e-2


def test_diagnostics_take_every_token_as_a_row():
    network, x = build(NAME), inputs(6, 5)
    first = block_statistics(network, x)["stream_norm"][0]
    np.testing.assert_allclose(first, jnp.linalg.norm(network.embed(x), axis=-1).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 6}, "depth=6 is not a multiple of 4, the layers of a block; try 4 or 8"),
        ({"width": 10}, "heads=4 does not divide width=10; try 2 or 5"),
        ({"width": 3}, "heads=4 does not divide width=3; try 3"),
        ({"width": 7}, "heads=4 does not divide width=7; try 1 or 7"),
        ({"heads": 0}, "heads=0 must be at least 1"),
        ({"tokens": 0}, "tokens=0 must be at least 1"),
        ({"expansion": 0}, "expansion=0 must be at least 1"),
        ({"activation": "tanh"}, "activation='tanh' is unknown; choose one of swish, relu, gelu"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(no_type_checks, options, message):
    with pytest.raises(ConfigurationError) as error:
        shapes(NAME, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("width", range(1, 40))
@pytest.mark.parametrize("heads", [1, 3, 4, 50])
def test_suggested_heads_are_accepted(width, heads):
    try:
        TransformerArchitecture(heads=heads).check_heads(width)
    except ConfigurationError as error:
        suggestions = str(error).split("try ")[1].split(" or ")
        for suggestion in suggestions:
            TransformerArchitecture(heads=int(suggestion)).check_heads(width)
    else:
        assert width % heads == 0
