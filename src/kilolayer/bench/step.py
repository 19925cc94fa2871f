"""The gradient step by depth: time to trace, compile and run it, the floor of that time, and memory."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from kilolayer.agents import CRL
from kilolayer.bench import naive
from kilolayer.bench.floor import matrix_rate
from kilolayer.bench.process import device_name, peak_bytes, run_apart
from kilolayer.bench.timing import compile_program, seconds_of
from kilolayer.data import Batch
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture

DEPTHS = (4, 64, 1024)
FORMS = ("kilolayer", "naive")
OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE = 29, 2, 8
"""Of the ant."""


@dataclasses.dataclass(frozen=True)
class StepCost:
    """One line of the table."""

    form: str
    """`kilolayer`: the agent's own step. `naive`: the straightforward step in `kilolayer.bench.naive`."""
    depth: int
    width: int
    batch_size: int
    remat: str
    """Activations kept for the backward pass."""
    precision: str
    trace_seconds: float
    compile_seconds: float
    """Time to compile a scan over gradient steps, as in training, without the cache on disk."""
    step_seconds: float | None
    """Time of the fastest call of the scan divided by its steps; None if only compiling is measured."""
    median_seconds: float | None
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
    steps: int = 5,
    rounds: int = 5,
    compile_only: bool = False,
    log: Callable[[str], object] = id,
) -> Iterator[StepCost]:
    """Measure the gradient step of CRL on data of the ant's size, each case in a process of its own.

    Args:
        depths: of actor and critic.
        width: of all networks.
        batch_size: state-action pairs in a step.
        architecture: of all networks.
        naive_depths: depths of the naive step, whose compile time and memory grow with depth.
        steps: gradient steps in a call.
        rounds: timed calls.
        compile_only: measure compiling alone.
        log: called with a line before each measurement.

    Returns:
        An iterator that measures as it is read, one line for each case.

    Raises:
        ConfigurationError: at the call, for invalid sizes.
        KilolayerError: while measuring, if a process fails, for example without enough memory.
    """
    for name, value in (("steps", steps), ("rounds", rounds)):
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    cases = [("kilolayer", depth) for depth in depths] + [("naive", depth) for depth in naive_depths]
    for form, depth in cases:
        agent = _agent(depth, width, batch_size, architecture)
        if form == "naive" and not agent.architecture.num_blocks(depth):
            raise ConfigurationError(f"depth={depth}: the naive step needs at least one block")
    sizes = {
        "width": width,
        "batch_size": batch_size,
        "architecture": dataclasses.asdict(architecture),
        "steps": steps,
        "rounds": 0 if compile_only else rounds,
    }
    return _measure_cases(cases, sizes, log)


def _measure_cases(
    cases: Sequence[tuple[str, int]], sizes: Mapping[str, Any], log: Callable[[str], object]
) -> Iterator[StepCost]:
    for form, depth in cases:
        log(f"{form} at depth {depth}, batch {sizes['batch_size']}")
        yield StepCost(**run_apart(f"{__name__}:measure", {"form": form, "depth": depth, **sizes}))


def _agent(depth: int, width: int, batch_size: int, architecture: ResidualArchitecture) -> CRL:
    sizes = (OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    return CRL(*sizes, batch_size=batch_size, depth=depth, width=width, architecture=architecture)


def measure(
    form: str, depth: int, width: int, batch_size: int, architecture: dict[str, Any], steps: int, rounds: int
) -> dict[str, Any]:
    """Measure one case in this process and return the fields of `StepCost`."""
    agent = _agent(depth, width, batch_size, ResidualArchitecture(**architecture))
    keys = jax.random.split(jax.random.key(1), 3)
    sizes = (OBSERVATION_SIZE, ACTION_SIZE, GOAL_SIZE)
    batch = Batch(*(jax.random.normal(key, (batch_size, size)) for key, size in zip(keys, sizes, strict=True)))
    state: Any = jax.jit(agent.init)(jax.random.key(0))
    learn: Callable[[Any, Batch, Any], tuple[Any, Any]] = agent.learn
    if form == "naive":
        factor = state.actor.branch_factor
        state = jax.jit(lambda state: naive.from_crl(agent, state))(state)
        learn = functools.partial(naive.learn, factor=factor)

    def several(state: Any, batch: Batch, key: Any) -> Any:
        return jax.lax.scan(lambda state, key: learn(state, batch, key), state, jax.random.split(key, steps))

    jax.block_until_ready((state, batch))  # else drawing the parameters runs beside the compiler
    program = compile_program(jax.jit(several, donate_argnums=0), state, batch, jax.random.key(2))

    def run(number: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program.compiled(state, batch, jax.random.key(number)))

    if rounds:
        run(0)
    seconds = [seconds_of(run, number) / steps for number in range(1, rounds + 1)]
    peak = peak_bytes()
    rate = matrix_rate(batch_size, width) if rounds else None
    return {
        "form": form,
        "depth": depth,
        "width": width,
        "batch_size": batch_size,
        "remat": getattr(agent.architecture_in_force, "remat", "none") if form == "kilolayer" else "none",
        "precision": getattr(agent.architecture, "precision", "tf32") if form == "kilolayer" else "tf32",
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "step_seconds": min(seconds, default=None),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "floor_seconds": matrix_operations(agent) / rate if rate else None,
        "matrix_gflops": rate / 1e9 if rate else None,
        "peak_bytes": peak,
        "device": device_name(),
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
