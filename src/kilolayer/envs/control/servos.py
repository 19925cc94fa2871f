"""Base class of controls that move the targets of position servos in steps."""

import dataclasses
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kilolayer.envs import servos
from kilolayer.envs.methods import in_full
from kilolayer.envs.names import names_below
from kilolayer.envs.robot_state import RobotState, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError


class ServoSteps(RobotTask):
    """An episode begins with the targets that hold its start, and targets stay within the servos' ranges.

    The default observation ends with how far the targets are ahead of their joints, without which nobody could tell
    where a robot is about to go. A task that overrides `observe` gets them by `super().observe(state)`, or by
    `ahead(state)`.

    Raises:
        ConfigurationError: if the model has no position servo that moves a joint.
    """

    lead: float | None = None
    """How far a target may be ahead of its joint, in radians or metres: a robot that is blocked does not wind up. None
    sets no limit. A servo needs some lead to hold a weight."""
    observe_ahead: bool = True
    """Observe how far targets are ahead of their joints."""

    @cached_property
    def steered_servos(self) -> Int[np.ndarray, " servos"]:
        """The servos that actions move, by their place among the actuators; all others keep the default control."""
        found = servos.joint_servos(self.model)
        if not found.size:
            raise ConfigurationError(
                f"task {type(self).__name__}: the model has no position servo that moves a joint; "
                f"{_nearest_class(type(self))} needs some"
            )
        return found

    def completed(self, start: Start) -> Start:
        """Return starts with targets that hold their poses, unless they have controls of their own."""
        start = super().completed(start)
        if start.control is not None:
            return start
        steered = servos.joint_servos(self.model)
        rest = jnp.asarray(0.5 * self.action_ends.sum(axis=0), jnp.float32)
        rest = jnp.broadcast_to(rest, (*start.qpos.shape[:-1], self.model.nu))
        held = self._in_range(servos.holding(self.model, steered, start.qpos), steered)
        return dataclasses.replace(start, control=rest.at[..., steered].set(held))

    def steer(
        self, state: RobotState, targets: Float[Array, " servos"], others: Float[Array, " others"]
    ) -> Float[Array, " control"]:
        """Return controls.

        Args:
            state: of the robot.
            targets: controls of the steered servos; they are clipped to their ranges, and to `lead`.
            others: actions of all other actuators, in their order.
        """
        steered = self.steered_servos
        rest = np.setdiff1d(np.arange(self.model.nu), steered)
        if self.lead is not None:
            here = servos.holding(self.model, steered, state.qpos)
            most = self.lead * np.abs(servos.control_per_joint(self.model, steered))
            targets = jnp.clip(targets, here - most, here + most)
        targets = self._in_range(targets, steered)
        low, high = jnp.asarray(self.action_ends[:, rest], jnp.float32)
        limits = jnp.asarray(servos.control_limits(self.model)[:, rest], jnp.float32)
        plain = jnp.clip(0.5 * (high + low) + 0.5 * (high - low) * others, *limits)
        return jnp.zeros(self.model.nu).at[steered].set(targets).at[rest].set(plain)

    def ahead(self, state: RobotState) -> Float[Array, " servos"]:
        """Return how far the target of each steered servo is ahead of its joint, in radians or metres."""
        steered = self.steered_servos
        lead = state.control[steered] - servos.holding(self.model, steered, state.qpos)
        return lead / jnp.asarray(servos.control_per_joint(self.model, steered))

    def ahead_names(self) -> tuple[str, ...]:
        """Return the names of what `ahead` returns."""
        return tuple(f"{name} target ahead ({unit})" for name, unit in joint_names(self, self.steered_servos))

    def observe(
        self, state: RobotState, memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Float[Array, " observation"]:
        """Return the task's observation, and how far targets are ahead of their joints."""
        observation = in_full("observe", super().observe)(state, memory, key)
        return jnp.concatenate([observation, self.ahead(state)]) if self._observes_ahead else observation

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        names = names_below(self, ServoSteps, "observation")
        return (*names, *self.ahead_names()) if names is not None and self._observes_ahead else names

    @property
    def _observes_ahead(self) -> bool:
        return self.observe_ahead and bool(servos.joint_servos(self.model).size)

    def other_names(self) -> tuple[str, ...]:
        """Return the names of the actions of all actuators that are not steered."""
        rest = np.setdiff1d(np.arange(self.model.nu), self.steered_servos)
        return tuple(RobotTask.action_names.fget(self)[number] for number in rest)  # type: ignore[attr-defined]

    def _in_range(self, targets: Array, steered: Int[np.ndarray, " servos"]) -> Array:
        return jnp.clip(targets, *jnp.asarray(servos.control_limits(self.model)[:, steered], jnp.float32))


def _nearest_class(task: type) -> str:
    """Return the name of the library's mixin that a task is derived from."""
    return next(cls.__name__ for cls in task.__mro__ if cls.__module__.startswith(__name__.rpartition(".")[0]))


def joint_names(task: RobotTask, steered: Int[np.ndarray, " servos"]) -> tuple[tuple[str, str], ...]:
    """Return the name of the joint of each servo, and its unit."""
    model = task.model
    joints = model.actuator_trnid[steered, 0]
    slides = model.jnt_type[joints] == 2
    return tuple(
        (model.joint(int(joint)).name or f"joint {joint}", "m" if slide else "rad")
        for joint, slide in zip(joints, slides, strict=True)
    )
