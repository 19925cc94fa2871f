"""A disc in a maze, pushed by a force in the plane: physics in pure JAX, exact at walls."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kilolayer.envs.engines.restart import where_envs
from kilolayer.envs.mazes.maze import Maze
from kilolayer.errors import ConfigurationError


class PointPhysics(eqx.Module):
    """Positions and velocities of discs."""

    position: Float[Array, "*num_envs 2"]
    """Position x, y of the centre, in metres."""
    velocity: Float[Array, "*num_envs 2"]
    """Velocity, in metres per second."""


@dataclasses.dataclass(frozen=True, eq=False)
class PointEngine:
    """Discs of 1 kg with a force and linear drag, between walls without friction or restitution.

    A control step consists of `substeps` steps of semi-implicit Euler. After each, a disc that overlaps a wall is moved
    back to touch it and loses the velocity into it. The speed is limited to `max_speed`, so that a disc moves less than
    its radius in a substep and cannot pass through a wall.

    Raises:
        ConfigurationError: if a parameter is not positive, or a disc could pass through a wall or does not fit into a
            corridor.
    """

    maze: Maze
    radius: float = 0.25
    """Metres."""
    drag: float = 0.5
    """Newtons per metre per second."""
    max_speed: float = 10.0
    """Metres per second."""
    time_step: float = 0.1
    """Seconds in a control step."""
    substeps: int = 5

    def __post_init__(self) -> None:
        """Validate the parameters."""
        for name in ("radius", "max_speed", "time_step", "substeps"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be above 0")
        if self.max_speed * self.time_step / self.substeps >= self.radius:
            raise ConfigurationError(
                f"max_speed={self.max_speed} m/s lets a disc of radius {self.radius} m pass through a wall in a "
                f"substep of {self.time_step / self.substeps} s; increase substeps or reduce max_speed"
            )
        if 4 * self.radius > self.maze.cell_size:
            raise ConfigurationError(
                f"radius={self.radius} m is too large for cells of {self.maze.cell_size} m; "
                f"it must be at most {self.maze.cell_size / 4} m"
            )

    def init(self, start: PointPhysics) -> PointPhysics:
        """Return the starts, which are complete states."""
        return start

    def restart(self, physics: PointPhysics, start: PointPhysics, where: Bool[Array, " num_envs"]) -> PointPhysics:
        """Reset the discs selected by `where` to their starts and leave the others unchanged."""
        return where_envs(where, start, physics)

    def step(self, physics: PointPhysics, control: Float[Array, "num_envs 2"]) -> PointPhysics:
        """Apply a force (newtons) to every disc for one control step."""
        dt = self.time_step / self.substeps
        position, velocity = physics.position, physics.velocity
        for _ in range(self.substeps):
            velocity = velocity + dt * (control - self.drag * velocity)
            speed = jnp.linalg.norm(velocity, axis=-1, keepdims=True)
            velocity = velocity * jnp.minimum(1.0, self.max_speed / jnp.maximum(speed, 1e-6))
            position, velocity = self._stop_at_walls(position + dt * velocity, velocity)
        return PointPhysics(position=position, velocity=velocity)

    def _stop_at_walls(
        self, position: Float[Array, "num_envs 2"], velocity: Float[Array, "num_envs 2"]
    ) -> tuple[Float[Array, "num_envs 2"], Float[Array, "num_envs 2"]]:
        """Move discs that overlap a wall back to its surface, and remove the velocity into it."""
        cell = jnp.round(position / self.maze.cell_size).astype(jnp.int32)
        centre = cell * self.maze.cell_size
        offset = position - centre  # within ±half a cell
        wall = jnp.asarray(_walls_around(self.maze.walls))[cell[:, 0], cell[:, 1]]
        reach = 0.5 * self.maze.cell_size - self.radius

        # Faces: walls in the neighbouring cells along each axis.
        too_low = wall[:, 0:2] & (offset < -reach)
        too_high = wall[:, 2:4] & (offset > reach)
        offset = jnp.where(too_low, -reach, jnp.where(too_high, reach, offset))
        velocity = jnp.where(too_low, jnp.maximum(velocity, 0.0), velocity)
        velocity = jnp.where(too_high, jnp.minimum(velocity, 0.0), velocity)

        # Corners: the nearest diagonal neighbour touches the cell in one point. If a face neighbour is a wall, too, the
        # disc is already farther from the corner than its radius.
        side = jnp.where(offset < 0.0, -1.0, 1.0)
        diagonal = 4 + 2 * (side[:, 0] > 0).astype(jnp.int32) + (side[:, 1] > 0).astype(jnp.int32)
        from_corner = offset - side * 0.5 * self.maze.cell_size
        distance = jnp.linalg.norm(from_corner, axis=-1, keepdims=True)
        overlaps = jnp.take_along_axis(wall, diagonal[:, None], axis=1) & (distance < self.radius)
        normal = from_corner / jnp.maximum(distance, 1e-6)
        offset = jnp.where(overlaps, offset + (self.radius - distance) * normal, offset)
        inward = jnp.minimum(jnp.sum(velocity * normal, axis=-1, keepdims=True), 0.0)
        velocity = jnp.where(overlaps, velocity - inward * normal, velocity)
        return centre + offset, velocity


def _walls_around(walls: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns 8"]:
    """Return which neighbours of each cell are walls: x-, y-, x+, y+, diagonals -- -+ +- ++ (signs of x, y)."""
    padded = np.pad(walls, 1, constant_values=True)
    rows, columns = walls.shape
    neighbours = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
    return np.stack([padded[1 + i : 1 + i + rows, 1 + j : 1 + j + columns] for i, j in neighbours], axis=-1)
