"""Library calls change nothing in their process; the command line does, in one place."""

import logging
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from kilolayer.process_setup import _hook_into_unraisable_errors, set_up_process

PROGRAM = """
import logging, os, signal, sys, warnings
import equinox, jax, mujoco, optax, orbax.checkpoint, pydantic, rich.progress, scipy.sparse, tyro  # as the library does

def observe():
    loggers = [logging.root, *(logging.getLogger(name) for name in names)]
    return {
        "logging": [(one.name, one.level, list(one.handlers), list(one.filters), one.disabled) for one in loggers],
        "logging.disable": logging.root.manager.disable,
        "warnings": list(warnings.filters),
        "hooks": [sys.unraisablehook, sys.excepthook, sys.displayhook],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment variables": dict(os.environ),
        "jax": dict(jax.config.values),
    }

names = ["absl", "asyncio", "orbax", "jax", *logging.root.manager.loggerDict]
jax.devices()
before = observe()
import kilolayer

settings = dict(width=16, batch_size=16, num_envs=4, episode_length=20, unroll_length=10, gradient_steps_per_unroll=2)
settings |= dict(replay_capacity=60, min_replay=10, total_env_steps=120, num_evals=2, num_eval_envs=2)
kilolayer.train("point_u_maze", run_dir=sys.argv[1] + "/run", progress=False, **settings)
kilolayer.train(resume=sys.argv[1] + "/run", total_env_steps=160, progress=False)
kilolayer.train_seeds("point_u_maze", seeds="0..1", run_dir=sys.argv[1] + "/seeds", progress=False, **settings)
kilolayer.load(sys.argv[1] + "/run")([0.0] * 4, [0.0] * 2)
after = observe()
for name, value in before.items():
    assert value == after[name], f"{name}: {value} became {after[name]}"

from kilolayer.process_setup import set_up_process

set_up_process()
changed = observe()
print(*(name for name, value in before.items() if value != changed[name]))
assert jax.config.jax_compilation_cache_dir == os.environ["KILOLAYER_CACHE_DIR"]
set_up_process()
assert observe() | {"warnings": None} == changed | {"warnings": None}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_library_calls_change_nothing_in_their_process(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "KILOLAYER_"))}
    variables = {"KILOLAYER_CACHE_DIR": str(tmp_path / "cache"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # and print nothing
    assert process.stdout.split() == ["logging", "warnings", "hooks", "jax"]


def test_of_several_failed_writes_one_is_printed(caplog):
    """Orbax raises the first failure; Python would log the others when their tasks are deleted."""
    set_up_process()
    log = logging.getLogger("asyncio")
    log.error("Task exception was never retrieved\nfuture: <Task coro=<... at orbax/checkpoint/type_handlers.py:114>>")
    log.error(
        "Future exception was never retrieved\nfuture: <Future finished exception=ValueError('in OCDBT database')>"
    )
    log.error("Task exception was never retrieved\nfuture: <Task coro=<mine() at mine.py:1>>")
    assert [record.message.splitlines()[1] for record in caplog.records] == [
        "future: <Task coro=<mine() at mine.py:1>>"
    ]


def test_what_the_library_chose_is_printed_once(capfd):
    set_up_process()
    set_up_process()
    logging.getLogger("kilolayer").info("engine mujoco")
    assert capfd.readouterr().err == "kilolayer: engine mujoco\n"


def test_ctrl_c_that_python_dropped_comes_again(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore Ctrl-C
    try:
        _hook_into_unraisable_errors()
        dropped = SimpleNamespace(exc_type=KeyboardInterrupt, exc_value=KeyboardInterrupt())
        sys.unraisablehook(dropped)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(60.0)
        assert time.monotonic() - begun < 30.0
    finally:
        signal.signal(signal.SIGINT, before)
