"""The gradient step by depth: what it takes to trace, to compile and to run, and how much memory."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from kilolayer.agents import CRL
from kilolayer.bench import naive
from kilolayer.bench.floor import matrix_rate
from kilolayer.bench.process import device_name, peak_bytes, run_apart
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
    """`kilolayer`: the agent's own step. `naive`: the straightforward one of `kilolayer.bench.naive`."""
    depth: int
    width: int
    batch_size: int
    remat: str
    """Activations kept for the backward pass."""
    precision: str
    trace_seconds: float
    compile_seconds: float
    """Of a scan over gradient steps, as training has it; without the cache on the disk."""
    step_seconds: float | None
    """The fastest call of the scan, divided by its steps; None if only compiling was asked for."""
    median_seconds: float | None
    floor_seconds: float | None
    """The step's matrix operations over the rate of the same process's products of batch x width by width x width."""
    matrix_gflops: float | None
    """That rate."""
    peak_bytes: int
    """Of the whole process, or of the GPU."""
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
    tell: Callable[[str], object] = id,
) -> Iterator[StepCost]:
    """Measure the gradient step of CRL on data of the ant's size, every case in a process of its own.

    Args:
        depths: of actor and critic.
        width: of all networks.
        batch_size: state-actions in a step.
        architecture: of all networks.
        naive_depths: of the naive step; its compile time and memory grow with depth, so they may be fewer.
        steps: gradient steps in a call.
        rounds: calls to time.
        compile_only: time no steps.
        tell: called with what is about to be done.

    Raises:
        ConfigurationError: for sizes that cannot be.
        KilolayerError: if a case fails, as when memory runs out.
    """
    cases = [("kilolayer", depth) for depth in depths] + [("naive", depth) for depth in naive_depths]
    for form, depth in cases:  # refused before anything is measured
        agent = _agent(depth, width, batch_size, architecture)
        if form == "naive" and not agent.architecture.num_blocks(depth):
            raise ConfigurationError(f"depth={depth}: the naive step needs at least one block")
    for form, depth in cases:
        tell(f"{form} at depth {depth}, batch {batch_size}")
        arguments = {
            "form": form,
            "depth": depth,
            "width": width,
            "batch_size": batch_size,
            "architecture": dataclasses.asdict(architecture),
            "steps": steps,
            "rounds": 0 if compile_only else rounds,
        }
        yield StepCost(**run_apart(f"{__name__}:measure", arguments))


def _agent(depth: int, width: int, batch_size: int, architecture: ResidualArchitecture) -> CRL:
    sizes = (OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    return CRL(*sizes, batch_size=batch_size, depth=depth, width=width, architecture=architecture)


def measure(
    form: str, depth: int, width: int, batch_size: int, architecture: dict[str, Any], steps: int, rounds: int
) -> dict[str, Any]:
    """Measure one case in this process; returns the fields of `StepCost`."""
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

    jax.block_until_ready((state, batch))  # drawing parameters goes on beside the compiler otherwise
    began = time.perf_counter()
    lowered = jax.jit(several, donate_argnums=0).lower(state, batch, jax.random.key(2))
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()

    seconds = []
    for number in range(rounds + 1 if rounds else 0):
        began_round = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch, jax.random.key(number)))
        if number:
            seconds.append((time.perf_counter() - began_round) / steps)
    peak = peak_bytes()
    rate = matrix_rate(batch_size, width) if rounds else None
    return {
        "form": form,
        "depth": depth,
        "width": width,
        "batch_size": batch_size,
        "remat": getattr(agent.architecture_in_force, "remat", "none") if form == "kilolayer" else "none",
        "precision": getattr(agent.architecture, "precision", "tf32") if form == "kilolayer" else "tf32",
        "trace_seconds": traced - began,
        "compile_seconds": done - traced,
        "step_seconds": min(seconds, default=None),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "floor_seconds": matrix_operations(agent) / rate if rate else None,
        "matrix_gflops": rate / 1e9 if rate else None,
        "peak_bytes": peak,
        "device": device_name(),
    }


def matrix_operations(agent: CRL) -> float:
    """Return the operations in the matrix products that a gradient step cannot do without.

    Each network runs forwards once on the batch (2 operations for a weight and a row), backwards to its inputs and to
    its weights (2 each; nothing is wanted of the inputs of the first layer); phi runs once more on the actor's actions,
    forwards and backwards to its inputs. The logits are one product forwards and two backwards.
    """
    batch, embedding = agent.batch_size, agent.config.representation_size

    def layers(part: str, in_size: int, out_size: int) -> tuple[int, int]:
        """Return the weights of the first layer, and those of all others."""
        width = agent.width_of(part)
        return width * in_size, agent.depth_of(part) * width**2 + width * out_size

    actor = layers("actor", agent.observation_size + agent.goal_size, 2 * agent.chunk_size)
    phi = layers("critic", agent.observation_size + agent.chunk_size, embedding)
    psi = layers("goal_encoder", agent.goal_size, embedding)
    weights = sum(2 * first + 3 * others for first, others in (actor, phi, psi)) + 2 * sum(phi)
    return 2.0 * batch * weights + 3 * 2.0 * batch**2 * embedding
