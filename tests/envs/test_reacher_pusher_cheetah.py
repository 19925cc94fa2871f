import re

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from test_humanoid import mj_data, robot_state

from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.tasks import HalfCheetah, Pusher, Reacher
from kilolayer.errors import ConfigurationError

VARIANTS = ("default", "paper")
KINDS = ("easy", "hard")
ORIGIN = np.array([0.45, -0.05])


def draw(task, count, seed=0):
    start, goal = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(seed), count))
    return jax.tree.map(np.asarray, start), np.asarray(goal)


def somewhere(task, seed=0):
    """A robot in some pose within its limits, moving somehow, as MuJoCo has it."""
    random = np.random.default_rng(seed)
    limited = task.model.jnt_limited.astype(bool)
    low, high = np.where(limited[:, None], np.clip(task.model.jnt_range, -1, 1), [-1, 1]).T
    return mj_data(task, random.uniform(low, high), random.normal(size=task.model.nv))


def at_home(task):
    return mj_data(task, task.home.qpos, task.home.qvel)


# The models


def without(xml, body):
    """Take a body out of a model's text."""
    return re.sub(rf'<body name="{body}".*?</body>', "", xml, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "task"), [("reacher", Reacher), ("pusher", Pusher), ("half_cheetah", HalfCheetah)])
def test_the_models_are_those_of_brax_without_goals(name, task):
    mjcf = pytest.importorskip("brax.io.mjcf")
    epath = pytest.importorskip("etils.epath")
    xml = (epath.resource_path("brax") / f"envs/assets/{name}.xml").read_text()
    if name == "reacher":
        # Numbers for the goal's positions and for its link.
        xml = without(xml, "target").replace('"0 0 0.1 -0.1"', '"0 0"').replace("1000 1000 10", "1000 1000")
        xml = xml.replace("3 3 0.1", "3 3")
    theirs = mujoco.MjModel.from_xml_string(mjcf.fuse_bodies(without(xml, "goal").replace('settotalmass="14"', "")))
    ours = task().model
    # The reference's cheetah shares 14 kg with a goal body that weighs 1 kg before.
    scale = 14.0 / (theirs.body_mass.sum() + 1.0) if name == "half_cheetah" else 1.0
    np.testing.assert_allclose(ours.body_mass, scale * theirs.body_mass, atol=1e-6)
    np.testing.assert_allclose(ours.body_inertia, scale * theirs.body_inertia, atol=1e-6)
    fields = (
        "body_ipos body_iquat body_pos body_quat body_parentid "
        "jnt_type jnt_axis jnt_range jnt_limited jnt_pos jnt_stiffness jnt_solref jnt_solimp dof_armature dof_damping "
        "geom_type geom_pos geom_quat geom_contype geom_conaffinity geom_condim geom_friction geom_margin geom_bodyid "
        "geom_solref geom_solimp "
        "actuator_gear actuator_ctrlrange actuator_ctrllimited actuator_trnid actuator_gainprm actuator_biasprm"
    )
    for field in fields.split():
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=2e-6, err_msg=field)
    numbers = {"sphere": 1, "capsule": 2}
    for number in range(ours.ngeom):
        kind = mujoco.mjtGeom(ours.geom_type[number]).name.removeprefix("mjGEOM_").lower()
        sizes = numbers.get(kind, 0)
        np.testing.assert_allclose(ours.geom_size[number, :sizes], theirs.geom_size[number, :sizes], atol=2e-6)
    np.testing.assert_array_equal(ours.opt.gravity, theirs.opt.gravity)
    assert (ours.opt.timestep, ours.opt.iterations) == (theirs.opt.timestep, theirs.opt.iterations)
    ours, theirs = (
        {model.numeric(number).name: list(model.numeric(number).data) for number in range(model.nnumeric)}
        for model in (ours, theirs)
    )
    theirs.pop("init_qpos", None)
    theirs.setdefault("vel_damping", ours.get("vel_damping"))  # Not in all releases of Brax.
    assert ours == {name: value for name, value in theirs.items() if value is not None}


@pytest.mark.parametrize(
    ("task", "sizes", "timestep", "substeps", "gears"),
    [
        (Reacher(), (10, 3, 2), 0.01, 2, [200] * 2),
        (Reacher("paper"), (10, 3, 2), 0.005, 4, [25] * 2),
        (Pusher("easy"), (20, 3, 7), 0.01, 5, [1] * 7),
        (Pusher("hard"), (20, 3, 7), 0.01, 5, [1] * 7),
        (Pusher("easy", "paper"), (20, 3, 7), 0.001, 50, [20] * 7),
        (Pusher("hard", "paper"), (20, 3, 7), 0.001, 50, [20] * 7),
        (HalfCheetah(), (18, 1, 6), 0.01, 5, [120, 90, 60, 120, 60, 30]),
        (HalfCheetah("paper"), (18, 1, 6), 0.01, 5, [120, 90, 60, 120, 60, 30]),
    ],
)
def test_sizes_time_and_gears(task, sizes, timestep, substeps, gears):
    assert (task.observation_size, task.goal_size, task.action_size) == sizes
    assert (task.model.opt.timestep, task.substeps) == (timestep, substeps)
    np.testing.assert_array_equal(task.model.actuator_gear[:, 0], gears)


def test_the_cheetahs_weight():
    for variant in VARIANTS:
        assert HalfCheetah(variant).model.body_mass.sum() == pytest.approx(13.369, abs=5e-4)


@pytest.mark.parametrize("task", [Reacher, Pusher, HalfCheetah])
def test_the_goal_is_no_body(task):
    for variant in VARIANTS:
        model = task(variant=variant).model
        assert not {"goal", "target"} & {model.body(number).name for number in range(model.nbody)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reacher("papers"),
        lambda: Pusher("easy", "papers"),
        lambda: HalfCheetah("papers"),
    ],
)
def test_an_unknown_variant_is_refused(make):
    with pytest.raises(ConfigurationError, match="variant='papers' must be one of 'default', 'paper'"):
        make()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigurationError, match="kind='medium' must be one of 'easy', 'hard'"):
        Pusher("medium")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", [Reacher, Pusher, HalfCheetah])
def test_starts_and_goals_differ_by_key(task, variant):
    start, goal = draw(task(variant=variant), 50)
    assert len(np.unique(start.qpos, axis=0)) == len(np.unique(start.qvel, axis=0)) == 50
    assert len(np.unique(goal, axis=0)) == (1 if task is HalfCheetah and variant == "paper" else 50)


# Reacher


def tip(task, data):
    """Position and velocity of the fingertip, by MuJoCo's own reckoning for the geom."""
    twist = np.empty(6)
    geom = task.model.geom("fingertip").id
    mujoco.mj_objectVelocity(task.model, data, mujoco.mjtObj.mjOBJ_GEOM, geom, twist, 0)
    return data.geom_xpos[geom], twist[3:]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_what_the_reacher_sees(variant, seed):
    task = Reacher(variant)
    data = somewhere(task, seed)
    state = robot_state(task, data)
    position, velocity = tip(task, data)
    if variant == "paper":
        # The reference takes the second link's way to the tip as if the link always pointed along +x.
        spin = np.array([0.0, 0.0, data.qvel.sum()])
        velocity = np.asarray(state.velocity[0]) + np.cross(spin, [0.11, 0.0, 0.0])
    expected = [*np.cos(data.qpos), *np.sin(data.qpos), *position, *velocity]
    np.testing.assert_allclose(task.observe(state), expected, atol=2e-6)
    np.testing.assert_allclose(task.achieved_goal(state), position, atol=2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_reachers_starts_and_goals(variant):
    start, goal = draw(Reacher(variant), 2000)
    assert 0.09 < np.abs(start.qpos).max() <= 0.1
    assert 0.0045 < np.abs(start.qvel).max() <= 0.005
    distance = np.linalg.norm(goal[:, :2], axis=1)
    assert distance.max() <= 0.2 + 1e-6
    # Uniform in distance and in direction.
    np.testing.assert_allclose(np.quantile(distance, [0.25, 0.5, 0.75]), [0.05, 0.1, 0.15], atol=0.01)
    assert np.abs(goal[:, :2].mean(axis=0)).max() < 0.01
    np.testing.assert_array_equal(goal[:, 2], np.float32(0.01))


def test_the_reachers_success():
    task = Reacher()
    achieved = task.achieved_goal(robot_state(task, at_home(task)))
    np.testing.assert_allclose(achieved, [0.21, 0, 0.01], atol=1e-7)
    assert task.success(achieved, jnp.array([0.161, 0.0, 0.01]))
    assert not task.success(achieved, jnp.array([0.159, 0.0, 0.01]))
    assert not task.failed(robot_state(task, at_home(task)))


# Pusher


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_pusher_sees(variant):
    task = Pusher("easy", variant)
    data = somewhere(task)
    model = task.model
    if variant == "paper":
        fork = data.xipos[model.body("r_wrist_flex_link").id]
    else:
        fork = 0.5 * (data.geom("left_tip").xpos + data.geom("right_tip").xpos)
    place = data.xipos[model.body("object").id]
    np.testing.assert_allclose(place, [0.45 + data.qpos[8], -0.05 + data.qpos[7], -0.275], atol=1e-7)
    expected = [*data.qpos[:7], *fork, *place, *data.qvel[:7]]
    state = robot_state(task, data)
    np.testing.assert_allclose(task.observe(state), expected, atol=2e-6)
    np.testing.assert_allclose(task.achieved_goal(state), place, atol=1e-6)
    assert not task.failed(state)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("kind", "low", "high"), [("easy", (-0.2, -0.55), (0.2, -0.25)), ("hard", (-0.55, -0.65), (0.45, 0.35))]
)
def test_the_pushers_starts_and_goals(kind, low, high, variant):
    start, goal = draw(Pusher(kind, variant), 2000)
    assert not start.qpos[:, :7].any()
    assert not start.qvel[:, 7:].any()
    assert 0.0045 < np.abs(start.qvel[:, :7]).max() <= 0.005
    place = goal[:, :2] - ORIGIN
    assert (place >= np.array(low) - 1e-6).all()
    assert (place <= np.array(high) + 1e-6).all()
    np.testing.assert_allclose(place.min(axis=0), low, atol=0.01)
    np.testing.assert_allclose(place.max(axis=0), high, atol=0.01)
    np.testing.assert_allclose(goal[:, 2], -0.323 if variant == "paper" else -0.275)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pushers_object_begins_apart_from_its_goal_and_in_its_rectangle(kind):
    start, goal = draw(Pusher(kind), 5000)
    place = start.qpos[:, [8, 7]]
    assert np.linalg.norm(place + ORIGIN - goal[:, :2], axis=1).min() >= 0.17 - 1e-6
    np.testing.assert_allclose(place.min(axis=0), [-0.2, -0.3], atol=0.01)
    np.testing.assert_allclose(place.max(axis=0), [0.2, 0.0], atol=0.01)
    assert (np.abs(place[:, 0]) <= 0.2).all()


def test_the_pushers_object_begins_apart_even_if_no_candidate_is(monkeypatch):
    # Without candidates only the corner is left.
    monkeypatch.setattr("kilolayer.envs.tasks.pusher.CANDIDATES", 0)
    for kind in KINDS:
        start, goal = draw(Pusher(kind), 1000)
        assert np.linalg.norm(start.qpos[:, [8, 7]] + ORIGIN - goal[:, :2], axis=1).min() >= 0.17 - 1e-6


def test_the_papers_pusher_moves_an_object_near_its_goal_away_from_the_origin():
    start, goal = draw(Pusher("easy", "paper"), 5000)
    place = start.qpos[:, [8, 7]]
    outside = (np.abs(place[:, 0]) > 0.2 + 1e-6) | (place[:, 1] < -0.3 - 1e-6)
    assert outside.any()
    assert np.linalg.norm(place + ORIGIN - goal[:, :2], axis=1).min() < 0.17


@pytest.mark.parametrize(("kind", "reach"), [("easy", 0.1), ("hard", 0.05)])
def test_the_pushers_success(kind, reach):
    achieved = jnp.array([0.45, -0.05, -0.275])
    for variant, height, in_plane in (("default", 0.0, reach), ("paper", 0.048, np.sqrt(reach**2 - 0.048**2))):
        task = Pusher(kind, variant)
        goal = draw(task, 1)[1][0]
        assert achieved[2] - goal[2] == pytest.approx(height, abs=1e-6)
        for distance, reached in ((0.98 * in_plane, True), (1.02 * in_plane, False)):
            desired = jnp.array([0.45 - distance, -0.05, goal[2]])
            assert bool(task.success(achieved, desired)) is reached


def test_the_pushers_control():
    action = np.linspace(-1, 1, 7, dtype=np.float32)
    np.testing.assert_allclose(Pusher().control(jnp.asarray(action)), 2 * action, atol=1e-7)
    np.testing.assert_array_equal(Pusher("easy", "paper").control(jnp.asarray(action)), action)


# Half cheetah


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_cheetah_sees(variant):
    task = HalfCheetah(variant)
    data = somewhere(task)
    state = robot_state(task, data)
    np.testing.assert_allclose(task.observe(state), [*data.qpos, *data.qvel], rtol=1e-6)
    np.testing.assert_allclose(task.achieved_goal(state), [data.body("torso").xpos[0]], rtol=1e-6)
    assert not task.failed(state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cheetahs_starts(variant):
    start, _ = draw(HalfCheetah(variant), 1000)
    assert 0.099 < np.abs(start.qpos).max() <= 0.1
    np.testing.assert_allclose(start.qvel.std(axis=0), 0.1, rtol=0.1)


def test_the_cheetahs_goals():
    _, goal = draw(HalfCheetah(), 2000)
    assert np.abs(goal).min() >= 1.0
    assert np.abs(goal).max() <= 5.0
    np.testing.assert_allclose(np.quantile(np.abs(goal), [0.25, 0.5, 0.75]), [2, 3, 4], atol=0.15)
    assert 0.45 < (goal > 0).mean() < 0.55
    np.testing.assert_array_equal(draw(HalfCheetah("paper"), 10)[1], 5.0)


def test_the_cheetahs_success():
    task = HalfCheetah()
    assert task.success(jnp.array([2.51]), jnp.array([3.0]))
    assert not task.success(jnp.array([2.49]), jnp.array([3.0]))
    assert not task.success(jnp.array([3.51]), jnp.array([3.0]))


# Moving


def stays_finite(engine, task, num_envs, steps):
    """Whether all that the robots see is finite under random actions."""

    def step(state, key):
        action = jax.random.uniform(key, (num_envs, task.action_size), minval=-1, maxval=1)
        state = engine.step(state, jax.vmap(task.control)(action))
        return state, jnp.isfinite(jax.vmap(task.observe)(state)).all()

    start = jax.tree.map(jnp.asarray, draw(task, num_envs)[0])
    keys = jax.random.split(jax.random.key(1), steps)
    _, finite = jax.jit(lambda state: jax.lax.scan(step, state, keys))(engine.init(start))
    return bool(finite.all())


@pytest.mark.parametrize(
    "task", [Reacher(), Reacher("paper"), Pusher("easy"), Pusher("hard"), HalfCheetah(), HalfCheetah("paper")]
)
def test_random_actions_in_mujoco_keep_all_numbers_finite(task):
    assert stays_finite(MujocoEngine(task), task, num_envs=16, steps=200)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", [Reacher("paper"), Pusher("easy", "paper")])
def test_random_actions_in_spring_keep_all_numbers_finite(task):
    pytest.importorskip("brax")
    from kilolayer.envs.engines.spring import SpringEngine

    assert stays_finite(SpringEngine(task), task, num_envs=4, steps=100)
