"""Environments and programs that runs with equal settings share.

A run builds its environments anew, so without this every `train` of every test traces the same steps again.
"""

import functools
import gc
from pathlib import Path

import jax

from kilolayer.envs import registry
from kilolayer.training import evaluation, overlap, population, setup, step
from resident import resident_bytes

MEMORY = 5 * 2**30
"""Bytes that a process may have before it forgets its programs."""

MAPPINGS = 30_000
"""Pieces of memory, likewise. Every program has several, and Linux ends a process that has more than 65,530."""

EVERY = 10
"""Tests between two looks at the memory."""


@functools.cache
def _make(spec, name, **settings):
    del spec  # it tells a name that is registered again from the one before
    return registry.make(name, **settings)


@functools.cache
def _compile_steps(setup, **how):
    return step.compile_steps(setup, **how)


@functools.cache
def _compile_parts(setup, **how):
    return _overlapped(setup, **how)


_overlapped = overlap.compile_parts
_evaluate = functools.cache(evaluation._program.__wrapped__)


def share(patch):
    """Let runs share environments and programs while `patch` holds."""
    patch.setattr(evaluation, "_program", _evaluate)
    patch.setattr(setup, "make", lambda name, **how: _make(registry.spec(registry.resolve(name)), name, **how))
    patch.setattr(population, "compile_steps", _compile_steps)
    patch.setattr(overlap, "compile_parts", _compile_parts)


def forget_if_short():
    """Forget all programs if the process needs much memory."""
    if _is_short():
        _make.cache_clear()
        _compile_steps.cache_clear()
        _compile_parts.cache_clear()
        _evaluate.cache_clear()
        jax.clear_caches()
        gc.collect()


def _is_short() -> bool:
    try:
        return resident_bytes() > MEMORY or Path("/proc/self/maps").read_bytes().count(b"\n") > MAPPINGS
    except OSError:  # not Linux
        return False
