"""The gradient step of every agent at equal depth, width and batch, against that of CRL.

All learn from the same replay buffer of the ant, filled by random actions. They are in one process and take turns, call
by call, so that noise affects all alike.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from kilolayer.agents import agent_specs
from kilolayer.bench.process import device_name, run_apart, tell
from kilolayer.bench.timing import seconds_of
from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.runs import default_config
from kilolayer.training import Setup
from kilolayer.training.step import compile_steps, init_state

BASE = "crl"
OPTIONS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("crl", {"action_chunk": 3}),
    ("crl", {"critics": 2}),
    ("crl", {"survival_weight": 1.0}),
    ("survival", {"action_chunk": 2}),
)
"""Agents with settings that are measured besides the defaults."""

TASK: dict[str, Any] = {"env": "ant", "engine": "mujoco", "num_envs": 64, "unroll_length": 62, "num_eval_envs": 1}
FILLED = 1000
"""Steps of each environment in the buffer."""
STEPS = 10
"""Gradient steps in a call."""
BUFFER: dict[str, Any] = {"replay_capacity": FILLED, "min_replay": FILLED, "gradient_steps_per_unroll": STEPS}


@dataclasses.dataclass(frozen=True)
class AgentCost:
    """One line of the table."""

    agent: str
    settings: Mapping[str, Any]
    """Those of the agent that are not its defaults."""
    depth: int
    width: int
    batch_size: int
    step_seconds: float
    """Time of a gradient step, batch and labels included; median over the rounds."""
    ratio: float
    """`step_seconds` over that of CRL in the same round; median over the rounds."""
    device: str


def cases() -> list[tuple[str, Mapping[str, Any]]]:
    """Return agents with continuous actions, CRL first, each with the settings that are not its defaults."""
    names = [spec.name for spec in agent_specs() if not spec.discrete]
    return [*((name, {}) for name in sorted(names, key=lambda name: name != BASE)), *OPTIONS]


def bench_agents(
    *, depth: int = 4, width: int = 256, batch_size: int = 512, rounds: int = 5, log: Callable[[str], object] = id
) -> Iterator[AgentCost]:
    """Measure in a process of its own.

    Args:
        depth: of all networks.
        width: of all networks.
        batch_size: rows in a gradient step.
        rounds: calls of each agent to take the median of.
        log: called with a line before each stage.

    Returns:
        An iterator that measures as it is read; all lines come at the end.

    Raises:
        ConfigurationError: at the call, for a number below 1.
        KilolayerError: while measuring, if the process fails.
    """
    sizes = {"depth": depth, "width": width, "batch_size": batch_size, "rounds": rounds}
    for name, value in sizes.items():
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")
    return (AgentCost(**row) for row in run_apart(f"{__name__}:measure", sizes, log=log))


def measure(depth: int, width: int, batch_size: int, rounds: int) -> list[dict[str, Any]]:
    """Measure in this process and return the fields of each `AgentCost`."""
    sizes = {"depth": depth, "width": width, "batch_size": batch_size}
    chosen = cases()
    tell("filling the replay buffer")
    buffer = _filled_buffer(sizes)
    calls = []
    for number, (agent, settings) in enumerate(chosen):
        tell(f"compiling agent {number + 1} of {len(chosen)}: {agent}")
        calls.append(_call(_setup(sizes, agent, settings), buffer))
    times: list[Sequence[float]] = []
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        times.append([seconds_of(call) / STEPS for call in calls])
    return [
        {
            "agent": agent,
            "settings": dict(settings),
            **sizes,
            "step_seconds": statistics.median(each[place] for each in times),
            "ratio": statistics.median(each[place] / each[0] for each in times),
            "device": device_name(),
        }
        for place, (agent, settings) in enumerate(chosen)
    ]


def _setup(sizes: Mapping[str, Any], agent: str, settings: Mapping[str, Any]) -> Setup:
    return Setup.build(default_config(**TASK | BUFFER | dict(sizes) | {"agent": agent, agent: dict(settings)}))


def _filled_buffer(sizes: Mapping[str, Any]) -> ReplayBuffer:
    """Return a full buffer."""
    setup = _setup(sizes, BASE, {})
    collect = compile_steps(setup).collect
    state = init_state(setup, 0)
    for _ in range(-(-FILLED // TASK["unroll_length"])):
        state, _ = collect(state)
    return jax.block_until_ready(state.buffer)


def _call(setup: Setup, buffer: ReplayBuffer) -> Callable[[], object]:
    """Return a function that takes gradient steps from where the last call ended; it is compiled."""
    learn = compile_steps(setup).learn
    state = init_state(setup, 0, buffer)

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(learn(state))

    call()
    return call
