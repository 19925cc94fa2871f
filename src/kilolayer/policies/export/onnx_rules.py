"""The form in ONNX of JAX's operations."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export.onnx_graph import Graph, Rule, Shape, Tensor, is_symbolic, onnx_rule

UNARY = {
    "abs": "Abs",
    "acos": "Acos",
    "asin": "Asin",
    "atan": "Atan",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "logistic": "Sigmoid",
    "neg": "Neg",
    "not": "Not",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
BINARY = {
    "add": "Add",
    "and": "And",
    "div": "Div",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "or": "Or",
    "pow": "Pow",
    "sub": "Sub",
    "xor": "Xor",
}
REDUCE = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd", "reduce_sum": "ReduceSum"}
SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision", "sharding_constraint")


def elementwise(graph: Graph, kind: str, inputs: list[Tensor], aval: Any, **attributes: Any) -> Tensor:
    """Emit an operation on each entry. Inputs that are held small are not expanded."""
    (name,) = graph.emit(kind, *inputs, **attributes)
    rank = len(aval.shape)
    held = [(1,) * (rank - len(each.held)) + each.held for each in inputs]
    sizes = tuple(
        next((size for size in column if is_symbolic(size) or size != 1), 1) for column in zip(*held, strict=True)
    )
    return Tensor(tuple(aval.shape), aval.dtype, sizes, name)


def _scalar(value: float, like: Tensor) -> Tensor:
    return Tensor.of(np.asarray(value, like.dtype))


def _named(name: str, aval: Any) -> Tensor:
    return Tensor(tuple(aval.shape), aval.dtype, tuple(aval.shape), name)


def _numbers(*values: int) -> Tensor:
    return Tensor.of(np.array(values, np.int64))


# ---- Each entry by itself --------------------------------------------------------------------------------------------


def _unary(kind: str) -> Rule:
    return lambda graph, inputs, params, outputs: [elementwise(graph, kind, inputs, outputs[0])]


for _name, _kind in (UNARY | BINARY).items():
    onnx_rule(_name)(_unary(_kind))


@onnx_rule(*SAME)
def _same(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return inputs


@onnx_rule("is_finite")
def _is_finite(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    infinite, nan = (elementwise(graph, kind, inputs, outputs[0]) for kind in ("IsInf", "IsNaN"))
    return [elementwise(graph, "Not", [elementwise(graph, "Or", [infinite, nan], outputs[0])], outputs[0])]


@onnx_rule("mul")
def _mul(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    for one, other in (inputs, inputs[::-1]):
        if other.divisor is not None:
            return [elementwise(graph, "Div", [one, other.divisor], outputs[0])]
    return [elementwise(graph, "Mul", inputs, outputs[0])]


@onnx_rule("div")
def _div(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    over, by = inputs
    if over.mean_of is not None and by.constant is not None and by.constant.size == 1:
        summed, axes, keep = over.mean_of
        if by.constant.item() == np.prod([summed.shape[axis] for axis in axes]):
            (name,) = graph.emit("ReduceMean", summed, _numbers(*axes), keepdims=int(keep))
            return [_named(name, outputs[0])]
    return [elementwise(graph, "Div", inputs, outputs[0])]


@onnx_rule("square")
def _square(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [elementwise(graph, "Pow", [inputs[0], _scalar(2, inputs[0])], outputs[0])]


@onnx_rule("integer_pow")
def _integer_pow(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [elementwise(graph, "Pow", [inputs[0], _scalar(params["y"], inputs[0])], outputs[0])]


@onnx_rule("rsqrt")
def _rsqrt(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    root = elementwise(graph, "Sqrt", inputs, outputs[0])
    result = elementwise(graph, "Reciprocal", [root], outputs[0])
    return [Tensor(result.shape, result.dtype, result.held, result.name, divisor=root)]


@onnx_rule("exp2")
def _exp2(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [elementwise(graph, "Pow", [_scalar(2, inputs[0]), inputs[0]], outputs[0])]


@onnx_rule("log1p")
def _log1p(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [
        elementwise(graph, "Log", [elementwise(graph, "Add", [*inputs, _scalar(1, inputs[0])], outputs[0])], outputs[0])
    ]


@onnx_rule("expm1")
def _expm1(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [
        elementwise(graph, "Sub", [elementwise(graph, "Exp", inputs, outputs[0]), _scalar(1, inputs[0])], outputs[0])
    ]


@onnx_rule("erfc")
def _erfc(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [
        elementwise(graph, "Sub", [_scalar(1, inputs[0]), elementwise(graph, "Erf", inputs, outputs[0])], outputs[0])
    ]


@onnx_rule("round")
def _round(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    if int(params["rounding_method"]) != 1:
        raise ConfigurationError("the network rounds halves away from zero, which has no form in ONNX; take jnp.round")
    return [elementwise(graph, "Round", inputs, outputs[0])]


@onnx_rule("ne")
def _ne(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [elementwise(graph, "Not", [elementwise(graph, "Equal", inputs, outputs[0])], outputs[0])]


@onnx_rule("rem")
def _rem(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    return [elementwise(graph, "Mod", inputs, outputs[0], fmod=1)]


@onnx_rule("clamp")
def _clamp(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    low, x, high = inputs
    return [elementwise(graph, "Min", [elementwise(graph, "Max", [x, low], outputs[0]), high], outputs[0])]


@onnx_rule("select_n")
def _select(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    which, *cases = inputs
    if which.dtype != bool or len(cases) != 2:
        raise ConfigurationError("the network selects among more than two cases, which has no form in ONNX here")
    return [elementwise(graph, "Where", [which, cases[1], cases[0]], outputs[0])]


@onnx_rule("convert_element_type")
def _convert(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    if inputs[0].dtype == outputs[0].dtype:
        return inputs
    return [elementwise(graph, "Cast", inputs, outputs[0], to=onnx_type(outputs[0].dtype))]


def onnx_type(dtype: Any) -> int:
    """Return ONNX's number of a type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# ---- Sums and products -----------------------------------------------------------------------------------------------


def _reduce(kind: str) -> Rule:
    def rule(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
        x, axes = graph.whole(inputs[0]), tuple(params["axes"])
        (name,) = graph.emit(kind, x, _numbers(*axes), keepdims=0)
        result = _named(name, outputs[0])
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
        return [_named(graph.emit("Cast", index, to=onnx_type(outputs[0].dtype))[0], outputs[0])]

    return rule


onnx_rule("argmax")(_place("ArgMax"))
onnx_rule("argmin")(_place("ArgMin"))


@onnx_rule("cumsum")
def _cumsum(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    axis = Tensor.of(np.int64(params["axis"]))
    (name,) = graph.emit("CumSum", graph.whole(inputs[0]), axis, reverse=int(params["reverse"]))
    return [_named(name, outputs[0])]


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
        return [_named(name, outputs[0])]
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
    return _named(graph.emit("Mul", numbers, scales)[0], aval)


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


# ---- Shapes ----------------------------------------------------------------------------------------------------------


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
    (name,) = graph.emit("Reshape", graph.whole(tensor), _numbers(*sizes))
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
    (name,) = graph.emit("Squeeze", x, _numbers(*axes))
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
        (name,) = graph.emit("ReduceSum", summed, _numbers(*axes), keepdims=1)
        return [Tensor(shape, x.dtype, shape, name, mean_of=(summed, axes, True))]
    name = x.name if not new else graph.emit("Unsqueeze", x, _numbers(*new))[0]
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
    (name,) = graph.emit("Slice", x, *(_numbers(*each) for each in (*ranges, axes, steps)))
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
    """Write a gather of one slice at a place that is known."""
    x, indices = inputs
    numbers, sizes = params["dimension_numbers"], tuple(params["slice_sizes"])
    if indices.constant is None or numbers.operand_batching_dims or len(indices.shape) != 1:
        raise ConfigurationError("the network looks up rows by computed indices, which has no form in ONNX here")
    start = [0] * len(x.shape)
    for axis, place in zip(numbers.start_index_map, indices.full_constant().tolist(), strict=True):
        start[axis] = place
    limit = [
        size if _is(size, whole) else first + size for first, size, whole in zip(start, sizes, x.shape, strict=True)
    ]
    part = cut(graph, x, start, limit, None, sizes)
    if not numbers.collapsed_slice_dims:
        return [part]
    return _squeeze(graph, [part], {"dimensions": numbers.collapsed_slice_dims}, outputs)


@onnx_rule("concatenate")
def _concatenate(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    (name,) = graph.emit("Concat", *map(graph.whole, inputs), axis=params["dimension"])
    return [_named(name, outputs[0])]


@onnx_rule("stack")
def _stack(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    axis = params.get("axis", params.get("dimension", 0))
    return [stack(graph, inputs, axis, outputs[0])]


def stack(graph: Graph, tensors: list[Tensor], axis: int, aval: Any) -> Tensor:
    """Return tensors side by side on a new axis."""
    rows = [graph.emit("Unsqueeze", graph.whole(each), _numbers(axis))[0] for each in tensors]
    return _named(graph.emit("Concat", *rows, axis=axis)[0], aval)


@onnx_rule("split")
def _split(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    sizes = _numbers(*params["sizes"])
    names = graph.emit("Split", graph.whole(inputs[0]), sizes, outputs=len(outputs), axis=params["axis"])
    return [_named(name, aval) for name, aval in zip(names, outputs, strict=True)]


@onnx_rule("pad")
def _pad(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    low, high, inside = (tuple(int(each) for each in side) for side in zip(*params["padding_config"], strict=True))
    if any(inside):
        raise ConfigurationError("the network pads between entries, which has no form in ONNX here")
    (name,) = graph.emit("Pad", graph.whole(inputs[0]), _numbers(*low, *high), inputs[1])
    return [_named(name, outputs[0])]


@onnx_rule("iota")
def _iota(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    raise ConfigurationError("the network counts along its batch, which has no form in ONNX here")
