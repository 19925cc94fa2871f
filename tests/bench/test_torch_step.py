"""PyTorch's gradient step is the same step: losses and parameters, from the same parameters, batch and noise."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

from kilolayer.agents import CRL
from kilolayer.bench import bench_step, naive
from kilolayer.bench import step as bench
from kilolayer.cli.main import main
from kilolayer.data import Batch
from kilolayer.nn import ResidualArchitecture

AGENT = CRL(5, 2, 3, batch_size=8, depth=8, width=16)
STEPS = 3


def parameters_of(network):
    """Return the parameters of a network of ours, layer by layer, in PyTorch's order."""
    layers = naive._layers(network)
    each = [layers["input"], *(layer for block in layers["blocks"] for layer in block)]
    arrays = [array for p in each for array in (p["w"].T, p["b"], p["scale"], p["offset"])]
    return [*arrays, layers["head"]["w"].T, layers["head"]["b"]]


@pytest.mark.parametrize("scaling", ["none", "inverse_sqrt"])
def test_losses_and_parameters_are_those_of_the_agents_step(scaling):
    torch = pytest.importorskip("torch")
    from kilolayer.bench.torch_step import TorchBatch, TorchStep

    agent = dataclasses.replace(AGENT, architecture=ResidualArchitecture(residual_scaling=scaling))
    state = jax.jit(agent.init)(jax.random.key(0))
    step = TorchStep(5, 2, 3, depth=8, width=16, factor=state.actor.branch_factor)
    step.copy_from(naive.from_crl(AGENT, state))

    keys = jax.random.split(jax.random.key(1), 3)
    arrays = [jax.random.normal(key, (8, size)) for key, size in zip(keys, (5, 3, 2), strict=True)]
    learn, batch = jax.jit(agent.learn), Batch(*arrays)
    torch_batch = TorchBatch(*(torch.tensor(np.asarray(array)) for array in arrays))
    for key in jax.random.split(jax.random.key(2), STEPS):
        state, expected = learn(state, batch, key)
        noise = torch.tensor(np.asarray(jax.random.normal(key, (8, 3))))
        for name, value in step.learn(torch_batch, noise).items():
            assert float(value) == pytest.approx(float(expected[name]), rel=2e-5), name
    for ours, theirs in ((state.actor, step.actor), (state.critic.phi, step.phi), (state.critic.psi, step.psi)):
        for mine, its in zip(parameters_of(ours), theirs.parameters(), strict=True):
            np.testing.assert_allclose(its.detach().numpy(), mine, rtol=1e-5, atol=1e-6)
    assert float(step.log_alpha.detach()) == pytest.approx(float(state.log_alpha), rel=1e-5)


@pytest.mark.slow
def test_both_sides_take_turns_and_have_a_ratio(capsys):
    pytest.importorskip("torch")
    arguments = ["--depths=4", "--width=16", "--batch-size=8", "--rounds=2", "--steps=2", "--against=torch"]
    assert main(["bench", "step", *arguments]) == 0
    headings, ours, theirs = capsys.readouterr().out.splitlines()
    assert "times first" in headings
    assert (ours.split()[0], theirs.split()[0]) == ("kilolayer", "torch")
    assert (ours.count("x"), theirs.count("x")) == (1, 2)  # of floor, and times the first


@pytest.mark.gpu
def test_on_a_gpu_the_step_is_one_graph_too():
    pytest.importorskip("torch")
    rows = list(bench_step([4], width=64, batch_size=32, torch_depths=[4], steps=2, rounds=2))
    assert [row.form for row in rows] == ["kilolayer", "torch", "torch graph"]
    assert all(row.ratio > 0.0 for row in rows[1:])


def test_without_pytorch_one_line_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "step", "--depths=4", "--against=torch"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "pip install torch" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is there")
def test_the_library_does_not_need_pytorch():
    assert not bench.has_torch()
