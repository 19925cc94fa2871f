"""Every rule of ONNX against JAX, with a batch that is known only when the model runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.policies.export.onnx_model import build_model, session

pytestmark = pytest.mark.usefixtures("export_packages")

WEIGHT = np.random.default_rng(3).standard_normal((4, 6, 6)).astype(np.float32)


def scanned(x, *, reverse=False, collect=False):
    def step(x, w):
        x = jnp.tanh(x @ w) + x
        return x, (x[..., 0] if collect else None)

    x, ys = jax.lax.scan(step, x, WEIGHT, reverse=reverse)
    return x if ys is None else x + jnp.sum(ys, axis=0)[:, None]


def nested(x):
    """A scan whose steps take one slice of their weights after another, and one whole array."""
    stacked = WEIGHT.reshape(2, 2, 6, 6)

    def step(x, own):
        weights, bias = own
        for number in range(2):
            x = jnp.sin(x @ weights[number] + bias)
        return x, None

    return jax.lax.scan(step, x, (stacked, stacked[:, 0, 0]))[0]


def by_heads(x):
    heads = x.reshape(*x.shape[:-1], 2, 3)
    scores = jnp.einsum("bhd,bgd->bhg", heads, heads)
    return jnp.einsum("bhg,bgd->bhd", jax.nn.softmax(scores), heads).reshape(x.shape)


def standardized(x):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-6)


FUNCTIONS = {
    "elementwise": lambda x: sum(
        f(0.3 * x) for f in (jnp.tanh, jnp.exp, jnp.sin, jnp.cos, jnp.abs, jnp.floor, jnp.ceil)
    ),
    "others": lambda x: sum(f(0.5 * x) for f in (jnp.sinh, jnp.cosh, jnp.arctan, jnp.sign, jnp.expm1, jnp.exp2)),
    "positive": lambda x: sum(f(jnp.abs(x) + 0.1) for f in (jnp.log, jnp.log1p, jnp.sqrt, jax.lax.rsqrt)),
    "trigonometry": lambda x: jnp.arcsin(jnp.tanh(x)) + jnp.arccos(jnp.tanh(x)) + jnp.tan(0.1 * x),
    "activations": lambda x: jax.nn.swish(x) + jax.nn.relu(x) + jax.nn.gelu(x) + jax.nn.gelu(x, approximate=False),
    "more_activations": lambda x: jax.nn.softplus(x) + jax.nn.elu(x) + jax.nn.leaky_relu(x) + jax.nn.sigmoid(x),
    "powers": lambda x: x**2 + x**3 + (jnp.abs(x) + 0.1) ** 0.7 + jax.scipy.special.erfc(x),
    "choices": lambda x: (
        jnp.where(x > 0.5, x, jnp.where((x <= 0) & (x != -1.0), 2.0 * x, 1.0)) + jnp.clip(x, -0.3, 0.4)
    ),
    "comparisons": lambda x: ((x >= 0.2) | (x < -0.2) | (x == 0)).astype(jnp.float32) + jnp.round(3.0 * x),
    "finite": lambda x: jnp.where(jnp.isfinite(x), x, 0.0) + jnp.fmod(x, 0.7),
    "sums": lambda x: x + jnp.sum(x, axis=-1, keepdims=True) + jnp.max(x, -1)[:, None] - jnp.min(x, -1)[:, None],
    "products": lambda x: jnp.prod(0.9 * x, axis=-1, keepdims=True) + jnp.mean(x, axis=-1, keepdims=True) * x,
    "cumulative": lambda x: jnp.cumsum(x, axis=-1),
    "best": lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 6) + jax.nn.one_hot(jnp.argmin(x, -1), 6),
    "norm": standardized,
    "shapes": lambda x: jnp.concatenate(
        [x[:, :2], jnp.transpose(x.reshape(-1, 2, 3), (0, 2, 1)).reshape(-1, 6)[:, 2:]], -1
    ),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2)))[:, 1:7] + x[:, ::-1][:, ::-1][:, ::2].repeat(2, axis=-1) * 0.0,
    "stacked": lambda x: jnp.stack([x, 2.0 * x])[1] + jnp.split(x, 2, axis=-1)[1].sum(-1, keepdims=True),
    "constant": lambda x: jnp.concatenate([x[:, :5], jnp.full((*x.shape[:-1], 1), 3.0)], axis=-1),
    "matrix": lambda x: x @ WEIGHT[0] + jnp.asarray(WEIGHT[1, 0]),
    "batched": lambda x: jnp.einsum("bi,tij->btj", x, WEIGHT).sum(1),
    "heads": by_heads,
    "vmapped": jax.vmap(lambda row: jnp.tanh(WEIGHT[0] @ row)),
    "rounded": lambda x: (x.astype(jnp.bfloat16) @ jnp.asarray(WEIGHT[0], jnp.bfloat16)).astype(jnp.float32),
    "scan": scanned,
    "reverse": lambda x: scanned(x, reverse=True),
    "collecting": lambda x: scanned(x, collect=True),
    "nested": nested,
    "remat": jax.checkpoint(lambda x: jnp.tanh(x @ WEIGHT[0])),
}


LOOPS = ("scan", "reverse", "collecting", "nested")


@pytest.mark.parametrize(("name", "longest"), [*((name, 16) for name in FUNCTIONS), *((name, 0) for name in LOOPS)])
def test_an_operation_is_that_of_jax(tmp_path, name, longest):
    function = FUNCTIONS[name]
    model = build_model(function, {"x": 6}, "y", longest_unrolled=longest)
    loops = sum(node.op_type == "Scan" for node in model.nodes)
    assert loops == (longest == 0)
    model.save(tmp_path / "model.onnx")
    run, rng = session(tmp_path / "model.onnx"), np.random.default_rng(0)
    for batch in (1, 4):
        x = rng.standard_normal((batch, 6)).astype(np.float32)
        found = run.run(None, {"x": x})[0]
        tolerance = 0.05 if name == "rounded" else 1e-5
        np.testing.assert_allclose(found, function(jnp.asarray(x)), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.sort(x), "the operation 'sort', which has no form"),
        (lambda x: jnp.asarray(WEIGHT[0])[(x[:, 0] > 0).astype(int)], "looks up rows by computed indices"),
        (lambda x: x + jnp.arange(x.shape[0])[:, None], "counts along its batch"),
        (lambda x: jax.lax.round(x), "rounds halves away from zero"),
        (lambda x: jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x), "the operation 'while'"),
    ],
    ids=["sort", "gather", "iota", "round", "while"],
)
def test_what_has_no_form_is_refused_in_one_line(function, message):
    with pytest.raises(ConfigurationError, match=message):
        build_model(function, {"x": 6}, "y")


def test_norms_are_written_as_runtimes_know_them():
    kinds = [node.op_type for node in build_model(standardized, {"x": 6}, "y").nodes]
    assert kinds[:6] == ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt"]
    assert kinds[6] == "Div"
