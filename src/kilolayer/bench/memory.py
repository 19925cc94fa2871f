"""The memory of a round of gradient steps, as the compiler lays it out: what a device must have free to train."""

from typing import NamedTuple

from kilolayer.training import Setup, compile_steps, state_shape


class Memory(NamedTuple):
    """Bytes on the device; not numbers where the compiler does not tell."""

    state: float
    """Of what goes in and comes out: networks, optimisers and replay buffer."""
    scratch: float
    """Of what is needed in between: activations, gradients, batches."""

    @property
    def peak(self) -> float:
        """Of both together: the buffers of the old state become those of the new."""
        return self.state + self.scratch


def learn_memory(setup: Setup) -> Memory:
    """Return the memory of the half of the training step that learns, of one seed, on this device.

    It is compiled for this, or taken from the compilation cache; nothing is computed.

    Args:
        setup: whose agent learns, at the depth that it has there.
    """
    state = state_shape(setup)
    stats = compile_steps(setup).learn.lower(state).compile().memory_analysis()
    if stats is None:
        return Memory(float("nan"), float("nan"))
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return Memory(float(stats.argument_size_in_bytes + new), float(stats.temp_size_in_bytes))
