"""Which activations to keep for the backward pass, by the memory there is."""

import functools
import os
from pathlib import Path

import jax

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

SHARE = 0.2
"""Of the memory: what parameters and activations may take together. The replay buffer and the system need the rest."""


@functools.cache
def device_memory() -> int | None:
    """Return the bytes of memory of the default device: a GPU's own, or the host's. None if it does not tell.

    It is what the device has, not what is free: the same run on the same machine must compute the same bits each time.
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError, AttributeError):  # no POSIX here
        return None
    for path in CGROUP_LIMITS:  # a container may use less than the host has
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def choose_checkpoint(
    *, batch_size: int, width: int, num_blocks: int, block_size: int, memory: int | None, stacks: int = 4
) -> str:
    """Return the fastest of layer, block, 2, 4, 8, ... whose activations fit into memory.

    Args:
        batch_size: rows in a pass.
        width: units in a layer.
        num_blocks: residual blocks of the deepest network.
        block_size: layers in a block.
        memory: bytes for parameters and activations; None takes layer.
        stacks: passes whose activations are alive at once. Phi and psi on the data, the actor, and phi on its actions
            are four: XLA begins what it can begin and keeps the memory of all.
    """
    if memory is None:
        return "layer"
    array = 4 * batch_size * width
    # Parameters, their gradients, and both moments of Adam, for actor, phi and psi.
    parameters = 3 * 4 * 4 * num_blocks * block_size * width * (width + 3)
    room = SHARE * memory - parameters

    def needed(group: int) -> int:
        """Bytes if every `group` blocks share one saved input; 0 keeps the products of all layers besides."""
        if group == 0:
            return stacks * array * num_blocks * (block_size + 1)
        return stacks * array * (-(-num_blocks // group) + group * (block_size + 1))

    groups = [0, *(2**power for power in range(num_blocks.bit_length()))]
    group = next((group for group in groups if needed(group) <= room), min(groups, key=needed))
    return {0: "layer", 1: "block"}.get(group, str(group))
