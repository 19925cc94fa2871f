"""Brax's spring pipeline: the physics of the paper's ant and humanoid figures."""

import contextlib
import copy
import functools
import io
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kilolayer.envs.engines.features import (
    CRASHES_SPRING,
    FEATURES,
    TUNED_FOR_SPRING,
    check_features,
    is_tuned_for_spring,
)
from kilolayer.envs.engines.jax_engine import JaxEngine
from kilolayer.envs.engines.near_boxes import NearBoxes, near_boxes
from kilolayer.envs.engines.readings import Readings, check_readings
from kilolayer.envs.robot_state import RobotState, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

GROUP = 32
"""Robots whose contacts with walls are computed side by side."""


class SpringEngine(JaxEngine):
    """Steps all robots at once with Brax's spring pipeline. Walls cost time only for robots that may touch one.

    Brax ignores joint armature, damping and stiffness of the model and uses its custom numbers, such as
    `constraint_stiffness`, instead.
    """

    def __init__(self, task: RobotTask):
        """Prepare the model of a task.

        Args:
            task: the task.

        Raises:
            ConfigurationError: if Brax is not installed or does not support the model.
        """
        mjcf, self._pipeline = import_spring()
        self.model = task.model
        tuned = TUNED_FOR_SPRING if is_tuned_for_spring(self.model) else ()
        features = tuple(name for name in FEATURES if name not in tuned)
        check_features(task, "spring", features, never=CRASHES_SPRING)
        check_readings(task, "spring", ("sites",))
        self.substeps = task.substeps
        self.near = near_boxes(task.build, self.model)
        try:
            # Brax edits the model that it loads: it writes infinities into ranges without limits.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Brax warns at every load that its physics is no longer developed
                load = lambda model: mjcf.load_model(copy.deepcopy(model))  # noqa: E731
                self._system = load(self.model if self.near is None else self.near.bare)
                self._with_boxes: Any = None if self.near is None else load(self.near.model)
            mjcf.validate_model(self.model)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise ConfigurationError(f"engine 'spring' cannot run task {type(task).__name__}: {error}") from None
        actuators = self._system.actuator
        self._reads_joints = bool(np.any(actuators.bias_q) or np.any(actuators.bias_qd))
        self._root = 0 if self.near is None else self._system.link_names.index(self.near.root)
        self.readings = Readings(task)
        names = [self.model.body(body).name for body in self.readings.body_ids]
        if "world" in names:
            raise ConfigurationError(
                f"engine 'spring' cannot run task {type(task).__name__}: a site is fixed to the world"
            )
        self._links = np.array([self._system.link_names.index(name) for name in names], np.int32)

    def init_one(self, start: Start) -> RobotState:
        """Return the state of one robot at the start of an episode."""
        control = jnp.zeros(self.model.nu) if start.control is None else start.control
        return self._state(self._pipeline.init(self._system, start.qpos, start.qvel), control)

    def step_one(self, state: RobotState, control: Float[Array, " nu"]) -> RobotState:
        """Advance one robot by one control step."""
        return jax.tree.map(lambda x: x[0], self.step(jax.tree.map(lambda x: x[None], state), control[None]))

    def step(self, state: RobotState, control: Float[Array, "num_envs nu"]) -> RobotState:
        """Advance every robot by one control step."""
        inner, _ = jax.lax.scan(
            lambda inner, _: (self._substep(inner, control), None), state.engine, None, length=self.substeps
        )
        if not self._reads_joints:
            inner = jax.vmap(self._with_joints)(inner)
        return jax.vmap(self._state)(inner, control)

    def _substep(self, inner: Any, control: Float[Array, "num_envs nu"]) -> Any:
        """Advance every robot by one step of the physics: that of `brax.spring.pipeline.step`."""
        inner = jax.vmap(self._accelerated)(inner, control)
        return jax.vmap(self._moved)(inner, self._collided(inner))

    def _accelerated(self, inner: Any, control: Float[Array, " nu"]) -> Any:
        """Return one robot with the velocities that forces give it."""
        system, parts = self._system, self._pipeline
        inner = inner.replace(i_inv=parts.com.inv_inertia(system, inner.x))
        force = parts.joints.resolve(system, inner, parts.actuator.to_tau(system, control, inner.q, inner.qd))
        if system.enable_fluid:
            inertia = system.link.inertia.i ** (1 - system.spring_inertia_scale)
            force += parts.fluid.force(system, inner.x, inner.xd, inner.mass, inertia)
        acceleration = parts.Motion.create(vel=system.gravity) + parts.Motion(
            ang=jax.vmap(jnp.matmul)(inner.i_inv, force.ang), vel=force.vel / inner.mass[:, None]
        )
        return inner.replace(xd_i=inner.xd_i + acceleration * system.opt.timestep)

    def _moved(self, inner: Any, collided: Any) -> Any:
        """Return one robot at the end of a substep, by the changes of its velocities by collisions."""
        system, parts = self._system, self._pipeline
        x_i, xd_i = parts.integrator.integrate(system, inner.x_i, inner.xd_i, collided)
        x, xd = parts.com.to_world(system, x_i, xd_i)
        j, jd, a_p, a_c = parts.kinematics.world_to_joint(system, x, xd)
        inner = inner.replace(x=x, xd=xd, x_i=x_i, xd_i=xd_i, j=j, jd=jd, a_p=a_p, a_c=a_c)
        return self._with_joints(inner) if self._reads_joints else inner

    def _with_joints(self, inner: Any) -> Any:
        """Return one robot with positions and velocities of its joints."""
        q, qd = self._pipeline.kinematics.inverse(self._system, inner.j, inner.jd)
        return inner.replace(q=q, qd=qd)

    def _collided(self, inner: Any) -> Any:
        """Return the changes of velocities by collisions of all robots.

        Contacts with walls, and of a robot with itself, are rare. The robots that may have some are brought together
        and computed in groups, as many as it takes; for all others the floor is enough.
        """
        without = jax.vmap(functools.partial(self._pipeline.collisions.resolve, self._system))(inner)
        near = self.near
        if near is None:
            return without
        if jax.default_backend() != "cpu":  # a GPU computes all at once sooner than it brings some together
            return jax.vmap(functools.partial(self._with_walls, near))(inner)
        touches = jax.vmap(lambda x: near.may_touch(x.pos[self._root], x.pos, x.rot))(inner.x)
        num_envs = touches.size
        group = min(GROUP, num_envs)
        count = jnp.sum(touches)
        robots = jnp.nonzero(touches, size=num_envs + group, fill_value=num_envs)[0]

        def next_group(carry: tuple[Array, Any]) -> tuple[Array, Any]:
            begin, collided = carry
            rows = jax.lax.dynamic_slice(robots, (begin,), (group,))
            some = jax.tree.map(lambda x: x.at[rows].get(mode="clip"), inner)
            change = jax.vmap(functools.partial(self._with_walls, near))(some)
            return begin + group, jax.tree.map(lambda x, new: x.at[rows].set(new, mode="drop"), collided, change)

        return jax.lax.while_loop(lambda carry: carry[0] < count, next_group, (jnp.zeros_like(count), without))[1]

    def _with_walls(self, near: NearBoxes, inner: Any) -> Any:
        """Return the changes of velocities by all collisions of one robot."""
        position, size = near.in_reach(inner.x.pos[self._root])
        system = self._with_boxes.replace(
            geom_pos=jnp.asarray(self._with_boxes.geom_pos).at[near.geoms].set(position),
            geom_size=jnp.asarray(self._with_boxes.geom_size).at[near.geoms].set(size),
        )
        return self._pipeline.collisions.resolve(system, inner)

    def _state(self, inner: Any, control: Array) -> RobotState:
        (position, quaternion, velocity, angular_velocity), sites = self.readings.split(
            (
                inner.x.pos[self._links],
                inner.x.rot[self._links],
                inner.xd.vel[self._links],
                inner.xd.ang[self._links],
            ),
            inner.x.pos,
            None,
        )
        return RobotState(
            qpos=inner.q,
            qvel=inner.qd,
            control=control,
            position=position,
            quaternion=quaternion,
            velocity=velocity,
            angular_velocity=angular_velocity,
            engine=inner,
            sites=sites,
        )


def import_spring() -> tuple[Any, Any]:
    """Return Brax's MJCF loader and spring pipeline.

    Raises:
        ConfigurationError: if Brax is not installed.
    """
    try:
        # Brax imports MJX, which prints that Warp is missing.
        with contextlib.redirect_stdout(io.StringIO()):
            from brax.io import mjcf
            from brax.spring import pipeline
    except ImportError:
        raise ConfigurationError("engine 'spring' needs Brax; install it: pip install 'kilolayer[brax]'") from None
    return mjcf, pipeline
