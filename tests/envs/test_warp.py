"""MuJoCo Warp on a CPU: the same physics as MuJoCo's, with room for the contacts of every robot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import make
from kilolayer.envs.divergence import has_diverged
from kilolayer.envs.engines import mjx
from kilolayer.envs.engines.mjx import MjxEngine, contact_limits, dofs_that_move
from kilolayer.envs.engines.mujoco import MujocoEngine


def test_a_degree_of_freedom_moves_its_body_and_those_that_hang_on_it():
    model = make("reacher", engine="mujoco").task.model
    moves = dofs_that_move(model)
    assert moves.shape == (model.nbody, model.nv)
    assert not moves[0].any()
    for body in range(1, model.nbody):
        expected = {dof for dof in range(model.nv) if is_ancestor(model, int(model.dof_bodyid[dof]), body)}
        assert set(np.flatnonzero(moves[body])) == expected


def is_ancestor(model, ancestor: int, body: int) -> bool:
    while body and body != ancestor:
        body = int(model.body_parentid[body])
    return body == ancestor


@pytest.mark.parametrize("name", ["ant", "humanoid", "arm_push_easy", "ant_u4_maze"])
def test_random_actions_stay_within_the_room_for_contacts(name):
    import mujoco

    model = make(name, engine="mujoco").task.model
    contacts, rows = contact_limits(model)
    data = mujoco.MjData(model)
    random = np.random.default_rng(0)
    most_contacts = most_rows = 0
    for _ in range(400):
        data.ctrl[:] = random.uniform(*model.actuator_ctrlrange.T)
        mujoco.mj_step(model, data, 4)
        most_contacts, most_rows = max(most_contacts, data.ncon), max(most_rows, data.nefc)
    assert 0 < most_rows <= rows
    assert most_contacts <= contacts


@pytest.mark.parametrize(
    "num_envs", [pytest.param(32, marks=pytest.mark.slow), pytest.param(512, marks=pytest.mark.gpu)]
)
def test_many_ants_on_the_floor_move_as_each_does_in_mujoco(num_envs):
    """At 48 contacts for all of them, which is Warp's default, most would fall through."""
    environment = make("ant", engine="mujoco")
    task = environment.task
    start = jax.vmap(task.draw_start)(jax.random.split(jax.random.key(0), num_envs))
    control = jnp.zeros((num_envs, task.model.nu))
    ends = []
    for engine in (MujocoEngine(task), MjxEngine(task, impl="warp")):
        state, step = jax.jit(engine.init)(start), jax.jit(engine.step)
        for _ in range(10):
            state = step(state, control)
        ends.append(np.asarray(state.qpos))
    assert np.all(ends[0][:, 2] > 0.2)
    np.testing.assert_allclose(ends[0], ends[1], atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("room", [(1, 200), (64, 3)])
def test_a_robot_without_room_for_its_contacts_diverges_and_nothing_is_printed(room, monkeypatch, capfd):
    task = make("ant", engine="mujoco").task
    start = jax.vmap(task.draw_start)(jax.random.split(jax.random.key(0), 2))
    start = type(start)(qpos=start.qpos.at[0, 2].add(-0.4).at[1, 2].add(10.0), qvel=start.qvel)  # one is in the air
    monkeypatch.setattr(mjx, "contact_limits", lambda model: room)
    engine = MjxEngine(task, impl="warp")
    state = jax.jit(lambda start, control: engine.step(engine.init(start), control))(
        start, jnp.zeros((2, task.model.nu))
    )
    assert has_diverged(state).tolist() == [True, room[0] == 1]  # room for contacts is shared, for constraints not
    assert "overflow" not in "".join(capfd.readouterr())
