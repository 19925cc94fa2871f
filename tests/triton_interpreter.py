"""Runs Triton kernels on a CPU, without their compiler: each operation is NumPy's, one program after the other."""

import importlib.util
import os

import jax
import numpy as np

os.environ["TRITON_INTERPRET"] = "1"  # read when Triton's own functions, and the kernels, are defined

from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, TensorHandle

import kilolayer.nn.kernels

NAMES = {"float32": "fp32", "bfloat16": "bf16"}


class Host:
    """An array as the interpreter takes it: an address and a type."""

    def __init__(self, array: np.ndarray):
        self.array = np.ascontiguousarray(array)
        self.dtype = NAMES[self.array.dtype.name]

    def data_ptr(self) -> int:
        return self.array.ctypes.data


class OnTheHost(GridExecutor):
    """Runs a kernel on arrays that are on the host already."""

    def _init_args_hst(self, args_dev, kwargs):
        return args_dev, kwargs

    def _restore_args_dev(self, args_dev, args_hst, kwargs, kwargs_hst):
        pass


def create_dot(a, b, d, input_precision, max_num_imprecise_acc):
    """A product of matrices with the rounding of the units that compute it, which the interpreter leaves out."""
    del max_num_imprecise_acc

    def side(handle):
        if handle.dtype.is_bf16():  # held as bits
            return (handle.data.astype(np.uint32) << 16).view(np.float32)
        assert input_precision.name == "TF32"
        bits = handle.data.view(np.uint32)
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)

    return TensorHandle(np.matmul(side(a), side(b)) + d.data, d.dtype.scalar)


interpreter.interpreter_builder.create_dot = create_dot


def _kernels():
    """Return the module of the kernels, without the types that tests check: Triton reads the functions as they are."""
    spec = importlib.util.spec_from_file_location("interpreted", f"{kilolayer.nn.kernels.__path__[0]}/walk_kernels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KERNELS = _kernels()


def launch(kernel, arrays, outputs, *, grid, warps, constants):
    """Run a kernel, as `kilolayer.nn.kernels.walk.Launch` says; what it does not write is NaN."""
    del warps
    function = getattr(KERNELS, kernel)

    def run(*arrays):
        results = [np.full(each.shape, np.nan, each.dtype) for each in outputs]
        hosts = [Host(each) for each in (*map(np.asarray, arrays), *results)]
        OnTheHost(function.fn, function.arg_names, grid)(*hosts, **constants)
        return [host.array for host in hosts[len(arrays) :]]

    return jax.pure_callback(run, outputs, *arrays, vmap_method="sequential")
