"""Compiled programs are kept on the disk, and nothing depends on them."""

import os
import subprocess
import sys

import jax
import pytest

from kilolayer import compilation_cache
from kilolayer.compilation_cache import default_directory, enable_compilation_cache

PROGRAM = """
import sys, jax, jax.numpy as jnp
jnp.zeros(3) + 1  # something was compiled before
from kilolayer import compilation_cache
compilation_cache.MIN_SECONDS = 0.0
print(compilation_cache.enable_compilation_cache())
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
def body(x, _):
    return jnp.tanh(x @ x.T) @ x, None
print(float(jax.jit(lambda x: jax.lax.scan(body, x, None, length=5)[0])(jnp.eye(8)).sum()))
print(sum(name.endswith("cache_hits") for name in events))
"""


def run(**environment):
    """Compile a program in a process of its own; returns the cache's directory, the result, and how often it helped."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "KILOLAYER_"))}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    directory, result, hits = process.stdout.split("\n")[:3]
    return directory, float(result), int(hits)


def test_the_second_process_takes_what_the_first_compiled(tmp_path):
    directory, first, hits = run(KILOLAYER_CACHE_DIR=str(tmp_path / "a" / "b"))
    assert (directory, hits) == (str(tmp_path / "a" / "b"), 0)
    assert any((tmp_path / "a" / "b").iterdir())
    _, second, hits = run(KILOLAYER_CACHE_DIR=directory)
    assert second == first
    assert hits > 0


def test_a_damaged_entry_costs_a_compilation_and_nothing_else(tmp_path):
    _, expected, _ = run(KILOLAYER_CACHE_DIR=str(tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(KILOLAYER_CACHE_DIR=str(tmp_path))[1:] == (expected, 0)


def test_the_cache_is_on_by_default_and_off_on_demand(tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    assert run(**home)[0] == str(tmp_path / ".cache" / "kilolayer" / "compiled")
    assert run(KILOLAYER_CACHE_DIR="off", **home)[0] == "None"


def test_a_directory_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KILOLAYER_CACHE_DIR", str(tmp_path / "file" / "below"))
    before = jax.config.jax_compilation_cache_dir
    assert enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir == before


def test_the_users_own_cache_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("KILOLAYER_CACHE_DIR", raising=False)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        assert enable_compilation_cache() is None
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(("limit", "left"), [(1000, 10), (999, 4)])
def test_the_oldest_programs_go_first(tmp_path, monkeypatch, limit, left):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", limit)
    for age in range(10):
        path = tmp_path / str(age)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    compilation_cache.drop_oldest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(age) for age in range(left)]


@pytest.mark.skipif(sys.platform == "darwin", reason="where macOS keeps it")
def test_the_default_directory_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "kilolayer" / "compiled"
