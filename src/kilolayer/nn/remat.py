"""Rematerialisation: which activations to keep for the backward pass, and which to compute again."""

from typing import NamedTuple

from kilolayer.errors import ConfigurationError

SHARE = 0.2
"""Share of the memory that parameters and activations may take. The replay buffer and the system need the rest."""


class BlockNumbers(NamedTuple):
    """How many numbers a block has to keep, which decides how much memory a deep stack needs."""

    parameters: int
    """Parameters of a block."""
    stream: int
    """Numbers of a block's input, for one row of the batch."""
    products: int
    """Numbers of all matrix products in a block, for one row of the batch."""

    @property
    def of_a_short_chain(self) -> "BlockNumbers":
        """The same where what every product received and its gradient are kept too; see `short_chain.walk_layers`."""
        return self._replace(products=3 * self.products)


def check_remat(remat: str) -> None:
    """Check a setting of rematerialisation.

    Raises:
        ConfigurationError: if it is unknown.
    """
    if remat not in ("auto", "none", "layer", "block") and not (remat.isdecimal() and int(remat) > 0):
        raise ConfigurationError(
            f"remat={remat!r} is unknown; use auto, none, layer, block, or a number of blocks such as 8"
        )


def blocks_per_save(remat: str) -> int | None:
    """Return how many blocks share one saved input; None if every block saves more than its input."""
    if remat == "block":
        return 1
    return int(remat) if remat.isdecimal() else None


def choose_remat(block: BlockNumbers, *, batch_size: int, num_blocks: int, memory: int | None, stacks: int = 4) -> str:
    """Return the fastest of layer, block, 2, 4, 8, ... whose activations fit into memory.

    Args:
        block: numbers of a block of the widest network.
        batch_size: rows in a pass.
        num_blocks: blocks of the deepest network.
        memory: bytes of the device, or its part of them; None returns layer.
        stacks: passes whose activations are in memory at once. There are four: phi and psi on the data, the actor, and
            phi on the actor's actions. XLA starts all that it can start, and keeps the memory of all.
    """
    if memory is None:
        return "layer"
    # Parameters, their gradients, and both moments of Adam, for actor, phi and psi.
    parameters = 3 * 4 * 4 * num_blocks * block.parameters
    room = SHARE * memory - parameters

    def needed(group: int) -> int:
        """Return the bytes if every `group` blocks share one saved input; with 0, all products are kept too."""
        kept = block.stream + block.products
        if group == 0:
            return stacks * 4 * batch_size * num_blocks * kept
        return stacks * 4 * batch_size * (-(-num_blocks // group) * block.stream + group * kept)

    groups = [0, *(2**power for power in range(num_blocks.bit_length()))]
    group = next((group for group in groups if needed(group) <= room), min(groups, key=needed))
    return {0: "layer", 1: "block"}.get(group, str(group))
