"""The benchmark's naive step is the same step, and its floor counts what must be multiplied."""

import dataclasses
import json
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents import CRL, CRLConfig
from kilolayer.bench import bench_step, env, naive
from kilolayer.bench.flops import matrix_products
from kilolayer.bench.process import run_apart
from kilolayer.bench.step import matrix_operations
from kilolayer.cli import bench as command
from kilolayer.cli.bench_options import BenchOptions
from kilolayer.cli.main import main
from kilolayer.data import Batch
from kilolayer.errors import ConfigurationError, KilolayerError
from kilolayer.nn import ResidualArchitecture

AGENT = CRL(5, 2, 3, batch_size=8, depth=8, width=16)


def a_batch(agent=AGENT):
    keys = jax.random.split(jax.random.key(1), 3)
    sizes = (5, agent.chunk_size, 2)
    return Batch(*(jax.random.normal(key, (agent.batch_size, size)) for key, size in zip(keys, sizes, strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["layer", "none", "block"])
def test_the_naive_step_is_the_agents_step(remat):
    agent = dataclasses.replace(AGENT, architecture=ResidualArchitecture(remat=remat))
    state, key = agent.init(jax.random.key(0)), jax.random.key(2)
    plain = naive.from_crl(agent, state)
    ours, metrics = jax.jit(agent.learn)(state, a_batch(), key)
    theirs, expected = jax.jit(naive.learn)(plain, a_batch(), key)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5), name
    # Adam's first step is nearly the sign of the gradient; its first moment is a tenth of the gradient itself.
    for name, part in (("actor", "actor"), ("phi", "critic"), ("psi", "critic")):
        moments = ours.optimizers[part][0].mu
        moments = moments if name == "actor" else getattr(moments, name)
        reference = theirs.optimizers["actor" if name == "actor" else "critic"][0].mu
        reference = reference if name == "actor" else reference[name]
        for n in range(2):
            for k in range(4):
                actual, wanted = moments.blocks.dense.weight[n, k], reference["blocks"][n][k]["w"]
                np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-5 * float(jnp.abs(wanted).max()))
    np.testing.assert_allclose(ours.log_alpha, theirs.log_alpha, rtol=1e-5)


def test_the_naive_step_refuses_what_it_does_not_know():
    for agent in (
        dataclasses.replace(AGENT, config=CRLConfig(energy="dot")),
        dataclasses.replace(AGENT, architecture=ResidualArchitecture(activation="relu")),
    ):
        with pytest.raises(ConfigurationError, match="default architecture and settings only"):
            naive.from_crl(agent, AGENT.init(jax.random.key(0)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"goal_encoder_depth": 16, "critic_depth": 4, "actor_width": 32},
        {"action_chunk": 4, "actor_goals": "resampled", "representation_size": 8},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_the_floor_counts_the_products_that_the_step_takes(options):
    agent = dataclasses.replace(AGENT, architecture=ResidualArchitecture(remat="layer"), config=CRLConfig(**options))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    taken = matrix_products(jax.make_jaxpr(agent.learn)(state, a_batch(agent), jax.random.key(0)).jaxpr)
    assert 0.97 * taken <= matrix_operations(agent) <= taken


@pytest.mark.slow
def test_the_command_gives_the_figures_of_each_case(capsys):
    arguments = [
        "--depths=4",
        "--width=16",
        "--batch-size=8",
        "--rounds=2",
        "--gradient-steps=2",
        "--against=naive",
        "--json",
    ]
    assert main(["bench", "step", *arguments]) == 0
    ours, theirs = json.loads(capsys.readouterr().out)["rows"]
    assert (ours["form"], theirs["form"]) == ("kilolayer", "naive")
    for row in (ours, theirs):
        assert (row["depth"], row["width"], row["batch_size"]) == (4, 16, 8)
        assert row["trace_seconds"] > 0 < row["compile_seconds"]
        assert 0 < row["step_seconds"] <= row["median_seconds"]
        assert row["floor_seconds"] > 0
        assert row["peak_bytes"] > 2**20
    assert main(["bench", "compile", "--depths=4", "--width=16", "--batch-size=8"]) == 0
    table = capsys.readouterr().out
    assert "kilolayer" in table
    assert "compile s" in table


@pytest.mark.slow
def test_the_command_gives_the_figures_of_acting(export_packages, capsys):
    arguments = ["--depths=4", "--width=16", "--calls=3"]
    assert main(["bench", "act", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    forms = [(runtime, precision) for runtime in ("library", "onnxruntime") for precision in ("float32", "int8")]
    assert [(row["runtime"], row["precision"]) for row in rows] == forms
    assert main(["bench", "act", *arguments]) == 0
    assert "largest error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "--depths=4,x"], "'x' is not a number"),
        (["step", "--depths=6"], "depth=6 is not a multiple of block_size=4"),
        (["step", "--depths=0", "--against=naive"], "depth=0: the naive step needs at least one block"),
        (["step", "--rounds=0"], "rounds=0 must be at least 1"),
        (["speed"], "bench 'speed' is unknown"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_measurement_that_fails_says_why():
    with pytest.raises(KilolayerError, match=r"the measurement of form=none, rounds=1 failed: KeyError: 'none'"):
        run_apart("kilolayer.bench.replay:measure", {"form": "none", "rounds": 1})


def test_operations_of_a_gradient_step_by_hand():
    """Every layer: rows x weights x 2, forwards, and backwards to weights and, but for the first layer, to inputs."""
    rows, width, embedding = 8, 16, 64
    agent = CRL(5, 2, 3, batch_size=rows, depth=4, width=width, config=CRLConfig(representation_size=embedding))
    hidden = 4 * width * width
    actor = 2 * (5 + 2) * width + 3 * (hidden + width * 6)
    phi = 2 * (5 + 3) * width + 3 * (hidden + width * embedding)
    psi = 2 * 2 * width + 3 * (hidden + width * embedding)
    phi_for_the_actor = 2 * ((5 + 3) * width + hidden + width * embedding)
    logits = 3 * rows * embedding
    assert matrix_operations(agent) == 2 * rows * (actor + phi + psi + phi_for_the_actor + logits)


class Row(NamedTuple):
    name: str
    value: int


def test_rows_are_printed_as_soon_as_they_are_measured(capsys, monkeypatch):
    """Headings and the first row are there before the second row is measured."""
    seen = []

    def measuring(log):
        log("measuring")
        yield Row("a", 1)
        seen.append(capsys.readouterr().out)
        yield Row("bcd", 20_000_000)
        seen.append(capsys.readouterr().out)

    class Bench(BenchOptions):
        def rows(self, log):
            return measuring(log)

        def columns(self):
            return {"form": lambda row: row.name, "value": lambda row: f"{row.value:,}"}

    monkeypatch.setitem(command.BENCHES, "step", dataclasses.dataclass(frozen=True, kw_only=True)(Bench))
    assert main(["bench", "step"]) == 0
    first, second = seen
    assert [line.split() for line in first.splitlines()] == [["form", "value"], ["a", "1"]]
    assert len({len(line) for line in first.splitlines()}) == 1  # aligned
    assert second.split() == ["bcd", "20,000,000"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interrupted(BenchOptions):
    """One row, and then Ctrl-C."""

    def rows(self, log):
        yield Named("a", 1)
        raise KeyboardInterrupt

    def columns(self):
        return {"form": lambda row: row.name}


@dataclasses.dataclass
class Named:
    name: str
    value: int


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_was_measured_before_ctrl_c_is_printed(capsys, monkeypatch, flags):
    monkeypatch.setitem(command.BENCHES, "step", Interrupted)
    assert main(["bench", "step", *flags]) == 130
    out, error = capsys.readouterr()
    if flags:
        assert json.loads(out)["rows"] == [{"name": "a", "value": 1}]
        assert error.split() == ["form", "a", "kilolayer:", "interrupted"]
    else:
        assert out.split() == ["form", "a"]


def test_the_rounds_of_an_environment_before_ctrl_c_are_not_lost(monkeypatch):
    """Two sides, three seconds a call; Ctrl-C comes in the third round."""
    calls = []

    def seconds_of(run):
        calls.append(run)
        if len(calls) == 2 * (1 + 2) + 2:
            raise KeyboardInterrupt
        return 3.0

    reference = SimpleNamespace(run=lambda: None)
    monkeypatch.setattr(env, "seconds_of", seconds_of)
    monkeypatch.setattr(env, "Rollout", lambda *sizes: reference)
    monkeypatch.setattr(env, "_bare_mujoco", lambda rollout: None)
    monkeypatch.setattr(env, "_variant", lambda rollout: "default")
    rows = env._measure_tasks({"ant": {"mujoco": SimpleNamespace(depth=4)}}, ["mujoco"], 2, 3, 5, 16, id)
    for kind in ("bare", "rollout"):
        row = next(rows)
        assert (row.kind, row.rounds, row.env_steps_per_second) == (kind, 2, 2.0)
    with pytest.raises(KeyboardInterrupt):
        next(rows)


@pytest.mark.parametrize("options", [{"depths": [4, 6]}, {"rounds": 0}, {"steps": 0}])
def test_the_gradient_step_is_refused_at_the_call(options):
    with pytest.raises(ConfigurationError):
        bench_step(**options)
