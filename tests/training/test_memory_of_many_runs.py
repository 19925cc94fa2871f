"""A process that loads many runs keeps only the programs of the last few."""

import functools
import gc
import threading
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.envs import make
from kilolayer.envs.check import check
from kilolayer.render.record import PROGRAMS as RECORDINGS
from kilolayer.render.record import record
from kilolayer.training import evaluation, load_with_setup, run_episodes
from kilolayer.training.evaluation import PROGRAMS
from resident import resident_bytes
from small_runs import SMALL

ROBOT = SMALL | {"env": "reacher", "engine": "mujoco"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "run"
    kl.train(run_dir=path, progress=False, **ROBOT)
    return path


@pytest.fixture(autouse=True)
def own_environments(monkeypatch):
    """Build every environment anew, and keep as many programs as outside of these tests."""
    monkeypatch.setattr("kilolayer.training.setup.make", make)
    monkeypatch.setattr(evaluation, "_program", functools.lru_cache(PROGRAMS)(evaluation._program.__wrapped__))


def engines_alive(use, run, count):
    """Use a run so many times, and return how many of its engines are still in memory."""
    engines = []
    for _ in range(count):
        policy, setup = load_with_setup(run)
        engines.append(weakref.ref(setup.eval_environment.engine))
        use(policy, setup.eval_environment)
        del policy, setup
    gc.collect()
    return sum(engine() is not None for engine in engines)


def evaluate(policy, environment):
    run_episodes(policy.agent, policy.agent_state, environment, jax.random.key(0), num_episodes=2)


def film(policy, environment):
    record(policy, environment, jax.random.key(0), num_episodes=1)


@pytest.mark.slow
def test_evaluations_keep_the_last_few_programs(run):
    assert engines_alive(evaluate, run, PROGRAMS + 3) <= PROGRAMS


@pytest.mark.slow
def test_films_keep_the_last_few_programs(run):
    assert engines_alive(film, run, RECORDINGS + 3) <= RECORDINGS


@pytest.mark.slow
def test_a_check_keeps_nothing():
    engines = []
    for _ in range(2):
        environment = make("reacher", engine="mujoco")
        engines.append(weakref.ref(environment.engine))
        list(check(environment, num_envs=2, num_steps=5))
        del environment
    gc.collect()
    assert [engine() for engine in engines] == [None, None]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident memory of a Linux process")
def test_fifty_loads_and_evaluations_take_no_more_than_50_mib(run):
    def resident():
        gc.collect()
        return resident_bytes() / 2**20

    for _ in range(PROGRAMS + 2):
        evaluate(*_loaded(run))
    before, threads = resident(), threading.active_count()
    grown = []
    for _ in range(50):
        evaluate(*_loaded(run))
        grown.append(resident() - before)
    assert np.median(grown[-5:]) < 50.0, grown
    assert threading.active_count() <= threads + 2


def _loaded(run):
    policy, setup = load_with_setup(run)
    return policy, setup.eval_environment
