"""Walks with fewer products that wait for each other: for devices that a single small product does not fill.

A gradient step walks every network forwards and backwards, one layer after the other. On a GPU each product of such a
walk is short, and its start costs more than its arithmetic. Two forms of the same mathematics have fewer of them:

* `walk_layers`: gradients of weights leave the walk. The walk backwards keeps what every product received and gave
  back, and the gradients of all weights are one batched product behind it.
* `call_together`: networks of equal shape that do not depend on each other are one network with stacked parameters.
"""

from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.nn.dense import Dense, Precision, matrix_product
from kilolayer.nn.layers import ACTIVATIONS, HiddenLayer
from kilolayer.nn.torso import Torso


def walk_layers(
    x: Float[Array, "*rows width"], blocks: HiddenLayer, *, factor: float, residual: bool, unroll: int = 1
) -> Float[Array, "*rows width"]:
    """Apply residual blocks of hidden layers, as `ResidualMLP` does, with the gradients of weights behind the walk.

    All products of the forward walk are kept, and for the gradients of the weights as many numbers twice more.

    Args:
        x: the stream before the first block.
        blocks: parameters `(blocks, layers, ...)`.
        factor: on what each block adds.
        residual: add each block's input to its output.
        unroll: blocks in one iteration of a scan.

    Returns:
        The stream after the last block.
    """
    rows = x.reshape(-1, x.shape[-1])
    return _walk(factor, residual, unroll, rows, blocks).reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _walk(factor: float, residual: bool, unroll: int, x: Array, blocks: HiddenLayer) -> Array:
    return _forward(factor, residual, unroll, x, blocks)[0]


def _forward(factor: float, residual: bool, unroll: int, x: Array, blocks: HiddenLayer) -> tuple[Array, tuple]:
    """Return the stream after the last block; and each block's input, all products, and the parameters."""
    precision = _precision(blocks)

    def step(x: Array, own: tuple[HiddenLayer, Array]) -> tuple[Array, tuple[Array, Array]]:
        light, weights = own
        stream = x
        products: list[Array] = []
        for layer, weight in _layers(light, weights):
            products.append(matrix_product(stream, weight, precision))
            stream = _after_product(layer, products[-1])
        added = factor * stream
        return (x + added if residual else added), (x, jnp.stack(products))

    out, (inputs, products) = jax.lax.scan(step, x, _parts(blocks), unroll=unroll)
    return out, (inputs, products, blocks)


def _backward(
    factor: float, residual: bool, unroll: int, saved: tuple[Array, Array, HiddenLayer], cotangent: Array
) -> tuple[Array, HiddenLayer]:
    inputs, products, blocks = saved
    precision, parts = _precision(blocks), _parts(blocks)

    def step(cotangent: Array, own: tuple[HiddenLayer, Array, Array]) -> tuple[Array, tuple[Array, HiddenLayer]]:
        light, weights, products = own
        gradient = factor * cotangent
        of_products: list[Array] = []
        of_layers: list[HiddenLayer] = []
        for (layer, weight), product in reversed(list(zip(_layers(light, weights), products, strict=True))):
            of_layer, of_product = jax.vjp(_after_product, layer, product)[1](gradient)
            gradient = matrix_product(of_product, weight.T, precision)
            of_products.insert(0, of_product)
            of_layers.insert(0, of_layer)
        before = cotangent + gradient if residual else gradient
        return before, (jnp.stack(of_products), jax.tree.map(lambda *each: jnp.stack(each), *of_layers))

    of_x, (of_products, of_light) = jax.lax.scan(step, cotangent, (*parts, products), reverse=True, unroll=unroll)
    # Each layer received what the one before made of its product; the first of a block the stream.
    received = jax.vmap(jax.vmap(_after_product))(parts[0], products)
    received = jnp.concatenate([inputs[:, None], received[:, :-1]], axis=1)
    of_weights = jax.vmap(jax.vmap(lambda into, out: matrix_product(into.T, out, precision)))(received, of_products)
    return of_x, _with_weight(of_light, of_weights)


_walk.defvjp(_forward, _backward)


def _precision(blocks: HiddenLayer) -> Precision:
    assert isinstance(blocks.dense, Dense)  # int8 weights act and do not learn
    return blocks.dense.precision


def _parts(blocks: HiddenLayer) -> tuple[HiddenLayer, Array]:
    """Return the layers without their weights, and the weights."""
    return _with_weight(blocks, None), blocks.dense.weight


def _with_weight(layers: HiddenLayer, weight: Array | None) -> HiddenLayer:
    return eqx.tree_at(lambda layers: layers.dense.weight, layers, weight, is_leaf=lambda node: node is None)


def _layers(light: HiddenLayer, weights: Array) -> list[tuple[HiddenLayer, Array]]:
    """Return each layer of a block without its weight, and its weight."""
    return [(jax.tree.map(lambda p, i=index: p[i], light), weight) for index, weight in enumerate(weights)]


def _after_product(layer: HiddenLayer, product: Array) -> Array:
    """Return what a hidden layer makes of its matrix product: bias, normalisation, activation."""
    if layer.dense.bias is not None:
        product = product + layer.dense.bias
    if layer.norm is not None:
        product = layer.norm(product)
    return ACTIVATIONS[layer.activation](product)


def call_together(calls: Sequence[tuple[Torso, Array]]) -> list[Array]:
    """Return what each network gives for its input. Those that can walk as one do; see `Torso.walks_with`.

    Args:
        calls: networks with their inputs, none of which depends on another's output.
    """
    outputs: dict[int, Array] = {}
    waiting = list(enumerate(calls))
    while waiting:
        place, (torso, x) = waiting[0]
        own = [(other, call) for other, call in waiting if other == place or torso.walks_with(x, *call)]
        waiting = [each for each in waiting if each[0] not in {other for other, _ in own}]
        found = torso.call_with([call for _, call in own]) if len(own) > 1 else [torso(x)]
        outputs |= {other: output for (other, _), output in zip(own, found, strict=True)}
    return [outputs[place] for place in range(len(calls))]
