"""An ONNX model of a JAX function: traced, written, and run by ONNX Runtime."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export import onnx_elementwise, onnx_loops, onnx_products, onnx_shapes  # noqa: F401
from kilolayer.policies.export.onnx_graph import (
    IR_VERSION,
    OPSET,
    Graph,
    Tensor,
    convert,
    is_symbolic,
    needed,
    onnx_type,
)

BATCH = "batch"
"""Name of the symbolic axis of all inputs and outputs."""

LARGEST_FILE = 1_900_000_000
"""Bytes of constants up to which they are kept in the file of the model; the format allows 2 GB."""

LONGEST_UNROLLED = 16
"""Steps of a scan that are written one after another. ONNX Runtime is a little faster on them than on a loop; beyond,
the caches of a processor no longer hold the weights, and it is not."""

SMALL_CONSTANT = 1024
"""Bytes of a constant up to which it stays in the file of the model."""
ALIGNED = 4096
"""Bytes that offsets in the second file are multiples of."""

DATA_SUFFIX = ".data"
"""What the name of the file beside the model ends with, if it holds the constants."""


def need(*packages: str) -> None:
    """Check that packages of the extra `export` are installed.

    Raises:
        ConfigurationError: naming the first that is not.
    """
    import importlib

    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigurationError(
                f"format='onnx' needs the package {package}, which cannot be imported ({error}); "
                "pip install 'kilolayer[export]'"
            ) from None


def symbolic_inputs(sizes: Mapping[str, int]) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """Return the symbolic batch, and inputs `(batch, size)` by name."""
    (batch,) = jax.export.symbolic_shape(BATCH)
    return batch, {name: jax.ShapeDtypeStruct((batch, size), np.float32) for name, size in sizes.items()}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model in memory. Its constants are copied only when it is written."""

    nodes: list[Any]
    """ONNX's nodes."""
    inputs: list[Any]
    outputs: list[Any]
    """ONNX's descriptions of values."""
    constants: dict[str, np.ndarray]
    """Weights and other numbers, by name."""

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(array.nbytes for array in self.constants.values())

    def save(self, path: Path) -> None:
        """Write the model; constants too large for one file go into a second one beside it, `path` with `.data`."""
        from onnx import helper, numpy_helper

        beside = self.constant_bytes > LARGEST_FILE
        data = path.with_name(path.name + DATA_SUFFIX)
        tensors = []
        with open(data, "wb") if beside else contextlib.nullcontext() as file:
            for name, array in self.constants.items():
                if file is None or array.nbytes <= SMALL_CONSTANT:
                    tensors.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
                else:
                    tensors.append(_external(file, array, name))
        graph = helper.make_graph(self.nodes, "policy", self.inputs, self.outputs, tensors)
        version = {"opset_imports": [helper.make_opsetid("", OPSET)], "ir_version": IR_VERSION}
        path.write_bytes(helper.make_model(graph, producer_name="kilolayer", **version).SerializeToString())


def _external(file: Any, array: np.ndarray, name: str) -> Any:
    """Append a constant to the file beside the model, at an offset that can be mapped into memory."""
    from onnx import TensorProto

    file.write(b"\0" * (-file.tell() % ALIGNED))
    offset = file.tell()
    np.ascontiguousarray(array).tofile(file)
    tensor = TensorProto(name=name, dims=array.shape, data_type=onnx_type(array.dtype))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": Path(file.name).name, "offset": offset, "length": array.nbytes}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def build_model(
    function: Callable[..., jax.Array],
    sizes: Mapping[str, int],
    output: str,
    *,
    longest_unrolled: int = LONGEST_UNROLLED,
    int8: bool = False,
) -> Model:
    """Return the model of a function of float32 arrays with one batch.

    Args:
        function: takes arrays `(batch, size)` and returns one with the same batch.
        sizes: numbers of each input, by its name, in the order of the arguments.
        output: name of the output.
        longest_unrolled: steps of a scan up to which they are written one after another; a longer one is a loop.
        int8: write products with constant matrices in the steps of scans with 8 bit integers; all scans are unrolled,
            because runtimes arrange such matrices once, when they load the model.

    Raises:
        ConfigurationError: naming an operation that has no form in ONNX here, or a package that is missing.
    """
    need("onnx")
    from onnx import TensorProto, helper

    batch, inputs = symbolic_inputs(sizes)
    closed = jax.make_jaxpr(function)(*inputs.values())
    graph = Graph(batch, longest_unrolled=sys.maxsize if int8 else longest_unrolled, int8=int8)
    first = next(iter(sizes))
    (graph.batch_name,) = graph.emit("Shape", first, start=0, end=1)
    arguments = [Tensor(each.shape, np.dtype(np.float32), each.shape, name) for name, each in inputs.items()]
    (result,) = convert(graph, closed.jaxpr, [Tensor.of(each) for each in closed.consts], arguments)
    graph.nodes.append(helper.make_node("Identity", [graph.name(graph.whole(result))], [output]))
    nodes = needed(graph.nodes, [output])
    used = _names_in(nodes)

    def described(name: str, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH if is_symbolic(n) else n for n in shape])

    return Model(
        nodes,
        [described(name, each.shape) for name, each in inputs.items()],
        [described(output, result.shape)],
        {name: array for name, array in graph.constants.values() if name in used},
    )


def _names_in(nodes: Any) -> set[str]:
    """Return all names that nodes read, also inside loops."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            names |= _names_in(attribute.g.node)
    return names


def session(path: str | os.PathLike, *, threads: int = 1) -> Any:
    """Return a session of ONNX Runtime on the CPU whose threads do not spin.

    Args:
        path: of the model.
        threads: that a call uses.
    """
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
