"""The spring engine keeps the walls near a robot, to the same physics as with all of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import make
from kilolayer.envs.engines import near_boxes as module
from kilolayer.envs.engines import spring
from kilolayer.envs.engines.near_boxes import near_boxes
from kilolayer.envs.engines.own_contacts import own_contacts

ROBOTS = 48


def model_of(bodies, walls=6):
    """Return a builder of a row of walls, two metres wide each, and robots."""
    boxes = "".join(f"<geom type='box' size='1 1 1' pos='{2 * i} 0 1' name='box{i}'/>" for i in range(walls))
    xml = f"<mujoco><worldbody><geom type='plane' size='9 9 1'/>{boxes}{bodies}</worldbody></mujoco>"
    return lambda: mujoco.MjSpec.from_string(xml)


BALL = "<body name='ball' pos='0 3 1'><freejoint/><geom size='.3'/>{}</body>"
ARM = "<body pos='.5 0 0'><joint/><geom type='capsule' size='.1' fromto='0 0 0 .4 0 0'/></body>"


def found(build):
    return near_boxes(build, build().compile())


def test_as_many_boxes_are_kept_as_can_be_in_reach():
    near = found(model_of(BALL.format(ARM)))
    # The arm reaches 1.0 m, and joints may yield by 0.3 m: at most three boxes of 2 m.
    assert len(near.position) == 6 + 1
    assert len(near.geoms) == near.model.ngeom - 3 == 3
    assert near.bare.ngeom == 3
    assert near.root == "ball"
    assert near.geoms.tolist() == [1, 2, 3]
    assert len(found(model_of(BALL.format(""))).geoms) == 2


@pytest.mark.parametrize(
    ("root", "boxes"),
    [((8.1, 1.0), [6.0, 8.0, 10.0]), ((8.1, 2.2), [8.0]), ((-2.0, 0.0), [0.0]), ((5.0, 3.0), []), ((99.0, -99.0), [])],
)
def test_boxes_in_reach_take_their_places(root, boxes):
    near = found(model_of(BALL.format(ARM)))
    position, size = near.in_reach(jnp.array([*root, 1.0]))
    assert sorted(x for x in position[:, 0].tolist() if x > -module.FAR / 2) == boxes
    np.testing.assert_array_equal(size, np.ones((3, 3)))


@pytest.mark.parametrize(
    ("ball", "arm", "touches"),
    [((4.0, 1.35), (4.0, 1.35), False), ((4.0, 1.25), (4.0, 2.0), True), ((4.0, 2.0), (4.0, 1.25), True)],
    ids=["above both", "the ball", "the arm"],
)
def test_a_part_whose_sphere_overlaps_a_box_may_touch(ball, arm, touches):
    near = found(model_of(BALL.format(ARM)))
    # The arm's sphere has a radius of 0.3 m about a point 0.2 m from its joint.
    position = jnp.array([[*ball, 1.0], [arm[0] - 0.2, arm[1], 1.0]])
    upright = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (2, 1))
    assert bool(near.may_touch(position[0], position, upright)) is touches


CHAIN = BALL.format(
    "<body name='link' pos='.5 0 0'><joint/><geom size='.1' contype='0' conaffinity='0'/>"
    "<body name='hand' pos='.5 0 0'><joint/>{}</body></body>"
)


@pytest.mark.parametrize(
    ("hand", "touches"),
    [((0.46, 0.0, 0.0), False), ((0.44, 0.0, 0.0), True), ((0.0, 0.71, 0.0), False), ((0.0, 0.69, 0.0), True)],
)
def test_a_robot_whose_parts_meet_may_touch_itself(hand, touches):
    capsule = "<geom type='capsule' size='.15' fromto='0 0 0 0 .5 0'/>"
    model = model_of(CHAIN.format(capsule))().compile()
    own = own_contacts(model, model.body("ball").id)
    assert own.pairs.shape == (1, 2)
    position = jnp.array([[0.0, 0.25, 0.0], [9.0, 9.0, 9.0], hand])
    upright = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (3, 1))
    assert bool(own.may_touch(position, upright)) is touches


def test_parent_and_child_and_excluded_bodies_do_not_meet():
    build = model_of(CHAIN.format("<geom size='.1'/>"))
    spec = build()
    spec.add_exclude(bodyname1="hand", bodyname2="ball")
    assert own_contacts(build().compile(), 1).pairs.tolist() == [[7, 9]]
    assert not own_contacts(spec.compile(), 1).pairs.size
    assert not own_contacts(model_of(BALL.format(ARM))().compile(), 1).pairs.size


def test_the_bare_model_has_no_contacts_of_a_robot_with_itself():
    near = found(model_of(CHAIN.format("<geom size='.1'/>"), walls=9))
    assert not own_contacts(near.bare, 1).pairs.size
    assert len(own_contacts(near.model, 1).pairs) == len(near.own.pairs) == 1


@pytest.mark.parametrize(
    "bodies",
    [
        BALL.format("") + "<body name='other' pos='5 3 1'><freejoint/><geom size='.3'/></body>",
        "<body name='slider' pos='0 3 1'><joint type='slide'/><geom size='.3'/></body>",
        BALL.format("<body pos='.5 0 0'><joint type='slide'/><geom size='.1'/></body>"),
    ],
    ids=["two robots", "no free robot", "a part that slides"],
)
def test_where_the_reach_is_not_known_all_boxes_stay(bodies):
    assert found(model_of(bodies)) is None


def test_bodies_without_names_keep_all_boxes():
    nameless = "<body pos='0 3 1'><freejoint/><geom size='.3'/></body>"
    assert found(model_of(nameless)) is None
    meeting = CHAIN.format("<geom size='.1'/>").replace("name='hand' ", "")
    assert found(model_of(meeting, walls=9)) is None


def test_a_body_that_touches_nothing_is_no_robot():
    mark = "<body name='mark' pos='5 3 1'><joint type='slide'/><geom size='.3' contype='0' conaffinity='0'/></body>"
    assert found(model_of(mark + BALL.format(""))) is not None


def test_boxes_that_differ_in_more_than_place_and_size_stay():
    build = model_of(BALL.format(""))

    def slippery():
        spec = build()
        spec.geom("box3").friction = [0.1, 0.005, 0.0001]
        return spec

    assert found(build) is not None
    assert found(slippery) is None


def test_a_robot_that_reaches_all_boxes_keeps_all():
    assert found(model_of(BALL.format(ARM), walls=3)) is None


# ---- The spring engine -----------------------------------------------------------------------------------------


@pytest.fixture
def whole(monkeypatch):
    """Return a function that builds the engine with all walls."""

    def build(task):
        with monkeypatch.context() as patch:
            patch.setattr(spring, "near_boxes", lambda *arguments: None)
            return spring.SpringEngine(task)

    return build


def brax_step(engine, state, control):
    """Return the state after a control step by Brax's own pipeline."""

    def substep(inner, _):
        return jax.vmap(functools.partial(engine._pipeline.step, engine._system))(inner, control), None

    inner, _ = jax.lax.scan(substep, state.engine, None, length=engine.substeps)
    return jax.vmap(engine._state)(inner, control)


def starts_everywhere(environment, boxes):
    """Return starts all over a maze, at and in walls too, at up to 5 m/s, and controls."""
    rng = np.random.default_rng(0)
    start, _ = environment.draw(jax.random.key(0), ROBOTS)
    qpos, qvel, walls = np.array(start.qpos), np.array(start.qvel), boxes.position[:-1, :2]
    qpos[:, :2] = rng.uniform(walls.min(axis=0), walls.max(axis=0), (ROBOTS, 2))
    qvel[:, :2] = rng.uniform(-5.0, 5.0, (ROBOTS, 2))
    control = rng.uniform(-1.0, 1.0, (ROBOTS, environment.engine.model.nu))
    return dataclasses.replace(start, qpos=jnp.asarray(qpos), qvel=jnp.asarray(qvel)), jnp.asarray(control, jnp.float32)


def beside_a_wall(state, boxes):
    """Return which robots are less than 0.3 m from a wall."""
    place = np.asarray(state.qpos)[:, None, :2]
    aside = np.maximum(np.abs(place - boxes.position[:, :2]) - boxes.size[:, :2], 0.0)
    return np.linalg.norm(aside, axis=-1).min(axis=1) < 0.3


@pytest.mark.parametrize(
    "env",
    [
        "ant_u4_maze",
        *(pytest.param(env, marks=pytest.mark.slow) for env in ("ant_u5_maze", "ant_big_maze", "ant_hardest_maze")),
        pytest.param("ant_u4_maze_gen_1f2f3f", marks=pytest.mark.slow),
        pytest.param("humanoid_u_maze", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of Brax
def test_a_step_is_that_with_all_walls(env, whole, monkeypatch):
    monkeypatch.setattr(spring, "GROUP", 20)
    environment = make(env, variant="paper")
    near, every = environment.engine, whole(environment.task)
    boxes = near.near
    assert len(boxes.geoms) < len(boxes.position) - 1
    assert every.near is None
    start, control = starts_everywhere(environment, boxes)
    with_near, with_all = jax.jit(near.step), jax.jit(functools.partial(brax_step, every))
    state, touched = jax.jit(near.init)(start), 0
    for _ in range(4):
        ours, theirs = with_near(state, control), with_all(state, control)
        np.testing.assert_allclose(ours.qpos, theirs.qpos, atol=2e-4)
        np.testing.assert_allclose(ours.qvel, theirs.qvel, atol=2e-2)
        touched += int(beside_a_wall(state, boxes).sum())
        state = ours
    assert touched > ROBOTS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Brax
def test_a_wall_that_is_missing_would_be_seen(monkeypatch, whole):
    """The comparison can fail: with one box where three can be in reach, robots move differently."""
    environment = make("ant_u4_maze", variant="paper")
    every = whole(environment.task)
    corner_and_map = module._map
    first = lambda *arguments: (corner_and_map(*arguments)[0], corner_and_map(*arguments)[1][..., :1])  # noqa: E731
    monkeypatch.setattr(module, "_map", first)
    one = spring.SpringEngine(environment.task)
    start, control = starts_everywhere(environment, one.near)
    state = jax.jit(one.init)(start)
    ours, theirs = jax.jit(one.step)(state, control), jax.jit(every.step)(state, control)
    assert np.abs(ours.qvel - theirs.qvel).max() > 0.1
