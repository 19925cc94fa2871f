"""The gradient step by depth: time to trace, compile and run it, the floor of that time, and memory."""

import dataclasses
import functools
import importlib.util
import statistics
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import jax

from kilolayer.agents import CRL
from kilolayer.bench import naive
from kilolayer.bench.floor import matrix_rate
from kilolayer.bench.process import Apart, device_name, peak_bytes, run_apart, tell
from kilolayer.bench.timing import compile_program, seconds_of
from kilolayer.data import Batch
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture

DEPTHS = (4, 64, 1024)
FORMS = ("kilolayer", "naive", "torch", "torch graph")
"""`kilolayer`: the agent's own step. `naive`: the straightforward step in `kilolayer.bench.naive`. `torch`: the same in
PyTorch, `kilolayer.bench.torch_step`; `torch graph`: that as one CUDA graph."""

OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8
"""Of the ant."""

TORCH = "kilolayer.bench.torch_step"
"""A module that is imported only in the processes that measure PyTorch, which the library does not need."""


@dataclasses.dataclass(frozen=True)
class StepCost:
    """One line of the table."""

    form: str
    """One of `FORMS`."""
    depth: int
    width: int
    batch_size: int
    remat: str
    """Activations kept for the backward pass."""
    chain: str
    """How networks are walked; see `StackedArchitecture`. Empty for other forms than `kilolayer`, as `kernels`."""
    kernels: str
    precision: str
    torch_version: str
    """Of PyTorch; empty for forms without it."""
    trace_seconds: float
    compile_seconds: float
    """Time to compile a scan over gradient steps, as in training, without the cache on disk. PyTorch compiles nothing:
    time to prepare its step, and to capture the graph."""
    step_seconds: float | None
    """Time of the fastest call of the scan divided by its steps; None if only compiling is measured."""
    median_seconds: float | None
    ratio: float | None
    """Time of this form divided by the time of the first one that was measured at this depth, in the same round; median
    over the rounds. None for the first."""
    floor_seconds: float | None
    """Matrix operations of the step, divided by the rate at which the same process multiplies matrices of batch x width
    by width x width."""
    matrix_gflops: float | None
    """That rate."""
    peak_bytes: int
    """Peak memory of the process, or of the GPU."""
    device: str


def bench_step(
    depths: Sequence[int] = DEPTHS,
    *,
    width: int = 256,
    batch_size: int = 512,
    architecture: ResidualArchitecture = ResidualArchitecture(),
    naive_depths: Sequence[int] = (),
    torch_depths: Sequence[int] = (),
    steps: int = 5,
    rounds: int = 5,
    compile_only: bool = False,
    log: Callable[[str], object] = id,
) -> Iterator[StepCost]:
    """Measure the gradient step of CRL on data of the ant's size, each case in a process of its own.

    Other forms take turns with the library's own at the same depth, call by call, so that noise affects both alike.

    Args:
        depths: of actor and critic.
        width: of all networks.
        batch_size: state-action pairs in a step.
        architecture: of all networks.
        naive_depths: depths of the naive step, whose compile time and memory grow with depth.
        torch_depths: depths of PyTorch's step: as it is, and on a GPU as one CUDA graph too.
        steps: gradient steps in a call.
        rounds: timed calls.
        compile_only: measure compiling alone.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read, one line for each case.

    Raises:
        ConfigurationError: at the call, for invalid sizes, or if PyTorch is not installed.
        KilolayerError: while measuring, if a process fails, for example without enough memory.
    """
    for name, value in (("steps", steps), ("rounds", rounds)):
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    if torch_depths:
        require_torch()
    cases: dict[int, list[str]] = {}
    for form, own in (("kilolayer", depths), ("naive", naive_depths), ("torch", torch_depths)):
        for depth in own:
            agent = agent_of(depth, width, batch_size, architecture)
            if form != "kilolayer" and not agent.architecture.num_blocks(depth):
                raise ConfigurationError(f"depth={depth}: the {form} step needs at least one block")
            cases.setdefault(depth, []).append(form)
    sizes = {
        "width": width,
        "batch_size": batch_size,
        "architecture": dataclasses.asdict(architecture),
        "steps": steps,
    }
    return _measure_cases(cases, sizes, 0 if compile_only else rounds, log)


def _measure_cases(
    cases: Mapping[int, Sequence[str]], sizes: Mapping[str, Any], rounds: int, log: Callable[[str], object]
) -> Iterator[StepCost]:
    graphs = any("torch" in forms for forms in cases.values()) and default_backend() == "gpu"
    for depth, forms in cases.items():
        with Turns(rounds) as turns:
            for form in forms:
                yield turns.measure(form, depth=depth, **sizes, log=log)
                if form == "torch" and graphs:
                    yield turns.measure("torch graph", depth=depth, **sizes, log=log)


class Turns:
    """Measures cases, each in a process of its own; all take turns with the first one, which stays for that."""

    def __init__(self, rounds: int):
        """Measure nothing yet.

        Args:
            rounds: timed calls of each case; 0 measures compiling alone.
        """
        self._rounds = rounds
        self._first: Apart | None = None

    def __enter__(self) -> "Turns":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self.close()

    def close(self) -> None:
        """End the process of the first case."""
        if self._first is not None:
            self._first.close()
            self._first = None

    def measure(
        self, form: str, *, log: Callable[[str], object] = id, seconds: float | None = None, **arguments: Any
    ) -> StepCost:
        """Measure one case.

        Args:
            form: one of `FORMS`.
            log: called with a line before each stage.
            seconds: give up after so many.
            arguments: other arguments of `measure`.

        Raises:
            KilolayerError: if the process fails, or its time is over.
        """
        what = f"{form} at depth {arguments['depth']}, batch {arguments['batch_size']}"
        log(f"{what}: starting")
        is_torch = form.startswith("torch")
        if is_torch:
            arguments = arguments | {"device": "cuda" if default_backend() == "gpu" else "cpu"}
            del arguments["architecture"]
        process = Apart(
            f"{TORCH if is_torch else __name__}:measure",
            {"form": form, **arguments},
            # The process of the first case stays, and must not hold the memory of the device.
            environment={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            seconds=seconds,
            log=lambda doing: log(f"{what}: {doing}"),
        )
        try:
            found = process.result()
            own, of_first = [], []
            if self._rounds:
                process.ask("round")  # the first call is slower than all others
            for number in range(self._rounds):
                log(f"{what}: round {number + 1} of {self._rounds}")
                if self._first is not None:
                    of_first.append(self._first.ask("round"))
                own.append(process.ask("round"))
            found |= process.ask("floor" if self._rounds else "peak")
        except BaseException:
            process.close()
            raise
        if self._rounds and self._first is None:
            process.limit(None)
            self._first = process
        else:
            process.close()
        ratios = [mine / its for mine, its in zip(own, of_first, strict=False)]
        return StepCost(
            step_seconds=min(own, default=None),
            median_seconds=statistics.median(own) if own else None,
            ratio=statistics.median(ratios) if ratios else None,
            **found,
        )


@functools.cache
def default_backend() -> str:
    """Return the kind of device that the processes of measurements use; this process does not touch it."""
    return run_apart(f"{__name__}:backend", {})


def backend() -> str:
    """Return the kind of device that this process uses."""
    return jax.default_backend()


def require_torch() -> None:
    """Check that PyTorch can be imported, without importing it.

    Raises:
        ConfigurationError: if it cannot.
    """
    if not has_torch():
        raise ConfigurationError("against='torch' needs PyTorch, which is not installed: pip install torch")


def has_torch() -> bool:
    """Return whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def agent_of(depth: int, width: int, batch_size: int, architecture: ResidualArchitecture) -> CRL:
    """Return the agent whose gradient step is measured."""
    sizes = (OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    return CRL(*sizes, batch_size=batch_size, depth=depth, width=width, architecture=architecture)


def measure(
    form: str, depth: int, width: int, batch_size: int, architecture: Mapping[str, Any], steps: int
) -> Generator[Any, str, None]:
    """Measure one case in this process.

    Yields:
        First the fields of `StepCost` that compiling gives. Then what is asked for: for `round`, seconds of a gradient
        step in one call; for `floor`, the fields of floor and memory; for `peak`, the same without a floor.
    """
    agent = agent_of(depth, width, batch_size, ResidualArchitecture(**architecture))
    keys = jax.random.split(jax.random.key(1), 3)
    sizes = (OBSERVATION_SIZE, ACTION_SIZE, GOAL_SIZE)
    batch = Batch(*(jax.random.normal(key, (batch_size, size)) for key, size in zip(keys, sizes, strict=True)))
    state: Any = jax.jit(agent.init)(jax.random.key(0))
    learn: Callable[[Any, Batch, Any], tuple[Any, Any]] = agent.learn
    own: dict[str, str] = {"remat": "none", "chain": "", "kernels": "", "precision": "tf32"}
    if form == "naive":
        factor = state.actor.branch_factor
        state = jax.jit(lambda state: naive.from_crl(agent, state))(state)
        learn = functools.partial(naive.learn, factor=factor)
    else:
        own = {name: getattr(agent.architecture_in_force, name, value) for name, value in own.items()}

    def several(state: Any, batch: Batch, key: Any) -> Any:
        return jax.lax.scan(lambda state, key: learn(state, batch, key), state, jax.random.split(key, steps))

    jax.block_until_ready((state, batch))  # else drawing the parameters runs beside the compiler
    tell("compiling")
    program = compile_program(jax.jit(several, donate_argnums=0), state, batch, jax.random.key(2))
    number = 0

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program.compiled(state, batch, jax.random.key(number)))

    request = yield {
        "form": form,
        "depth": depth,
        "width": width,
        "batch_size": batch_size,
        **own,
        "torch_version": "",
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "device": device_name(),
    }
    while True:
        if request == "round":
            request = yield seconds_of(run) / steps
            number += 1
        else:
            peak = peak_bytes()
            rate = matrix_rate(batch_size, width) if request == "floor" else None
            request = yield floor_fields(agent, rate, peak)


def floor_fields(agent: CRL, rate: float | None, peak: int) -> dict[str, Any]:
    """Return the fields of floor and memory.

    Args:
        agent: whose step is measured.
        rate: operations per second of matrix products; None if it is not measured.
        peak: bytes.
    """
    return {
        "floor_seconds": matrix_operations(agent) / rate if rate else None,
        "matrix_gflops": rate / 1e9 if rate else None,
        "peak_bytes": peak,
    }


def matrix_operations(agent: CRL) -> float:
    """Return the operations in the matrix products that a gradient step of CRL needs at least.

    Each network runs forwards once on the batch (2 operations for each weight and row) and backwards to its inputs and
    to its weights (2 each; the first layer needs no gradient of its inputs). phi runs once more on the actions of the
    actor, forwards and backwards to its inputs. The logits are one product forwards and two backwards.
    """
    batch, embedding = agent.batch_size, agent.config.representation_size

    def layers(part: str, in_size: int, out_size: int) -> tuple[int, int]:
        """Return the number of weights in the first layer, and in all other layers."""
        width = agent.width_of(part)
        return width * in_size, agent.depth_of(part) * width**2 + width * out_size

    actor = layers("actor", agent.observation_size + agent.goal_size, 2 * agent.chunk_size)
    phi = layers("critic", agent.observation_size + agent.chunk_size, embedding)
    psi = layers("goal_encoder", agent.goal_size, embedding)
    weights = sum(2 * first + 3 * others for first, others in (actor, phi, psi)) + 2 * sum(phi)
    return 2.0 * batch * weights + 3 * 2.0 * batch**2 * embedding
