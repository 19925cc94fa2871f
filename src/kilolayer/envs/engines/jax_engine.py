"""Base class of engines written in JAX: they define the step of one robot, which is mapped over all."""

import abc

import jax
from jaxtyping import Array, Bool, Float

from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.robot_state import RobotState, Start


class JaxEngine(abc.ABC):
    """An engine defined by the start and the step of one robot."""

    @abc.abstractmethod
    def init_one(self, start: Start) -> RobotState:
        """Return the state of one robot at the start of an episode."""

    @abc.abstractmethod
    def step_one(self, state: RobotState, control: Float[Array, " nu"]) -> RobotState:
        """Advance one robot by one control step."""

    def init(self, start: Start) -> RobotState:
        """Return the state of all robots at the start of an episode."""
        return jax.vmap(self.init_one)(start)

    def restart(self, state: RobotState, start: Start, where: Bool[Array, " num_envs"]) -> RobotState:
        """Reset the robots selected by `where` to their starts and leave the others unchanged."""
        return where_envs(where, self.init(start), state)

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"]) -> RobotState:
        """Advance every robot by one control step."""
        return jax.vmap(self.step_one)(state, control)
