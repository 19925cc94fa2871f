"""ONNX graphs made of traced JAX functions: tensors, graphs and their nodes. The rules of operations are beside it.

A function is traced with a symbolic batch. Whatever depends on constants alone is computed now, so that weights become
initialisers of the form in which they are used. A scan becomes a `Scan` node, or its steps one after another.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from kilolayer.errors import ConfigurationError

OPSET = 18
"""Version of the operators. ONNX Runtime has it from 1.14 on."""
IR_VERSION = 8
"""Version of the file format that belongs to the operators."""

SMALL = 1024
"""Bytes up to which equal constants are stored once."""

Shape = tuple[Any, ...]
"""Whole numbers, and multiples of the symbolic batch."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of the traced function: a constant, or a named value of a graph.

    What is broadcast is held small: `held` is the shape of the stored value, with 1 where it is repeated to `shape`.
    """

    shape: Shape
    dtype: np.dtype
    held: Shape
    name: str = ""
    constant: np.ndarray | None = None
    mean_of: "tuple[Tensor, tuple[int, ...], bool] | None" = None
    """If this is a sum: of what, over which axes, and whether these stay as axes of size one."""
    divisor: "Tensor | None" = None
    """If this is one divided by something: by what. A product with it is a quotient, as in a norm."""
    parts: "tuple[Tensor, ...] | None" = None
    """If slices of one along the first axis are values of their own: these."""

    @staticmethod
    def of(array: Any) -> "Tensor":
        """Return a constant."""
        array = np.asarray(array)
        return Tensor(array.shape, array.dtype, array.shape, constant=array)

    def full_constant(self) -> np.ndarray:
        """Return the value of a constant in its whole shape."""
        assert self.constant is not None
        return np.broadcast_to(self.constant, self.shape)


Rule = Callable[["Graph", list[Tensor], Mapping[str, Any], list[Any]], list[Tensor]]
"""Emits the nodes of an operation. It takes the graph, the inputs, the parameters of the operation, and the shapes and
types of its outputs."""

RULES: dict[str, Rule] = {}
"""Rules by the names of JAX's primitives."""


def onnx_rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the form in ONNX of operations, by the names of JAX's primitives; a file of a user's own may, too."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


class Graph:
    """A graph that is being written. The graph inside a loop shares the constants of the graph around it."""

    def __init__(self, batch: Any, *, longest_unrolled: int, int8: bool = False, around: "Graph | None" = None):
        """Begin a graph.

        Args:
            batch: the symbolic dimension.
            longest_unrolled: steps of a scan up to which they are written one after another.
            int8: write products with constant matrices in the steps of scans with 8 bit integers.
            around: the graph that a loop stands in.
        """
        self.batch, self.longest_unrolled, self.int8 = batch, longest_unrolled, int8
        self.in_step = False
        """What is written now belongs to a step of a scan."""
        self.nodes: list[Any] = []
        self.constants: dict[Any, tuple[str, np.ndarray]] = {} if around is None else around.constants
        self._numbers: Iterator[int] = itertools.count() if around is None else around._numbers
        self.batch_name: str = "" if around is None else around.batch_name

    def inner(self) -> "Graph":
        """Return a new graph for the body of a loop."""
        return Graph(self.batch, longest_unrolled=self.longest_unrolled, int8=self.int8, around=self)

    def fresh(self, kind: str) -> str:
        """Return a name that nothing has yet."""
        return f"{kind}_{next(self._numbers)}"

    def name(self, tensor: Tensor) -> str:
        """Return the name of a tensor; a constant becomes an initialiser."""
        if tensor.constant is None:
            return tensor.name
        array = tensor.constant
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= SMALL else id(array)
        if key not in self.constants:
            self.constants[key] = self.fresh("constant"), array  # held, so that its id stays its own
        return self.constants[key][0]

    def emit(self, kind: str, *inputs: Tensor | str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node, and return the names of its outputs."""
        from onnx import helper

        names = [each if isinstance(each, str) else self.name(each) for each in inputs]
        results = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, results, **attributes))
        return results

    def whole(self, tensor: Tensor) -> Tensor:
        """Return a tensor that is stored in its whole shape."""
        if all(held is size or held == size for held, size in zip(tensor.held, tensor.shape, strict=True)):
            return tensor
        if tensor.constant is not None and not any(map(is_symbolic, tensor.shape)):
            return Tensor.of(np.ascontiguousarray(tensor.full_constant()))
        (name,) = self.emit("Expand", tensor, self.shape_name(tensor.shape))
        return Tensor(tensor.shape, tensor.dtype, tensor.shape, name)

    def shape_name(self, shape: Shape) -> str:
        """Return the name of a tensor that holds a shape."""
        if not any(map(is_symbolic, shape)):
            return self.name(Tensor.of(np.array(shape, np.int64)))
        sizes: list[Tensor | str] = []
        for size in shape:
            factor = self.factor(size) if is_symbolic(size) else None
            one = Tensor.of(np.array([size if factor is None else factor], np.int64))
            sizes.append(
                one if factor is None else self.batch_name if factor == 1 else self.emit("Mul", one, self.batch_name)[0]
            )
        return self.emit("Concat", *sizes, axis=0)[0]

    def factor(self, size: Any) -> int:
        """Return how many times the batch a size is.

        Raises:
            ConfigurationError: if it is no multiple of the batch.
        """
        try:
            if size % self.batch == 0:
                return int(size // self.batch)
        except Exception:  # JAX raises several types for comparisons that it cannot decide
            pass
        raise ConfigurationError(f"the network has an axis of {size} entries, which has no form in ONNX here")


def is_symbolic(size: Any) -> bool:
    """Return whether a size depends on the batch."""
    return not isinstance(size, int | np.integer)


def convert(graph: Graph, jaxpr: Any, constants: Sequence[Tensor], arguments: Sequence[Tensor]) -> list[Tensor]:
    """Write the operations of a traced function into a graph.

    Args:
        graph: to write into.
        jaxpr: of the function, open.
        constants: values of its constants.
        arguments: values of its arguments.

    Returns:
        Its results.

    Raises:
        ConfigurationError: naming an operation that has no form in ONNX here.
    """
    values: dict[Any, Tensor] = {}

    def read(variable: Any) -> Tensor:
        if isinstance(variable, core.Literal):
            return Tensor.of(np.asarray(variable.val, getattr(variable.aval, "dtype", None)))
        return values[variable]

    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        outputs = [variable.aval for variable in equation.outvars]
        results = _apply(graph, equation, inputs, outputs)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(graph: Graph, equation: Any, inputs: list[Tensor], outputs: list[Any]) -> list[Tensor]:
    name = equation.primitive.name
    if inner := _called(equation):
        jaxpr, constants = inner
        return convert(graph, jaxpr, [Tensor.of(each) for each in constants], inputs)
    if name in KEEPS_CONSTANTS or not _computable(inputs, outputs):
        if name not in RULES:
            raise ConfigurationError(f"the network uses the operation {name!r}, which has no form in ONNX here")
        return RULES[name](graph, inputs, equation.params, outputs)
    return [Tensor.of(each) for each in _compute(equation, inputs)]


KEEPS_CONSTANTS = {"broadcast_in_dim", "slice", "squeeze", "scan"}
"""Operations whose rules treat constants better than computing them."""


def _called(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """Return the function that an operation does nothing but call, and its constants."""
    if equation.primitive.name in ("scan", "while", "cond"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(key)
        if isinstance(inner, core.ClosedJaxpr):
            return inner.jaxpr, inner.consts
        if isinstance(inner, core.Jaxpr):
            return inner, ()
    return None


def _computable(inputs: list[Tensor], outputs: list[Any]) -> bool:
    """Return whether an operation depends on constants alone."""
    shapes = [*(tensor.shape for tensor in inputs), *(aval.shape for aval in outputs)]
    return all(tensor.constant is not None for tensor in inputs) and not any(
        is_symbolic(size) for shape in shapes for size in shape
    )


def _compute(equation: Any, inputs: list[Tensor]) -> list[np.ndarray]:
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        arrays = [jax.numpy.asarray(tensor.full_constant(), tensor.dtype) for tensor in inputs]
        results = equation.primitive.bind(*arrays, **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    return [np.asarray(each) for each in results]


def needed(nodes: Sequence[Any], results: Sequence[str]) -> list[Any]:
    """Return the nodes that results depend on, in their order."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.output):
            continue
        kept.append(node)
        wanted.update(node.input)
        for attribute in node.attribute:
            for inside in attribute.g.node:
                wanted.update(inside.input)
            wanted.update(each.name for each in attribute.g.output)
    return kept[::-1]


def named(name: str, aval: Any) -> Tensor:
    """Return the tensor of an output of an operation."""
    return Tensor(tuple(aval.shape), aval.dtype, tuple(aval.shape), name)


def numbers(*values: int) -> Tensor:
    """Return a constant list of whole numbers, such as axes."""
    return Tensor.of(np.array(values, np.int64))


def onnx_type(dtype: Any) -> int:
    """Return ONNX's number of a type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
