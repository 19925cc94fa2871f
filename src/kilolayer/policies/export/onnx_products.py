"""The form in ONNX of JAX's sums, products and other operations along axes."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from kilolayer.policies.export.onnx_graph import (
    Graph,
    Rule,
    Tensor,
    named,
    numbers,
    onnx_rule,
    onnx_type,
)
from kilolayer.policies.export.onnx_shapes import reshape, transpose

REDUCE = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd", "reduce_sum": "ReduceSum"}


def _reduce(kind: str) -> Rule:
    def rule(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
        x, axes = graph.whole(inputs[0]), tuple(params["axes"])
        (name,) = graph.emit(kind, x, numbers(*axes), keepdims=0)
        result = named(name, outputs[0])
        if kind != "ReduceSum":
            return [result]
        return [Tensor(result.shape, result.dtype, result.held, name, mean_of=(x, axes, False))]

    return rule


for _name, _kind in REDUCE.items():
    onnx_rule(_name)(_reduce(_kind))


def _place(kind: str) -> Rule:
    def rule(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
        (axis,) = params["axes"]
        (index,) = graph.emit(kind, graph.whole(inputs[0]), axis=axis, keepdims=0)
        return [named(graph.emit("Cast", index, to=onnx_type(outputs[0].dtype))[0], outputs[0])]

    return rule


onnx_rule("argmax")(_place("ArgMax"))
onnx_rule("argmin")(_place("ArgMin"))


@onnx_rule("cumsum")
def _cumsum(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    axis = Tensor.of(np.int64(params["axis"]))
    (name,) = graph.emit("CumSum", graph.whole(inputs[0]), axis, reverse=int(params["reverse"]))
    return [named(name, outputs[0])]


@onnx_rule("dot_general")
def _dot(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    (contract, batch), (left, right) = params["dimension_numbers"], (graph.whole(each) for each in inputs)
    if left.dtype == jnp.bfloat16:  # the entries are rounded already, and runtimes on a CPU have no other product
        left, right = (_cast(graph, each, np.dtype(np.float32)) for each in (left, right))
    kind = "MatMulInteger" if left.dtype == right.dtype == np.int8 else "MatMul"
    plain = not batch[0] and tuple(contract[0]) == (len(left.shape) - 1,) and tuple(contract[1]) == (0,)
    if plain and len(right.shape) == 2:
        if graph.int8 and graph.in_step and right.constant is not None and left.dtype == right.dtype == np.float32:
            return [_int8_product(graph, left, right.constant, outputs[0])]
        (name,) = graph.emit(kind, left, right)
        return [named(name, outputs[0])]
    free = [
        [axis for axis in range(len(side.shape)) if axis not in (*batch[i], *contract[i])]
        for i, side in enumerate((left, right))
    ]
    shared = tuple(left.shape[axis] for axis in batch[0])
    inside = _product(left.shape[axis] for axis in contract[0])
    rows, columns = (
        _product(side.shape[axis] for axis in axes) for side, axes in zip((left, right), free, strict=True)
    )
    left = reshape(graph, transpose(graph, left, (*batch[0], *free[0], *contract[0])), (*shared, rows, inside))
    right = reshape(graph, transpose(graph, right, (*batch[1], *contract[1], *free[1])), (*shared, inside, columns))
    (name,) = graph.emit(kind, left, right)
    product = Tensor((*shared, rows, columns), outputs[0].dtype, (*shared, rows, columns), name)
    return [reshape(graph, product, tuple(outputs[0].shape))]


def _int8_product(graph: Graph, x: Tensor, weight: np.ndarray, aval: Any) -> Tensor:
    """Write a product with a constant matrix of 8 bit integers, each of whose columns has its own scale.

    They are unsigned, around 128: processors without VNNI clip sums of products with signed ones. The other side is
    rounded when the model runs, with one scale for all rows.
    """
    unit = np.maximum(np.abs(weight).max(axis=0), 1e-30) / 127.0
    rounded = Tensor.of((np.round(weight / unit) + 128.0).astype(np.uint8))
    small, scale, zero = graph.emit("DynamicQuantizeLinear", x, outputs=3)
    (sums,) = graph.emit("MatMulInteger", small, rounded, zero, Tensor.of(np.uint8(128)))
    (numbers,) = graph.emit("Cast", sums, to=onnx_type(np.float32))
    (scales,) = graph.emit("Mul", scale, Tensor.of(unit.astype(np.float32)))
    return named(graph.emit("Mul", numbers, scales)[0], aval)


def _product(sizes: Any) -> Any:
    result: Any = 1
    for size in sizes:
        result = size * result
    return result


def _cast(graph: Graph, tensor: Tensor, dtype: np.dtype) -> Tensor:
    if tensor.constant is not None:
        return Tensor.of(tensor.constant.astype(dtype))
    (name,) = graph.emit("Cast", tensor, to=onnx_type(dtype))
    return Tensor(tensor.shape, dtype, tensor.held, name)
