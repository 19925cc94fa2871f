"""Seconds per action on one CPU core by runtime and precision, with the time to read the weights as the floor."""

import contextlib
import dataclasses
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from kilolayer.bench.process import run_apart
from kilolayer.bench.timing import seconds_of
from kilolayer.errors import ConfigurationError
from kilolayer.machine import cpu_cores
from kilolayer.nn import ResidualArchitecture, ResidualMLP
from kilolayer.policies import ActingPrecision, ActionError, CompiledPolicy, check_acting_precision
from kilolayer.policies.export import acting
from kilolayer.policies.export.onnx_model import build_model, session

Runtime = Literal["library", "onnxruntime"]
"""What runs a policy: `Policy.compile`, or ONNX Runtime with one thread that does not spin."""

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
DEPTHS = (64, 1024)
PRECISIONS: tuple[ActingPrecision, ...] = get_args(ActingPrecision)
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8  # the ant's
WARM_UP = 3
ROUNDS = 5
ERRORS_ON = 256


@dataclasses.dataclass(frozen=True)
class ActSpeed:
    """One line of the table."""

    depth: int
    width: int
    batch_size: int
    runtime: str
    precision: str
    load: bool
    """A neighbour on the same cores computed all the time."""
    cores: int
    """Cores that the process may use: one, where the platform can set this."""
    compile_seconds: float
    """Time to round the weights, compile, and run once."""
    step_seconds: float
    """Median of all calls, from numpy arrays to numpy arrays."""
    slowest: float
    """Seconds of the 99th percentile of the calls."""
    slowest_of_thousand: float
    """Seconds of the percentile 99.9 of the calls; of fewer than a thousand calls, nearly the slowest."""
    float32_ratio: float | None
    """Time of the library in float32 divided by the time of this line in the same round; median over the rounds."""
    floor_seconds: float
    """Median time to read as many bytes as the weights have once, on the same cores in the same rounds."""
    weight_bytes: int
    """Bytes of parameters that a call reads; of ONNX Runtime, of all constants of the model."""
    largest_action_error: float
    """Largest difference from float32 of any number in an action, for this untrained network on 256 random normal
    observations and goals."""
    mean_action_error: float
    """Mean difference on the same inputs."""


def bench_act(
    depths: Sequence[int] = DEPTHS,
    *,
    width: int = 256,
    batch: int = 1,
    precisions: Sequence[ActingPrecision] = PRECISIONS,
    runtimes: Sequence[Runtime] | None = ("library",),
    load: bool = False,
    calls: int = 200,
    seconds: float | None = None,
    log: Callable[[str], object] = id,
) -> Iterator[ActSpeed]:
    """Time policies with untrained actors of the ant's sizes, in a process bound to one core.

    The runtimes and precisions of a depth take turns, round by round, so that noise affects all alike.

    Args:
        depths: of the actors.
        width: of the actors.
        batch: observations in a call.
        precisions: to compare.
        runtimes: to compare; None takes all that are installed.
        load: let a neighbour on the same core compute all the time.
        calls: timed calls of each runtime and precision, spread over the rounds.
        seconds: give up on a depth after so many.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read: the lines of a depth come once that depth is measured.

    Raises:
        ConfigurationError: at the call, for an invalid depth, width, batch, precision, runtime or number of calls.
        KilolayerError: while measuring, if the process fails, for example without enough memory.
    """
    for depth in depths:
        ResidualArchitecture().num_blocks(depth)
    for precision in precisions:
        check_acting_precision(precision)
    for name, value in (("width", width), ("batch", batch), ("calls", calls)):
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    runtimes = installed_runtimes() if runtimes is None else runtimes
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise ConfigurationError(f"runtime={runtime!r} is unknown; choose one of {', '.join(RUNTIMES)}")
        if runtime not in installed_runtimes():
            raise ConfigurationError(f"runtime={runtime!r} is not installed; pip install 'kilolayer[export]'")
    forms = [(runtime, precision) for runtime in runtimes for precision in precisions]
    sizes = {"width": width, "batch": batch, "forms": forms, "load": load, "calls": calls}
    return _measure_depths(depths, sizes, seconds, log)


def _measure_depths(
    depths: Sequence[int], sizes: Mapping[str, Any], seconds: float | None, log: Callable[[str], object]
) -> Iterator[ActSpeed]:
    for depth in depths:
        log(f"depth {depth}, {', '.join(f'{runtime} {precision}' for runtime, precision in sizes['forms'])}")
        arguments = {"depth": depth, **sizes}
        on_cpu = {"JAX_PLATFORMS": "cpu"}
        for line in run_apart(f"{__name__}:measure", arguments, environment=on_cpu, one_core=True, seconds=seconds):
            yield ActSpeed(**line)


def installed_runtimes() -> tuple[Runtime, ...]:
    """Return the runtimes that are installed."""
    exports = all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime"))
    return RUNTIMES if exports else ("library",)


class Onnx:
    """An actor in ONNX Runtime, with what the measurement asks of a compiled policy."""

    def __init__(self, actor: ResidualMLP, precision: ActingPrecision, batch: int):
        """Write the actor, and load it."""
        began = time.perf_counter()
        self.precision, self._actor = precision, actor
        sizes = {"observation": OBSERVATION_SIZE, "desired_goal": GOAL_SIZE}
        model = build_model(acting(actor, 1, ACTION_SIZE), sizes, "action", int8=precision == "int8")
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "policy.onnx")
            self._session = session(Path(folder) / "policy.onnx")
        self.weight_bytes = model.constant_bytes
        self(np.zeros((batch, OBSERVATION_SIZE), np.float32), np.zeros((batch, GOAL_SIZE), np.float32))
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, observation: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """Return actions."""
        return self._session.run(["action"], {"observation": observation, "desired_goal": desired_goal})[0]

    def error(self, observations: np.ndarray, desired_goals: np.ndarray) -> ActionError:
        """Compare the actions, one row after another, with those of the library in float32."""
        pair = observations.astype(np.float32), desired_goals.astype(np.float32)
        exact = np.asarray(acting(self._actor, 1, ACTION_SIZE)(*pair))
        found = np.concatenate([self(pair[0][row : row + 1], pair[1][row : row + 1]) for row in range(len(exact))])
        difference = np.abs(found - exact)
        return ActionError(float(difference.max()), float(difference.mean()))


BUSY = """
import os, sys
import numpy as np
parent, x = int(sys.argv[1]), np.ones((256, 256), np.float32)
while os.getppid() == parent:
    x @ x
"""


@contextlib.contextmanager
def busy_neighbour(wanted: bool) -> Iterator[None]:
    """Let another process compute on the cores of this one; it ends with this process, however that ends."""
    if not wanted:
        yield
        return
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())], env=os.environ | one_thread)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(
    depth: int, width: int, batch: int, forms: Sequence[tuple[Runtime, ActingPrecision]], load: bool, calls: int
) -> list[dict[str, Any]]:
    """Measure one depth in this process and return the fields of `ActSpeed` for each runtime and precision."""
    forms = [(runtime, precision) for runtime, precision in forms]  # lists, in JSON
    sizes = {"observation_size": OBSERVATION_SIZE, "goal_size": GOAL_SIZE, "action_size": ACTION_SIZE}
    in_size, out_size = OBSERVATION_SIZE + GOAL_SIZE, 2 * ACTION_SIZE
    draw = jax.jit(lambda key: ResidualMLP(in_size, out_size, depth=depth, width=width, key=key))
    actor = jax.block_until_ready(draw(jax.random.key(0)))
    policies: list[CompiledPolicy | Onnx] = [
        CompiledPolicy(actor, **sizes, batch=batch, precision=precision)
        if runtime == "library"
        else Onnx(actor, precision, batch)
        for runtime, precision in forms
    ]
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((calls + WARM_UP, batch, OBSERVATION_SIZE), np.float32)
    goals = rng.standard_normal((calls + WARM_UP, batch, GOAL_SIZE), np.float32)
    buffers = [np.ones(policy.weight_bytes // 4, np.float32) for policy in policies]

    times: list[list[list[float]]] = [[] for _ in policies]
    reads: list[list[float]] = [[] for _ in policies]
    with busy_neighbour(load):
        for part in np.array_split(np.arange(calls), min(ROUNDS, calls)):
            for policy, buffer, seconds, read in zip(policies, buffers, times, reads, strict=True):
                inputs = [(observations[i], goals[i]) for i in (*range(-WARM_UP, 0), *part)]
                seconds.append([seconds_of(policy, *pair) for pair in inputs][WARM_UP:])
                # The product of a vector with itself reads every number once, as fast as this core can.
                read.extend([seconds_of(np.dot, buffer, buffer) for _ in inputs][WARM_UP:])

    samples = np.random.default_rng(1).standard_normal((ERRORS_ON, in_size))
    base = forms.index(("library", "float32")) if ("library", "float32") in forms else None
    lines = []
    for (runtime, precision), policy, seconds, read in zip(forms, policies, times, reads, strict=True):
        error = policy.error(samples[:, :OBSERVATION_SIZE], samples[:, OBSERVATION_SIZE:])
        ratio = None
        if base is not None:
            pairs = zip(times[base], seconds, strict=True)
            ratio = statistics.median(statistics.median(one) / statistics.median(other) for one, other in pairs)
        flat = np.concatenate(seconds)
        speed = ActSpeed(
            depth=depth,
            width=width,
            batch_size=batch,
            runtime=runtime,
            precision=precision,
            load=load,
            cores=cpu_cores(),
            compile_seconds=policy.compile_seconds,
            step_seconds=float(np.median(flat)),
            slowest=float(np.quantile(flat, 0.99)),
            slowest_of_thousand=float(np.quantile(flat, 0.999)),
            float32_ratio=ratio,
            floor_seconds=statistics.median(read),
            weight_bytes=policy.weight_bytes,
            largest_action_error=error.largest,
            mean_action_error=error.mean,
        )
        lines.append(dataclasses.asdict(speed))
    return lines
