"""The ant with an object: push a ball to a point or through a maze, or push a block aside."""

from functools import cached_property
from typing import Final

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.mazes.walls import RGBA as WALL_RGBA
from kilolayer.envs.names import position_names, velocity_names, xyz
from kilolayer.envs.robot_task import RobotState, Start
from kilolayer.envs.robots.ant import FLOOR, LEGS, OBSTACLE, add_slides, stop_at_obstacles
from kilolayer.envs.tasks.ant import WAYS, Ant, AntMaze
from kilolayer.envs.tasks.places import direction

ANT_QPOS: Final = 15
"""Number of joint positions of the ant; those of the object follow."""
ANT_QVEL: Final = 14
"""Number of joint velocities of the ant; those of the object follow."""
GRAVITY: Final = 9.81
"""Metres per second squared."""


class _AntWithObject(Ant):
    """An ant and an object that slides on the floor."""

    object_name: str
    """Body of the object."""
    object_position = (0.0, 0.0)
    """Position x, y in metres at which the object's joints are zero."""

    @property
    def observation_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of an observation."""
        ant = (*position_names(self.model)[:ANT_QPOS], *velocity_names(self.model)[:ANT_QVEL])
        return (*ant, *xyz(self.object_name, axes="xy"))

    def observe(self, state: RobotState) -> Float[Array, "31"]:
        """Return the ant's joint positions and velocities, then x and y of the object."""
        return jnp.concatenate([state.qpos[:ANT_QPOS], state.qvel[:ANT_QVEL], self._object_xy(state)])

    def _object_xy(self, state: RobotState) -> Float[Array, "2"]:
        return jnp.asarray(self.object_position) + state.qpos[ANT_QPOS : ANT_QPOS + 2]


class AntBall(_AntWithObject):
    """Push a ball to a point on the circle of radius 5 m around the start.

    The observation (31) is that of `Ant`, followed by x and y of the ball in metres; the goal is x, y of the ball. The
    ball has a radius of 0.5 m and slides on the floor without turning. Action and termination are those of `Ant`.

    Source: the paper's environment `ant_ball`. The variants differ as those of `Ant` do, and as follows:

    | | `default` | `paper` |
    |---|---|---|
    | ball at the start | 1 m from the point that is 1/5 of the way to the goal, but clear of the ant | as in \
`default`, but its y offset uses the angle of the goal instead of its own; it may overlap the ant |
    | ball and floor | dry friction in the joints, coefficient 1 | contact of ball and floor |
    | ball and ant | torso and whole legs push it | torso and feet push it, the legs pass through |
    | self-collision | none | feet with feet and torso |

    Args:
        variant: `"default"`, or `"paper"` for the physics and the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant.
    """

    object_name = "ball"
    goal_radius = 5.0
    ball_radius = 0.5
    """Metres."""
    ball_mass = 0.576
    """Kilograms."""
    ball_range = (-10.3213, 10.3)
    """Range of the ball's slide joints along x and y, in metres."""
    ant_reach = 1.11
    """Largest distance from the torso's centre to a point of a foot at the start, in metres."""

    def build(self) -> mujoco.MjSpec:
        """Return the model: ant and ball."""
        spec = super().build()
        ball = spec.worldbody.add_body(name="ball", pos=[*self.object_position, self.ball_radius])
        # The ball has no joint along z, so floor and ball press on each other only if the engine lets the ball sink in.
        # The spring engine does. In MuJoCo there would be no friction, so it is a property of the joints there.
        friction = {} if self.paper else {"armature": 0.0, "frictionloss": self.ball_mass * GRAVITY}
        add_slides(ball, "ball", "xy", limited=True, range=list(self.ball_range), damping=0.0, **friction)
        ball.add_geom(
            name="ball",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[self.ball_radius, 0, 0],
            mass=self.ball_mass,
            contype=FLOOR if self.paper else OBSTACLE,
            conaffinity=0,
            rgba=(0.22, 0.45, 0.75, 1.0),
        )
        if self.paper:
            for name in ("torso", *(f"foot_{leg}" for leg in LEGS)):
                spec.geom(name).conaffinity = FLOOR
        else:
            stop_at_obstacles(spec)
        home = spec.key("home")
        home.qpos = [*home.qpos, 1.0, 0.0]
        return spec

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "2"]]:
        """Draw a start of the ant, a goal, and a position of the ball between them."""
        start_key, goal_key, ball_key = jax.random.split(key, 3)
        start, goal = self.draw_start(start_key), self.draw_goal(goal_key)
        angle = jax.random.uniform(ball_key, maxval=2 * jnp.pi)
        ball = 0.2 * goal
        if self.paper:
            ball += jnp.stack([jnp.cos(angle), goal[1] / self.goal_radius])
        else:
            ball += jnp.stack([jnp.cos(angle), jnp.sin(angle)])
            ball = self._clear_of_ant(ball, start.qpos[:2], goal)
        return Start(
            qpos=start.qpos.at[ANT_QPOS:].set(ball),
            qvel=start.qvel.at[ANT_QVEL:].set(0.0),
        ), goal

    @property
    def goal_names(self) -> tuple[str, ...] | None:
        """Name and unit of each entry of a goal."""
        return xyz("ball", axes="xy")

    def achieved_goal(self, state: RobotState) -> Float[Array, "2"]:
        """Return x and y of the ball, in metres.

        The reference code reads the goal one entry too early; no published number depends on it.
        """
        return self._object_xy(state)

    def _clear_of_ant(
        self, ball: Float[Array, "2"], ant: Float[Array, "2"], goal: Float[Array, "2"]
    ) -> Float[Array, "2"]:
        """Move a ball away from the ant until no start pose of the ant can touch it."""
        offset = ball - ant
        distance = jnp.linalg.norm(offset)
        direction = jnp.where(distance > 1e-3, offset / jnp.maximum(distance, 1e-3), goal / self.goal_radius)
        return ant + direction * jnp.maximum(distance, self.ant_reach + self.ball_radius)


class AntBallMaze(AntBall, AntMaze):
    """Push a ball through a maze to the centre of a goal cell.

    Observation, action and termination are those of `AntBall`; the goal is x, y of the ball. The ant begins in a start
    cell, as in `AntMaze`, and the ball beside it, 2 m away towards one of the free cells next to it. Start, side and
    goal are drawn uniformly. Walls stop the ball, too. The noise on the start is half that of `Ant`, with which some
    ants begin in the floor, and are thrown up.

    Args:
        maze: walls, start cells and goal cells.

    Raises:
        ConfigurationError: as `AntMaze`.
    """

    clearance = AntBall.ball_radius
    start_noise = 0.05
    ball_distance = 2.0
    """From the ant to the ball at the start, in metres."""
    ball_noise = 0.2
    """Half the range of the noise on x and y of the ball at the start, in metres."""

    def __init__(self, maze: Maze) -> None:
        super().__init__(maze)

    @cached_property
    def sides(self) -> tuple[Float[np.ndarray, "pairs 2"], Float[np.ndarray, "pairs 2"]]:
        """Centres of start cells, and directions from them to free cells next to them, which cover all such pairs."""
        walls = self.maze.walls
        steps = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
        pairs = [(cell, step) for cell in self.maze.start_cells for step in steps if not walls[tuple(cell + step)]]
        cells, directions = (np.array(each) for each in zip(*pairs, strict=True))
        return self.maze.centres(cells), directions.astype(np.float32)

    def build(self) -> mujoco.MjSpec:
        """Return the model: ant and ball between the walls."""
        spec = super().build()
        spec.geom("ball").conaffinity = OBSTACLE
        low, high = (-self.maze.cell_size, self.maze.cell_size * max(self.maze.walls.shape))
        for axis in "xy":
            spec.joint(f"ball_{axis}").range = [low, high]
        centres, directions = self.sides
        home = spec.key("home")
        home.qpos = [*list(home.qpos)[:ANT_QPOS], *(centres[0] + self.ball_distance * directions[0])]
        return spec

    def reset(self, key: PRNGKeyArray) -> tuple[Start, Float[Array, "2"]]:
        """Draw a start of the ant, a side of it for the ball, and a goal."""
        start_key, side_key, ball_key, goal_key = jax.random.split(key, 4)
        centres, directions = (jnp.asarray(each) for each in self.sides)
        side = jax.random.randint(side_key, (), 0, len(centres))
        noise = jax.random.uniform(ball_key, (2,), minval=-self.ball_noise, maxval=self.ball_noise)
        start = Ant.draw_start(self, start_key)
        ball = centres[side] + self.ball_distance * directions[side] + noise
        qpos = start.qpos.at[:2].add(centres[side] - self.home.qpos[:2]).at[ANT_QPOS:].set(ball)
        return Start(qpos=qpos, qvel=start.qvel.at[ANT_QVEL:].set(0.0)), AntMaze.draw_goal(self, goal_key)

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start without its goal."""
        return self.reset(key)[0]

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw the centre of a goal cell."""
        return AntMaze.draw_goal(self, key)

    def observations_at(self, position: Float[Array, "2"]) -> Float[Array, "8 31"]:
        """Return the observations with the ball at a position, and the ant behind it, walking in eight directions.

        Args:
            position: x and y of the ball, in metres.
        """
        behind = position - (self.ant_reach + self.ball_radius) * direction(jnp.asarray(WAYS))
        qpos, qvel = self.walking(behind)
        ball = jnp.broadcast_to(position, (len(WAYS), 2))
        return jnp.concatenate([qpos[:, :ANT_QPOS], qvel[:, :ANT_QVEL], ball], axis=-1)


class AntPush(_AntWithObject):
    """Push a block so that a passage opens, and walk to one of two places behind it.

    The scene from above, in cells of 8 m, x to the right, y up. The ant starts in S, the block M can slide, goals are
    in g:

        y = 24    # # # # #
        y = 16    # # g # #
        y = 8     # . M g #
        y = 0     # S . # #
        y = -8    # # # # #
              x = -8  0  8  16 24

    The observation (31) is that of `Ant`, followed by x and y of the block in metres. The goal is x, y of the torso:
    the centre of a cell g, plus up to 2 m on each axis. Action and termination are those of `Ant`. The ant weighs eight
    times as much. The walls are 4 m high.

    Source: the paper's environment `ant_push`. Both variants are made for MuJoCo, 5 steps of 0.01 s, and differ as
    follows:

    | | `default` | `paper` |
    |---|---|---|
    | start | noise on the quaternion, then normalised | noise on the quaternion, which then has no unit length |
    | block at the start | at rest, noise on x, y | 0.2 m above the floor, noise on x, y, z and the velocity along x |
    | block in motion | slides along x, y, dry friction 1 | also along z: a kick can throw it over the walls |
    | walls and block collide with | torso and whole legs | torso and feet; the legs pass through |

    Args:
        variant: `"default"`, or `"paper"` for the peculiarities of the reference code.

    Raises:
        ConfigurationError: if there is no such variant.
    """

    object_name = "block"
    object_position = (8.0, 8.0)
    default_torque = 150.0
    """Torque of an action of 1 in the default variant, in N m: this ant is heavy."""
    default_armature = 1.0
    """Armature of each leg's joints in the default variant, in kg m2."""
    goals = ((16.0, 8.0), (8.0, 16.0))
    """Of each square that goals are drawn from, the corner nearest to the origin, in metres."""
    goal_range = 2.0
    """Edge of these squares, in metres."""
    block_size = (3.6, 3.6, 1.8)
    """Half the edges of the block, in metres."""
    block_mass = 0.0002
    """Kilograms."""
    walls = (
        ((-4.0, 20.0), (8.0, 8.0)),
        ((8.0, 24.0), (4.0, 4.0)),
        ((20.0, 20.0), (8.0, 8.0)),
        ((-8.0, 4.0), (4.0, 8.0)),
        ((24.0, 8.0), (4.0, 4.0)),
        ((20.0, -4.0), (8.0, 8.0)),
        ((0.0, -8.0), (12.0, 4.0)),
    )
    """Centre x, y and half edges of each wall, in metres."""

    def _engines(self) -> tuple[str, ...]:
        return ("mjx", "mujoco") if self.paper else ("mujoco", "mjx")

    def build(self) -> mujoco.MjSpec:
        """Return the model: ant, walls and block."""
        spec = super().build()
        spec.option.timestep = 0.01
        for number, ((x, y), (half_x, half_y)) in enumerate(self.walls):
            spec.worldbody.add_geom(
                name=f"wall_{number}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[x, y, 2.0],
                size=[half_x, half_y, 2.0],
                contype=0 if self.paper else OBSTACLE,
                conaffinity=FLOOR if self.paper else 0,
                rgba=WALL_RGBA,
            )
        # A block this light flies up when a leg gets under its edge. Without a joint along z it cannot.
        axes, height = ("xyz", 2.0) if self.paper else ("xy", self.block_size[2])
        friction = {} if self.paper else {"frictionloss": self.block_mass * GRAVITY}
        block = spec.worldbody.add_body(name="block", pos=[*self.object_position, height])
        add_slides(block, "block", axes, limited=False, armature=0.0, damping=0.0, **friction)
        block.add_geom(
            name="block",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=list(self.block_size),
            mass=self.block_mass,
            contype=FLOOR if self.paper else OBSTACLE,
            conaffinity=FLOOR if self.paper else OBSTACLE,
            rgba=(0.80, 0.27, 0.24, 1.0),
        )
        spec.geom("torso").contype = FLOOR
        if not self.paper:
            stop_at_obstacles(spec)
        for geom in spec.geoms:
            geom.density = 40.0
            geom.solimp[:3] = (0.995, 0.995, 0.01)
        home = spec.key("home")
        home.qpos = [0.0, 0.0, 0.75, *list(home.qpos)[3:], *(0.0 for _ in axes)]
        spec.geom("floor").size[:2] = 60.0
        return spec

    def draw_start(self, key: PRNGKeyArray) -> Start:
        """Draw a start: the standing pose and the position of the block, with noise."""
        start = super().draw_start(key)
        at_rest = ANT_QVEL + 1 if self.paper else ANT_QVEL
        return Start(qpos=start.qpos, qvel=start.qvel.at[at_rest:].set(0.0))

    def draw_goal(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw one of the goal squares, and a point in it."""
        cell_key, place_key = jax.random.split(key)
        corner = jax.random.choice(cell_key, jnp.asarray(self.goals))
        return corner + jax.random.uniform(place_key, (2,), maxval=self.goal_range)
