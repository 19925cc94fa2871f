"""Walks with fewer products that wait for each other: for devices that a single small product does not fill.

A gradient step walks every network forwards and backwards, one layer after the other. On a GPU each product of such a
walk is short, and its start costs more than its arithmetic. Two forms of the same mathematics have fewer of them:

* `walk_layers`: gradients of weights leave the walk. The walk backwards keeps what every product received and gave
  back, and the gradients of all weights are one batched product behind it. Each walk is a scan, or one fused kernel.
* `call_together`: networks of equal shape that do not depend on each other are one network with stacked parameters.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.nn import kernels
from kilolayer.nn.dense import Dense, Precision, matrix_product
from kilolayer.nn.layers import ACTIVATIONS, HiddenLayer, LayerNorm
from kilolayer.nn.torso import Torso


def walk_layers(
    x: Float[Array, "*rows width"],
    blocks: HiddenLayer,
    *,
    factor: float,
    residual: bool,
    unroll: int = 1,
    fused: bool = False,
) -> Float[Array, "*rows width"]:
    """Apply residual blocks of hidden layers, as `ResidualMLP` does, with the gradients of weights behind the walk.

    All products of the forward walk are kept, and for the gradients of the weights as many numbers twice more.

    Args:
        x: the stream before the first block.
        blocks: parameters `(blocks, layers, ...)`.
        factor: on what each block adds.
        residual: add each block's input to its output.
        unroll: blocks in one iteration of a scan.
        fused: walk by the fused kernels; see `kilolayer.nn.kernels`.

    Returns:
        The stream after the last block.
    """
    rows = x.reshape(-1, x.shape[-1])
    form = Form(factor, residual, unroll)
    walk = _walk_by_kernels if fused else _walk_by_scan
    return walk(form, rows, blocks).reshape(x.shape)


class Form(NamedTuple):
    """What a walk computes beside the layers."""

    factor: float
    residual: bool
    unroll: int


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _walk_by_scan(form: Form, x: Array, blocks: HiddenLayer) -> Array:
    return _scan_forward(form, x, blocks)[0]


def _scan_forward(form: Form, x: Array, blocks: HiddenLayer) -> tuple[Array, tuple]:
    """Return the stream after the last block; and each block's input, all products, and the parameters."""
    precision = _precision(blocks)

    def step(x: Array, own: tuple[HiddenLayer, Array]) -> tuple[Array, tuple[Array, Array]]:
        light, weights = own
        stream = x
        products: list[Array] = []
        for layer, weight in _layers(light, weights):
            products.append(matrix_product(stream, weight, precision))
            stream = _after_product(layer, products[-1])
        added = form.factor * stream
        return (x + added if form.residual else added), (x, jnp.stack(products))

    out, (inputs, products) = jax.lax.scan(step, x, _parts(blocks), unroll=form.unroll)
    return out, (inputs, products, blocks)


def _scan_backward(form: Form, saved: tuple[Array, Array, HiddenLayer], cotangent: Array) -> tuple[Array, HiddenLayer]:
    inputs, products, blocks = saved
    precision, parts = _precision(blocks), _parts(blocks)

    def step(cotangent: Array, own: tuple[HiddenLayer, Array, Array]) -> tuple[Array, tuple[Array, HiddenLayer]]:
        light, weights, products = own
        gradient = form.factor * cotangent
        of_products: list[Array] = []
        of_layers: list[HiddenLayer] = []
        for (layer, weight), product in reversed(list(zip(_layers(light, weights), products, strict=True))):
            of_layer, of_product = jax.vjp(_after_product, layer, product)[1](gradient)
            gradient = matrix_product(of_product, weight.T, precision)
            of_products.insert(0, of_product)
            of_layers.insert(0, of_layer)
        before = cotangent + gradient if form.residual else gradient
        return before, (jnp.stack(of_products), jax.tree.map(lambda *each: jnp.stack(each), *of_layers))

    of_x, (of_products, of_light) = jax.lax.scan(step, cotangent, (*parts, products), reverse=True, unroll=form.unroll)
    # Each layer received what the one before made of its product; the first of a block the stream.
    received = jax.vmap(jax.vmap(_after_product))(parts[0], products)
    received = jnp.concatenate([inputs[:, None], received[:, :-1]], axis=1)
    return of_x, _with_weight(of_light, _of_weights(received, of_products, precision))


_walk_by_scan.defvjp(_scan_forward, _scan_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _walk_by_kernels(form: Form, x: Array, blocks: HiddenLayer) -> Array:
    return kernels.forward(*_for_kernels(form, blocks), x[None], keep=False).out[0]


def _kernels_forward(form: Form, x: Array, blocks: HiddenLayer) -> tuple[Array, tuple]:
    """Return the stream after the last block; and all layers' inputs and products, and the parameters."""
    found = kernels.forward(*_for_kernels(form, blocks), x[None], keep=True)
    return found.out[0], (found.received, found.products, blocks)


def _kernels_backward(
    form: Form, saved: tuple[Array, Array, HiddenLayer], cotangent: Array
) -> tuple[Array, HiddenLayer]:
    received, products, blocks = saved
    found = kernels.backward(*_for_kernels(form, blocks), cotangent[None], products)
    stacked = blocks.dense.weight.shape[:2]

    def unflatten(each: Array) -> Array:
        return each.reshape(*stacked, *each.shape[2:])

    of_weights = _of_weights(unflatten(received), unflatten(found.products), _precision(blocks))
    of_layers = [of_weights, *(unflatten(each) for each in (found.bias, found.scale, found.offset) if each is not None)]
    return found.stream[0], jax.tree.unflatten(jax.tree.structure(blocks), of_layers)


_walk_by_kernels.defvjp(_kernels_forward, _kernels_backward)


def _for_kernels(form: Form, blocks: HiddenLayer) -> tuple[kernels.Walk, kernels.Parameters]:
    """Return what the layers compute and their parameters, as the kernels take them: layers of all blocks in a row."""
    walk = kernels.Walk(
        block_size=blocks.dense.weight.shape[1],
        factor=form.factor,
        residual=form.residual,
        normalization=blocks.normalization,
        activation=blocks.activation,
        bfloat16=_precision(blocks) == "bfloat16",
    )
    norm = blocks.norm
    parameters = kernels.Parameters(
        blocks.dense.weight,
        blocks.dense.bias,
        None if norm is None else norm.scale,
        norm.offset if isinstance(norm, LayerNorm) else None,
    )
    return walk, jax.tree.map(lambda each: each.reshape(1, -1, *each.shape[2:]), parameters)


def _of_weights(received: Array, of_products: Array, precision: Precision) -> Array:
    """Return the gradients of all weights, `(blocks, layers, width, width)`, as one batched product."""
    return jax.vmap(jax.vmap(lambda into, out: matrix_product(into.T, out, precision)))(received, of_products)


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
