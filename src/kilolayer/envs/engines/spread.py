"""An engine on several devices: each steps its own robots, with programs or calls of the host of its own."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from kilolayer.envs.interface import Engine, Physics
from kilolayer.shards import each_on_its_device


class SpreadEngine:
    """Lets each device call the engine for its own robots, so that no step waits for those of another device.

    An engine of the host is called once by every device. Robots that cannot be spread evenly, such as a single one that
    is looked at, are stepped by one device. Everything else that the engine has, this one has too.
    """

    def __init__(self, engine: Engine, mesh: Mesh):
        """Take over the engine.

        Args:
            engine: whose states and starts have a leading axis over robots in every leaf.
            mesh: the devices.
        """
        self._engine, self._mesh = engine, mesh

    def __getattr__(self, name: str) -> Any:
        """Return what the engine has."""
        if name == "_engine":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self._engine, name)

    def init(self, start: Any) -> Physics:
        """Return the physics state for a batch of starts."""
        return self._spread(self._engine.init, start)

    def restart(self, physics: Physics, start: Any, where: Bool[Array, " num_envs"]) -> Physics:
        """Reset the robots selected by `where` to their starts and leave the others unchanged."""
        return self._spread(self._engine.restart, physics, start, where)

    def step(self, physics: Physics, control: Any) -> Physics:
        """Advance every robot by one control step."""
        return self._spread(self._engine.step, physics, control)

    def release(self, physics: Physics) -> None:
        """Give back what the engine holds on the host for a state that is not stepped again."""
        if hasattr(self._engine, "release"):
            self._spread(self._engine.release, physics)

    def _spread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        robots = jax.tree.leaves(arguments)[0].shape[0]
        if robots % self._mesh.size:
            return function(*arguments)
        return each_on_its_device(function, self._mesh)(*arguments)
