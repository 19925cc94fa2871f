"""The formats of the library: ONNX, and StableHLO as `jax.export` serialises it."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export.exporter import Exportable, Exporter, Written, register_exporter
from kilolayer.policies.export.onnx_graph import IR_VERSION, OPSET
from kilolayer.policies.export.onnx_model import build_model, need, session, symbolic_inputs

ONNX_FILE, STABLEHLO_FILE = "policy.onnx", "policy.stablehlo"

PLATFORMS = ("cpu", "cuda")
"""What the StableHLO is lowered for."""


def write_onnx(policy: Exportable, directory: Path) -> Written:
    """Write `policy.onnx`; constants beyond 2 GB go into `policy.onnx.data`.

    With `int8`, products inside blocks round their weights, and when the model runs the other side, to 8 bits.
    """
    need("onnx", "onnxruntime")
    model = build_model(policy.function_float32, policy.sizes, policy.output, int8=policy.precision == "int8")
    model.save(directory / ONNX_FILE)
    loaded = session(directory / ONNX_FILE)

    def run(*inputs: np.ndarray) -> np.ndarray:
        return loaded.run([policy.output], dict(zip(policy.sizes, inputs, strict=True)))[0]

    loops = sum(node.op_type in ("Scan", "Loop") for node in model.nodes)
    about = {"opset": OPSET, "ir_version": IR_VERSION, "nodes": len(model.nodes), "loops": loops}
    return Written(run, about, ("onnx", "onnxruntime"))


def write_stablehlo(policy: Exportable, directory: Path) -> Written:
    """Write `policy.stablehlo`: what `jax.export.deserialize` reads, for CPUs and NVIDIA's GPUs."""
    _, inputs = symbolic_inputs(policy.sizes)
    exported = jax.export.export(jax.jit(policy.function), platforms=PLATFORMS)(*inputs.values())
    try:
        (directory / STABLEHLO_FILE).write_bytes(exported.serialize())
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"format='jax' cannot hold a policy of this size ({error}); take format='onnx'"
        ) from None
    loaded = jax.export.deserialize(bytearray((directory / STABLEHLO_FILE).read_bytes()))
    cpu = jax.local_devices(backend="cpu")[0]

    def run(*inputs: np.ndarray) -> np.ndarray:
        arguments: Any = [jax.device_put(each, cpu) for each in inputs]
        return np.asarray(loaded.call(*arguments))

    about = {"platforms": list(PLATFORMS), "calling_convention_version": exported.calling_convention_version}
    return Written(run, about, ("jax", "jaxlib"))


register_exporter(Exporter("onnx", "a file for ONNX Runtime, from Python, C++ and others", write_onnx))
register_exporter(Exporter("jax", "StableHLO, which jax.export reads without the library", write_stablehlo))
