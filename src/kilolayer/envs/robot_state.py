"""What a robot is at the start of an episode, between two steps, and what it is told in a step."""

from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array, Float

Quantity = Literal["act", "tendon_length", "time", "site_jacobian"]
"""What `RobotState` has only for tasks that ask for it (`RobotTask.quantities`)."""


class Mocap(eqx.Module):
    """Poses of mocap bodies: bodies that physics does not move, in the order of MuJoCo's `mocap_pos`."""

    position: Float[Array, "*num_envs mocap 3"]
    """Metres."""
    quaternion: Float[Array, "*num_envs mocap 4"]
    """Orientation: w, x, y, z."""


class Frames(eqx.Module):
    """Frames of sites, in the order of `RobotTask.tracked_sites`; they belong to the same moment as `qpos`, `qvel`."""

    position: Float[Array, "*num_envs sites 3"]
    """Metres."""
    quaternion: Float[Array, "*num_envs sites 4"]
    """Orientation: w, x, y, z."""
    velocity: Float[Array, "*num_envs sites 3"]
    """Linear velocity of the origin in world axes, in metres per second."""
    angular_velocity: Float[Array, "*num_envs sites 3"]
    """In world axes, in radians per second."""
    jacobian: Float[Array, "*num_envs sites 6 nv"] | None = None
    """Linear (3), then angular velocity (3) for each joint velocity of 1, in world axes. None unless the task asks for
    the quantity `site_jacobian`."""


class Start(eqx.Module):
    """State of a robot at the start of an episode.

    What is None is that of the task's keyframe (`RobotTask.keyframe`), or MuJoCo's default if the model has none;
    `control` is then zeros.
    """

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order: metres, radians, quaternions as w, x, y, z."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order; of a free joint: linear in world axes, angular in body axes."""
    act: Float[Array, "*num_envs na"] | None = None
    """Activations of actuators that have a state of their own, such as filtered ones and muscles."""
    control: Float[Array, "*num_envs nu"] | None = None
    """What `RobotState.control` is before the first step: where targets that move in small steps begin."""
    mocap: Mocap | None = None
    """Poses of mocap bodies."""


class Command(eqx.Module):
    """What a robot is told for a control step, if that is more than controls: `RobotTask.control` may return it."""

    control: Float[Array, "*num_envs nu"]
    """Controls of the actuators."""
    mocap: Mocap | None = None
    """Poses of mocap bodies; None leaves them where they are."""


class RobotState(eqx.Module):
    """State of robots between two steps, the same for all engines.

    Positions, quaternions and velocities are those of the task's tracked bodies (`RobotTask.tracked_bodies`), in that
    order. They belong to the same moment as `qpos` and `qvel`. What is None takes no room and no time: a task that does
    not ask for it has it not.
    """

    qpos: Float[Array, "*num_envs nq"]
    """Joint positions in MuJoCo's order."""
    qvel: Float[Array, "*num_envs nv"]
    """Joint velocities in MuJoCo's order."""
    control: Float[Array, "*num_envs nu"]
    """Control of the last step; at the start of an episode `Start.control`, or zeros."""
    position: Float[Array, "*num_envs bodies 3"]
    """Origin of the body's frame, in metres."""
    quaternion: Float[Array, "*num_envs bodies 4"]
    """Orientation of the body's frame: w, x, y, z."""
    velocity: Float[Array, "*num_envs bodies 3"]
    """Linear velocity of the origin of the body's frame in world axes, in metres per second."""
    angular_velocity: Float[Array, "*num_envs bodies 3"]
    """In world axes, in radians per second."""
    engine: Any
    """Everything else that the engine's next step depends on."""
    sites: Frames | None = None
    """Frames of the task's `sites`; `RobotTask.site` returns the index of one."""
    sensors: Float[Array, "*num_envs numbers"] | None = None
    """Readings of the task's `sensors` side by side, in MuJoCo's units; `RobotTask.sensor` returns the place of one."""
    act: Float[Array, "*num_envs na"] | None = None
    """Activations; if the task asks for the quantity `act`."""
    tendon_length: Float[Array, "*num_envs tendons"] | None = None
    """In metres, or radians; if the task asks for the quantity `tendon_length`."""
    time: Float[Array, "*num_envs"] | None = None
    """Seconds since the start of the episode; if the task asks for the quantity `time`."""
    mocap: Mocap | None = None
    """Poses of the mocap bodies, if the model has some."""
