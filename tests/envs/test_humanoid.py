from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, Maze
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.interface import MazeTask
from kilolayer.envs.robot_task import RobotState, RobotTask, Start
from kilolayer.envs.tasks import Humanoid
from kilolayer.errors import ConfigurationError

VARIANTS = ("default", "paper")
MASSES = [8.9075, 2.2619, 6.6162, 4.7518, 4.5228, 4.7518, 4.5228, 1.6611, 1.2295, 1.6611, 1.2295]
LEG = ("hip_x", "hip_z", "hip_y", "knee")
ARM = ("shoulder1", "shoulder2", "elbow")
LIMBS = [f"{side}_{joint}" for limb in (LEG, ARM) for side in ("right", "left") for joint in limb]
JOINTS = ["abdomen_z", "abdomen_y", "abdomen_x", *LIMBS]
MOTORS = ["abdomen_y", "abdomen_z", "abdomen_x", *LIMBS]


def maze(layout="u"):
    return Maze(LAYOUTS[layout], cell_size=2.0)


def mj_data(task, qpos, qvel):
    data = mujoco.MjData(task.model)
    data.qpos, data.qvel = qpos, qvel
    mujoco.mj_forward(task.model, data)
    return data


def robot_state(task: RobotTask, data: mujoco.MjData, control: np.ndarray | None = None) -> RobotState:
    """A robot as MuJoCo has it."""
    ids = [task.model.body(name).id for name in task.tracked_bodies]
    twists = np.empty((len(ids), 6))
    for row, number in zip(twists, ids, strict=True):
        mujoco.mj_objectVelocity(task.model, data, mujoco.mjtObj.mjOBJ_XBODY, number, row, 0)
    return RobotState(
        qpos=jnp.asarray(data.qpos, jnp.float32),
        qvel=jnp.asarray(data.qvel, jnp.float32),
        control=jnp.zeros(task.model.nu) if control is None else jnp.asarray(control, jnp.float32),
        position=jnp.asarray(data.xpos[ids], jnp.float32),
        quaternion=jnp.asarray(data.xquat[ids], jnp.float32),
        velocity=jnp.asarray(twists[:, 3:], jnp.float32),
        angular_velocity=jnp.asarray(twists[:, :3], jnp.float32),
        engine=None,
    )


def standing(task, goal=(3.0, 0.0)):
    """A humanoid in its zero pose at rest, as MuJoCo has it."""
    qpos = np.array(task.home.qpos, float)
    if task.variant == "paper":
        qpos[-2:] = goal
    return mj_data(task, qpos, np.zeros(task.model.nv))


def anyhow(task, seed=0):
    """A humanoid in some pose, moving somehow, as MuJoCo has it."""
    random = np.random.default_rng(seed)
    qpos = np.array(task.home.qpos, float) + random.uniform(-0.5, 0.5, task.model.nq)
    qpos[3:7] /= np.linalg.norm(qpos[3:7])
    return mj_data(task, qpos, random.normal(size=task.model.nv))


def blocks(task, observation):
    """Split an observation: positions, velocities, inertias with masses, velocities of the links, torques."""
    model, links = task.model, len(task.tracked_bodies)
    ends = np.cumsum([model.nq, model.nv, 10 * links, 6 * links])
    qpos, qvel, inertias, velocities, torques = np.split(np.asarray(observation), ends)
    return qpos, qvel, inertias.reshape(-1, 10), velocities.reshape(-1, 6), torques


def draw(task, count, seed=0):
    return jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(seed), count))


# The model


@pytest.mark.filterwarnings("ignore")
def test_the_model_is_that_of_brax():
    mjcf = pytest.importorskip("brax.io.mjcf")
    epath = pytest.importorskip("etils.epath")
    xml = mjcf.fuse_bodies((epath.resource_path("brax") / "envs/assets/humanoid.xml").read_text())
    # The edit that the paper's code makes: all geoms of the body collide.
    theirs = mujoco.MjModel.from_xml_string(xml.replace('contype="0"', 'contype="1"'))
    ours = Humanoid().model
    fields = (
        "body_mass body_inertia body_ipos body_iquat body_pos body_quat body_parentid "
        "jnt_type jnt_axis jnt_range jnt_limited jnt_pos jnt_stiffness jnt_solref jnt_solimp dof_armature dof_damping "
        "geom_type geom_pos geom_quat geom_contype geom_conaffinity geom_condim geom_friction geom_margin geom_bodyid "
        "actuator_gear actuator_ctrlrange actuator_ctrllimited actuator_trnid actuator_gainprm actuator_biasprm"
    )
    for field in fields.split():
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=2e-6, err_msg=field)
    np.testing.assert_allclose(ours.geom_size[1:], theirs.geom_size[1:], atol=1e-12)
    assert (ours.opt.timestep, ours.opt.iterations) == (theirs.opt.timestep, theirs.opt.iterations)
    ours, theirs = (
        {model.numeric(number).name: list(model.numeric(number).data) for number in range(model.nnumeric)}
        for model in (ours, theirs)
    )
    assert ours == theirs


def test_masses():
    np.testing.assert_allclose(Humanoid().model.body_mass[1:], MASSES, atol=5e-5)
    paper = Humanoid(variant="paper").model
    np.testing.assert_allclose(paper.body_mass[1:], [*MASSES, 1.0], atol=5e-5)
    assert paper.body_mass.sum() == pytest.approx(43.1160, abs=5e-5)


@pytest.mark.parametrize(
    ("variant", "in_maze", "observation_size", "timestep", "substeps", "control_step"),
    [
        ("default", False, 246, 0.003, 5, 0.015),
        ("default", True, 246, 0.003, 5, 0.015),
        ("paper", False, 268, 0.003, 10, 0.030),
        ("paper", True, 268, 0.0015, 10, 0.015),
    ],
)
def test_sizes_and_time(variant, in_maze, observation_size, timestep, substeps, control_step):
    task = Humanoid(maze() if in_maze else None, variant)
    assert (task.observation_size, task.goal_size, task.action_size) == (observation_size, 3, 17)
    assert task.model.opt.timestep == timestep
    assert (task.substeps, task.control_step) == (substeps, control_step)


def test_joints_and_motors_are_in_their_orders():
    model = Humanoid().model
    assert [model.joint(number).name for number in range(1, model.njnt)] == JOINTS
    assert [model.actuator(number).name for number in range(model.nu)] == MOTORS


def test_gears():
    legs = [100, 100, 300, 200]
    np.testing.assert_array_equal(Humanoid().model.actuator_gear[:, 0], [100, 100, 100, *legs, *legs, *6 * [25]])
    paper = Humanoid(variant="paper").model
    np.testing.assert_array_equal(paper.actuator_gear[:, 0], [*11 * [350], *6 * [100]])


def test_the_papers_goal_is_a_body_that_slides_and_touches_nothing():
    for task, reach in ((Humanoid(None, "paper"), 20), (Humanoid(maze(), "paper"), 100)):
        model = task.model
        body, geom = model.body("target"), model.geom("target")
        assert body.id == model.nbody - 1
        np.testing.assert_allclose(body.pos, [0, 0, 1.25])
        assert (geom.contype, geom.conaffinity, geom.size[0]) == (0, 0, 0.5)
        for number, axis in ((-2, [1, 0, 0]), (-1, [0, 1, 0])):
            np.testing.assert_array_equal(model.jnt_axis[number], axis)
            np.testing.assert_array_equal(model.jnt_range[number], [-reach, reach])
            assert model.jnt_limited[number]
            assert model.dof_armature[number] == model.dof_damping[number] == model.jnt_stiffness[number] == 0
    assert "target" not in [Humanoid().model.body(number).name for number in range(12)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_walls(variant):
    task = Humanoid(maze(), variant)
    model = task.model
    walls = [n for n in range(model.ngeom) if model.geom(n).name.startswith("wall_")]
    assert 4 * model.geom_size[walls, 0] @ model.geom_size[walls, 1] == pytest.approx(18 * 2.0**2)
    np.testing.assert_allclose(model.geom_pos[walls, 2] + model.geom_size[walls, 2], 1.0)
    assert (model.geom_contype[walls] == 1).all()
    assert (model.geom_conaffinity[walls] == 1).all()
    # Every part of the body, and nothing but the goal, collides with walls and floor; parts do not with each other.
    links = [n for n in range(model.ngeom) if 0 < model.geom_bodyid[n] <= len(MASSES)]
    assert len(links) == 17
    assert (model.geom_contype[links] == 1).all()
    assert (model.geom_conaffinity[links] == 0).all()
    assert model.geom("floor").conaffinity[0] == 1


# Starts, goals, and the end


@pytest.mark.parametrize("variant", VARIANTS)
def test_goals_on_open_ground(variant):
    task = Humanoid(None, variant)
    start, goal = draw(task, 2000)
    distance = np.linalg.norm(goal[:, :2], axis=1)
    assert distance.min() >= 1.0
    assert distance.max() <= 5.0
    # Uniform in distance and in direction.
    np.testing.assert_allclose(np.quantile(distance, [0.25, 0.5, 0.75]), [2, 3, 4], atol=0.15)
    assert np.abs(goal[:, :2].mean(axis=0)).max() < 0.25
    np.testing.assert_array_equal(goal[:, 2], 1.25)
    np.testing.assert_array_equal(start.qpos[:, :3], np.tile(np.float32([0, 0, 1.4]), (2000, 1)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_starts_and_goals_in_a_maze(variant):
    task = Humanoid(Maze("#####\n#R.G#\n#RGG#\n#####", cell_size=2.0), variant)
    start, goal = draw(task, 200)
    assert set(map(tuple, np.asarray(start.qpos[:, :2]).tolist())) == {(2, 2), (4, 2)}
    assert set(map(tuple, np.asarray(goal).tolist())) == {(2, 6, 1.25), (4, 4, 1.25), (4, 6, 1.25)}


def test_starts_differ_by_key_but_little():
    task = Humanoid()
    start, _ = draw(task, 100)
    angles, speeds = np.asarray(start.qpos[:, 7:]), np.asarray(start.qvel)
    assert len(np.unique(angles, axis=0)) == len(np.unique(speeds, axis=0)) == 100
    for values in (angles, speeds):
        assert 0.009 < np.abs(values).max() <= 0.01
        assert (values.std(axis=0) > 0.003).all()


def test_the_papers_start_is_always_the_same_but_for_the_goal():
    task = Humanoid(None, "paper")
    start, goal = draw(task, 10)
    np.testing.assert_array_equal(start.qpos[:, :-2], np.tile(task.home.qpos[:-2], (10, 1)))
    np.testing.assert_array_equal(start.qpos[:, -2:], goal[:, :2])
    assert not start.qvel.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_success_is_the_torsos_distance_in_space(variant):
    task = Humanoid(None, variant)
    achieved = task.achieved_goal(robot_state(task, standing(task)))
    np.testing.assert_allclose(achieved, [0, 0, 1.4])
    # 0.15 m of the distance is height: 0.476 m are left in the plane.
    assert task.success(achieved, jnp.array([0.47, 0.0, 1.25]))
    assert not task.success(achieved, jnp.array([0.48, 0.0, 1.25]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("height", "lost"), [(0.99, True), (1.01, False), (1.99, False), (2.01, True)])
def test_an_episode_is_lost_when_the_torso_is_too_low_or_too_high(variant, height, lost):
    task = Humanoid(None, variant)
    data = standing(task)
    data.qpos[2] = height
    mujoco.mj_forward(task.model, data)
    assert bool(task.failed(robot_state(task, data))) is lost


# Control and observation


@pytest.mark.parametrize("variant", VARIANTS)
def test_actions_are_mapped_onto_the_control_range(variant):
    action = np.linspace(-1, 1, 17, dtype=np.float32)
    np.testing.assert_allclose(Humanoid(None, variant).control(jnp.asarray(action)), 0.4 * action, atol=1e-7)


@pytest.mark.parametrize(("variant", "greatest"), [("default", 1.0), ("paper", 140.0)])
def test_torques_in_the_observation(variant, greatest):
    task = Humanoid(None, variant)
    for number, motor in enumerate(MOTORS):
        control = np.zeros(17)
        control[number] = 0.4
        torques = blocks(task, task.observe(robot_state(task, standing(task), control)))[-1]
        expected = np.zeros(task.model.nv)
        expected[6 + JOINTS.index(motor)] = greatest if variant == "default" or number < 11 else 40.0
        np.testing.assert_allclose(torques, expected, rtol=1e-6)
    at_rest = blocks(task, task.observe(robot_state(task, standing(task))))[-1]
    assert not at_rest.any()


def test_the_papers_observation_at_reset():
    task = Humanoid(None, "paper")
    data = standing(task)
    np.testing.assert_allclose(data.qpos[[24, 25]], [3, 0])
    centre = (task.model.body_mass[:, None] * data.xipos).sum(axis=0) / task.model.body_mass.sum()
    np.testing.assert_allclose(centre, [0.0842, 0, 0.9527], atol=5e-5)
    observation = np.asarray(task.observe(robot_state(task, data)))
    np.testing.assert_array_equal(observation[:24], task.home.qpos[:24])
    np.testing.assert_array_equal(observation[24:26], [3, 0])
    np.testing.assert_array_equal(observation[26:51], 0)
    torso = [3.0687, 0, 0.3723, 0, 3.1357, 0, 0.3723, 0, 1.067, 8.9075]
    target = [1.0884, 0, -0.8668, 0, 9.5903, 0, -0.8668, 0, 9.502, 1]
    np.testing.assert_allclose(observation[51:61], torso, atol=6e-5)
    np.testing.assert_allclose(observation[161:171], target, atol=6e-5)
    np.testing.assert_array_equal(observation[171:], 0)


def test_the_goal_is_in_the_papers_observation_only():
    for variant, seen in (("default", False), ("paper", True)):
        task = Humanoid(None, variant)
        near, far = (task.observe(robot_state(task, standing(task, goal))) for goal in ((1.0, 0.0), (5.0, 0.0)))
        inertias = [np.asarray(blocks(task, observation)[2]) for observation in (near, far)]
        assert (inertias[0][:, :9] != inertias[1][:, :9]).any(axis=1).all() == seen
        assert bool((near != far).any()) is seen


def full(cinert):
    """MuJoCo's ten numbers of an inertia as a matrix."""
    xx, yy, zz, xy, xz, yz = cinert[:6]
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


@pytest.mark.parametrize("seed", range(3))
def test_inertias_are_those_of_mujoco(seed):
    # MuJoCo's `cinert` is about the centre of mass of the whole tree: of all links, where there is no goal's body.
    task = Humanoid()
    data = anyhow(task, seed)
    inertias = blocks(task, task.observe(robot_state(task, data)))[2]
    for number, name in enumerate(task.tracked_bodies):
        cinert = data.cinert[task.model.body(name).id]
        np.testing.assert_allclose(inertias[number, :9].reshape(3, 3), full(cinert), atol=2e-5)
        assert inertias[number, 9] == pytest.approx(cinert[9], rel=1e-6)


def test_the_papers_inertias_take_each_links_own_as_the_identity():
    task = Humanoid(None, "paper")
    data = anyhow(task)
    inertias = blocks(task, task.observe(robot_state(task, data)))[2]
    mass, places = task.model.body_mass[1:], data.xipos[1:]
    offset = places - mass @ places / mass.sum()
    for number in range(12):
        d, m = offset[number], mass[number]
        expected = np.eye(3) + m * (d @ d * np.eye(3) - np.outer(d, d))
        np.testing.assert_allclose(inertias[number], [*expected.ravel(), m], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_velocities_of_links_are_those_of_mujoco(variant):
    task = Humanoid(None, variant)
    data = anyhow(task)
    velocities = blocks(task, task.observe(robot_state(task, data)))[3]
    mass = task.model.body_mass
    for number, name in enumerate(task.tracked_bodies):
        body, twist = task.model.body(name).id, np.empty(6)
        # Of the body's centre of mass.
        mujoco.mj_objectVelocity(task.model, data, mujoco.mjtObj.mjOBJ_BODY, body, twist, 0)
        expected = [*(mass[body] / mass.sum() * twist[3:]), *twist[:3]]
        np.testing.assert_allclose(velocities[number], expected, rtol=1e-5, atol=1e-5)


# Typical states


def test_only_a_humanoid_in_a_maze_is_a_maze_task():
    assert isinstance(Humanoid(maze()), MazeTask)
    assert not isinstance(Humanoid(), MazeTask)


@pytest.mark.parametrize("variant", VARIANTS)
def test_observations_at_a_place_are_those_of_standing_there(variant):
    task = Humanoid(maze(), variant)
    observations = np.asarray(task.observations_at(jnp.array([2.0, 4.0])))
    assert observations.shape == (8, task.observation_size)
    for observation, angle in zip(observations, np.arange(8) * np.pi / 4, strict=True):
        data = standing(task, (2.0, 4.0))
        data.qpos[:7] = [2.0, 4.0, 1.4, np.cos(angle / 2), 0, 0, np.sin(angle / 2)]
        mujoco.mj_forward(task.model, data)
        np.testing.assert_allclose(observation, task.observe(robot_state(task, data)), atol=1e-5)


# Refusals


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigurationError, match="variant='papers' must be one of 'default', 'paper'"):
        Humanoid(None, "papers")


def test_a_maze_too_narrow_is_refused():
    with pytest.raises(ConfigurationError, match=r"cell_size=0.5 m of the maze must be at least 1.0 m"):
        Humanoid(Maze(LAYOUTS["u"], cell_size=0.5))


def test_tasks_are_hashed_by_identity():
    first, second = Humanoid(), Humanoid()
    assert first != second
    assert len({first, second}) == 2


# Moving


@pytest.mark.parametrize("in_maze", [False, True])
def test_random_actions_in_mujoco_keep_all_numbers_finite(in_maze, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo would write its warnings to a file here.
    task = Humanoid(maze() if in_maze else None)
    engine, num_envs = MujocoEngine(task), 64

    def step(state, key):
        action = jax.random.uniform(key, (num_envs, task.action_size), minval=-1, maxval=1)
        state = engine.step(state, jax.vmap(task.control)(action))
        lost = jax.vmap(task.failed)(state)
        start, _ = jax.vmap(task.reset)(jax.random.split(key, num_envs))
        finite = jnp.isfinite(jax.vmap(task.observe)(state)).all()
        return engine.restart(state, start, lost), (finite, lost)

    start, _ = draw(task, num_envs)
    keys = jax.random.split(jax.random.key(1), 200)
    _, (finite, lost) = jax.jit(lambda state: jax.lax.scan(step, state, keys))(engine.init(start))
    assert finite.all()
    assert lost.any(axis=0).all()
    assert not Path("MUJOCO_LOG.TXT").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("in_maze", "heights", "last_step", "last_height"),
    [
        (False, [1.3951, 1.3814, 1.3589], 54, 0.961),
        pytest.param(True, [1.3988, 1.3954, 1.3897], 107, 0.9836, marks=pytest.mark.slow),
    ],
)
def test_the_paper_variant_falls_in_spring_as_in_the_reference(in_maze, heights, last_step, last_height):
    pytest.importorskip("brax")
    from kilolayer.envs.engines.spring import SpringEngine

    task = Humanoid(maze() if in_maze else None, "paper")
    engine = SpringEngine(task)
    qpos = jnp.asarray(task.home.qpos).at[-2:].set(jnp.array([3.0, 0.0]))
    state = engine.init(Start(qpos=qpos[None], qvel=jnp.zeros((1, task.model.nv))))

    def step(state, _):
        state = engine.step(state, jnp.zeros((1, task.model.nu)))
        return state, (state.qpos[0, 2], jax.vmap(task.failed)(state)[0])

    _, (height, lost) = jax.jit(lambda state: jax.lax.scan(step, state, None, length=last_step))(state)
    np.testing.assert_allclose(height[:3], heights, atol=6e-5)
    assert np.flatnonzero(lost).tolist() == [last_step - 1]
    assert height[-1] == pytest.approx(last_height, abs=6e-4)
