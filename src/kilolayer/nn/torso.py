"""The torso: what an agent asks of a deep network, and the registry of its kinds.

Agents do not name a kind of network. They call `build` of the torso's settings, call the network, and differentiate
through it. A user's file registers another kind:

    register_torso(TorsoSpec("my_network", "what it is, in one line", MyArchitecture))

Then the setting `torso="my_network"` trains any agent with it, and the setting `architecture` holds a `MyArchitecture`.
A torso of equal blocks derives from `kilolayer.nn.stack.StackedTorso`, which needs the least code.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.user_code import is_rerun

Tree = TypeVar("Tree")


Observe = Callable[[Float[Array, "batch width"], Float[Array, "batch width"], Float[Array, "layers batch width"]], Tree]
"""Takes a block's input, what the block adds to it, and the activations of the block's layers. A torso with several
tokens for each input has one row for each token."""


class Torso(eqx.Module):
    """A deep network from `in` numbers to `out` numbers. All kinds of torso derive from it."""

    @property
    @abc.abstractmethod
    def num_blocks(self) -> int:
        """The number of blocks, 0 or more."""

    @property
    @abc.abstractmethod
    def depth(self) -> int:
        """The depth, as the settings of this kind of torso count it."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Map the last axis of `x`; any number of leading batch axes."""

    def infer(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        """Return what a call returns, in the form that is fastest if nothing is differentiated."""
        return self(x)

    @abc.abstractmethod
    def observe_blocks(self, x: Float[Array, "batch in"], observe: "Observe[Tree]") -> Tree:
        """Walk the blocks on a batch, and return what `observe` returns for each, stacked on a leading axis."""

    @abc.abstractmethod
    def block_parameters(self) -> Any:
        """Return the parameters of all blocks: a pytree whose leaves have a leading axis over blocks, or None."""

    def walks_with(self, x: Array, other: "Torso", other_x: Array) -> bool:
        """Return whether this network and another can be called together, as one with stacked parameters.

        Args:
            x: input of this network.
            other: the other network.
            other_x: its input.
        """
        del x, other, other_x
        return False

    def call_with(self, calls: Sequence[tuple[Any, Array]]) -> list[Array]:
        """Return what each network gives for its input; all walk with this one, which is the first of them."""
        return [torso(x) for torso, x in calls]

    def project(self) -> "Torso":
        """Return the torso with its parameters moved back onto their constraints, such as weights of length one.

        It is called after every update. The default changes nothing.
        """
        return self

    def graft(self, shallow: "Torso") -> "Torso":
        """Return this torso with all parameters of `shallow`, computing what `shallow` computes.

        A network grows by `architecture.build(...)` with a larger depth, then `.graft(network)`.

        Args:
            shallow: a torso of the same kind and sizes with at most as many blocks.

        Raises:
            ConfigurationError: if this kind of torso cannot grow.
        """
        raise ConfigurationError(f"{type(self).__name__} cannot grow; leave grow out, or choose another torso")

    def keep_blocks(self, kept: Sequence[int]) -> "Torso":
        """Return the torso with some of its blocks; what the others add to the stream is left out.

        Args:
            kept: numbers of the blocks that stay, in rising order.

        Raises:
            ConfigurationError: if a number is no block, or this kind of torso cannot lose blocks.
        """
        raise ConfigurationError(f"{type(self).__name__} cannot lose blocks; choose another torso")

    def quantize(self) -> "Torso":
        """Return the torso with the weights of its blocks as 8 bit integers, to act and not to learn.

        Raises:
            ConfigurationError: if this kind of torso has no int8 form.
        """
        raise ConfigurationError(f"{type(self).__name__} has no int8 form; choose precision='float32'")


@dataclasses.dataclass(frozen=True)
class Architecture(abc.ABC):
    """Settings of a kind of torso. All networks of an agent share them; depth and width are set for each network."""

    @abc.abstractmethod
    def num_blocks(self, depth: int) -> int:
        """Return the number of blocks in a network of this depth.

        Raises:
            ConfigurationError: if the depth is not valid; the line names the nearest valid depths.
        """

    @abc.abstractmethod
    def build(self, in_size: int, out_size: int, *, depth: int, width: int, key: PRNGKeyArray) -> Torso:
        """Return a new network.

        Args:
            in_size: numbers that it takes.
            out_size: numbers that it returns.
            depth: as `num_blocks` takes it.
            width: units in a layer.
            key: randomness of the parameters.

        Raises:
            ConfigurationError: if a size is not valid.
        """

    def resolve(self, *, batch_size: int, depth: int, width: int, copies: int = 1) -> "Architecture":
        """Return these settings with a choice in place of every `auto`.

        Args:
            batch_size: rows in a gradient step.
            depth: of the deepest network.
            width: of the widest network.
            copies: agents that share the memory, such as those of several seeds.
        """
        del batch_size, depth, width, copies
        return self

    def check_width(self, width: int) -> None:
        """Check that a network can have this width.

        Raises:
            ConfigurationError: naming the width and the valid ones.
        """
        del width

    def check_device(self) -> None:
        """Check that networks with these settings can learn on this device; to act they need nothing of it.

        Raises:
            ConfigurationError: naming the setting, and what it needs.
        """
        return None

    def spread(self) -> "Architecture":
        """Return these settings for networks that learn on several devices, each with its part of a batch.

        Raises:
            ConfigurationError: if they cannot.
        """
        return self

    def check_growable(self) -> None:
        """Check that networks with these settings can grow.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        raise ConfigurationError(
            f"networks of {type(self).__name__} cannot grow; leave grow out, or choose another torso"
        )

    def growing_to(self, depth: int) -> "Architecture":
        """Return the settings of networks that grow to `depth`, such that growing does not change what they compute."""
        del depth
        return self


@dataclasses.dataclass(frozen=True)
class TorsoSpec:
    """An entry of the registry of torsos."""

    name: str
    """The value of the setting `torso`."""
    summary: str
    """One line for lists."""
    settings: type[Architecture]
    """Class of the settings; every field has a default."""


_TORSOS: dict[str, TorsoSpec] = {}


def register_torso(spec: TorsoSpec) -> None:
    """Add a kind of torso under its name.

    Raises:
        ConfigurationError: if the name is taken.
    """
    if not is_rerun("torso", spec.name) and spec.name in _TORSOS:
        raise ConfigurationError(f"a torso named {spec.name!r} is registered already")
    _TORSOS[spec.name] = spec


def unregister_torso(name: str) -> None:
    """Remove a kind of torso from the registry."""
    _TORSOS.pop(name, None)


def torso_spec(name: str) -> TorsoSpec:
    """Return the entry called `name`.

    Raises:
        ConfigurationError: if there is none; the line names the nearest.
    """
    if name not in _TORSOS:
        raise UnknownNameError(f"torso={name!r} is unknown; {nearest_names(name, _TORSOS)}")
    return _TORSOS[name]


def torso_names() -> list[str]:
    """Return the names of all registered torsos."""
    return list(_TORSOS)


def check_sizes(**sizes: int) -> None:
    """Check that sizes are at least one.

    Raises:
        ConfigurationError: naming the first that is not.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ConfigurationError(f"{name}={value} must be at least 1")


def project(tree: Tree) -> Tree:
    """Return a tree of parameters with every torso in it projected; see `Torso.project`."""
    return jax.tree.map(lambda node: node.project() if is_torso(node) else node, tree, is_leaf=is_torso)


def is_torso(node: Any) -> bool:
    """Return whether a node of a pytree is a torso."""
    return isinstance(node, Torso)


def torsos_in(tree: Any) -> Iterator[Torso]:
    """Yield every torso in a tree."""
    return filter(is_torso, jax.tree.leaves(tree, is_leaf=is_torso))
