"""The host collects a round while the device learns: data are learned from a round later; nothing else changes."""

import dataclasses
import json
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest

import kilolayer as kl
from kilolayer.bench.plan import plan
from kilolayer.cli.main import main
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.errors import ConfigurationError
from kilolayer.memory import tree_bytes
from kilolayer.runs import RunDirectory
from kilolayer.training import Setup, choose_mode, population, state_shape
from kilolayer.training.overlap import Overlap
from small_runs import assert_same_state, final_state, flags, small_config

ROBOT = {"env": "reacher", "engine": "mujoco", "total_env_steps": 280, "num_evals": 7, "checkpoints_to_keep": 9}
OVERLAP = ROBOT | {"overlap": True}
FIRST_CALLS = 150
"""Calls of the engine: more than those of the first rounds, fewer than those of the run."""


def rows(run):
    found = RunDirectory.open(run).metrics()
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a checkpoint after every round, that was never stopped: two rounds collect alone, five learn."""
    path = tmp_path_factory.mktemp("overlap") / "run"
    settings = flags(**{name: value for name, value in ROBOT.items() if name != "env"})
    assert main(["train", "reacher", f"--run-dir={path}", "--quiet", "--overlap", *settings]) == 0
    assert RunDirectory.open(path).config().overlap
    return path


@pytest.fixture(scope="module")
def setup():
    return Setup.build(small_config(**OVERLAP))


@pytest.mark.slow
def test_until_the_first_round_that_learns_the_run_is_the_one_without_overlap(run, tmp_path):
    kl.train(config=small_config(**ROBOT | {"total_env_steps": 160, "num_evals": 4}), run_dir=tmp_path / "run")
    with_overlap, without = rows(run), rows(tmp_path / "run")
    assert [row["gradient_steps"] for row in without] == [0, 0, 0, 3, 6]
    assert with_overlap[:4] == without[:4]
    assert with_overlap[4]["gradient_steps"] == 6
    assert with_overlap[4]["train/critic_loss"] != without[4]["train/critic_loss"]
    assert_same_state(final_state(run, 120), final_state(tmp_path / "run", 120))


def test_a_round_learns_from_the_rounds_before_and_collects_with_the_policy_of_its_beginning(run, setup):
    before, steps = final_state(run, 160), population.compile_steps(setup)
    collected, _ = steps.collect(jax.tree.map(jnp.copy, before))
    learned, _ = steps.learn(dataclasses.replace(jax.tree.map(jnp.copy, before), key=jnp.copy(collected.key)))
    after = final_state(run, 200)
    assert_same_state(after.agent, learned.agent)
    assert_same_state(after.buffer, collected.buffer)
    assert_same_state(after.collector, collected.collector)
    assert (after.env_steps, int(after.gradient_steps)) == (200, 9)
    assert_same_state(after.key, learned.key)


@pytest.mark.parametrize("checkpoint", [*(pytest.param(each, marks=pytest.mark.slow) for each in (40, 160)), 80, 120])
def test_it_resumes_bit_for_bit_from_every_kind_of_round(run, checkpoint):
    state, metrics = final_state(run), rows(run)
    kl.train(resume=run, checkpoint=checkpoint, keep_later=False, progress=False)
    assert_same_state(final_state(run), state)
    assert json.dumps(rows(run)) == json.dumps(metrics)


def test_collecting_begins_before_learning_is_done(run, setup):
    begun = threading.Event()

    def learn(state):
        assert begun.wait(60.0)
        return state, "learnt"

    overlap = Overlap(setup, population.compile_steps(setup)._replace(learn=learn))
    collect = overlap._parts.collect
    overlap._parts = overlap._parts._replace(collect=lambda *arguments: (begun.set(), collect(*arguments))[1])
    state, faults, learnt = overlap.advance(overlap.place(final_state(run)), learn=True)
    overlap.shutdown()
    assert (state.env_steps, int(faults.action_step), learnt) == (320, -1, "learnt")


def test_an_error_of_the_engine_is_one_line(tmp_path, monkeypatch):
    load, calls = MujocoEngine._load, []

    def fail(self, bits, fields):
        calls.append(bits)
        if len(calls) > FIRST_CALLS:
            raise RuntimeError("the arm fell off")
        return load(self, bits, fields)

    monkeypatch.setattr(MujocoEngine, "_load", fail)
    with pytest.raises(
        kl.TrainingError, match=r"a program failed after env step .*the arm fell off; the last"
    ) as error:
        kl.train(config=small_config(**OVERLAP), run_dir=tmp_path / "run", progress=False)
    assert "\n" not in str(error.value)
    assert final_state(tmp_path / "run").env_steps > 0


@pytest.mark.slow
def test_seeds_by_vmap_and_growing_networks_overlap_and_resume(tmp_path):
    config = small_config(**OVERLAP | {"depth": 8, "grow": "4@0,8@160"})
    kl.train_seeds(config=config, seeds=(0, 1), run_dir=tmp_path / "runs", progress=False)
    ends = [final_state(tmp_path / "runs" / f"seed-{seed}") for seed in (0, 1)]
    kl.train_seeds(resume=tmp_path / "runs", checkpoint=160, progress=False)
    for seed, end in enumerate(ends):
        assert_same_state(final_state(tmp_path / "runs" / f"seed-{seed}"), end)


@pytest.mark.slow
def test_a_host_that_is_another_device_computes_the_same(run, tmp_path):
    """Two devices on one CPU: what is sent from one to the other, and back."""
    program = (
        "import jax, kilolayer as kl; from kilolayer.training import overlap; from small_runs import small_config\n"
        "overlap.host_device = lambda: jax.devices()[1]\n"
        f"kl.train(config=small_config(**{OVERLAP}), run_dir={str(tmp_path / 'run')!r}, progress=False)"
    )
    env = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    assert json.dumps(rows(tmp_path / "run")) == json.dumps(rows(run))


def test_the_copy_of_the_networks_is_counted(monkeypatch):
    asked = {}
    monkeypatch.setattr("kilolayer.training.memory.check_fits", lambda needed, advice: asked.update(needed))
    from kilolayer.training.memory import check_run_fits

    sizes = []
    for settings in (ROBOT, OVERLAP):
        config = small_config(**settings)
        setup = Setup.build(config)
        check_run_fits(setup, config)
        sizes.append(asked["networks and optimisers"])
    agent = tree_bytes(state_shape(setup).agent)
    assert sizes == [agent, 2 * agent]


@pytest.mark.slow
def test_a_dry_run_counts_what_collects_beside_learning():
    both, one = (plan(small_config(**settings))["step_peak_bytes"] for settings in (OVERLAP, ROBOT))
    assert both > one


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"env": "point_u_maze", "engine": "auto"}, ["engine='point'", "'point_u_maze'", "leave overlap out"]),
        ({"engine": "mjx"}, ["engine='mjx'", "the device steps", "take engine='mujoco'"]),
        ({"agent": "ppo"}, ["agent='ppo'", "its own policy alone", "take agent=c_learning or crl or"]),
        ({"total_env_steps": 0, "total_gradient_steps": 9}, ["total_env_steps=0 collects nothing", "leave it out"]),
    ],
)
def test_runs_that_cannot_overlap_are_refused_in_one_line(settings, words):
    with pytest.raises(ConfigurationError) as error:
        Setup.build(small_config(**OVERLAP | settings))
    for word in ["overlap=True", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_jax_without_a_cpu_is_refused(monkeypatch):
    def no_cpu(backend=None):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "devices", no_cpu)
    with pytest.raises(ConfigurationError, match="overlap=True acts on the CPU, which JAX_PLATFORMS="):
        Setup.build(small_config(**OVERLAP))


def test_seeds_by_threads_are_refused_and_auto_takes_vmap(tmp_path):
    assert choose_mode(overlap=True) == "vmap"
    with pytest.raises(ConfigurationError, match=r"overlap=True has no effect on seeds by mode='threads'.*mode='vmap'"):
        kl.train_seeds(config=small_config(**OVERLAP), seeds=(0, 1), mode="threads", run_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_overlap_cannot_change_when_a_run_is_resumed(run):
    with pytest.raises(ConfigurationError, match="overlap cannot change when a run is resumed"):
        kl.train(resume=run, overlap=False, progress=False)
