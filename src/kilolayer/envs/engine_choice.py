"""Which engine `auto` takes: on a CPU the first that the task lists, on a GPU the fastest on this machine.

Only engines that compute the same physics compete. The first run of a task on a machine with a GPU times a few steps of
each; the result is kept in the user's cache directory, and a run keeps the engine that it began with.
"""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from kilolayer.compilation_cache import kept_directory
from kilolayer.envs.engines import make_engine, same_physics
from kilolayer.envs.engines.registry import EngineSpec
from kilolayer.envs.environment import Environment, EnvironmentState
from kilolayer.envs.interface import Engine, Task
from kilolayer.errors import ConfigurationError, short_line
from kilolayer.files import write_json
from kilolayer.machine import cpu_cores, cpu_model
from kilolayer.system import versions

LOG = logging.getLogger("kilolayer")

STEPS = 20
"""Control steps in a call that is timed."""

CALLS = 3
"""Calls; the first compiles, and the fastest of the others counts."""

EPISODE = 1000
"""Control steps in an episode while engines are timed."""

HOST_CORES = 12
"""Without a measurement, an engine on the host is taken from this many cores on: MuJoCo's C engine on so many stepped
ants as fast as MJX on one GPU."""

Builder = Callable[[str, Task], Engine]
"""Builds the engine of a name for a task; raises ConfigurationError where it cannot."""
Timer = Callable[[Task, Engine, int], float]
"""Returns env steps per second of a task on an engine with a number of environments."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `auto` takes for a task."""

    engine: str
    """Name of the engine."""
    why: str
    """The reason in words."""
    speeds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Env steps per second of every engine that was timed; empty if none was."""
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Engines of the same physics that cannot run the task here, and why."""


_made: dict[str, Choice] = {}
"""Choices by measurement of this process, by their keys."""


def choose_engine(
    task: Task,
    name: str,
    *,
    num_envs: int | None = None,
    build: Builder = make_engine,
    timer: Timer | None = None,
) -> Choice:
    """Return which engine `auto` takes for a task on this machine.

    Args:
        task: the task, in the form in which it is trained.
        name: of its environment.
        num_envs: environments that step side by side; None chooses by the number of cores instead of measuring.
        build: builds an engine.
        timer: measures an engine; None takes `env_steps_per_second`.
    """
    candidates = same_physics(task)
    if jax.default_backend() == "cpu" or not candidates:
        return Choice(task.engines[0], "it is the first that the task lists")
    if len(candidates) == 1:
        return Choice(candidates[0].name, "no other engine computes this physics")
    if num_envs is None:
        return _by_cores(task, candidates, build)
    about = _about(task, name, num_envs, candidates)
    key = _key(about)
    if key in _made:
        return _made[key]
    choice = _read(key, candidates)
    if choice is None:
        choice = _measure(task, num_envs, candidates, build, timer or env_steps_per_second)
        if choice.speeds:
            _keep(key, about, choice)
        else:
            choice = _by_cores(task, candidates, build)
    _made[key] = choice
    LOG.info(short_line(f"engine {choice.engine} for {num_envs} environments of {name.splitlines()[0]}: {choice.why}"))
    return choice


def choice_made(task: Task, name: str, num_envs: int) -> Choice | None:
    """Return what `choose_engine` measured, or read of an earlier measurement, in this process; None if nothing."""
    return _made.get(_key(_about(task, name, num_envs, same_physics(task)))) if _made else None


def env_steps_per_second(task: Task, engine: Engine, num_envs: int) -> float:
    """Time steps of an environment with random actions, compiled as in training.

    Args:
        task: the task.
        engine: moves it.
        num_envs: environments side by side.
    """
    environment = Environment("timed", task, engine, EPISODE)

    @jax.jit
    def steps(state: EnvironmentState, key: PRNGKeyArray) -> EnvironmentState:
        def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, None]:
            action = jax.random.uniform(key, (num_envs, environment.action_size), minval=-1.0, maxval=1.0)
            return environment.step(state, action)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[0]

    first, *keys = jax.random.split(jax.random.key(0), 2 + CALLS)
    state = jax.jit(environment.reset, static_argnums=1)(first, num_envs)
    seconds = []
    for key in keys:
        began = time.perf_counter()
        state = jax.block_until_ready(steps(state, key))
        seconds.append(time.perf_counter() - began)
    return num_envs * STEPS / min(seconds[1:])


def _measure(task: Task, num_envs: int, candidates: list[EngineSpec], build: Builder, timer: Timer) -> Choice:
    """Time all engines; those that fail are left out."""
    speeds, left_out = {}, {}
    for spec in candidates:
        try:
            speed = timer(task, build(spec.name, task), num_envs)
        except Exception as error:  # an engine may lack a package, refuse the model, or run out of memory
            left_out[spec.name] = short_line(str(error) or type(error).__name__)
        else:
            speeds[spec.name] = speed
    return _fastest(speeds, left_out)


def _fastest(speeds: Mapping[str, float], left_out: Mapping[str, str]) -> Choice:
    ordered = dict(sorted(speeds.items(), key=lambda item: -item[1]))
    told = ", ".join(f"{name} {speed:,.0f}" for name, speed in ordered.items())
    without = "".join(f"; {name} is left out: {reason.partition(';')[0]}" for name, reason in left_out.items())
    return Choice(next(iter(ordered), ""), f"env steps per second are {told}{without}", ordered, left_out)


def _by_cores(task: Task, candidates: list[EngineSpec], build: Builder) -> Choice:
    """Take the first engine that runs the task: on the host if it has many cores, else on the GPU."""
    first = "host" if cpu_cores() >= HOST_CORES else "device"
    left_out = {}
    for spec in sorted(candidates, key=lambda spec: spec.runs_on != first):
        try:
            build(spec.name, task)
        except ConfigurationError as error:
            left_out[spec.name] = str(error)
        else:
            return Choice(spec.name, f"this machine has {cpu_cores()} cores beside the GPU", left_out=left_out)
    return Choice(task.engines[0], "it is the first that the task lists", left_out=left_out)


# Measurements that are kept


def _about(task: Task, name: str, num_envs: int, candidates: list[EngineSpec]) -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    return {
        "env": name,
        "variant": getattr(task, "variant", "default"),
        "num_envs": num_envs,
        "engines": [spec.name for spec in candidates],
        "cpu": cpu_model(),
        "cpu_cores": cpu_cores(),
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
    }


def _key(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _file(key: str) -> Path | None:
    directory = kept_directory("engines")
    return None if directory is None else directory / f"{key}.json"


def _read(key: str, candidates: list[EngineSpec]) -> Choice | None:
    """Return an earlier measurement; None if there is none, or it is damaged."""
    file = _file(key)
    try:
        found = json.loads(file.read_text()) if file else {}
        speeds = {str(name): float(speed) for name, speed in found["speeds"].items()}
        left_out = {str(name): str(reason) for name, reason in found["left_out"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    names = {spec.name for spec in candidates}
    if not speeds or not names >= speeds.keys() or not all(0.0 < one < math.inf for one in speeds.values()):
        return None
    return _fastest(speeds, left_out)


def _keep(key: str, about: Mapping[str, Any], choice: Choice) -> None:
    """Write a measurement; where that is not possible, the next run measures again."""
    if (file := _file(key)) is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**about, "speeds": dict(choice.speeds), "left_out": dict(choice.left_out)})
    except OSError:
        return
