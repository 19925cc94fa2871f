"""Calls of the kernels that walk residual blocks, as functions on JAX arrays: shapes, tiles, and `jax.vmap`.

All arrays have a leading axis of networks, which the kernels walk side by side; `jax.vmap` makes that axis longer.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kilolayer.errors import ConfigurationError
from kilolayer.nn.layers import Activation, Normalization

WIDTHS = (64, 128, 256, 512, 1024)
"""Widths that the kernels take: a row is held in registers, whose number is a power of two."""

PRECISIONS = ("tf32", "bfloat16")
"""Precisions of matrix products that the kernels take."""

NUMBERS_IN_A_TILE = 8192
"""At most so many numbers of the stream does a program hold: three such tiles fill its registers."""

FUSED = "fused_walk"
"""Name under which a walk stands in a program of JAX, as a call of its own."""

PROGRAMS = 128
"""About as many programs run at a time on a large card; from there on a program takes more rows."""

BYTES_IN_A_CHUNK = 16384
"""Of weights that are read at a time."""


@dataclasses.dataclass(frozen=True)
class Walk:
    """What the kernels are compiled for."""

    block_size: int
    """Layers in a block."""
    factor: float
    """On what each block adds."""
    residual: bool
    """Add each block's input to its output."""
    normalization: Normalization
    """After every matrix product and its bias."""
    activation: Activation
    """After every normalisation."""
    bfloat16: bool
    """Round both sides of a product to bfloat16; else to TF32."""

    @property
    def stored(self) -> Any:
        """Type in which the sides of products are stored."""
        return jnp.bfloat16 if self.bfloat16 else jnp.float32


class Parameters(NamedTuple):
    """Parameters of all layers; None for those that the layers do not have."""

    weight: Float[Array, "networks layers width width"]
    bias: Float[Array, "networks layers width"] | None
    scale: Float[Array, "networks layers width"] | None
    offset: Float[Array, "networks layers width"] | None


class Forward(NamedTuple):
    """What the walk forwards returns; without `received` and `products` unless they were asked for."""

    out: Float[Array, "networks rows width"]
    received: Float[Array, "networks layers rows width"] | None
    """Every layer's input, as the product took it."""
    products: Float[Array, "networks layers rows width"] | None


class Backward(NamedTuple):
    """What the walk backwards returns: gradients of the stream, of the products, and of parameters but weights."""

    stream: Float[Array, "networks rows width"]
    products: Float[Array, "networks layers rows width"]
    """As a product takes them."""
    bias: Float[Array, "networks layers width"] | None
    scale: Float[Array, "networks layers width"] | None
    offset: Float[Array, "networks layers width"] | None


class Launch(Protocol):
    """Runs a kernel on arrays."""

    def __call__(
        self,
        kernel: str,
        arrays: list[Array],
        outputs: list[jax.ShapeDtypeStruct],
        *,
        grid: tuple[int, int],
        warps: int,
        constants: dict[str, Any],
    ) -> list[Array]:
        """Return the outputs.

        Args:
            kernel: name of the kernel in `walk_kernels`.
            arrays: its inputs.
            outputs: shapes and types of its outputs.
            grid: programs along the rows, and networks.
            warps: groups of 32 threads in a program.
            constants: what it is compiled for, by the names of its arguments.
        """


def launch_on_gpu(
    kernel: str,
    arrays: list[Array],
    outputs: list[jax.ShapeDtypeStruct],
    *,
    grid: tuple[int, int],
    warps: int,
    constants: dict[str, Any],
) -> list[Array]:
    """Run a kernel; see `Launch`.

    Raises:
        ConfigurationError: without a GPU, or without jax-triton.
    """
    check_device()
    jax_triton = importlib.import_module("jax_triton")
    kernels = importlib.import_module("kilolayer.nn.kernels.walk_kernels")
    stages = constants["STAGES"]
    return jax_triton.triton_call(
        *arrays,
        kernel=getattr(kernels, kernel),
        out_shape=outputs,
        grid=grid,
        num_warps=warps,
        num_stages=stages,
        **constants,
    )


def run_here() -> bool:
    """Return whether what is traced now is for a GPU: a policy may act on the processor beside one."""
    device = getattr(jax.config, "jax_default_device", None)
    platform = jax.default_backend() if device is None else getattr(device, "platform", device)
    return platform in ("gpu", "cuda")


def check_device() -> None:
    """Check that kernels can run here.

    Raises:
        ConfigurationError: without a GPU, or without jax-triton.
    """
    device = jax.default_backend()
    if device != "gpu":
        raise ConfigurationError(f"kernels='fused' needs a GPU, and JAX runs on a {device} here; take auto or xla")
    if importlib.util.find_spec("jax_triton") is None:
        raise ConfigurationError(
            "kernels='fused' needs the package jax-triton, part of the extra cuda, which is not installed; "
            "install it, or take auto or xla"
        )


_launch: Launch = launch_on_gpu
"""How kernels run; tests put Triton's interpreter in its place."""


def forward(walk: Walk, parameters: Parameters, stream: Float[Array, "networks rows width"], *, keep: bool) -> Forward:
    """Return the stream after the last block.

    Args:
        walk: what the layers compute.
        parameters: of all layers, those of a block after each other.
        stream: before the first block.
        keep: return every layer's input and product too, for `backward`.
    """

    def run(stream: Array, parameters: Parameters) -> Forward:
        (networks, rows, width), layers = stream.shape, parameters.weight.shape[1]
        outputs = [
            jax.ShapeDtypeStruct(stream.shape, jnp.float32),
            jax.ShapeDtypeStruct((networks, layers if keep else 2, rows, width), walk.stored),
            jax.ShapeDtypeStruct((networks, layers, rows, width) if keep else (networks,), jnp.float32),
        ]
        out, received, products = _run("forward", walk, [stream], parameters, outputs, {"KEEP": keep})
        return Forward(out, received, products) if keep else Forward(out, None, None)

    return _over_networks(run)(stream, parameters)


def backward(
    walk: Walk,
    parameters: Parameters,
    cotangent: Float[Array, "networks rows width"],
    products: Float[Array, "networks layers rows width"],
) -> Backward:
    """Return all gradients but those of weights, which are products of what this and `forward` return.

    Args:
        walk: what the layers compute.
        parameters: as given to `forward`.
        cotangent: the gradient of the stream after the last block.
        products: of `forward`.
    """

    def run(cotangent: Array, products: Array, parameters: Parameters) -> Backward:
        networks, layers, rows, width = products.shape
        tiles = -(-rows // _tile(networks, rows, width))

        def sums(parameter: Array | None) -> jax.ShapeDtypeStruct:
            shape = (networks,) if parameter is None else (networks, tiles, layers, width)
            return jax.ShapeDtypeStruct(shape, jnp.float32)

        outputs = [
            jax.ShapeDtypeStruct(cotangent.shape, jnp.float32),
            jax.ShapeDtypeStruct(products.shape, walk.stored),
            *map(sums, parameters[1:]),
        ]
        transposed = parameters._replace(weight=jnp.swapaxes(parameters.weight, -1, -2))
        stream, of_products, *of_tiles = _run("backward", walk, [cotangent, products], transposed, outputs, {})
        of_parameters = (
            None if parameter is None else jnp.sum(own, axis=1)
            for parameter, own in zip(parameters[1:], of_tiles, strict=True)
        )
        return Backward(stream, of_products, *of_parameters)

    return _over_networks(run)(cotangent, products, parameters)


def _run(
    kernel: str,
    walk: Walk,
    arrays: list[Array],
    parameters: Parameters,
    outputs: list[jax.ShapeDtypeStruct],
    constants: dict[str, Any],
) -> list[Array]:
    (networks, rows, width), layers = arrays[0].shape, parameters.weight.shape[1]
    weight = parameters.weight.astype(walk.stored)
    # A kernel does not read what stands in place of a parameter that is missing.
    arrays = [*arrays, weight, *(weight if each is None else each for each in parameters[1:])]
    tile = _tile(networks, rows, width)
    chunk = min(max(BYTES_IN_A_CHUNK // (width * jnp.dtype(walk.stored).itemsize), 16), width, 64)
    constants = constants | {
        "ROWS": rows,
        "WIDTH": width,
        "SHARE": networks // weight.shape[0],
        "LAYERS": layers,
        "BLOCK_SIZE": walk.block_size,
        "FACTOR": walk.factor,
        "RESIDUAL": walk.residual,
        "NORM": walk.normalization,
        "ACTIVATION": walk.activation,
        "BIAS": parameters.bias is not None,
        "TILE": tile,
        "CHUNK": chunk,
        "STAGES": 4 if width <= 256 else 2,
    }
    warps = 8 if tile * width >= NUMBERS_IN_A_TILE else 4
    grid = (-(-rows // tile), networks)

    def launch(*arrays: Array) -> list[Array]:
        return _launch(kernel, list(arrays), outputs, grid=grid, warps=warps, constants=constants)

    launch.__name__ = FUSED
    return jax.jit(launch)(*arrays)


def fused_operations(stream: tuple[int, ...], kept_or_weight: tuple[int, ...]) -> float:
    """Return the operations of all products in a fused walk: a multiplication with an addition counts as two.

    Args:
        stream: shape of its first array, `(networks, rows, width)`.
        kept_or_weight: of its second, whose second axis is that of layers.
    """
    networks, rows, width = stream
    return 2.0 * networks * rows * width * width * kept_or_weight[1]


def _tile(networks: int, rows: int, width: int) -> int:
    """Return how many rows a program takes: 16, the fewest of a fast product, unless there are many."""
    tile = 16
    while tile * 2 * width <= NUMBERS_IN_A_TILE and networks * rows > tile * PROGRAMS // 2:
        tile *= 2
    return tile


def _over_networks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of streams and, last, parameters whose `jax.vmap` is a longer axis of networks.

    Parameters that `jax.vmap` does not map over are not copied: streams that follow each other share a network's.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def rule(size: int, is_batched: Any, *arguments: Any) -> tuple[Any, Any]:
        parameters = arguments[-1]
        own = any(jax.tree.leaves(is_batched[-1]))
        groups = 1 if own else parameters.weight.shape[0]

        def merge(x: Array, batched: bool) -> Array:
            x = x if batched else jnp.broadcast_to(x, (size, *x.shape))
            x = jnp.moveaxis(x.reshape(size, groups, -1, *x.shape[2:]), 0, 1)
            return x.reshape(-1, *x.shape[3:])

        def split(x: Array) -> Array:
            x = x.reshape(groups, size, -1, *x.shape[1:])
            return jnp.moveaxis(x, 0, 1).reshape(size, -1, *x.shape[3:])

        streams = [merge(*each) for each in zip(arguments[:-1], is_batched[:-1], strict=True)]
        outputs = _over_networks(function)(
            *streams, jax.tree.map(merge, parameters, is_batched[-1]) if own else parameters
        )
        return jax.tree.map(split, outputs), jax.tree.map(lambda _: True, outputs)

    return mapped
