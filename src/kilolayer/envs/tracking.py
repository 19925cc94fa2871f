"""What a task reads of its robot, by name: bodies, sites, sensors, and quantities that only some tasks need."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float

from kilolayer.envs.robot_state import Frames, Mocap, Quantity, RobotState
from kilolayer.errors import ConfigurationError, nearest_names


class Tracking:
    """Names of what `RobotState` holds, and where in its arrays each is. The base class of robot tasks."""

    bodies: Sequence[str] = ()
    """Names of the bodies whose poses and velocities the task reads; `goal_body` is added if it is missing."""
    sites: Sequence[str] = ()
    """Names of the sites whose frames the task reads, as `RobotState.sites`; `goal_body` is added if it is a site."""
    sensors: Sequence[str] = ()
    """Names of the sensors that the task reads, as `RobotState.sensors`."""
    quantities: Sequence[Quantity] = ()
    """What else it reads: `act`, `tendon_length`, `time`, and `site_jacobian` of its sites."""
    goal_body: str | None = None
    """Body, or else site, whose position is the achieved goal, unless `achieved_goal` is overridden."""

    model: Any

    @cached_property
    def tracked_bodies(self) -> tuple[str, ...]:
        """Bodies in `RobotState`: `bodies`, and `goal_body` if it is a body that is not among them."""
        tracked = tuple(self.bodies)
        if self.goal_body is not None and self.goal_body not in tracked and not self._goal_is_site:
            tracked = (*tracked, self.goal_body)
        return self._known("body", tracked, first=1)

    @cached_property
    def tracked_sites(self) -> tuple[str, ...]:
        """Sites in `RobotState.sites`: `sites`, and `goal_body` if it is a site that is not among them."""
        tracked = tuple(self.sites)
        if self.goal_body is not None and self.goal_body not in tracked and self._goal_is_site:
            tracked = (*tracked, self.goal_body)
        return self._known("site", tracked)

    @cached_property
    def tracked_sensors(self) -> tuple[str, ...]:
        """Sensors in `RobotState.sensors`."""
        return self._known("sensor", tuple(self.sensors))

    @cached_property
    def tracked_quantities(self) -> tuple[Quantity, ...]:
        """What else there is in `RobotState`. A mixin that needs some adds them here."""
        return tuple(self.quantities)

    @property
    def _goal_is_site(self) -> bool:
        """Whether `goal_body` is the name of a site, and of no body."""
        place = lambda kind: mujoco.mj_name2id(self.model, kind, self.goal_body)  # noqa: E731
        return place(mujoco.mjtObj.mjOBJ_BODY) < 0 <= place(mujoco.mjtObj.mjOBJ_SITE)

    def _known(self, kind: str, names: tuple[str, ...], *, first: int = 0) -> tuple[str, ...]:
        """Return these names if the model has elements of all of them."""
        count = {"body": self.model.nbody, "site": self.model.nsite, "sensor": self.model.nsensor}[kind]
        known = [getattr(self.model, kind)(number).name for number in range(first, count)]
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"task {type(self).__name__} names the {kind} {name!r}, which its model does not have; "
                    f"{nearest_names(name, known, listing=f'there are {len(known)}')}"
                )
        return names

    def body(self, name: str) -> int:
        """Return the index of a tracked body in the arrays of `RobotState`."""
        return self.tracked_bodies.index(name)

    def site(self, name: str) -> int:
        """Return the index of a tracked site in the arrays of `RobotState.sites`."""
        return self.tracked_sites.index(name)

    def sensor(self, name: str) -> slice:
        """Return where the numbers of a tracked sensor are in `RobotState.sensors`."""
        sizes = [int(self.model.sensor(each).dim[0]) for each in self.tracked_sensors]
        place = self.tracked_sensors.index(name)
        return slice(sum(sizes[:place]), sum(sizes[: place + 1]))

    def position_of(self, state: RobotState, name: str) -> Float[Array, "*num_envs 3"]:
        """Return the position of a tracked body or site, in metres."""
        if name in self.tracked_bodies:
            return state.position[..., self.body(name), :]
        assert state.sites is not None, "this engine does not tell of sites"
        return state.sites.position[..., self.site(name), :]

    def _zero_state(self) -> RobotState:
        """Return a state of zeros, for the sizes of what is read from it."""
        model, bodies, sites = self.model, len(self.tracked_bodies), len(self.tracked_sites)
        asked = self.tracked_quantities
        jacobian = jnp.zeros((sites, 6, model.nv)) if "site_jacobian" in asked else None
        numbers = sum(int(model.sensor(name).dim[0]) for name in self.tracked_sensors)

        def frames(count: int) -> tuple[Array, Array, Array, Array]:
            return jnp.zeros((count, 3)), jnp.zeros((count, 4)), jnp.zeros((count, 3)), jnp.zeros((count, 3))

        position, quaternion, velocity, angular_velocity = frames(bodies)
        return RobotState(
            qpos=jnp.zeros(model.nq),
            qvel=jnp.zeros(model.nv),
            control=jnp.zeros(model.nu),
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular_velocity,
            engine=None,
            sites=Frames(*frames(sites), jacobian) if sites else None,
            sensors=jnp.zeros(numbers) if self.tracked_sensors else None,
            act=jnp.zeros(model.na) if "act" in asked else None,
            tendon_length=jnp.zeros(model.ntendon) if "tendon_length" in asked else None,
            time=jnp.zeros(()) if "time" in asked else None,
            mocap=Mocap(jnp.zeros((model.nmocap, 3)), jnp.zeros((model.nmocap, 4))) if model.nmocap else None,
        )
