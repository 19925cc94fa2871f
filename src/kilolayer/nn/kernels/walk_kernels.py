"""The walk through residual blocks as two Triton kernels: forwards, and backwards to the gradient of the input.

One program owns a tile of rows of one network and walks it through all layers, so that nothing is launched between two
layers. A row's normalisation needs that row and nothing else, so programs never wait for each other. Weights are
streamed from the cache that all programs share, a chunk of their rows at a time, while the chunk before is multiplied.

A tile's matrix product needs its rows as chunks too, and Triton cannot cut a chunk out of registers. So every layer's
input, which the gradients of weights need anyway, is written to memory, and its chunks are read back: they are still in
the cache. A barrier stands between the two. Every layer has a place of its own in memory, so no chunk is overwritten
while it is read; a walk that keeps nothing alternates between two places.

Arrays are contiguous: streams `(networks, rows, width)`, weights `(networks, layers, width, width)`, other parameters
`(networks, layers, width)`, what is kept for each layer `(networks, places, rows, width)`. Layers of a block follow
each other. SHARE streams that follow each other are walked through the same network. Rows beyond the last are zero and
are never written.
"""

import triton
import triton.language as tl

EPSILON: tl.constexpr = tl.constexpr(1e-6)
"""In the normalisations; `kilolayer.nn.layers.NORMALIZATION_EPSILON`."""


@triton.jit
def forward(
    stream_ref,
    weight_ref,
    bias_ref,
    scale_ref,
    offset_ref,
    out_ref,
    received_ref,
    products_ref,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SHARE: tl.constexpr,
    LAYERS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    FACTOR: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORM: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BIAS: tl.constexpr,
    KEEP: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Write the stream after the last block; if KEEP, every layer's input and matrix product too."""
    network = tl.program_id(1)
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.arange(0, WIDTH)
    inside = (row < ROWS)[:, None]
    own = row[:, None] * WIDTH + column[None, :]
    of_network = network.to(tl.int64) * ROWS * WIDTH
    stream = tl.load(stream_ref + of_network + own, mask=inside, other=0.0)
    for block in range(LAYERS // BLOCK_SIZE):
        value = stream
        for step in range(BLOCK_SIZE):
            layer = block * BLOCK_SIZE + step
            at = network.to(tl.int64) * LAYERS + layer
            of = (network // SHARE).to(tl.int64) * LAYERS + layer
            place = at if KEEP else network.to(tl.int64) * 2 + layer % 2
            tl.store(received_ref + place * ROWS * WIDTH + own, value.to(received_ref.dtype.element_ty), mask=inside)
            tl.debug_barrier()
            weight = weight_ref + of * WIDTH * WIDTH
            product = _product(received_ref + place * ROWS * WIDTH, weight, row, inside, WIDTH, TILE, CHUNK, STAGES)
            if KEEP:
                tl.store(products_ref + at * ROWS * WIDTH + own, product, mask=inside)
            if BIAS:
                product += tl.load(bias_ref + of * WIDTH + column)[None, :]
            normalized, _ = _normalize(product, NORM, WIDTH)
            value = _activate(_affine(normalized, scale_ref, offset_ref, of, column, NORM, WIDTH), ACTIVATION)
        stream = stream + FACTOR * value if RESIDUAL else FACTOR * value
    tl.store(out_ref + of_network + own, stream, mask=inside)


@triton.jit
def backward(
    cotangent_ref,
    products_ref,
    weight_ref,
    bias_ref,
    scale_ref,
    offset_ref,
    of_stream_ref,
    of_products_ref,
    of_bias_ref,
    of_scale_ref,
    of_offset_ref,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SHARE: tl.constexpr,
    LAYERS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    FACTOR: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORM: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BIAS: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Write the gradient of the stream before the first block, of every matrix product, and of all parameters but
    weights.

    Weights are transposed. Gradients of the parameters are sums over the tile's own rows, `(networks, tiles, layers,
    width)`: no program adds to what another wrote, so they are the same bits each time.
    """
    network = tl.program_id(1)
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    column = tl.arange(0, WIDTH)
    inside = (row < ROWS)[:, None]
    own = row[:, None] * WIDTH + column[None, :]
    of_network = network.to(tl.int64) * ROWS * WIDTH
    tile = network.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    cotangent = tl.load(cotangent_ref + of_network + own, mask=inside, other=0.0)
    for block in range(LAYERS // BLOCK_SIZE):
        gradient = FACTOR * cotangent
        for step in range(BLOCK_SIZE):
            layer = LAYERS - 1 - block * BLOCK_SIZE - step
            at = network.to(tl.int64) * LAYERS + layer
            of = (network // SHARE).to(tl.int64) * LAYERS + layer
            product = tl.load(products_ref + at * ROWS * WIDTH + own, mask=inside, other=0.0)
            if BIAS:
                product += tl.load(bias_ref + of * WIDTH + column)[None, :]
            normalized, inverse = _normalize(product, NORM, WIDTH)
            gradient *= _slope(_affine(normalized, scale_ref, offset_ref, of, column, NORM, WIDTH), ACTIVATION)
            sums = (tile * LAYERS + layer) * WIDTH + column
            if NORM != "none":
                tl.store(of_scale_ref + sums, tl.sum(gradient * normalized, axis=0))
                if NORM == "layer":
                    tl.store(of_offset_ref + sums, tl.sum(gradient, axis=0))
                gradient *= tl.load(scale_ref + of * WIDTH + column)[None, :]
                along = tl.sum(gradient * normalized, axis=1)[:, None] / WIDTH
                if NORM == "layer":
                    gradient -= tl.sum(gradient, axis=1)[:, None] / WIDTH
                gradient = inverse * (gradient - normalized * along)
            if BIAS:
                tl.store(of_bias_ref + sums, tl.sum(gradient, axis=0))
            of_product = of_products_ref + at * ROWS * WIDTH
            tl.store(of_product + own, gradient.to(of_products_ref.dtype.element_ty), mask=inside)
            tl.debug_barrier()
            gradient = _product(of_product, weight_ref + of * WIDTH * WIDTH, row, inside, WIDTH, TILE, CHUNK, STAGES)
        cotangent = cotangent + gradient if RESIDUAL else gradient
    tl.store(of_stream_ref + of_network + own, cotangent, mask=inside)


@triton.jit
def _product(
    rows_ref,
    weight_ref,
    row,
    inside,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Return the tile's rows times a matrix, both read a chunk at a time."""
    column = tl.arange(0, WIDTH)
    inner = tl.arange(0, CHUNK)
    total = tl.full((TILE, WIDTH), 0.0, dtype=tl.float32)
    for start in tl.range(0, WIDTH, CHUNK, num_stages=STAGES):
        rows = tl.load(rows_ref + row[:, None] * WIDTH + (start + inner)[None, :], mask=inside, other=0.0)
        weight = tl.load(weight_ref + (start + inner)[:, None] * WIDTH + column[None, :])
        total = tl.dot(rows, weight, total, input_precision="tf32")
    return total


@triton.jit
def _normalize(x, NORM: tl.constexpr, WIDTH: tl.constexpr):
    """Return each row normalised, before scale and offset, and one over its standard deviation or root mean square."""
    if NORM == "layer":
        x -= tl.sum(x, axis=1)[:, None] / WIDTH
    inverse = tl.rsqrt(tl.sum(x * x, axis=1)[:, None] / WIDTH + EPSILON)
    if NORM == "none":
        return x, inverse
    else:
        return x * inverse, inverse


@triton.jit
def _affine(x, scale_ref, offset_ref, of, column, NORM: tl.constexpr, WIDTH: tl.constexpr):
    """Return normalised rows with the layer's scale and offset."""
    if NORM != "none":
        x = x * tl.load(scale_ref + of * WIDTH + column)[None, :]
    if NORM == "layer":
        x += tl.load(offset_ref + of * WIDTH + column)[None, :]
    return x


@triton.jit
def _activate(x, ACTIVATION: tl.constexpr):
    """Return the activation."""
    if ACTIVATION == "relu":
        return tl.maximum(x, 0.0)
    elif ACTIVATION == "swish":
        return x * _sigmoid(x)
    else:  # gelu by tanh, since (1 + tanh(u)) / 2 is sigmoid(2 u)
        return x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def _slope(x, ACTIVATION: tl.constexpr):
    """Return the derivative of the activation."""
    if ACTIVATION == "relu":
        return tl.where(x > 0.0, 1.0, 0.0)
    elif ACTIVATION == "swish":
        sigmoid = _sigmoid(x)
        return sigmoid * (1.0 + x * (1.0 - sigmoid))
    else:
        sigmoid = _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        inner = 1.5957691216057308 * (1.0 + 3.0 * 0.044715 * x * x)
        return sigmoid * (1.0 + x * inner * (1.0 - sigmoid))


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))
