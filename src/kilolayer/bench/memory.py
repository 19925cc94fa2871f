"""Memory of compiled programs, by the compiler's own analysis: nothing is run."""

import math
from typing import Any, NamedTuple

from kilolayer.training import Setup, compile_steps, state_shape


class Memory(NamedTuple):
    """Bytes that a program needs on the device; NaN where the compiler gives no analysis."""

    state: float
    """Inputs and outputs, such as networks, optimisers and replay buffer. Donated buffers count once."""
    scratch: float
    """Temporary arrays, such as activations, gradients and batches."""

    @property
    def peak(self) -> float:
        """State and scratch together."""
        return self.state + self.scratch


def program_memory(compiled: Any) -> Memory:
    """Return the memory of a compiled program.

    Args:
        compiled: what `.lower(...).compile()` of a jitted function returned.
    """
    stats = compiled.memory_analysis()
    if stats is None:
        return Memory(math.nan, math.nan)
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return Memory(float(stats.argument_size_in_bytes + new), float(stats.temp_size_in_bytes))


def learn_memory(setup: Setup) -> Memory:
    """Return the memory of a round of gradient steps of one seed on this device.

    The program is compiled for this, or read from the compilation cache.

    Args:
        setup: holds the agent, at its current depth.
    """
    state = state_shape(setup)
    return program_memory(compile_steps(setup).learn.lower(state).compile())
