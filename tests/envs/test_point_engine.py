from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.engines import PointEngine, PointPhysics
from kilolayer.envs.tasks import PointMaze
from kilolayer.errors import ConfigurationError

NUM_DISCS = 64
NUM_STEPS = 2000
PERIOD = 50
ROOM = "#######\n#R....#\n#.....#\n#.....#\n#.....#\n#....G#\n#######"
BLOCK = "#######\n#R....#\n#.....#\n#..#..#\n#.....#\n#....G#\n#######"

Force = Callable[[jax.Array, jax.Array], jax.Array]
"""Forces on all discs, from their positions and a key that changes every PERIOD steps only."""


def gap_to_walls(maze: Maze, positions: np.ndarray) -> np.ndarray:
    """Distance from each point to the nearest wall square, in metres."""
    gap = np.full(positions.shape[:-1], np.inf)
    for cell in np.argwhere(maze.walls):
        outside = np.maximum(np.abs(positions - cell * maze.cell_size) - 0.5 * maze.cell_size, 0.0)
        gap = np.minimum(gap, np.hypot(outside[..., 0], outside[..., 1]))
    return gap


def legal_starts(engine: PointEngine, count: int, seed: int) -> PointPhysics:
    """Discs anywhere in the maze, half of them pressed against a wall of their cell, at any speed allowed."""
    maze, random = engine.maze, np.random.default_rng(seed)
    reach = 0.5 * maze.cell_size - engine.radius
    cells = random.choice(maze.free_cells, 20 * count)
    offset = random.uniform(-0.5, 0.5, (20 * count, 2)) * maze.cell_size
    touching = random.random(20 * count) < 0.5
    offset[touching] = np.clip(offset[touching] * 4, -reach, reach)
    places = cells * maze.cell_size + offset
    places = places[gap_to_walls(maze, places) >= engine.radius - 1e-9][:count]
    assert len(places) == count
    angle = random.uniform(0, 2 * np.pi, count)
    speed = random.uniform(0, engine.max_speed, count)
    return PointPhysics(
        position=jnp.asarray(places, jnp.float32),
        velocity=jnp.asarray(speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1), jnp.float32),
    )


def constant_direction(engine: PointEngine, newtons: float) -> Force:
    def force(position: jax.Array, key: jax.Array) -> jax.Array:
        angle = jax.random.uniform(key, position.shape[:1], maxval=2 * jnp.pi)
        return newtons * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    return force


def towards_a_near_corner(engine: PointEngine, newtons: float) -> Force:
    """At the corner of a wall that is nearest, or the second or third nearest, for a while."""
    cells = np.argwhere(engine.maze.walls)
    corners = np.concatenate([cells + np.array([di, dj]) for di in (-0.5, 0.5) for dj in (-0.5, 0.5)])
    corners = jnp.asarray(np.unique(corners, axis=0) * engine.maze.cell_size, jnp.float32)

    def force(position: jax.Array, key: jax.Array) -> jax.Array:
        towards = corners - position[:, None]
        distance = jnp.linalg.norm(towards, axis=-1)
        _, nearest = jax.lax.top_k(-distance, 3)
        rank = jax.random.randint(key, position.shape[:1], 0, 3)
        chosen = jnp.take_along_axis(nearest, rank[:, None], axis=1)
        direction = jnp.take_along_axis(towards, chosen[..., None], axis=1)[:, 0]
        return newtons * direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)

    return force


def roll(engine: PointEngine, force: Force, start: PointPhysics, num_steps: int) -> PointPhysics:
    """States after each control step, time first."""

    def step(physics: PointPhysics, time: jax.Array) -> tuple[PointPhysics, PointPhysics]:
        key = jax.random.fold_in(jax.random.key(5), time // PERIOD)
        physics = engine.step(physics, force(physics.position, key))
        return physics, physics

    return jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(num_steps))[1])(start)


EVERY_SUBSTEP = {"time_step": 0.02, "substeps": 1}


@pytest.mark.parametrize("policy", [constant_direction, towards_a_near_corner])
@pytest.mark.parametrize(
    ("layout", "settings", "newtons"),
    [
        pytest.param("u", {}, 5.0, id="u"),
        pytest.param("u4", {"radius": "largest"} | EVERY_SUBSTEP, 20.0, id="u4, largest disc"),
        pytest.param("big", {"max_speed": 12.49} | EVERY_SUBSTEP, 500.0, id="big, as fast as allowed"),
        pytest.param("hardest", {}, 5.0, id="hardest"),
        pytest.param("hardest", EVERY_SUBSTEP, 50.0, id="hardest, every substep"),
        pytest.param("hardest", {"radius": 0.05, "max_speed": 2.4} | EVERY_SUBSTEP, 50.0, id="hardest, small disc"),
    ],
)
def test_no_disc_enters_or_passes_a_wall(
    policy: Callable[[PointEngine, float], Force], layout: str, settings: dict, newtons: float
) -> None:
    maze = Maze(LAYOUTS[layout])
    if settings.get("radius") == "largest":
        settings = settings | {"radius": maze.cell_size / 4}
    engine = PointEngine(maze, **settings)
    start = legal_starts(engine, NUM_DISCS, seed=len(layout))
    states = roll(engine, policy(engine, newtons), start, NUM_STEPS)
    positions = np.asarray(states.position, float)
    assert positions[..., 0].size >= 100_000
    assert np.isfinite(positions).all()
    gap = gap_to_walls(maze, positions)
    assert gap.min() >= engine.radius - 1e-4
    assert np.linalg.norm(states.velocity, axis=-1).max() <= engine.max_speed * (1 + 1e-5)
    # The policies do press discs against walls, and discs do get about.
    assert (gap < engine.radius + 1e-3).mean() > 0.2
    assert len(np.unique(np.round(positions / maze.cell_size).reshape(-1, 2), axis=0)) > 5
    if engine.substeps == 1:  # two cells that meet in a corner are 2 sqrt(2) radii apart for a disc
        moves = np.diff(positions, axis=0, prepend=np.asarray(start.position, float)[None])
        assert np.linalg.norm(moves, axis=-1).max() < 2 * engine.radius


@pytest.mark.parametrize("layout", ["u", "big", "hardest"])
def test_a_disc_at_rest_stays_wherever_it_fits(layout: str) -> None:
    engine = PointEngine(Maze(LAYOUTS[layout]))
    start = legal_starts(engine, 1000, seed=0)
    at_rest = PointPhysics(position=start.position, velocity=jnp.zeros_like(start.velocity))
    after = engine.step(engine.init(at_rest), jnp.zeros((1000, 2)))
    np.testing.assert_allclose(after.position, start.position, atol=2e-6)
    np.testing.assert_array_equal(after.velocity, 0.0)


def free_motion(
    position: np.ndarray, velocity: np.ndarray, forces: np.ndarray, engine: PointEngine
) -> tuple[np.ndarray, np.ndarray, int]:
    """Semi-implicit Euler in float64, disc by disc, without walls; and how often the speed was capped."""
    position, velocity = position.astype(float), velocity.astype(float)
    dt = engine.time_step / engine.substeps
    capped = 0
    for force in forces:
        for disc in range(len(position)):
            for _ in range(engine.substeps):
                velocity[disc] += (force[disc] - engine.drag * velocity[disc]) * dt
                speed = np.sqrt((velocity[disc] ** 2).sum())
                if speed > engine.max_speed:
                    velocity[disc] *= engine.max_speed / speed
                    capped += 1
                position[disc] += velocity[disc] * dt
    return position, velocity, capped


@pytest.mark.parametrize(
    ("settings", "newtons", "capped"),
    [
        ({}, 5.0, False),
        ({"drag": 0.0, "max_speed": 3.0}, 20.0, True),
        ({"drag": 3.0, "time_step": 0.06, "substeps": 3}, 40.0, True),
    ],
)
def test_free_motion_is_semi_implicit_euler_with_drag_and_a_speed_cap(
    settings: dict, newtons: float, capped: bool
) -> None:
    wide = 60
    maze = Maze(
        "\n".join(["#" * wide, "#RG" + "." * (wide - 4) + "#", *["#" + "." * (wide - 2) + "#"] * 57, "#" * wide])
    )
    engine = PointEngine(maze, **settings)
    random = np.random.default_rng(0)
    position = random.uniform(40, 50, (16, 2)).astype(np.float32)
    velocity = random.normal(size=(16, 2)).astype(np.float32)
    forces = newtons * random.uniform(-0.25, 1, (30, 16, 2)).astype(np.float32)
    physics = PointPhysics(position=jnp.asarray(position), velocity=jnp.asarray(velocity))
    step = jax.jit(engine.step)
    for force in forces:
        physics = step(physics, jnp.asarray(force))
    end_position, end_velocity, times_capped = free_motion(position, velocity, forces, engine)
    assert gap_to_walls(maze, end_position).min() > 1.0
    np.testing.assert_allclose(physics.position, end_position, atol=2e-4)
    np.testing.assert_allclose(physics.velocity, end_velocity, atol=2e-5)
    assert (times_capped > 0) == capped
    assert np.abs(end_position - position).max() > 3.0


def test_a_constant_force_leads_to_force_over_drag() -> None:
    wide = 60
    maze = Maze("\n".join(["#" * wide, "#RG" + "." * (wide - 4) + "#", "#" * wide]))
    engine = PointEngine(maze)
    along_y = jnp.array([[maze.cell_size, maze.cell_size]])
    physics = PointPhysics(position=along_y, velocity=jnp.zeros((1, 2)))
    force = jnp.array([[0.0, 2.0]])
    physics = jax.jit(lambda physics: jax.lax.fori_loop(0, 150, lambda _, p: engine.step(p, force), physics))(physics)
    np.testing.assert_allclose(physics.velocity, [[0.0, 2.0 / engine.drag]], rtol=2e-3)


def one(position: list[float] | np.ndarray, velocity: list[float] | np.ndarray) -> PointPhysics:
    return PointPhysics(position=jnp.asarray([position], jnp.float32), velocity=jnp.asarray([velocity], jnp.float32))


SIDES = [(1, 0), (-1, 0), (0, 1), (0, -1)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("along", [1.5, -1.5])
def test_a_disc_pushed_into_a_wall_slides_along_it(side: tuple[int, int], along: float) -> None:
    engine = PointEngine(Maze(ROOM), drag=0.0)
    cell_size, normal = engine.maze.cell_size, np.array(side, float)
    tangent = normal[::-1]
    touching = cell_size * (3 + 2.5 * normal) - engine.radius * normal
    after = engine.step(one(touching, 2.0 * normal + along * tangent), jnp.asarray([3.0 * normal], jnp.float32))
    np.testing.assert_allclose(after.velocity[0], along * tangent, atol=1e-6)
    np.testing.assert_allclose(after.position[0], touching + along * engine.time_step * tangent, atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_friction_does_not_act_at_a_wall(side: tuple[int, int]) -> None:
    engine = PointEngine(Maze(ROOM))
    normal = np.array(side, float)
    tangent = normal[::-1]
    middle = engine.maze.cell_size * np.array([3.0, 3.0])
    touching = middle + (2.5 * engine.maze.cell_size - engine.radius) * normal
    push = jnp.asarray([5.0 * normal + 2.0 * tangent], jnp.float32)
    at_wall = engine.step(one(touching, tangent), push)
    in_the_open = engine.step(one(middle, tangent), push)
    moved, moved_freely = (
        (at_wall.position[0] - touching) @ tangent,
        (in_the_open.position[0] - middle) @ tangent,
    )
    np.testing.assert_allclose(moved, moved_freely, atol=1e-5)
    np.testing.assert_allclose(at_wall.velocity[0] @ tangent, in_the_open.velocity[0] @ tangent, atol=1e-5)
    np.testing.assert_allclose(at_wall.velocity[0] @ normal, 0.0, atol=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_a_disc_leaves_a_wall_freely(side: tuple[int, int]) -> None:
    engine = PointEngine(Maze(ROOM), drag=0.0)
    normal = np.array(side, float)
    touching = engine.maze.cell_size * (3 + 2.5 * normal) - engine.radius * normal
    after = engine.step(one(touching, -2.0 * normal), jnp.zeros((1, 2)))
    np.testing.assert_allclose(after.velocity[0], -2.0 * normal, atol=1e-6)
    np.testing.assert_allclose(after.position[0], touching - 2.0 * engine.time_step * normal, atol=1e-5)


def test_a_disc_in_a_nook_stays_there() -> None:
    engine = PointEngine(Maze(ROOM))
    nook = np.full(2, 5.5 * engine.maze.cell_size - engine.radius)
    after = engine.step(one(nook - 0.05, [4.0, 3.0]), jnp.array([[5.0, 5.0]]))
    np.testing.assert_allclose(after.position[0], nook, atol=1e-5)
    np.testing.assert_allclose(after.velocity[0], 0.0, atol=1e-6)


@pytest.mark.parametrize("degrees", [5.0, 30.0, 45.0, 80.0])
@pytest.mark.parametrize(("row_side", "column_side"), [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_a_disc_slides_round_a_corner(degrees: float, row_side: int, column_side: int) -> None:
    engine = PointEngine(Maze(BLOCK), drag=0.0, time_step=0.02, substeps=1)
    side = np.array([row_side, column_side])
    corner = engine.maze.cell_size * (3 + 0.5 * side)
    normal = side * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    tangent = np.array([-normal[1], normal[0]])
    velocity = 0.5 * tangent - 3.0 * normal
    start = corner + engine.radius * normal
    after = engine.step(one(start, velocity), jnp.zeros((1, 2)))
    from_corner = np.asarray(after.position[0], float) - corner
    new_normal = from_corner / np.linalg.norm(from_corner)
    new_tangent = np.array([-new_normal[1], new_normal[0]])
    assert np.linalg.norm(from_corner) == pytest.approx(engine.radius, abs=1e-5)
    assert new_normal @ tangent > 0.01
    np.testing.assert_allclose(after.velocity[0] @ new_normal, 0.0, atol=1e-5)
    np.testing.assert_allclose(after.velocity[0] @ new_tangent, velocity @ new_tangent, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_speed": 12.5}, ["max_speed=12.5", "radius 0.25", "increase substeps or reduce max_speed"]),
        ({"substeps": 4}, ["max_speed=10.0", "increase substeps"]),
        ({"time_step": 1.0}, ["substep of 0.2 s"]),
        ({"radius": 0.2}, ["radius 0.2 m"]),
        ({"radius": 0.51}, ["radius=0.51", "cells of 2.0 m", "at most 0.5"]),
    ],
)
def test_discs_that_could_pass_a_wall_or_do_not_fit_are_refused(settings: dict, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        PointEngine(Maze(ROOM, cell_size=2.0), **settings)
    for part in said:
        assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("settings", [{"max_speed": 12.49}, {"radius": 0.5}, {"radius": 0.21}, {"substeps": 100}])
def test_discs_that_just_fit_are_accepted(settings: dict) -> None:
    engine = PointEngine(Maze(ROOM, cell_size=2.0), **settings)
    assert {name: getattr(engine, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("radius", 0.0), ("max_speed", -1.0), ("time_step", 0.0), ("time_step", float("nan")), ("substeps", 0)],
)
def test_numbers_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"{name}={value} must be above 0"):
        PointEngine(Maze(LAYOUTS["u"]), **{name: value})


def test_starts_inside_walls_and_cells_without_size_are_refused():
    with pytest.raises(ConfigurationError, match=r"start_noise=0\.6"):
        PointMaze(Maze(LAYOUTS["u"]), start_noise=0.6)
    with pytest.raises(ConfigurationError, match="cell_size=0"):
        Maze(LAYOUTS["u"], cell_size=0.0)
