"""Which blocks of an actor to leave out: each is ranked by what leaving it out does to the actions."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kilolayer.errors import ConfigurationError
from kilolayer.nn import MaskedTorso, Torso, with_all_blocks
from kilolayer.objectives import tanh_gaussian

Order = Literal["auto", "again", "once"]
"""How blocks are chosen: `again` ranks those that are left after each choice, `once` ranks before the first; `auto` is
`again` up to `MOST_AGAIN` blocks, as its time grows with the cube of their number."""

MOST_AGAIN = 32


@dataclasses.dataclass(frozen=True)
class PruningOrder:
    """The order in which the blocks of an actor are left out, and how far actions are from those of all blocks.

    Errors are absolute differences of the numbers of deterministic actions, which are in [-1, 1].
    """

    alone: tuple[float, ...]
    """Mean error with one block left out, by the number of the block."""
    left_out: tuple[int, ...]
    """Numbers of the blocks, the first to be left out first. The last block that stays is not among them."""
    errors: tuple[float, ...]
    """Mean error after each of them, and all before it, are left out."""
    largest: tuple[float, ...]
    """Largest error, likewise."""

    @property
    def num_blocks(self) -> int:
        """Blocks of the actor."""
        return len(self.alone)

    def kept(self, keep: int) -> tuple[int, ...]:
        """Return the numbers of the blocks that stay if so many do, in rising order.

        Raises:
            ConfigurationError: if none would stay, or more than there are.
        """
        check_keep(keep, self.num_blocks)
        return tuple(sorted(set(range(self.num_blocks)) - set(self.left_out[: self.num_blocks - keep])))

    def mask(self, keep: int) -> Bool[np.ndarray, " blocks"]:
        """Return for each block whether it stays if so many do; see `kept`."""
        return np.isin(np.arange(self.num_blocks), self.kept(keep))


def check_keep(keep: int, num_blocks: int) -> None:
    """Check how many blocks are to stay.

    Raises:
        ConfigurationError: if none would stay, or more than there are.
    """
    if not 1 <= keep <= num_blocks:
        raise ConfigurationError(f"keep={keep} must be from 1 to {num_blocks}, the blocks of the actor")


def order_blocks(
    actor: Torso,
    inputs: Float[np.ndarray, "states in"],
    chunk_size: int,
    *,
    order: Order = "auto",
    log: Callable[[int, int], object] = max,
) -> PruningOrder:
    """Rank the blocks of an actor, and leave out one after another the block whose loss changes the actions least.

    Args:
        actor: of a policy; its first outputs are the actions before the tanh.
        inputs: observations and desired goals, side by side, to compare actions in.
        chunk_size: numbers that the policy executes before it is asked again.
        order: how blocks are chosen.
        log: called with the choices made so far, and with their number.

    Raises:
        ConfigurationError: if the order is unknown, or the actor is no torso of equal blocks, or has none.
    """
    if order not in get_args(Order):
        raise ConfigurationError(f"order={order!r} is unknown; choose one of {', '.join(get_args(Order))}")
    masked = with_all_blocks(actor)
    blocks = masked.num_blocks
    if order == "auto":
        order = "again" if blocks <= MOST_AGAIN else "once"
    measure = functools.partial(_errors, masked, jnp.asarray(inputs), chunk_size)
    alone, _ = measure(_each_left_out(np.ones(blocks, bool)))
    ranking, kept = np.asarray(alone), np.ones(blocks, bool)
    left_out: list[int] = []
    masks: list[np.ndarray] = []
    for place in range(blocks - 1):
        if order == "again" and place:
            ranking = np.asarray(measure(_each_left_out(kept))[0])
        chosen = int(np.argmin(np.where(kept, ranking, np.inf)))
        kept[chosen] = False
        left_out.append(chosen)
        masks.append(kept.copy())
        log(place + 1, blocks - 1)
    mean, largest = measure(np.stack(masks)) if masks else (np.zeros(0), np.zeros(0))
    return PruningOrder(*(tuple(np.asarray(each).tolist()) for each in (alone, left_out, mean, largest)))


def _each_left_out(kept: Bool[np.ndarray, " blocks"]) -> Bool[np.ndarray, "blocks blocks"]:
    """Return for each block the mask without it too."""
    return kept & ~np.eye(len(kept), dtype=bool)


@functools.partial(jax.jit, static_argnums=2)
def _errors(
    actor: MaskedTorso,
    inputs: Float[Array, "states in"],
    chunk_size: int,
    masks: Sequence[Bool[Array, " blocks"]],
) -> tuple[Float[Array, " masks"], Float[Array, " masks"]]:
    """Return the mean and the largest difference of actions with each mask from those with all blocks."""

    def actions(kept: Array) -> Array:
        return tanh_gaussian.mode(MaskedTorso(actor.torso, kept)(inputs)[:, :chunk_size])

    whole = actions(jnp.ones_like(actor.kept))

    def error(kept: Array) -> tuple[Array, Array]:
        difference = jnp.abs(actions(kept) - whole)
        return jnp.mean(difference), jnp.max(difference)

    return jax.lax.map(error, masks)
