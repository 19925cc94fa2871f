import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from ants import GRID, gap_to_walls, in_a_storm, may_touch, robot_state, thrash, touching

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.interface import MazeTask
from kilolayer.envs.tasks import Ant, AntCorridor, AntMaze
from kilolayer.errors import ConfigurationError

VARIANTS = ("default", "paper")
HOME = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]


def maze(layout="u"):
    return Maze(LAYOUTS[layout], cell_size=GRID)


def draw(function, count, seed=0):
    """Call a function of a key many times."""
    return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count))


def tasks(variant="default"):
    return [Ant(variant), AntMaze(maze(), variant), AntCorridor(maze(), [1, 2, 3], variant)]


# The model


def test_masses_and_inertias_are_those_of_brax():
    model = Ant().model
    leg = [0.03915775, 0.0675922]
    np.testing.assert_allclose(model.body_mass, [0, 0.48388025, *4 * leg], rtol=1e-6)
    assert model.body_mass.sum() == pytest.approx(0.91088, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_model_is_that_of_brax():
    mjcf = pytest.importorskip("brax.io.mjcf")
    epath = pytest.importorskip("etils.epath")
    theirs, ours = mjcf.load_mjmodel(epath.resource_path("brax") / "envs/assets/ant.xml"), Ant("paper").model
    fields = (
        "body_mass body_inertia body_ipos body_iquat body_pos body_quat body_parentid "
        "jnt_type jnt_axis jnt_range jnt_limited jnt_pos jnt_solref jnt_solimp dof_armature dof_damping "
        "actuator_gear actuator_ctrlrange actuator_ctrllimited actuator_trnid actuator_gainprm actuator_biasprm"
    )
    for field in fields.split():
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-12, err_msg=field)
    numerics = {theirs.numeric(number).name: theirs.numeric(number).data for number in range(theirs.nnumeric)}
    for number in range(ours.nnumeric):
        assert ours.numeric(number).data == numerics[ours.numeric(number).name]


def test_joints_and_actuators_are_in_their_orders():
    model = Ant().model
    legs = [f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle")]
    assert [model.joint(number).name for number in range(model.njnt)] == ["root", *legs]
    assert [model.actuator(number).name for number in range(model.nu)] == [*legs[-2:], *legs[:-2]]
    for number in range(model.nu):
        assert model.joint(model.actuator_trnid[number, 0]).name == model.actuator(number).name


def test_everything_has_a_name():
    model = AntMaze(maze()).model
    for accessor, count in (
        (model.body, model.nbody),
        (model.geom, model.ngeom),
        (model.joint, model.njnt),
        (model.actuator, model.nu),
    ):
        assert all(accessor(number).name for number in range(count))


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_and_time(variant):
    for task in tasks(variant):
        assert (task.observation_size, task.goal_size, task.action_size) == (29, 2, 8)
        assert task.model.opt.timestep == (0.005 if variant == "paper" else 0.01)
        assert task.model.opt.timestep * task.substeps == pytest.approx(0.05)


def test_engines():
    assert Ant().engines == ("mujoco", "mjx")
    assert Ant("paper").engines[0] == "spring"


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigurationError, match="variant='papr' must be one of 'default', 'paper'"):
        Ant("papr")


def test_narrow_mazes_are_refused():
    with pytest.raises(ConfigurationError, match=r"cell_size=1.5 m of the maze must be at least 2.5 m"):
        AntMaze(Maze(LAYOUTS["u"], cell_size=1.5))


# Contacts


@pytest.mark.parametrize("variant", VARIANTS)
def test_on_plain_floor_only_the_feet_touch_it(variant):
    assert may_touch(Ant(variant).model) == {("floor", "foot"): 4}


def test_contacts_among_walls():
    task = AntMaze(maze())
    walls = sum(task.model.geom(number).name.startswith("wall") for number in range(task.model.ngeom))
    assert may_touch(task.model) == {
        ("floor", "foot"): 4,
        ("torso", "wall"): walls,
        ("hip", "wall"): 4 * walls,
        ("shin", "wall"): 4 * walls,
    }


def test_contacts_among_walls_in_the_paper():
    task = AntMaze(maze(), "paper")
    walls = sum(task.model.geom(number).name.startswith("wall") for number in range(task.model.ngeom))
    assert may_touch(task.model) == {
        ("floor", "foot"): 4,
        ("foot", "foot"): 6,
        ("foot", "torso"): 4,
        ("aux", "foot"): 16,
        ("torso", "wall"): walls,
        ("aux", "wall"): 4 * walls,
        ("foot", "wall"): 4 * walls,
    }


def test_the_walls_cover_the_cells_of_the_maze():
    task = AntMaze(maze("big"))
    centres = np.stack(np.meshgrid(*map(np.arange, task.maze.walls.shape), indexing="ij"), axis=-1) * GRID
    gap = gap_to_walls(task.model, centres)
    np.testing.assert_array_equal(gap < 0, task.maze.walls)
    assert gap[~task.maze.walls].min() == pytest.approx(GRID / 2)
    heights = [task.model.geom_size[n, 2] * 2 for n in range(task.model.ngeom) if "wall" in task.model.geom(n).name]
    assert set(heights) == {2.0}


@pytest.mark.parametrize("variant", VARIANTS)
def test_legs_stop_at_walls_or_go_through(variant):
    task = AntMaze(maze(), variant)
    # The wall begins at x = 2; an ant as high as this has its feet in the air, and turned by 45 degrees a leg ahead.
    pose = np.array([2.5, 4, 0.9, np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8), *HOME[7:]])
    through = touching(task, pose)
    assert ("hip", "wall") in through or variant == "paper"
    assert ("shin", "wall") in through or variant == "paper"
    if variant == "paper":
        assert {pair for pair in through if "wall" in pair} <= {("foot", "wall")}
    assert touching(task, np.array([4, 4, 0.9, *HOME[3:]])) == set()


def test_feet_alone_hold_the_ant():
    for variant in VARIANTS:
        assert touching(AntMaze(maze(), variant), np.array([4, 4, 0.5, *HOME[3:]])) == {("floor", "foot")}
        assert touching(AntMaze(maze(), variant), np.array([4, 4, 0.2, *HOME[3:]])) == {("floor", "foot")}


# Observation, goals, ends


@pytest.mark.parametrize("task", tasks())
def test_observation(task):
    qpos, qvel = np.arange(1, 16, dtype=np.float32), np.arange(101, 115, dtype=np.float32)
    qpos[3:7] = 0.5
    state = robot_state(task, qpos, qvel)
    observation = task.observe(state)
    np.testing.assert_array_equal(observation[:15], qpos)
    np.testing.assert_array_equal(observation[15:], qvel)
    np.testing.assert_array_equal(task.achieved_goal(state), observation[:2])


def test_linear_velocity_is_in_world_axes_and_angular_velocity_in_the_bodys():
    model = Ant().model
    data = mujoco.MjData(model)
    turned = [np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)]
    data.qpos = [0, 0, 5, *turned, *HOME[7:]]
    data.qvel = [1, 0, 0, 0.1, 0, 0, *8 * [0]]
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    mujoco.mj_forward(model, data)
    assert data.body("torso").cvel[3] == pytest.approx(1, abs=0.2)
    np.testing.assert_allclose(data.body("torso").cvel[:3], [0, 0.1, 0], atol=1e-6)


def test_actions_are_controls():
    action = jnp.linspace(-1, 1, 8)
    np.testing.assert_array_equal(Ant().control(action), action)


def test_goals_are_on_the_circle():
    goals = np.asarray(draw(Ant().draw_goal, 1000))
    np.testing.assert_allclose(np.linalg.norm(goals, axis=-1), 10.0, rtol=1e-5)
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() > 90


def test_goals_are_goal_cells():
    task = AntMaze(maze("big_eval"))
    goals = np.asarray(draw(task.draw_goal, 2000))
    seen, counts = np.unique(goals, axis=0, return_counts=True)
    np.testing.assert_array_equal(seen, task.maze.goal_cells * GRID)
    assert counts.min() > 150


def test_starts_are_start_cells():
    task = AntMaze(Maze("#######\n#R.G.R#\n#######", cell_size=GRID))
    places = np.asarray(draw(task.draw_start, 500).qpos[:, :2])
    for column in (1, 5):
        near = np.abs(places - [4.0, 4.0 * column]).max(axis=-1) <= 0.1 + 1e-6
        assert 200 < near.sum() < 300
    np.testing.assert_allclose(task.home.qpos, [4, 4, *HOME[2:]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_starts_are_the_standing_pose_with_noise(variant):
    task = Ant(variant)
    start = draw(task.draw_start, 2000)
    if task.unit_quaternions:
        start = task.completed(start)
    qpos, qvel = np.asarray(start.qpos), np.asarray(start.qvel)
    noise = qpos - np.asarray(HOME)
    for entry in [0, 1, 2, *range(7, 15), *([3, 4, 5, 6] if variant == "paper" else [])]:
        assert 0.095 < np.abs(noise[:, entry]).max() <= 0.1 + 1e-6
        assert noise[:, entry].std() == pytest.approx(0.2 / np.sqrt(12), rel=0.06)
    np.testing.assert_allclose(qvel.std(axis=0), 0.1, rtol=0.08)
    lengths = np.linalg.norm(qpos[:, 3:7], axis=-1)
    if variant == "paper":
        assert lengths.min() < 0.95
        assert lengths.max() > 1.05
    else:
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)


def test_episodes_differ_by_key_and_repeat_by_key():
    for task in tasks():
        reset = jax.jit(jax.vmap(task.reset))
        start, goal = reset(jax.random.split(jax.random.key(0), 50))
        again, same_goal = reset(jax.random.split(jax.random.key(0), 50))
        assert len(np.unique(np.asarray(start.qpos)[:, 3:], axis=0)) == 50
        assert len(np.unique(np.asarray(goal), axis=0)) > 4
        np.testing.assert_array_equal(start.qpos, again.qpos)
        np.testing.assert_array_equal(goal, same_goal)


def test_success_is_nearer_than_half_a_metre():
    task, goal = Ant(), jnp.array([3.0, 4.0])
    assert task.success(goal + jnp.array([0.0, 0.499]), goal)
    assert not task.success(goal + jnp.array([0.0, 0.501]), goal)
    assert task.reward(goal + 3.0, goal) == pytest.approx(-3 * np.sqrt(2))


@pytest.mark.parametrize(("height", "failed"), [(0.19, True), (0.21, False), (0.99, False), (1.01, True)])
def test_an_episode_is_lost_when_the_torso_is_too_low_or_too_high(height, failed):
    task = Ant()
    assert bool(task.failed(robot_state(task, np.array([0, 0, height, *HOME[3:]])))) is failed


def test_the_marker_is_as_wide_as_the_goal():
    place, radius = Ant().marker(np.array([3.0, 4.0], np.float32))
    np.testing.assert_array_equal(place, np.array([3.0, 4.0, 0.5], np.float32))
    assert radius == 0.5


def test_maze_tasks_tell_what_maps_of_value_need():
    task = AntMaze(maze())
    assert isinstance(task, MazeTask)
    assert task.clearance == 0.25
    states = np.asarray(task.observations_at(jnp.array([4.0, 8.0])))
    assert states.shape == (8, task.observation_size)
    np.testing.assert_array_equal(states[:, :3], np.tile(np.array([4.0, 8.0, 0.55], np.float32), (8, 1)))
    np.testing.assert_allclose(np.linalg.norm(states[:, 3:7], axis=-1), 1.0, rtol=1e-6)
    # Ants run the way they face.
    yaw = 2 * np.arctan2(states[:, 6], states[:, 3])
    np.testing.assert_allclose(states[:, 15:17], np.stack([np.cos(yaw), np.sin(yaw)], axis=-1), atol=1e-6)
    assert len(np.unique(yaw.round(3))) == 8


# Corridors


def test_pairs_along_the_corridor_are_as_likely_as_in_the_paper():
    task = AntCorridor(maze(), [1, 2, 3])
    number = 60_000
    start, goal = draw(task.reset, number)
    cells = {tuple(cell): index for index, cell in enumerate(task.corridor.path.tolist())}
    first = [cells[tuple(cell)] for cell in np.rint(np.asarray(start.qpos)[:, :2] / GRID).astype(int).tolist()]
    last = [cells[tuple(cell)] for cell in np.rint(np.asarray(goal) / GRID).astype(int).tolist()]
    pairs, counts = np.unique(np.stack([first, last], axis=-1), axis=0, return_counts=True)
    expected = {1: 1 / 18, 2: 1 / 15, 3: 1 / 12}
    assert len(pairs) == 15
    probability = np.array([expected[b - a] for a, b in pairs.tolist()])
    assert probability.sum() == pytest.approx(1.0)
    chi_square = np.sum((counts - number * probability) ** 2 / (number * probability))
    assert chi_square < 36.1  # its 99.9th percentile with 14 degrees of freedom


@pytest.mark.parametrize("variant", VARIANTS)
def test_starts_in_corridors_are_exact_in_x_and_y_alone(variant):
    task = AntCorridor(maze("u5"), [2, 16], variant)
    start, goal = draw(task.reset, 200)
    for places in (np.asarray(start.qpos)[:, :2], np.asarray(goal)):
        np.testing.assert_array_equal(places, np.rint(places / GRID) * GRID)
    assert np.asarray(start.qpos)[:, 2].std() > 0.04
    assert np.asarray(start.qvel).std() > 0.09


def test_what_is_no_corridor_is_refused():
    with pytest.raises(ConfigurationError, match="7 must be from 1 to 6"):
        AntCorridor(maze(), [1, 7])
    with pytest.raises(ConfigurationError, match="the maze is not a single corridor"):
        AntCorridor(maze("big"), [1])


# In motion


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks(), ids=lambda task: type(task).__name__)
def test_random_actions_lead_to_numbers(task):
    observations, _ = thrash(task, num_envs=64, steps=1000)
    assert np.isfinite(observations).all()


@pytest.mark.parametrize(("angle", "force", "steps"), [(0.3, 6.0, 250), (3.5, 20.0, 250)])
def test_walls_hold_ants_back(angle, force, steps):
    task = in_a_storm(AntMaze, angle, force)(maze())
    observations, _ = thrash(task, num_envs=50, steps=steps, hold=0.8)
    gap = gap_to_walls(task.model, observations[..., :2])
    assert (gap < 0.4).mean() > 0.01, "no ant came near a wall"
    assert gap.min() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["u", "big"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_walls_hold_ants_back_for_long(layout, variant):
    for angle in (0.3, 1.9, 3.5, 5.0):
        task = in_a_storm(AntMaze, angle, 12.0)(maze(layout), variant)
        observations, _ = thrash(task, num_envs=25, steps=1000, hold=0.8)
        assert gap_to_walls(task.model, observations[..., :2]).min() > 0.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_papers_ant_moves_as_in_the_reference():
    pytest.importorskip("brax")
    from kilolayer.envs.engines.spring import SpringEngine

    task = Ant("paper")
    engine = SpringEngine(task)
    start = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), task.home)
    control = jnp.stack([jnp.zeros(8), jnp.full(8, 0.5)])

    def step(state, _):
        state = engine.step(state, control)
        return state, state.qpos

    _, qpos = jax.jit(lambda state: jax.lax.scan(step, state, None, length=100))(engine.init(start))
    still, driven = np.asarray(qpos[:, 0]), np.asarray(qpos[:, 1])

    steps = np.array([1, 2, 5, 10, 50, 100]) - 1
    np.testing.assert_allclose(still[steps, 2], [0.5468, 0.5485, 0.5496, 0.5484, 0.5445, 0.5397], atol=6e-5)
    np.testing.assert_allclose(still[:, :2], 0.0, atol=1e-4)
    np.testing.assert_allclose(np.abs(still[99, [8, 14]]), [0.971, 0.951], atol=6e-4)
    expected = [
        (0.0095, -0.0002, 0.5449),
        (0.0799, -0.0097, 0.4725),
        (0.0523, -0.0122, 0.4901),
        (0.0474, -0.0022, 0.4861),
        (0.0506, -0.0090, 0.4859),
    ]
    np.testing.assert_allclose(driven[np.array([1, 5, 10, 20, 50]) - 1, :3], expected, atol=6e-5)
