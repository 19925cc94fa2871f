import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from ants import gap_to_walls, in_a_storm, may_touch, robot_state, thrash, touching

from kilolayer.envs.tasks import AntBall, AntPush

VARIANTS = ("default", "paper")
WALLS = 7


def draw(function, count, seed=0):
    """Call a function of a key many times."""
    return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task_class", [AntBall, AntPush])
def test_sizes(task_class, variant):
    task = task_class(variant)
    assert (task.observation_size, task.goal_size, task.action_size) == (31, 2, 8)
    assert task.model.opt.timestep * task.substeps == pytest.approx(0.05)
    start, goal = jax.eval_shape(task.reset, jax.random.key(0))
    assert (start.qpos.size, start.qvel.size, goal.size) == (task.model.nq, task.model.nv, 2)


def test_engines_and_time_steps():
    assert AntBall("paper").engines[0] == "spring"
    assert AntBall("paper").model.opt.timestep == 0.005
    assert AntPush("paper").engines[0] == "mjx"
    assert AntPush("paper").model.opt.timestep == 0.01
    assert AntBall().engines == AntPush().engines == ("mujoco", "mjx")


# Ball


def test_contacts_of_the_ball():
    assert may_touch(AntBall().model) == {
        ("floor", "foot"): 4,
        ("ball", "torso"): 1,
        ("ball", "hip"): 4,
        ("ball", "shin"): 4,
    }
    assert may_touch(AntBall("paper").model) == {
        ("floor", "foot"): 4,
        ("foot", "foot"): 6,
        ("foot", "torso"): 4,
        ("ball", "floor"): 1,
        ("ball", "torso"): 1,
        ("ball", "foot"): 4,
    }


def test_where_the_ball_is_seen_and_the_goal_is_read():
    qpos, qvel = np.arange(17, dtype=np.float32) / 4, np.arange(100, 116, dtype=np.float32)
    qpos[3:7] = 0.5
    for variant in VARIANTS:
        task = AntBall(variant)
        state = robot_state(task, qpos, qvel)
        observation = task.observe(state)
        np.testing.assert_array_equal(observation, [*qpos[:15], *qvel[:14], *qpos[15:]])
        np.testing.assert_array_equal(task.achieved_goal(state), observation[29:31])


def test_the_balls_position_is_that_of_its_joints():
    model = AntBall().model
    data = mujoco.MjData(model)
    data.qpos[15:] = [1.5, -2.5]
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.body("ball").xpos, [1.5, -2.5, 0.5])


def test_the_ball_is_on_the_way_to_the_goal_and_clear_of_the_ant():
    task = AntBall()
    start, goal = draw(task.reset, 2000)
    qpos, goal = np.asarray(start.qpos), np.asarray(goal)
    ball, ant = qpos[:, 15:], qpos[:, :2]
    np.testing.assert_allclose(np.linalg.norm(goal, axis=-1), 5.0, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(start.qvel)[:, 14:], 0.0)

    distance = np.linalg.norm(ball - ant, axis=-1)
    assert distance.min() > task.ant_reach + task.ball_radius - 1e-4
    assert distance.max() < 2.2
    free = distance > task.ant_reach + task.ball_radius + 1e-4
    assert 0.3 < free.mean() < 0.6
    np.testing.assert_allclose(np.linalg.norm((ball - 0.2 * goal)[free], axis=-1), 1.0, atol=1e-5)
    for pose in qpos[:500]:
        assert not any("ball" in pair for pair in touching(task, pose))


def test_a_ball_that_would_lie_on_the_ant_is_pushed_towards_the_goal():
    task = AntBall()
    ant, goal = jnp.array([0.05, -0.05]), jnp.array([3.0, 4.0])
    ball = np.asarray(task._clear_of_ant(ant, ant, goal))
    np.testing.assert_allclose(ball - ant, 1.61 * np.array([0.6, 0.8]), rtol=1e-5)


def test_the_papers_ball_starts_where_the_reference_puts_it():
    task = AntBall("paper")
    start, goal = draw(task.reset, 2000)
    qpos, goal = np.asarray(start.qpos), np.asarray(goal)
    np.testing.assert_allclose(qpos[:, 16], 0.4 * goal[:, 1], atol=1e-5)
    assert np.abs(qpos[:, 15] - 0.2 * goal[:, 0]).max() == pytest.approx(1.0, abs=1e-3)
    assert any(("ball", "torso") in touching(task, pose) for pose in qpos[:200])


def test_the_ball_slides_with_dry_friction():
    model = AntBall().model
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1, 4, 0]
    data.qvel[14] = 3.0
    speeds = []
    for _ in range(40):
        mujoco.mj_step(model, data)
        speeds.append(data.qvel[14])
    assert speeds[9] == pytest.approx(3.0 - 9.81 * 0.1, abs=0.1)
    assert abs(speeds[-1]) < 0.02


# Push


def test_contacts_of_the_block():
    assert may_touch(AntPush("paper").model) == {
        ("floor", "foot"): 4,
        ("floor", "torso"): 1,
        ("foot", "wall"): 4 * WALLS,
        ("torso", "wall"): WALLS,
        ("block", "floor"): 1,
        ("block", "wall"): WALLS,
        ("block", "foot"): 4,
        ("block", "torso"): 1,
    }
    assert may_touch(AntPush().model) == {
        ("floor", "foot"): 4,
        ("floor", "torso"): 1,
        ("torso", "wall"): WALLS,
        ("hip", "wall"): 4 * WALLS,
        ("shin", "wall"): 4 * WALLS,
        ("block", "wall"): WALLS,
        ("block", "torso"): 1,
        ("block", "hip"): 4,
        ("block", "shin"): 4,
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_ant_that_pushes_is_eight_times_as_heavy(variant):
    model = AntPush(variant).model
    assert model.body("torso").mass == pytest.approx(3.871, abs=1e-3)
    assert model.body("block").mass == pytest.approx(0.0002)
    np.testing.assert_allclose(model.geom_solimp[:, :3], np.tile([0.995, 0.995, 0.01], (model.ngeom, 1)))


def test_the_way_is_as_drawn():
    task = AntPush()
    gap = gap_to_walls(task.model, np.array([[[8.0 * x, 8.0 * y] for x in range(-1, 4)] for y in range(-1, 4)]))
    rows = ["".join("#" if wall else "." for wall in row) for row in gap < 0]
    # From the south, y = -8, to the north; M counts as free.
    assert rows == ["#####", "#..##", "#...#", "##.##", "#####"]


def test_the_block_is_seen_where_it_is():
    for variant, height in (("default", 1.8), ("paper", 2.0)):
        task = AntPush(variant)
        qpos, qvel = np.array(task.home.qpos), np.array(task.home.qvel)
        assert tuple(qpos[:3]) == (0.0, 0.0, 0.75)
        qpos[15:17] = [1.0, -0.5]
        data = mujoco.MjData(task.model)
        data.qpos = qpos
        mujoco.mj_forward(task.model, data)
        np.testing.assert_allclose(data.body("block").xpos, [9.0, 7.5, height], atol=1e-6)
        state = robot_state(task, qpos, qvel)
        np.testing.assert_allclose(task.observe(state)[29:], [9.0, 7.5])
        np.testing.assert_array_equal(task.achieved_goal(state), task.observe(state)[:2])


def test_goals_are_in_their_squares():
    goals = np.asarray(draw(AntPush().draw_goal, 2000))
    for corner in ((16.0, 8.0), (8.0, 16.0)):
        inside = ((goals >= corner) & (goals < np.array(corner) + 2.0)).all(axis=-1)
        assert 900 < inside.sum() < 1100
        assert np.ptp(goals[inside], axis=0).min() > 1.9


def test_how_the_block_starts():
    start, _ = draw(AntPush().reset, 200)
    assert 0.09 < np.abs(np.asarray(start.qpos)[:, 15:]).max() <= 0.1
    np.testing.assert_array_equal(np.asarray(start.qvel)[:, 14:], 0.0)
    start, _ = draw(AntPush("paper").reset, 2000)
    for entry in (15, 16, 17):
        assert 0.09 < np.abs(np.asarray(start.qpos)[:, entry]).max() <= 0.1
    assert np.asarray(start.qvel)[:, 14].std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(np.asarray(start.qvel)[:, 15:], 0.0)


def test_starts_clear_of_walls_and_block():
    for variant in VARIANTS:
        task = AntPush(variant)
        for pose in np.asarray(draw(task.reset, 100)[0].qpos):
            assert touching(task, pose) <= {("floor", "foot")}


# In motion


@pytest.mark.slow
@pytest.mark.parametrize("task_class", [AntBall, AntPush])
def test_random_actions_lead_to_numbers(task_class):
    observations, _ = thrash(task_class(), num_envs=64, steps=1000)
    assert np.isfinite(observations).all()


@pytest.mark.parametrize("angle", [0.0, np.pi / 2])
def test_walls_hold_ant_and_block(angle):
    task = in_a_storm(AntPush, angle, 6.0)()
    observations, _ = thrash(task, num_envs=32, steps=400, hold=0.8)
    assert gap_to_walls(task.model, observations[..., :2]).min() > 0.1
    # Pushed east or north the block comes to rest a cell farther.
    assert np.abs(observations[..., 29:] - 8.0).max() < 9.0


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_walls_hold_the_ant_for_long(variant):
    for angle in (0.3, 1.9, 3.5, 5.0):
        task = in_a_storm(AntPush, angle, 9.0)(variant)
        observations, _ = thrash(task, num_envs=25, steps=1000, hold=0.8)
        assert gap_to_walls(task.model, observations[..., :2]).min() > 0.0
