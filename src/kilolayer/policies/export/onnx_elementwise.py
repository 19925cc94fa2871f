"""The form in ONNX of JAX's operations on each entry by itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export.onnx_graph import (
    Graph,
    Rule,
    Tensor,
    is_symbolic,
    named,
    numbers,
    onnx_rule,
    onnx_type,
)

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
            (name,) = graph.emit("ReduceMean", summed, numbers(*axes), keepdims=int(keep))
            return [named(name, outputs[0])]
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
