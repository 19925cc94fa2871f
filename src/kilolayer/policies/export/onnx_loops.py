"""The form in ONNX of a scan: a `Scan` node, or its steps one after another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.extend import core

from kilolayer.policies.export.onnx_graph import Graph, Tensor, convert, is_symbolic, needed, onnx_rule, onnx_type
from kilolayer.policies.export.onnx_shapes import stack


@onnx_rule("scan")
def _scan(graph: Graph, inputs: list[Tensor], params: Mapping[str, Any], outputs: list[Any]) -> list[Tensor]:
    consts, carries = params["num_consts"], params["num_carry"]
    fixed, carry, xs = inputs[:consts], inputs[consts : consts + carries], inputs[consts + carries :]
    unrolled = params["length"] <= graph.longest_unrolled and all(each.constant is not None for each in xs)
    write = _one_after_another if unrolled else _as_a_loop
    return write(graph, params, fixed, carry, xs, outputs)


def _one_after_another(
    graph: Graph,
    params: Mapping[str, Any],
    fixed: list[Tensor],
    carry: list[Tensor],
    xs: list[Tensor],
    outputs: list[Any],
) -> list[Tensor]:
    length, closed, carries = params["length"], params["jaxpr"], len(carry)
    constants = [Tensor.of(each) for each in closed.consts]
    steps = range(length)
    ys: list[list[Tensor]] = []
    arrays = [each.full_constant() for each in xs]
    outside, graph.in_step = graph.in_step, True
    for step in reversed(steps) if params["reverse"] else steps:
        results = convert(graph, closed.jaxpr, constants, [*fixed, *carry, *(Tensor.of(each[step]) for each in arrays)])
        carry = results[:carries]
        ys.append(results[carries:])
    graph.in_step = outside
    ys = ys[::-1] if params["reverse"] else ys
    stacked = [
        stack(graph, list(column), 0, aval)
        for column, aval in zip(zip(*ys, strict=True), outputs[carries:], strict=True)
    ]
    return [*carry, *stacked]


def _as_a_loop(
    graph: Graph,
    params: Mapping[str, Any],
    fixed: list[Tensor],
    carry: list[Tensor],
    xs: list[Tensor],
    outputs: list[Any],
) -> list[Tensor]:
    """Write a `Scan`. Stacked constants of which the body takes one slice after another are scanned slice by slice, so
    that a step copies none.
    """
    from onnx import helper

    closed, body = params["jaxpr"], graph.inner()
    variables = closed.jaxpr.invars[len(fixed) + len(carry) :]
    states, slices, scanned = [], [], []

    def described(name: str, shape: Any, dtype: Any) -> Any:
        sizes = [
            "batch" if is_symbolic(size) and size == graph.batch else None if is_symbolic(size) else size
            for size in shape
        ]
        return helper.make_tensor_value_info(name, onnx_type(dtype), sizes)

    def argument(shape: Any, dtype: Any) -> Tensor:
        return Tensor(tuple(shape), np.dtype(dtype), tuple(shape), graph.fresh("argument"))

    arguments = [argument(each.shape, each.dtype) for each in carry]
    states = [described(each.name, each.shape, each.dtype) for each in arguments]
    for variable, x in zip(variables, xs, strict=True):
        shape = tuple(variable.aval.shape)
        if x.constant is not None and _taken_slice_by_slice(closed.jaxpr, variable):
            parts = tuple(argument(shape[1:], x.dtype) for _ in range(shape[0]))
            scanned += [Tensor.of(x.full_constant()[:, index]) for index in range(shape[0])]
            slices += [described(each.name, each.shape, each.dtype) for each in parts]
            arguments.append(Tensor(shape, x.dtype, shape, parts=parts))
        else:
            arguments.append(argument(shape, x.dtype))
            scanned.append(graph.whole(x))
            slices.append(described(arguments[-1].name, shape, x.dtype))
    results = convert(body, closed.jaxpr, [Tensor.of(each) for each in closed.consts], [*fixed, *arguments])
    # Every result of a body has to be a value of its own.
    names = [body.emit("Identity", body.whole(each))[0] for each in results]
    found = [described(name, each.shape, each.dtype) for name, each in zip(names, results, strict=True)]
    inner = helper.make_graph(needed(body.nodes, names), graph.fresh("body"), [*states, *slices], found)
    backwards = int(params["reverse"])
    directions = {"scan_input_directions": len(scanned), "scan_output_directions": len(outputs) - len(carry)}
    written = graph.emit(
        "Scan",
        *map(graph.whole, carry),
        *scanned,
        outputs=len(outputs),
        body=inner,
        num_scan_inputs=len(scanned),
        **{name: [backwards] * count for name, count in directions.items() if count},
    )
    return [
        Tensor(tuple(aval.shape), aval.dtype, tuple(aval.shape), name)
        for name, aval in zip(written, outputs, strict=True)
    ]


def _taken_slice_by_slice(jaxpr: Any, variable: Any) -> bool:
    """Return whether a function uses an argument only for slices of one along its first axis, without that axis."""
    uses = [
        equation
        for equation in jaxpr.eqns
        if variable in [v for v in equation.invars if not isinstance(v, core.Literal)]
    ]
    if not uses or variable in jaxpr.outvars:
        return False
    for equation in uses:
        if equation.primitive.name != "slice":
            return False
        start, limit = equation.params["start_indices"], equation.params["limit_indices"]
        whole = tuple(start[1:]) == (0,) * (len(start) - 1) and tuple(limit[1:]) == tuple(variable.aval.shape[1:])
        if limit[0] - start[0] != 1 or not whole or equation.params["strides"] not in (None, (1,) * len(start)):
            return False
        readers = [
            each
            for each in jaxpr.eqns
            if equation.outvars[0] in [v for v in each.invars if not isinstance(v, core.Literal)]
        ]
        if any(each.primitive.name != "squeeze" or tuple(each.params["dimensions"]) != (0,) for each in readers):
            return False
    return True
