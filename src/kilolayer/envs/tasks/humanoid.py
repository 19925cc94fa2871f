"""The humanoid: walk upright to a point, or through a maze."""

from functools import cached_property
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.walls import add_walls
from kilolayer.envs.names import force_names, position_names, velocity_names, xyz
from kilolayer.envs.quaternions import about, multiply, to_matrix
from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots.humanoid import LINKS, SPRING_GEARS, add_target
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.errors import ConfigurationError

HEADINGS: Final = 8
"""Number of directions that `observations_at` faces."""


class Links(eqx.Module):
    """Constants of the bodies that the observation uses, in the frames of the bodies."""

    mass: Float[np.ndarray, " links"]
    """Kilograms."""
    centre: Float[np.ndarray, "links 3"]
    """Centre of mass, in metres."""
    inertia: Float[np.ndarray, "links 3 3"]
    """Inertia about the centre of mass, in kg m2."""


class Humanoid(RobotTask):
    """Move the torso to a point 1.25 m above the floor: walk there without falling.

    Without a maze an episode begins at the origin; the distance of its goal is uniform from 1 to 5 m, in a uniform
    direction. With a maze it begins at the centre of a start cell, and its goal is above the centre of a goal cell;
    cells are drawn uniformly. The humanoid always starts in its zero pose, facing +x.

    The goal is x, y, z of the torso in metres, with z = 1.25; it is reached when the torso is within 0.5 m. The action
    (17) is the torque of each motor, in the model's order, as a fraction of its maximum. An episode terminates when the
    height of the torso's centre leaves 1 to 2 m. The walls are 1 m high.

    The observation concatenates, over all joints and all links in the model's order,

    * positions: torso x, y, z, its quaternion (w, x, y, z), joint angles (metres, radians),
    * velocities: of the torso linear (world axes) and angular (body axes), of the joints,
    * 10 entries for each link: its inertia (3 x 3, row by row, kg m2) about the centre of mass of all links, its mass,
    * 6 entries for each link: the velocity of its centre of mass times its fraction of the total mass, and its angular
      velocity (world axes),
    * motor torques, one entry for each velocity: 6 zeros for the torso, then the joints.

    Source: the paper's environments `humanoid`, `humanoid_u_maze`, `humanoid_big_maze` and `humanoid_hardest_maze`;
    their model is Brax's. The variants differ as follows:

    | | `default` | `paper` |
    |---|---|---|
    | size of the observation | 246 | 268 |
    | goal in the observation | none | a body of 1 kg, one of the links: see below |
    | inertia of a link about its own centre | its true inertia | the identity, as in Brax's spring |
    | torques in the observation | -1 to 1, as fractions of the maximum | -140 to 140 N m |
    | motors | the model's: 10 to 120 N m | 140 N m in trunk and legs, 40 N m in the arms |
    | engine | MuJoCo, 5 steps of 0.003 s | Brax's spring, 10 steps of 0.003 s; in mazes 10 of 0.0015 s |
    | control step | 0.015 s | 0.030 s; in mazes 0.015 s |
    | start | noise on joint angles and all velocities | constant |
    | walls of a maze | as few boxes as possible | a box for each cell |

    In the paper's variant the body of the goal adds its x, y (entries 24, 25), velocities, inertia, mass and torques to
    the observation. It also counts for the centre of mass, so the inertia of every link depends on the goal.

    Args:
        maze: walls, start cells and goal cells, in the paper with cells of 2 m; None for open ground.
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant, or the cells are too narrow for the humanoid.
    """

    mjcf = model_file("humanoid")
    goal_body = "torso"
    success_distance = 0.5

    goal_height = 1.25
    """Height z of every goal, in metres."""
    goal_distance = (1.0, 5.0)
    """Range of distances between start and goal without a maze, in metres."""
    start_noise = 0.01
    """Half the range of the noise on joint angles (radians) and velocities (metres, radians per second)."""
    healthy_height = (1.0, 2.0)
    """Range of heights of the torso's centre, in metres; outside of it the episode terminates."""
    clearance = 0.07
    """Radius of the torso's capsule, in metres: the smallest distance of its centre from a wall."""
    wall_height = 1.0
    """Metres."""
    least_cell_size = 1.0
    """Smallest cell edge, in metres: room for a humanoid in its start pose, 0.8 m from elbow to elbow."""

    maze: Maze
    """Walls, start cells and goal cells; on open ground the attribute does not exist."""

    def __init__(self, maze: Maze | None = None, variant: str = "default") -> None:
        check_variant(variant)
        if maze is not None and maze.cell_size < self.least_cell_size:
            raise ConfigurationError(
                f"cell_size={maze.cell_size} m of the maze must be at least {self.least_cell_size} m for a humanoid"
            )
        self.variant = variant
        if maze is not None:
            # Without the attribute, on open ground, the task is not a `MazeTask`.
            self.maze = maze
        self.control_step = 0.030 if self.paper and maze is None else 0.015
        self.bodies = (*LINKS, "target") if self.paper else LINKS
        self.engines = ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    @property
    def _maze(self) -> Maze | None:
        return getattr(self, "maze", None)

    def build(self) -> mujoco.MjSpec:
        """Return the model: the humanoid, the walls of the maze if any, and the goal as a body in the variant paper."""
        spec = super().build()
        maze = self._maze
        if self.paper:
            spec.option.timestep = 0.003 if maze is None else 0.0015
            for actuator, gear in zip(spec.actuators, SPRING_GEARS, strict=True):
                actuator.gear[0] = gear
            add_target(spec, height=self.goal_height, reach=20.0 if maze is None else 100.0)
        if maze is not None:
            add_walls(spec, maze, height=self.wall_height, box_per_cell=self.paper)
            spec.geom("floor").size[:2] = 100.0
            x, y = maze.centres(maze.start_cells)[0]
            joints = [0.0] * len(spec.joints[1:])
            spec.add_key(name="home", qpos=[x, y, spec.body("torso").pos[2], 1.0, 0.0, 0.0, 0.0, *joints])
        return spec

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "3"]]:
        """Draw a start and a goal; in the paper's variant the goal is also a part of the start."""
        start, goal = super().reset(key)
        if self.paper:
            start = Start(qpos=start.qpos.at[-2:].set(goal[:2]), qvel=start.qvel)
        return start, goal

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start in the zero pose, in a maze at the centre of a start cell."""
        cell_key, angle_key, velocity_key = jax.random.split(key, 3)
        start = super().draw_start(key)
        qpos, qvel = start.qpos, start.qvel
        if (maze := self._maze) is not None:
            qpos = qpos.at[:2].set(jax.random.choice(cell_key, jnp.asarray(maze.centres(maze.start_cells))))
        if not self.paper:
            noise = self.start_noise
            qpos = qpos.at[7:].add(jax.random.uniform(angle_key, qpos[7:].shape, minval=-noise, maxval=noise))
            qvel = qvel + jax.random.uniform(velocity_key, qvel.shape, minval=-noise, maxval=noise)
        return Start(qpos=qpos, qvel=qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw the centre of a goal cell, or without a maze a distance and a direction from the origin."""
        if (maze := self._maze) is not None:
            place = jax.random.choice(key, jnp.asarray(maze.centres(maze.goal_cells)))
        else:
            distance_key, angle_key = jax.random.split(key)
            nearest, farthest = self.goal_distance
            distance = jax.random.uniform(distance_key, minval=nearest, maxval=farthest)
            angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
            place = distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return jnp.append(place, self.goal_height)

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        model, links = self.model, self.tracked_bodies
        torque_unit = "N m" if self.paper else "fraction of the maximum"
        inertias = ([f"{link} inertia {a}{b} (kg m2)" for a in "xyz" for b in "xyz"] for link in links)
        velocities = (
            (
                *xyz(f"{link} mass fraction times velocity", "m/s"),
                *xyz(f"{link} angular velocity in world axes", "rad/s"),
            )
            for link in links
        )
        return (
            *position_names(model),
            *velocity_names(model),
            *(name for link, inertia in zip(links, inertias, strict=True) for name in (*inertia, f"{link} mass (kg)")),
            *(name for link in velocities for name in link),
            *force_names(model, unit=torque_unit),
        )

    def observe(self, state: RobotState) -> Float[Array, " observation"]:
        """Return positions, velocities, inertia, mass and velocities of each link, and motor torques."""
        links = self._links
        rotation = to_matrix(state.quaternion)
        lever = jnp.einsum("lij,lj->li", rotation, links.centre, precision="highest")
        centre = state.position + lever
        share = links.mass / links.mass.sum()
        offset = centre - jnp.einsum("l,li->i", share, centre, precision="highest")

        # Parallel axis theorem, with offsets from the centre of mass of all links.
        squared = jnp.sum(offset * offset, axis=-1)[:, None, None] * jnp.eye(3)
        steiner = links.mass[:, None, None] * (squared - offset[:, :, None] * offset[:, None, :])
        inertia = steiner + jnp.einsum("lij,ljk,lmk->lim", rotation, links.inertia, rotation, precision="highest")
        inertias = jnp.concatenate([inertia.reshape(-1, 9), links.mass[:, None]], axis=-1)

        velocity = state.velocity + jnp.cross(state.angular_velocity, lever)
        velocities = jnp.concatenate([share[:, None] * velocity, state.angular_velocity], axis=-1)

        torques = jnp.zeros(self.model.nv).at[self._actuated].set(self._torque_of_control * state.control)
        return jnp.concatenate([state.qpos, state.qvel, inertias.ravel(), velocities.ravel(), torques])

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Return whether the torso is too low or too high."""
        low, high = self.healthy_height
        height = self.achieved_goal(state)[2]
        return (height < low) | (height > high)

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "8 observation"]:
        """Return the observations at a position, standing at rest and facing each of eight directions.

        The paper's observation contains the goal, which is unknown here; the humanoid's own position is used instead.

        Args:
            position: x and y in metres.
        """
        angles = jnp.arange(HEADINGS) * (2 * jnp.pi / HEADINGS)
        return jax.vmap(lambda angle: self.observe(self._standing(position, angle)))(angles)

    def _standing(self, position: Float[Array, "2"], heading: Float[Array, ""]) -> RobotState:
        """Return the start pose at x, y (metres), rotated about z by `heading` (radians)."""
        home, bodies = self.home, len(self.tracked_bodies)
        cosine, sine = jnp.cos(heading), jnp.sin(heading)
        turn = about(jnp.array([0.0, 0.0, 1.0]), heading)
        x, y, z = self._home_poses[0].T
        position_turned = jnp.stack([cosine * x - sine * y + position[0], sine * x + cosine * y + position[1], z], -1)
        qpos = jnp.asarray(home.qpos).at[:2].set(position).at[3:7].set(turn)
        if self.paper:
            qpos = qpos.at[-2:].set(position)
        return RobotState(
            qpos=qpos,
            qvel=jnp.zeros(self.model.nv),
            control=jnp.zeros(self.model.nu),
            position=position_turned,
            quaternion=multiply(turn, jnp.asarray(self._home_poses[1])),
            velocity=jnp.zeros((bodies, 3)),
            angular_velocity=jnp.zeros((bodies, 3)),
            engine=None,
        )

    @cached_property
    def _home_poses(self) -> tuple[Float[np.ndarray, "bodies 3"], Float[np.ndarray, "bodies 4"]]:
        """Positions and quaternions of the tracked bodies in the zero pose, the torso above the origin."""
        data = mujoco.MjData(self.model)
        data.qpos[:] = self.home.qpos
        data.qpos[:2] = 0.0
        mujoco.mj_kinematics(self.model, data)
        return data.xpos[self._body_ids].astype(np.float32), data.xquat[self._body_ids].astype(np.float32)

    @cached_property
    def _body_ids(self) -> np.ndarray:
        return np.array([self.model.body(name).id for name in self.tracked_bodies])

    @cached_property
    def _links(self) -> Links:
        model, ids = self.model, self._body_ids
        if self.paper:
            inertia = np.broadcast_to(np.eye(3), (len(ids), 3, 3))
        else:
            rows = np.empty((len(ids), 9))
            for row, quaternion in zip(rows, model.body_iquat[ids], strict=True):
                mujoco.mju_quat2Mat(row, quaternion)
            axes = rows.reshape(-1, 3, 3)
            inertia = np.einsum("lij,lj,lkj->lik", axes, model.body_inertia[ids], axes)
        return Links(
            mass=model.body_mass[ids].astype(np.float32),
            centre=model.body_ipos[ids].astype(np.float32),
            inertia=inertia.astype(np.float32),
        )

    @cached_property
    def _actuated(self) -> np.ndarray:
        """For each motor, the index of its joint's velocity in `qvel`."""
        return self.model.jnt_dofadr[self.model.actuator_trnid[:, 0]]

    @cached_property
    def _torque_of_control(self) -> Float[np.ndarray, " motors"]:
        """Factors from controls to observed torques: N m in the paper's variant, else fractions of the maximum."""
        model = self.model
        factor = model.actuator_gear[:, 0] if self.paper else 1.0 / model.actuator_ctrlrange[:, 1]
        return factor.astype(np.float32)
