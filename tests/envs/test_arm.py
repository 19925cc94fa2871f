"""The Panda arm's tasks: the model against the numbers of the reference, scenes, starts, goals, success, dynamics.

The paper's model was compiled once by its own code; the tables here are what came out.
"""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs.robot_task import RobotState
from kilolayer.envs.tasks import ArmBinpick, ArmGrasp, ArmPush, ArmReach
from kilolayer.errors import ConfigurationError

TASKS = {
    "reach": ArmReach,
    "push_easy": ArmPush,
    "push_hard": lambda variant="default": ArmPush("hard", variant),
    "binpick_easy": ArmBinpick,
    "binpick_hard": lambda variant="default": ArmBinpick("hard", variant),
    "grasp": lambda variant="default": ArmGrasp(0.3, variant),
}
VARIANTS = ("default", "paper")

# Position, quaternion (not normalised), mass, centre of mass, inertia about it in link axes: xx, yy, zz, xy, xz, yz.
LINKS = """
1  0 0 0.333        1 0 0 0   4.970684  0.003875 0.002081 -0.04762    0.70337 0.70661 0.009117 -0.000139 0.006772 0.019169
2  0 0 0            1 -1 0 0  0.646926 -0.003141 -0.02872 0.003495    0.007962 0.02811 0.025995 -0.003925 0.010254 0.000704
3  0 -0.316 0       1 1 0 0   3.228604  0.027518 0.039252 -0.066502   0.037242 0.036155 0.01083 -0.004761 -0.011396 -0.012805
4  0.0825 0 0       1 1 0 0   3.587895 -0.05317 0.104419 0.027454     0.025853 0.019552 0.028323 0.007796 -0.001332 0.008641
5  -0.0825 0.384 0  1 -1 0 0  1.225946 -0.011953 0.041065 -0.038437   0.035549 0.029474 0.008627 -0.002117 -0.004037 0.000229
6  0 0 0            1 1 0 0   1.666555  0.060149 -0.014117 -0.010517  0.001964 0.004354 0.005433 0.000109 -0.001158 0.000341
7  0.088 0 0        1 1 0 0   0.735522  0.010517 -0.004252 0.061597   0.012516 0.010027 0.004815 -0.000428 -0.001196 -0.000741
"""  # noqa: E501
FINGERS = {"left_finger": (0.923880, 0, 0, -0.382683), "right_finger": (0.382683, 0, 0, 0.923880)}
# Gain, stiffness, damping and largest force of the actuator, range of the joint, range of the control.
ACTUATORS = {
    "joint1": (4500, 4500, 450, 87, None, (-2.8973, 2.8973)),
    "joint2": (4500, 4500, 450, 87, (-1.7628, 1.7628), (-1.7628, 1.7628)),
    "joint3": (2000, 3500, 350, 87, None, (-2.8973, 2.8973)),
    "joint4": (2000, 3500, 350, 87, (-3.0718, -0.0698), (-3.0718, -0.0698)),
    "joint5": (1000, 2000, 200, 12, None, (-2.8973, 2.8973)),
    "joint6": (1000, 2000, 200, 12, (-0.0175, 3.7525), (-0.0175, 3.7525)),
    "joint7": (1000, 2000, 200, 12, None, (-2.8973, 2.8973)),
    "left_finger": (0.156863, 500, 50, 500, (0, 0.08), (0, 255)),
    "right_finger": (0.156863, 500, 50, 500, (0, 0.08), (0, 255)),
}


def data_at_home(task):
    data = mujoco.MjData(task.model)
    data.qpos[:] = task.home.qpos
    mujoco.mj_forward(task.model, data)
    return data


def robot_state(task, data):
    """What an engine tells of a robot."""
    mujoco.mj_forward(task.model, data)
    ids = [task.model.body(name).id for name in task.tracked_bodies]
    velocities = np.zeros((len(ids), 6))
    for row, body in zip(velocities, ids, strict=True):
        mujoco.mj_objectVelocity(task.model, data, mujoco.mjtObj.mjOBJ_XBODY, body, row, 0)

    def array(values):
        return jnp.asarray(values, jnp.float32)

    return RobotState(
        qpos=array(data.qpos),
        qvel=array(data.qvel),
        control=array(data.ctrl),
        position=array(data.xpos[ids]),
        quaternion=array(data.xquat[ids]),
        velocity=array(velocities[:, 3:]),
        angular_velocity=array(velocities[:, :3]),
        engine=None,
    )


def control(task, action):
    return np.asarray(task.control(jnp.array(action, jnp.float32)))


def move(task, data, action, steps):
    """Take an action for some control steps, on MuJoCo's C engine."""
    data.ctrl[:] = control(task, action)
    mujoco.mj_step(task.model, data, steps * task.substeps)


def moved_state(task, action, steps):
    data = data_at_home(task)
    move(task, data, action, steps)
    return robot_state(task, data)


def mjx_mover(task):
    """Return robots at home on MuJoCo XLA, and how to take an action there."""
    from mujoco import mjx

    model = mjx.put_model(task.model, impl="jax")

    @jax.jit
    def step(data, control):
        return jax.lax.fori_loop(0, task.substeps, lambda _, data: mjx.step(model, data), data.replace(ctrl=control))

    def move(data, action):
        return step(data, task.control(jnp.array(action, jnp.float32)))

    return mjx.put_data(task.model, data_at_home(task), impl="jax"), move


# Sizes, and what is refused.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("reach", (13, 3, 4)),
        ("push_easy", (17, 3, 5)),
        ("push_hard", (17, 3, 5)),
        ("binpick_easy", (17, 3, 5)),
        ("binpick_hard", (17, 3, 5)),
        ("grasp", (23, 7, 5)),
    ],
)
def test_sizes(name, sizes, variant):
    task = TASKS[name](variant=variant)
    assert (task.observation_size, task.goal_size, task.action_size) == sizes
    start, goal = task.reset(jax.random.key(0))
    assert start.qpos.shape == (task.model.nq,)
    assert goal.shape == (task.goal_size,)
    assert task.control(jnp.zeros(task.action_size)).shape == (task.model.nu,)


def test_the_papers_variant_runs_where_it_has_the_papers_dynamics():
    assert ArmPush(variant="paper").engines[0] == "mjx"
    assert ArmPush().engines[0] == "mujoco"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ArmReach("papr"), "variant='papr'"),
        (lambda: ArmPush("medium"), "level='medium'"),
        (lambda: ArmBinpick("hard", "old"), "variant='old'"),
        (lambda: ArmGrasp(0.6), r"noise=0.6 m must be from 0 to 0.5"),
        (lambda: ArmGrasp(float("nan")), "noise=nan"),
    ],
)
def test_refusals_are_one_line(make, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


# The paper's model against the tables.


def full_inertia(model, body):
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.body_iquat[body])
    rotation = rotation.reshape(3, 3)
    return rotation @ np.diag(model.body_inertia[body]) @ rotation.T


@pytest.mark.parametrize("row", LINKS.strip().splitlines(), ids=lambda row: f"link{row[0]}")
def test_links_have_the_references_frames_masses_and_inertias(row):
    model = ArmPush(variant="paper").model
    number, *values = (float(word) for word in row.split())
    position, quaternion, mass = np.array(values[:3]), np.array(values[3:7]), values[7]
    body = model.body(f"link{number:.0f}").id
    parent = "world" if number == 1 else f"link{number - 1:.0f}"
    assert model.body(model.body_parentid[body]).name == parent
    np.testing.assert_allclose(model.body_pos[body], position, atol=1e-9)
    np.testing.assert_allclose(model.body_quat[body], quaternion / np.linalg.norm(quaternion), atol=1e-6)
    assert model.body_mass[body] == pytest.approx(mass, abs=1e-9)
    np.testing.assert_allclose(model.body_ipos[body], values[8:11], atol=1e-9)
    inertia = full_inertia(model, body)
    np.testing.assert_allclose(inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], values[11:], atol=2e-6)


@pytest.mark.parametrize("name", FINGERS)
def test_fingers_have_the_references_frames_and_masses(name):
    model = ArmPush(variant="paper").model
    body = model.body(name)
    assert model.body(body.parentid[0]).name == "link7"
    np.testing.assert_allclose(body.pos, [0, 0, 0.1654])
    np.testing.assert_allclose(body.quat, FINGERS[name], atol=1e-6)
    assert body.mass[0] == 0.015
    np.testing.assert_allclose(body.inertia, [2.375e-6, 2.375e-6, 7.5e-7])
    geom = model.geom(name)
    np.testing.assert_allclose(geom.size, [0.015, 0.005, 0.04])
    np.testing.assert_allclose(geom.pos, [0, 0.0055, 0.035])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ACTUATORS)
def test_joints_and_actuators(name, variant):
    model = ArmPush(variant=variant).model
    gain, stiffness, damping, force, joint_range, control_range = ACTUATORS[name]
    finger = name.endswith("finger")
    joint, actuator = model.joint(name), model.actuator(name)
    assert joint.id == actuator.trnid[0]
    kind, axis = (mujoco.mjtJoint.mjJNT_SLIDE, [0, 1, 0]) if finger else (mujoco.mjtJoint.mjJNT_HINGE, [0, 0, 1])
    assert joint.type[0] == kind
    np.testing.assert_array_equal(joint.axis, axis)
    np.testing.assert_allclose(actuator.biasprm[:3], [0, -stiffness, -damping])
    np.testing.assert_allclose(actuator.forcerange, [-force, force])
    np.testing.assert_allclose(actuator.ctrlrange, control_range)
    if variant == "paper":
        assert actuator.gainprm[0] == pytest.approx(gain, rel=1e-5)
        assert joint.armature[0] == (0.1 if finger else 0)
        assert joint.damping[0] == (5 if finger else 0)
        assert bool(joint.limited) == (joint_range is not None)
    else:
        assert actuator.gainprm[0] == pytest.approx(gain if finger else stiffness, rel=1e-5)
        assert joint.armature[0] == pytest.approx(0.1 + model.opt.timestep * damping)
        assert joint.damping[0] == 5
        assert joint.limited
        joint_range = joint_range or (-2.8973, 2.8973)
    if joint_range is not None:
        np.testing.assert_allclose(joint.range, joint_range)


def test_fingers_are_one():
    model = ArmPush(variant="paper").model
    assert model.neq == 1
    np.testing.assert_allclose(model.eq_data[0, :5], [0, 1, 0, 0, 0])
    np.testing.assert_allclose(model.eq_solref[0], [0.005, 1])
    np.testing.assert_allclose(model.eq_solimp[0, :3], [0.95, 0.99, 0.001])


def test_reach_has_no_fingers():
    model = ArmReach().model
    assert (model.nq, model.nu, model.neq) == (7, 7, 0)


def test_cube():
    model = ArmPush().model
    assert model.body("cube").mass[0] == pytest.approx(0.216)
    np.testing.assert_allclose(model.body("cube").inertia, 1.296e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("name", "pairs", "impratio"),
    [
        ("reach", 1, 1),
        ("push_easy", 8, 1),
        ("push_hard", 8, 1),
        ("binpick_easy", 40, 10),
        ("binpick_hard", 40, 10),
        ("grasp", 8, 1),
    ],
)
def test_contacts_and_options(name, pairs, impratio, variant):
    task = TASKS[name](variant=variant)
    model = task.model
    assert model.npair == pairs
    assert len({frozenset(pair) for pair in zip(model.pair_geom1, model.pair_geom2, strict=True)}) == pairs
    assert not model.geom_contype.any()
    assert not model.geom_conaffinity.any()
    np.testing.assert_allclose(model.pair_friction, np.tile([1, 1, 0.005, 0.0001, 0.0001], (pairs, 1)))
    np.testing.assert_allclose(model.pair_solref, np.tile([0.02, 1], (pairs, 1)))
    np.testing.assert_allclose(model.pair_solimp[:, :3], np.tile([0.9, 0.95, 0.001], (pairs, 1)))
    np.testing.assert_array_equal(model.pair_dim, 3)
    np.testing.assert_array_equal(model.pair_margin, 0)
    options = model.opt
    assert (options.timestep, options.iterations, options.ls_iterations, options.impratio) == (0.002, 6, 12, impratio)
    assert options.solver == mujoco.mjtSolver.mjSOL_NEWTON
    assert options.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    paper, default = mujoco.mjtIntegrator.mjINT_IMPLICITFAST, mujoco.mjtIntegrator.mjINT_EULER
    assert options.integrator == (paper if variant == "paper" else default)
    assert task.substeps == 25


def test_the_papers_cube_is_before_the_arm():
    """MJX takes the sides of a contact from the order of the bodies."""
    for name in ("push_easy", "binpick_hard", "grasp"):
        paper, default = (TASKS[name](variant=variant).model for variant in ("paper", "default"))
        assert paper.body("cube").id == 1
        assert default.body("cube").id == default.nbody - 1
        assert {paper.body(n).name for n in range(paper.nbody)} == {default.body(n).name for n in range(default.nbody)}
        assert paper.npair == default.npair


@pytest.mark.parametrize(
    ("level", "x", "reach", "half_length"), [("easy", 0.17, 0.14, 0.145), ("hard", 0.3, 0.19, 0.195)]
)
def test_bins(level, x, reach, half_length):
    model = ArmBinpick(level).model
    walls = [model.geom(number) for number in range(model.ngeom) if "bin" in model.geom(number).name]
    found = {tuple(np.round([*wall.pos, *wall.size], 6)) for wall in walls}
    expected = set()
    for side in (-x, x):
        for sign in (-1, 1):
            expected.add((side, round(0.6 + sign * reach, 6), 0.033, half_length, 0.005, 0.033))
            expected.add((round(side + sign * reach, 6), 0.6, 0.033, 0.005, round(half_length - 0.01, 6), 0.033))
    assert found == expected


# Starts and goals.


@pytest.mark.parametrize("variant", VARIANTS)
def test_pose_at_the_start(variant):
    task = ArmPush(variant=variant)
    observation = task.observe(robot_state(task, data_at_home(task)))
    last = 1.449 if variant == "paper" else 0.7854
    np.testing.assert_allclose(observation[:3], [-0.1, 0.6, 0.07], atol=1e-6)
    np.testing.assert_allclose(observation[3:10], [1.571, 0.742, 0, -1.571, 0, 3.054, last], atol=1e-6)
    np.testing.assert_allclose(observation[10:13], [-0.0001, 0.678, 0.371], atol=5e-4)
    np.testing.assert_allclose(observation[13:16], 0.0, atol=1e-9)
    assert observation[16] == pytest.approx(0.08, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("name", "cube", "cube_noise", "goal", "goal_noise"),
    [
        ("push_easy", (-0.1, 0.6), 0.1, (0.1, 0.6), 0.1),
        ("push_hard", (-0.25, 0.65), 0.25, (0.25, 0.65), 0.25),
        ("binpick_easy", (-0.15, 0.6), 0.09, (0.17, 0.6), 0.09),
        ("binpick_hard", (-0.3, 0.6), 0.15, (0.3, 0.6), 0.15),
    ],
)
def test_cubes_and_goals_are_uniform_in_their_squares(name, cube, cube_noise, goal, goal_noise, variant):
    task = TASKS[name](variant=variant)
    starts, goals = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 2000))
    places = starts.qpos[:, task.cube_qpos : task.cube_qpos + 3]
    np.testing.assert_allclose(places[:, 2], 0.07, atol=1e-6)
    np.testing.assert_allclose(goals[:, 2], 0.03, atol=1e-6)
    for drawn, centre, noise in ((places[:, :2], cube, cube_noise), (goals[:, :2], goal, goal_noise)):
        away = np.asarray(drawn) - centre
        assert np.abs(away).max() <= noise + 1e-6
        assert np.abs(away).max() > 0.99 * noise
        np.testing.assert_allclose(away.mean(axis=0), 0.0, atol=0.05 * noise)
        np.testing.assert_allclose(away.std(axis=0), noise / np.sqrt(3), rtol=0.05)
    np.testing.assert_array_equal(starts.qvel, 0.0)
    np.testing.assert_array_equal(starts.qpos[:, task.arm_qpos], np.tile(task.home.qpos[task.arm_qpos], (2000, 1)))


def test_reach_goals_fill_their_cube():
    goals = np.asarray(jax.vmap(ArmReach().draw_goal)(jax.random.split(jax.random.key(0), 2000)))
    away = goals - [0.0, 0.5, 0.3]
    assert 0.198 < np.abs(away).max() <= 0.2 + 1e-6
    np.testing.assert_allclose(away.std(axis=0), 0.2 / np.sqrt(3), rtol=0.05)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "reach"])
def test_starts_and_goals_differ_by_key(name):
    task = TASKS[name]()
    first, again, second = (task.reset(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0].qpos, again[0].qpos)
    assert np.abs(first[0].qpos - second[0].qpos).max() > 1e-3
    assert np.abs(first[1] - second[1]).max() > 1e-3


def test_grasp_noise_is_an_option():
    task = ArmGrasp(0.05)
    starts, _ = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 200))
    away = np.asarray(starts.qpos[:, task.cube_qpos : task.cube_qpos + 2]) - [0.0, 0.6]
    assert 0.045 < np.abs(away).max() <= 0.05 + 1e-6
    still, _ = ArmGrasp(0.0).reset(jax.random.key(0))
    np.testing.assert_allclose(still.qpos[task.cube_qpos :][:3], [0.0, 0.6, 0.07], atol=1e-6)


# Actions and observations.


@pytest.mark.parametrize(
    ("action", "angles"),
    [
        (-1, (0.3491, 0, -3.0718, 2.3562)),
        (0, (1.5708, 0.741765, -1.5708, 3.05435)),
        (1, (2.7925, 1.48353, -0.0698, 3.7525)),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_actions_are_targets_of_joints(action, angles, variant):
    last = 1.4487 if variant == "paper" else 0.7854
    expected = [angles[0], angles[1], 0, angles[2], 0, angles[3], last]
    np.testing.assert_allclose(control(ArmReach(variant), [action] * 4), expected, atol=1e-6)
    fingers = 0 if action > 0 else 255
    np.testing.assert_allclose(
        control(ArmPush(variant=variant), [action] * 5), [*expected, fingers, fingers], atol=1e-5
    )


def test_observation_of_a_moving_arm():
    task = ArmReach()
    data = data_at_home(task)
    move(task, data, [1.0, -0.5, 0.5, 0.2], 5)
    state = robot_state(task, data)
    observation = np.asarray(task.observe(state))
    places = []
    for elapsed in (-1e-5, 0.0, 1e-5):
        there = mujoco.MjData(task.model)
        there.qpos[:] = data.qpos
        mujoco.mj_integratePos(task.model, there.qpos, data.qvel, elapsed)
        mujoco.mj_kinematics(task.model, there)
        places.append(there.body("link7").xpos.copy())
    np.testing.assert_allclose(observation[:7], state.qpos)
    np.testing.assert_allclose(observation[7:10], places[1], atol=1e-6)
    np.testing.assert_allclose(observation[10:13], (places[2] - places[0]) / 2e-5, atol=1e-4)
    assert np.linalg.norm(observation[10:13]) > 0.2
    np.testing.assert_array_equal(task.achieved_goal(state), observation[7:10])


@pytest.mark.parametrize("variant", VARIANTS)
def test_observation_of_fingertips(variant):
    task = ArmGrasp(0.3, variant)
    state = moved_state(task, [0.0, 0.0, 0.0, 0.0, -1.0], 40)
    observation = np.asarray(task.observe(state))
    left, right = observation[16:19], observation[19:22]
    assert observation[22] == pytest.approx(np.linalg.norm(left - right), abs=1e-6)
    # Each finger is open by 8 cm, and each tip another 5 mm from the middle.
    assert observation[22] == pytest.approx(0.17, abs=1e-3)
    np.testing.assert_allclose(observation[:3], [0.0, 0.6, 0.0299], atol=2e-4)
    # The left tip is at larger x than the right one, as in the goal.
    assert left[0] - right[0] > 0.1
    np.testing.assert_array_equal(task.achieved_goal(state), observation[16:])


# Success.


@pytest.mark.parametrize("name", ["reach", "push_easy", "push_hard", "binpick_easy", "binpick_hard"])
def test_success_is_a_distance_below_a_tenth_of_a_metre(name):
    task = TASKS[name]()
    goal = task.draw_goal(jax.random.key(0))
    direction = jnp.array([0.6, 0.0, 0.8])
    assert task.success(goal + 0.099 * direction, goal)
    assert not task.success(goal + 0.101 * direction, goal)
    position, radius = task.marker(np.asarray(goal))
    np.testing.assert_array_equal(position, goal)
    assert radius == 0.1


def test_grasp_needs_place_and_opening():
    task = ArmGrasp()
    cube = jnp.array([0.1, 0.6, 0.03])
    goal = task.goal_around(cube)
    np.testing.assert_allclose(goal, [0.1375, 0.6, 0.03, 0.0625, 0.6, 0.03, 0.075], atol=1e-6)

    def tips(middle, opening):
        side = 0.5 * opening * jnp.array([0.0, 0.6, 0.8])
        return jnp.concatenate([middle + side, middle - side, jnp.array([opening])])

    assert task.success(tips(cube, 0.075), goal)
    assert task.success(tips(cube + jnp.array([0.0, 0.0, 0.049]), 0.094), goal)
    assert not task.success(tips(cube + jnp.array([0.0, 0.0, 0.051]), 0.075), goal)
    assert not task.success(tips(cube, 0.096), goal)
    assert task.success(tips(cube, 0.056), goal)
    assert not task.success(tips(cube, 0.054), goal)
    position, radius = task.marker(np.asarray(goal))
    np.testing.assert_allclose(position, cube, atol=1e-6)
    assert radius == 0.05


def test_goal_of_grasp_moves_with_the_cube():
    task = ArmGrasp()
    start, goal = task.reset(jax.random.key(3))
    data = mujoco.MjData(task.model)
    data.qpos[:] = start.qpos
    np.testing.assert_array_equal(task.current_goal(robot_state(task, data), goal), goal)
    move(task, data, [0.0, -1.0, 0.0, 0.0, -1.0], 10)
    moved = np.asarray(task.current_goal(robot_state(task, data), goal))
    fallen = np.array([0, 0, 0.0401, 0, 0, 0.0401, 0])
    np.testing.assert_allclose(moved, goal - fallen, atol=5e-4)


# Dynamics.

AHEAD = [0.0, 0.0, 0.0, 0.0, -1.0]
# Joints 2, 4, 6, 7 of the paper's arm after 1, 2, 5, 10, 20 steps of the action AHEAD.
REFERENCE = {
    1: (0.7530, -1.4985, 3.0024, 1.4111),
    2: (0.7725, -1.3041, 2.8487, 1.3001),
    5: (0.7527, -0.9878, 1.9743, 0.8577),
    10: (0.7518, -0.9099, 1.2545, 0.7350),
    20: (0.7517, -0.9030, 1.5239, 0.7244),
}
# The same on engines that drop the implicit damping of actuators at their largest force.
FASTER = {
    1: (0.7889, -1.3555, 2.5114, 1.2255),
    2: (0.7935, -1.1772, 2.1132, 1.1025),
    5: (0.7578, -0.9611, 1.6483, 0.8712),
    10: (0.7518, -0.9074, 1.5361, 0.6521),
    20: (0.7517, -0.9030, 1.5264, 0.7239),
}
STEERED = [1, 3, 5, 6]


@pytest.mark.slow
def test_paper_has_the_references_dynamics_on_mjx():
    task = ArmPush(variant="paper")
    data, move = mjx_mover(task)
    heights = []
    for step in range(1, 21):
        data = move(data, AHEAD)
        heights.append(float(data.qpos[task.cube_qpos + 2]))
        if step in REFERENCE:
            np.testing.assert_allclose(data.qpos[task.arm_qpos][jnp.array(STEERED)], REFERENCE[step], atol=1e-4)
    np.testing.assert_allclose([heights[0], heights[1], heights[4]], [0.0572, 0.0250, 0.0298], atol=1e-4)


def test_paper_is_too_fast_on_the_c_engine():
    task = ArmPush(variant="paper")
    data = data_at_home(task)
    heights = []
    for step in range(1, 21):
        move(task, data, AHEAD, 1)
        heights.append(data.qpos[task.cube_qpos + 2])
        if step in FASTER:
            np.testing.assert_allclose(data.qpos[task.arm_qpos][STEERED], FASTER[step], atol=1e-4)
    np.testing.assert_allclose([heights[0], heights[1], heights[4]], [0.0572, 0.0250, 0.0298], atol=1e-4)


def test_paper_comes_to_rest_where_the_reference_does():
    task = ArmPush(variant="paper")
    observation = task.observe(moved_state(task, AHEAD, 40))
    np.testing.assert_allclose(observation[3:10], [1.5708, 0.7517, 0, -0.9030, 0, 1.5264, 0.7243], atol=4e-4)
    np.testing.assert_allclose(observation[10:13], [0.0001, 0.7529, 0.5463], atol=2e-4)
    assert observation[16] == pytest.approx(0.16, abs=1e-4)
    assert observation[2] == pytest.approx(0.0299, abs=1e-4)
    state = moved_state(task, [0.0, -1.0, -1.0, -1.0, -1.0], 100)
    np.testing.assert_allclose(task.arm_angles(state)[jnp.array([1, 3, 5])], [0.006, -1.761, 1.178], atol=1e-3)
    np.testing.assert_allclose(state.position[task.body("link7")], [0, 0.550, 0.606], atol=1e-3)


def test_default_stays_at_its_start_and_comes_to_rest_at_its_targets():
    task = ArmPush()
    state = moved_state(task, AHEAD, 100)
    np.testing.assert_allclose(state.qpos[:7], task.home.qpos[:7], atol=0.012)
    np.testing.assert_allclose(state.qvel, 0.0, atol=1e-4)
    action = [0.4, -0.6, 0.3, -0.5, -1.0]
    state = moved_state(task, action, 100)
    np.testing.assert_allclose(state.qpos[:7], control(task, action)[:7], atol=0.012)


@pytest.mark.parametrize("name", TASKS)
def test_default_is_stable_under_wild_actions(name):
    task = TASKS[name]()
    random = np.random.default_rng(0)
    data = data_at_home(task)
    fastest = 0.0
    for _ in range(200):
        move(task, data, random.choice([-1.0, 1.0], task.action_size), 1)
        fastest = max(fastest, np.abs(data.qvel[:7]).max())
    assert np.isfinite(data.qpos).all()
    assert fastest < 20.0
    low, high = task.model.jnt_range[:7].T
    assert (data.qpos[:7] > low - 0.1).all()
    assert (data.qpos[:7] < high + 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reach", "push_easy"])
def test_default_moves_alike_on_c_and_mjx(name):
    """Equal to 1e-5 in the air. On the table the engines choose different points of contact, so they part a little."""
    task = TASKS[name]()
    random = np.random.default_rng(0)
    here = data_at_home(task)
    there, move_there = mjx_mover(task)
    for step in range(20):
        action = random.uniform(-1.0, 1.0, task.action_size)
        move(task, here, action, 1)
        there = move_there(there, action)
        in_the_air = name == "reach" or step < 8
        np.testing.assert_allclose(there.qpos, here.qpos, atol=1e-5 if in_the_air else 0.1)
