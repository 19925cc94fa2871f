"""Every agent takes the same gradient step by the short chain as by the plain form, within rounding."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents import agent_specs
from kilolayer.nn import residual_mlp
from kilolayer.nn.kernels import walk
from kilolayer.training import Setup, init_state
from kilolayer.training.step import collect_step
from small_runs import small_config


def step_of(agent, width=16, **architecture):
    """Return the parameters before and after a gradient step on data of a round, and metrics."""
    env = "point_u_maze_discrete" if next(s for s in agent_specs() if s.name == agent).discrete else "point_u_maze"
    setup = Setup.build(small_config(env=env, agent=agent, depth=8, width=width, architecture=architecture))
    state = jax.jit(lambda state: collect_step(setup, state)[0])(init_state(setup, 0))

    def update(state):
        data = setup.agent.prepare(state.agent, state.buffer)
        return setup.agent.update(state.agent, data, jax.random.key(1))

    after, metrics = jax.jit(update)(state)
    before = jax.tree.leaves(setup.agent.networks(state.agent))
    return before, jax.tree.leaves(setup.agent.networks(after)), metrics


IN_CI = ("crl",)

AGENTS = [
    spec.name if spec.name in IN_CI else pytest.param(spec.name, marks=pytest.mark.slow) for spec in agent_specs()
]


@pytest.mark.slow
@pytest.mark.parametrize("agent", AGENTS)
def test_a_gradient_step_is_the_same(agent):
    before, after, metrics = step_of(agent, chain="short")
    _, expected, expected_metrics = step_of(agent, chain="plain")
    moved = [jnp.abs(new - old).max() for new, old in zip(expected, before, strict=True)]
    assert max(moved) > 0.0
    for new, other in zip(after, expected, strict=True):
        # Adam's first step has the size of the learning rate in each number, whatever the gradient's: where a gradient
        # is next to zero, rounding may turn the step around, so that only nearly all numbers have to agree.
        close = np.isclose(new, other, rtol=1e-4, atol=1e-6)
        assert close.mean() > 0.99, f"{agent}: {1 - close.mean():.1%} differ"
    for name, value in metrics.items():
        np.testing.assert_allclose(value, expected_metrics[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton, which is made for Linux")
@pytest.mark.parametrize("agent", AGENTS)
def test_a_gradient_step_by_the_kernels_is_the_same_but_for_their_rounding(agent, monkeypatch):
    import triton_interpreter

    launched = []

    def launch(kernel, *args, **kwargs):
        launched.append(kernel)
        return triton_interpreter.launch(kernel, *args, **kwargs)

    monkeypatch.setattr(walk, "_launch", launch)
    monkeypatch.setattr(residual_mlp, "run_here", lambda: True)
    before, after, metrics = step_of(agent, width=64, chain="short", kernels="fused")
    _, expected, expected_metrics = step_of(agent, width=64, chain="plain")
    assert {"forward", "backward"} <= set(launched)
    for old, new, other in zip(before, after, expected, strict=True):
        moved, own = other - old, new - old  # Adam's first step: the sign of each gradient
        assert jnp.sum(moved * own) >= 0.9 * jnp.sum(moved * moved)
    for name, value in metrics.items():
        np.testing.assert_allclose(value, expected_metrics[name], rtol=3e-2, atol=3e-3, err_msg=name)
