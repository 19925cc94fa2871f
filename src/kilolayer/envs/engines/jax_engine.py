"""What engines written in JAX have in common: they step one robot, and are mapped over all."""

import abc

import jax
from jaxtyping import Array, Bool, Float

from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.robot_task import RobotState, Start


class JaxEngine(abc.ABC):
    """An engine that is told how one robot begins and steps."""

    @abc.abstractmethod
    def init_one(self, start: Start) -> RobotState:
        """Put a robot where an episode begins."""

    @abc.abstractmethod
    def step_one(self, state: RobotState, control: Float[Array, " nu"]) -> RobotState:
        """Advance a robot by one control step."""

    def init(self, start: Start) -> RobotState:
        """Put robots where episodes begin."""
        return jax.vmap(self.init_one)(start)

    def restart(self, state: RobotState, start: Start, where: Bool[Array, " num_envs"]) -> RobotState:
        """Put the robots that `where` names where new episodes begin, and leave the others."""
        return where_envs(where, self.init(start), state)

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"]) -> RobotState:
        """Advance every robot by one control step."""
        return jax.vmap(self.step_one)(state, control)
