"""Every agent with every torso: finite steps, compile time flat in depth, and resuming bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import agent_names, agent_spec
from kilolayer.nn import torso_names
from kilolayer.training import Setup, compile_steps
from kilolayer.training.step import init_state, state_shape
from small_runs import SMALL, assert_same_state, final_state, small_config

QUICK = [("crl", "transformer")]

GRID = [
    pytest.param(agent, torso, marks=[] if (agent, torso) in QUICK else [pytest.mark.slow])
    for agent in agent_names()
    for torso in torso_names()
]


def settings(agent: str, torso: str) -> dict:
    env = "point_u_maze_discrete" if agent_spec(agent).discrete else "point_u_maze"
    return {"env": env, "agent": agent, "torso": torso, "width": 8, "batch_size": 8}


def equations(jaxpr) -> int:
    """Return the number of equations in a program, those inside of loops and calls too."""
    count = 0
    for equation in jaxpr.eqns:
        count += 1
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                count += equations(inner)
    return count


@pytest.mark.parametrize(("agent", "torso"), GRID)
def test_it_takes_finite_steps_and_changes(agent, torso):
    setup = Setup.build(small_config(**settings(agent, torso)))
    steps = compile_steps(setup)
    before = after = init_state(setup, 0)
    first = jax.tree.map(np.asarray, before.agent)
    for _ in range(3):
        after, _ = steps.collect(after)
    after, (metrics, _) = steps.learn(after)
    assert all(np.isfinite(value) for value in metrics.values())
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(after.agent), strict=True)
    assert all(np.all(np.isfinite(new)) for _, new in leaves)
    changed = [
        np.any(old != new) for old, new in zip(jax.tree.leaves(first), jax.tree.leaves(after.agent), strict=True)
    ]
    assert np.mean(changed) > 0.6


@pytest.mark.parametrize(("agent", "torso"), GRID)
def test_its_program_does_not_grow_with_depth(agent, torso):
    """The gradient step has the same number of equations at depth 8 and 256: what is compiled does not grow."""
    counts = []
    for depth in (8, 256):
        setup = Setup.build(small_config(**settings(agent, torso), depth=depth, architecture={"remat": "layer"}))
        shape = state_shape(setup)
        data = jax.eval_shape(setup.agent.prepare, shape.agent, shape.buffer)
        counts.append(equations(jax.make_jaxpr(setup.agent.update)(shape.agent, data, jax.random.key(0)).jaxpr))
    assert counts[1] == counts[0]


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "torso"), GRID)
def test_it_resumes_bit_for_bit(agent, torso, tmp_path):
    chosen = settings(agent, torso)
    env = chosen.pop("env")
    small = {name: value for name, value in SMALL.items() if name not in chosen} | chosen
    kl.train(env, run_dir=tmp_path / "whole", progress=False, **small)
    kl.train(env, run_dir=tmp_path / "half", progress=False, **small | {"total_env_steps": 200, "num_evals": 1})
    kl.train(resume=tmp_path / "half", total_env_steps=400, progress=False)
    assert_same_state(final_state(tmp_path / "whole"), final_state(tmp_path / "half"))


@pytest.mark.slow
def test_a_hyperspherical_network_stays_on_its_sphere_while_an_agent_learns():
    setup = Setup.build(small_config(torso="hyperspherical"))
    steps, state = compile_steps(setup), init_state(setup, 0)
    for _ in range(3):
        state, _ = steps.collect(state)
    state, _ = steps.learn(state)
    for network in setup.agent.networks(state.agent).values():
        projected = network.project()
        for a, b in zip(jax.tree.leaves(network), jax.tree.leaves(projected), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert jnp.all(jnp.isfinite(network.head.weight if hasattr(network.head, "weight") else 0.0))
