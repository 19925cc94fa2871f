"""The form in ONNX of JAX's operations that only move entries."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export.onnx_graph import (
    Graph,
    Shape,
    Tensor,
    is_symbolic,
    named,
    numbers,
    onnx_rule,
)


def transpose(graph: Graph, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    """Return a tensor with its axes in another order."""
    if order == tuple(range(len(order))):
        return tensor
    if tensor.constant is not None:
        return Tensor.of(np.transpose(tensor.full_constant(), order))
    shape = tuple(tensor.shape[axis] for axis in order)
    held = tuple(tensor.held[axis] for axis in order)
    return Tensor(shape, tensor.dtype, held, graph.emit("Transpose", tensor, perm=order)[0])


def reshape(graph: Graph, tensor: Tensor, shape: Shape) -> Tensor:
    """Return a tensor in another shape; at most one of its sizes may depend on the batch."""
    if len(shape) == len(tensor.shape) and all(a is b or a == b for a, b in zip(shape, tensor.shape, strict=True)):
        return tensor
    if tensor.constant is not None and not any(map(is_symbolic, shape)):
        return Tensor.of(tensor.full_constant().reshape(shape))
    sizes = [-1 if is_symbolic(size) else size for size in shape]
    if sizes.count(-1) > 1:
        raise ConfigurationError(f"the network has an array of shape {shape}, which has no form in ONNX here")
    (name,) = graph.emit("Reshape", graph.whole(tensor), numbers(*sizes))
    return Tensor(shape, tensor.dtype, shape, name)


@onnx_rule("transpose")
def _transpose(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [transpose(graph, inputs[0], tuple(params["permutation"]))]


@onnx_rule("reshape", "expand_dims")
def _reshape(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [reshape(graph, inputs[0], tuple(outputs[0].shape))]


@onnx_rule("squeeze")
def _squeeze(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    x, axes = inputs[0], tuple(axis % len(inputs[0].shape) for axis in params["dimensions"])
    if x.constant is not None:
        held = tuple(size for axis, size in enumerate(x.held) if axis not in axes)
        constant = x.constant.reshape(held)
        return [Tensor(tuple(outputs[0].shape), x.dtype, held, constant=constant)]
    if x.parts is not None:
        return list(x.parts)
    (name,) = graph.emit("Squeeze", x, numbers(*axes))
    held = tuple(size for axis, size in enumerate(x.held) if axis not in axes)
    return [Tensor(tuple(outputs[0].shape), x.dtype, held, name)]


@onnx_rule("broadcast_in_dim")
def _broadcast(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    x, shape, places = inputs[0], tuple(outputs[0].shape), tuple(params["broadcast_dimensions"])
    held: list[Any] = [1] * len(shape)
    for axis, place in enumerate(places):
        held[place] = x.held[axis]
    if x.constant is not None:
        return [Tensor(shape, x.dtype, tuple(held), constant=x.constant.reshape(held))]
    new = [axis for axis in range(len(shape)) if axis not in places]
    if x.mean_of is not None and tuple(new) == x.mean_of[1] and all(shape[axis] == 1 for axis in new):
        summed, axes, _ = x.mean_of
        (name,) = graph.emit("ReduceSum", summed, numbers(*axes), keepdims=1)
        return [Tensor(shape, x.dtype, shape, name, mean_of=(summed, axes, True))]
    name = x.name if not new else graph.emit("Unsqueeze", x, numbers(*new))[0]
    return [Tensor(shape, x.dtype, tuple(held), name)]


def cut(graph: Graph, x: Tensor, start: Any, limit: Any, strides: Any, shape: Shape) -> Tensor:
    """Return a slice."""
    strides = strides or (1,) * len(start)
    if x.constant is not None and not any(map(is_symbolic, x.shape)):
        places = tuple(slice(*each) for each in zip(start, limit, strides, strict=True))
        return Tensor.of(x.full_constant()[places])
    x = graph.whole(x)
    axes = [
        axis
        for axis, size in enumerate(x.shape)
        if not (_is(start[axis], 0) and _is(limit[axis], size) and strides[axis] == 1)
    ]
    if not axes:
        return x
    ranges = [[each[axis] for axis in axes] for each in (start, limit)]
    if any(is_symbolic(each) for row in ranges for each in row):
        raise ConfigurationError("the network takes a part of its batch, which has no form in ONNX here")
    steps = [strides[axis] for axis in axes]
    (name,) = graph.emit("Slice", x, *(numbers(*each) for each in (*ranges, axes, steps)))
    return Tensor(shape, x.dtype, shape, name)


def _is(one: Any, other: Any) -> bool:
    return bool(is_symbolic(one) == is_symbolic(other) and one == other)


@onnx_rule("slice")
def _slice(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    x, start, limit = inputs[0], params["start_indices"], params["limit_indices"]
    shape = tuple(outputs[0].shape)
    if x.parts is not None:
        return [Tensor(shape, x.dtype, shape, parts=(x.parts[start[0]],))]
    return [cut(graph, x, start, limit, params["strides"], shape)]


@onnx_rule("gather")
def _gather(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    """Write a gather of one slice, or of entries of one axis, at places that are known."""
    x, indices = inputs
    form, sizes = params["dimension_numbers"], tuple(params["slice_sizes"])
    unknown = indices.constant is None or form.operand_batching_dims or len(indices.shape) > 2
    if unknown or (len(indices.shape) == 2 and len(form.start_index_map) != 1):
        raise ConfigurationError("the network looks up rows by computed indices, which has no form in ONNX here")
    if len(indices.shape) == 2:  # several entries of one axis
        (axis,) = form.start_index_map
        (name,) = graph.emit("Gather", graph.whole(x), numbers(*indices.full_constant()[:, 0].tolist()), axis=axis)
        return [named(name, outputs[0])]
    start = [0] * len(x.shape)
    for axis, place in zip(form.start_index_map, indices.full_constant().tolist(), strict=True):
        start[axis] = place
    limit = [
        size if _is(size, whole) else first + size for first, size, whole in zip(start, sizes, x.shape, strict=True)
    ]
    part = cut(graph, x, start, limit, None, sizes)
    if not form.collapsed_slice_dims:
        return [part]
    return _squeeze(graph, [part], {"dimensions": form.collapsed_slice_dims}, outputs)


@onnx_rule("rev")
def _reverse(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    axes, least = tuple(params["dimensions"]), np.iinfo(np.int64).min
    each = len(axes)
    places = (numbers(*(-1,) * each), numbers(*(least,) * each), numbers(*axes), numbers(*(-1,) * each))
    return [named(graph.emit("Slice", graph.whole(inputs[0]), *places)[0], outputs[0])]


@onnx_rule("concatenate")
def _concatenate(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    (name,) = graph.emit("Concat", *map(graph.whole, inputs), axis=params["dimension"])
    return [named(name, outputs[0])]


@onnx_rule("stack")
def _stack(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    axis = params.get("axis", params.get("dimension", 0))
    return [stack(graph, inputs, axis, outputs[0])]


def stack(graph: Graph, tensors: list[Tensor], axis: int, aval: Any) -> Tensor:
    """Return tensors side by side on a new axis."""
    rows = [graph.emit("Unsqueeze", graph.whole(each), numbers(axis))[0] for each in tensors]
    return named(graph.emit("Concat", *rows, axis=axis)[0], aval)


@onnx_rule("split")
def _split(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    sizes = numbers(*params["sizes"])
    names = graph.emit("Split", graph.whole(inputs[0]), sizes, outputs=len(outputs), axis=params["axis"])
    return [named(name, aval) for name, aval in zip(names, outputs, strict=True)]


@onnx_rule("pad")
def _pad(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    low, high, inside = (tuple(int(each) for each in side) for side in zip(*params["padding_config"], strict=True))
    if any(inside):
        raise ConfigurationError("the network pads between entries, which has no form in ONNX here")
    (name,) = graph.emit("Pad", graph.whole(inputs[0]), numbers(*low, *high), inputs[1])
    return [named(name, outputs[0])]


@onnx_rule("iota")
def _iota(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    raise ConfigurationError("the network counts along its batch, which has no form in ONNX here")
