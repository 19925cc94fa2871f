"""The ant: walk to a point, through a maze, or along pieces of a corridor."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.envs.mazes.corridor import Corridor
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.walls import add_walls
from kilolayer.envs.names import xyz
from kilolayer.envs.quaternions import about, multiply, unit
from kilolayer.envs.robot_task import RobotState, RobotTask, Start, check_variant
from kilolayer.envs.robots.ant import FLOOR, LEGS, OBSTACLE, stop_at_obstacles
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.envs.tasks.places import direction, disc
from kilolayer.errors import ConfigurationError

WAYS = np.arange(8, dtype=np.float32) * np.float32(np.pi / 4)
"""Directions in which ants walk in `observations_at`: angles from the x axis, in radians."""


class Ant(RobotTask):
    """Walk to a point of the circle of radius 10 m around the start.

    The observation (29) is the torso's position x, y, z (metres) and quaternion (w, x, y, z), the joint angles hip_1,
    ankle_1, ..., hip_4, ankle_4 (radians), the torso's linear velocity (world axes, metres per second) and angular
    velocity (body axes, radians per second), and the joint velocities in the same order. The goal is x, y of the torso.
    The action (8) is the torque, as a fraction of 15 N m, on hip_4, ankle_4, hip_1, ankle_1, hip_2, ankle_2, hip_3,
    ankle_3: not the order of the joints. An episode terminates when the height of the torso's centre leaves 0.2 to 1 m,
    because the ant has turned over or jumped.

    Source: the paper's environment `ant`; its model is Brax's. The variants differ as follows:

    | | `default` | `paper` |
    |---|---|---|
    | engine | MuJoCo, 5 steps of 0.01 s | Brax's spring, 10 steps of 0.005 s |
    | torque of an action of 1 | 15 N m | 150 N m |
    | armature of a joint | 0.05 kg m2 | none on spring, 1 kg m2 on other engines |
    | start | noise on the quaternion, then normalised | noise on the quaternion, which then has no unit length |

    Args:
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant.
    """

    mjcf = model_file("ant")
    control_step = 0.05
    success_distance = 0.5

    goal_radius = 10.0
    """Distance from the start to the goal, in metres."""
    start_noise = 0.1
    """Half the range of the noise on each joint position at the start, and standard deviation of each velocity."""
    healthy_height = (0.2, 1.0)
    """Range of heights of the torso's centre, in metres; outside of it the episode terminates."""
    default_torque = 15.0
    """Torque of an action of 1 in the default variant, in N m. With `default_armature` random actions carry the ant
    about as far as on the spring engine. With 150 N m, which suit that engine, they make it fall on MuJoCo."""
    default_armature = 0.05
    """Armature of each leg's joints in the default variant, in kg m2. With the model's own 1 kg m2 the legs are so slow
    that random actions hardly carry the ant."""
    cruising_speed = 1.0
    """Typical speed of an ant on its way, in metres per second; used by `observations_at`."""

    def __init__(self, variant: str = "default") -> None:
        check_variant(variant)
        self.variant = variant
        self.unit_quaternions = not self.paper
        self.engines = self._engines()

    def _engines(self) -> tuple[str, ...]:
        return ("spring", "mujoco", "mjx") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return the model: the ant on a floor."""
        spec = super().build()
        if self.paper:
            spec.option.timestep = 0.005
        else:
            for actuator in spec.actuators:
                actuator.gear = [self.default_torque, 0, 0, 0, 0, 0]
                spec.joint(actuator.target).armature = self.default_armature
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start: the standing pose, with noise on all joint positions and velocities."""
        position_key, velocity_key = jax.random.split(key)
        home, noise = self.home, self.start_noise
        qpos = home.qpos + jax.random.uniform(position_key, home.qpos.shape, minval=-noise, maxval=noise)
        qvel = home.qvel + noise * jax.random.normal(velocity_key, home.qvel.shape)
        return Start(qpos=qpos, qvel=qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a point on the circle."""
        angle = jax.random.uniform(key, maxval=2 * jnp.pi)
        return self.goal_radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return xyz("torso", axes="xy")

    def achieved_goal(self, state: RobotState) -> Float[Array, "2"]:
        """Return x and y of the torso, in metres."""
        return state.qpos[:2]

    def failed(self, state: RobotState) -> Bool[Array, ""]:
        """Return whether the torso is too low or too high."""
        low, high = self.healthy_height
        return (state.qpos[2] < low) | (state.qpos[2] > high)

    def marker(self, desired_goal: Float[np.ndarray, "2"]) -> tuple[Float[np.ndarray, "3"], float]:
        """Return a ball on the floor whose radius is the success distance."""
        return np.array([*desired_goal, self.success_distance], np.float32), self.success_distance


class AntRandomStart(Ant):
    """Walk from any point of a disc to any other.

    Observation, action and termination are those of `Ant`. Start and goal are drawn uniformly from the disc of radius
    10 m around the origin, and the ant faces any way. So an agent finds goals near and far, and starts everywhere. The
    noise on the start is half that of `Ant`, with which some ants begin in the floor, and are thrown up.
    """

    start_noise = 0.05

    def __init__(self) -> None:
        super().__init__()

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a place, a heading, and noise."""
        noise_key, place_key, turn_key = jax.random.split(key, 3)
        start = super().draw_start(noise_key)
        heading = about(jnp.array([0.0, 0.0, 1.0]), jax.random.uniform(turn_key, maxval=2 * jnp.pi))
        turned = multiply(heading, unit(start.qpos[3:7]))
        return Start(qpos=start.qpos.at[:2].set(disc(place_key, self.goal_radius)).at[3:7].set(turned), qvel=start.qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a point of the disc."""
        return disc(key, self.goal_radius)


class AntMaze(Ant):
    """Walk through a maze to the centre of a goal cell.

    Observation, action and termination are those of `Ant`. An episode begins in a start cell, and its goal is the
    centre of a goal cell. Start and goal cells are drawn uniformly. The walls are 2 m high.

    Source: the paper's ant mazes, such as `ant_u4_maze`, `ant_u5_maze`, `ant_big_maze` and `ant_hardest_maze`. The
    variants differ as those of `Ant` do, and as follows:

    | | `default` | `paper` |
    |---|---|---|
    | walls collide with | torso and whole legs | torso, feet and leg stubs; the rest of the legs passes through |
    | self-collision | none | feet with feet, torso and leg stubs |
    | walls | as few boxes as possible | a box for each cell |

    Joint limits keep the ant's parts apart anyway, so the second row hardly matters.

    Args:
        maze: walls, start cells and goal cells; the paper's cells are 4 m wide.
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant, or the cells are too narrow for the ant.
    """

    clearance = 0.25
    """Radius of the torso, in metres: the smallest distance of its centre from a wall."""
    wall_height = 2.0
    """Metres."""
    least_cell_size = 2.5
    """Smallest cell edge, in metres: room for an ant of 1.9 m from foot to foot, with its start noise."""

    def __init__(self, maze: Maze, variant: str = "default") -> None:
        super().__init__(variant)
        if maze.cell_size < self.least_cell_size:
            raise ConfigurationError(
                f"cell_size={maze.cell_size} m of the maze must be at least {self.least_cell_size} m for an ant"
            )
        self.maze = maze

    def build(self) -> mujoco.MjSpec:
        """Return the model: the ant in its maze, with its home pose in the first start cell."""
        spec = super().build()
        if self.paper:
            add_walls(spec, self.maze, height=self.wall_height, contype=FLOOR, conaffinity=FLOOR, box_per_cell=True)
            for name in ("torso", *(f"{part}_{leg}" for part in ("aux", "foot") for leg in LEGS)):
                spec.geom(name).conaffinity = FLOOR
        else:
            add_walls(spec, self.maze, height=self.wall_height, contype=OBSTACLE, conaffinity=0)
            stop_at_obstacles(spec)
        centre = self.maze.centres(self.maze.start_cells)[0]
        home = spec.key("home")
        home.qpos = [*centre, *list(home.qpos)[2:]]
        spec.geom("floor").size[:2] = 100.0
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start near the centre of a start cell."""
        cell_key, key = jax.random.split(key)
        centre = jax.random.choice(cell_key, jnp.asarray(self.maze.centres(self.maze.start_cells)))
        start = super().draw_start(key)
        return Start(qpos=start.qpos.at[:2].add(centre - self.home.qpos[:2]), qvel=start.qvel)

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw the centre of a goal cell."""
        return jax.random.choice(key, jnp.asarray(self.maze.centres(self.maze.goal_cells)))

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "8 29"]:
        """Return the observations at a position, upright and walking in each of eight directions.

        Args:
            position: x and y in metres.
        """
        return jnp.concatenate(self.walking(position), axis=-1)

    def walking(self, position: Float[Array, "*#ways 2"]) -> tuple[Float[Array, "8 nq"], Float[Array, "8 nv"]]:
        """Return joint positions and velocities at a position, upright and walking in each of eight directions.

        Args:
            position: x and y in metres, the same for all directions or one for each.
        """
        home = jnp.broadcast_to(self.home.qpos, (8, self.home.qpos.size))
        quaternions = about(jnp.array([0.0, 0.0, 1.0]), jnp.asarray(WAYS))
        velocities = self.cruising_speed * direction(jnp.asarray(WAYS))
        qpos = home.at[:, :2].set(position).at[:, 3:7].set(quaternions)
        return qpos, jnp.zeros((8, self.home.qvel.size)).at[:, :2].set(velocities)


class AntCorridor(AntMaze):
    """Walk a few cells along a corridor: short pieces of a path, which an agent has to combine at evaluation.

    An episode begins at the centre of any cell, with the noise of `Ant` on everything but x and y. Its goal is the
    centre of a cell farther along the corridor, one of `distances` cells away (`Corridor.draw_pair`). Everything else
    is as in `AntMaze`.

    Source: the paper's experiment on stitching. In the `u` maze it trains on distances up to 3 cells and evaluates on
    goals 4, 5 and 6 cells from the start (layout `u_eval`).

    Args:
        maze: a single corridor with its start cell at one end; its goal cells are not used.
        distances: distances between start and goal in cells, each from 1 to the length of the corridor.
        variant: `"default"`, or `"paper"`, as for `AntMaze`.

    Raises:
        ConfigurationError: as `AntMaze` and `Corridor`.
    """

    def __init__(self, maze: Maze, distances: Sequence[int], variant: str = "default") -> None:
        super().__init__(maze, variant)
        self.corridor = Corridor(maze, tuple(distances))

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "2"]]:
        """Draw a start, and a goal farther along the corridor."""
        start_key, pair_key = jax.random.split(key)
        place, goal = self.corridor.draw_pair(pair_key)
        start = self.draw_start(start_key)
        return Start(qpos=start.qpos.at[:2].set(place), qvel=start.qvel), goal
