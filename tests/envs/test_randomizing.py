"""Robots that differ in their models, noisy sensors and pushes: distributions, physics, resuming, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import Environment, RobotTask, Start
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.envs.engines.spring import SpringEngine
from kilolayer.envs.goals import PositionGoal
from kilolayer.envs.nominal import nominal
from kilolayer.envs.randomizing import Pushes, RandomPhysics, SensorNoise
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import ConfigurationError

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <custom><numeric name="constraint_stiffness" data="1000"/></custom>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1" friction="0.1"/>
    <body name="sled" pos="0 0 0.1"><joint name="x" type="slide" axis="1 0 0"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <geom name="sled" type="sphere" size="0.1" friction="0.4" mass="1"/>
      <body name="arm" pos="0 0 0.3"><joint name="arm" axis="0 1 0" damping="0.05"/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.15" mass="0.3" contype="0" conaffinity="0"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="x" gear="3" ctrlrange="-1 1"/>
    <position joint="arm" kp="2" kv="0.1" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Sled(RobotTask):
    """It slides on a floor, and has an arm."""

    engines = ("mujoco", "mjx", "spring")
    control_step = 0.02
    goal = PositionGoal("sled", radius=0.1, axes="x")

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_start(self, key):
        return Start(qpos=jnp.array([0.0, 0.0, 0.1]), qvel=jnp.array([2.0, 0.0, 0.0]))

    def draw_goal(self, key):
        return jax.random.uniform(key, (1,))


class Rough(RandomPhysics, Sled):
    friction_scale = (0.25, 4.0)
    mass_scale = (0.5, 2.0)
    damping_scale = (0.5, 3.0)
    strength_scale = (0.8, 1.25)


class Slippery(Sled):
    def randomize(self, key):
        friction = jnp.asarray(self.model.geom_friction, jnp.float32)
        return {"geom_friction": friction.at[:, 0].set(jax.random.uniform(key, minval=0.05, maxval=0.6))}


def made(task, engine=MujocoEngine, length=100):
    environment = Environment("sled", task, engine(task), episode_length=length)
    check_methods(environment)
    return environment


def rolled(environment, state, steps=10, action=0.5):
    """The state after some steps of all robots with the same action."""
    act = jnp.full((len(state.episode_step), environment.action_size), action)
    return jax.jit(lambda state: jax.lax.scan(lambda s, _: (environment.step(s, act)[0], None), state, None, steps)[0])(
        state
    )


# Physics


def test_a_drawn_friction_changes_the_physics_of_that_robot_alone():
    environment = made(Slippery())
    state = environment.reset(jax.random.key(0), 4)
    friction = np.asarray(state.physics.model_fields["geom_friction"][:, 0, 0])
    assert len(set(friction)) == 4
    after = np.asarray(rolled(environment, state, action=0.0).physics.qpos[:, 0])
    np.testing.assert_array_equal(np.argsort(after), np.argsort(-friction), "the smoother, the farther")
    for robot in range(4):
        np.testing.assert_allclose(after[robot], plain({"geom_friction": state.physics.model_fields}, robot), atol=1e-4)
    plain_one = made(Sled())
    untouched = rolled(plain_one, plain_one.reset(jax.random.key(0), 4), action=0.0).physics.qpos
    assert len(np.unique(untouched[:, 0])) == 1, "robots of a task without are alike, also after the others"


def plain(names, robot, action=0.0):
    """Where MuJoCo alone takes the sled in ten control steps, with a robot's own fields."""
    model = Sled().model
    for name, fields in names.items():
        getattr(model, name)[:] = fields[name][robot]
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[0] = [0.0, 0.0, 0.1], 2.0
    data.ctrl[:] = action
    mujoco.mj_step(model, data, 20)
    return data.qpos[0]


def test_constants_follow_from_masses():
    environment = made(Rough(), length=12)
    state = environment.reset(jax.random.key(3), 3)
    fields = state.physics.model_fields
    mass = np.asarray(fields["body_mass"])
    np.testing.assert_allclose(fields["body_subtreemass"][:, 1], mass[:, 1:].sum(axis=1), rtol=1e-6)
    assert np.all(np.asarray(fields["dof_invweight0"])[:, 0] > 0.0)
    after = rolled(environment, state)
    names = ("geom_friction", "body_mass", "body_inertia", "dof_damping", "actuator_gainprm", "actuator_biasprm")
    for robot in range(3):
        alone = plain(dict.fromkeys(names, fields), robot, action=0.5)
        np.testing.assert_allclose(after.physics.qpos[robot, 0], alone, atol=1e-4)
    # In the next episode every robot has another model.
    later = rolled(environment, after, steps=3)
    assert np.all(np.asarray(later.physics.model_fields["body_mass"])[:, 1] != mass[:, 1])
    both = np.asarray(later.physics.model_fields["body_mass"])[:, 1:].sum(axis=1)
    np.testing.assert_allclose(later.physics.model_fields["body_subtreemass"][:, 1], both, rtol=1e-6)


def test_factors_are_uniform_in_the_logarithm():
    task = Rough()
    drawn = jax.vmap(task.randomize)(jax.random.split(jax.random.key(0), 4000))
    model = task.model

    def share(name):
        field = getattr(model, name)
        return np.asarray(drawn[name])[:, field != 0.0] / field[field != 0.0]

    friction = np.asarray(drawn["geom_friction"][:, :, 0]) / model.geom_friction[:, 0]
    np.testing.assert_allclose(friction, friction[:, :1].repeat(3, 1), rtol=1e-5, err_msg="one factor for all geoms")
    np.testing.assert_allclose(
        drawn["geom_friction"][:, :, 1:], np.broadcast_to(model.geom_friction[:, 1:], (4000, 3, 2))
    )
    for values, (low, high) in (
        (friction[:, 0], task.friction_scale),
        (share("body_mass")[:, 0], task.mass_scale),
        (share("dof_damping")[:, 0], task.damping_scale),
        (share("actuator_gainprm")[:, 0], task.strength_scale),
    ):
        assert low * (1 - 1e-5) <= values.min() < values.max() <= high * (1 + 1e-5)
        uniform = (np.log(values) - np.log(low)) / (np.log(high) - np.log(low))
        np.testing.assert_allclose(np.quantile(uniform, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.04)
    assert abs(np.corrcoef(share("body_mass").T)[0, 1]) < 0.1, "bodies have factors of their own"
    ratio = np.asarray(drawn["actuator_biasprm"][:, 1, 1] / drawn["actuator_gainprm"][:, 1, 0])
    np.testing.assert_allclose(ratio, -1.0, rtol=1e-5, err_msg="a servo still rests where it is told")


def test_a_run_resumes_bit_for_bit():
    environment = made(Rough(), length=7)
    begun = rolled(environment, environment.reset(jax.random.key(0), 3), steps=4)
    kept = jax.tree.map(
        lambda leaf: np.asarray(leaf).copy(), dataclasses.replace(begun, key=jax.random.key_data(begun.key))
    )
    on = rolled(environment, begun, steps=8)
    again = made(Rough(), length=7)
    restored = dataclasses.replace(jax.tree.map(jnp.asarray, kept), key=jax.random.wrap_key_data(kept.key))
    resumed = rolled(again, restored, steps=8)
    assert on.physics.model_fields.keys() == begun.physics.model_fields.keys()
    for one, other in zip(jax.tree.leaves(on), jax.tree.leaves(resumed), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(one, other)


def test_what_is_not_drawn_is_not_in_the_state():
    plain_state = made(Sled()).reset(jax.random.key(0), 2)
    assert plain_state.physics.model_fields is None
    environment = made(Rough())
    off = nominal(environment)
    state = off.reset(jax.random.key(0), 2)
    assert jax.tree.structure(state) == jax.tree.structure(plain_state)
    np.testing.assert_array_equal(rolled(off, state).physics.qpos, rolled(made(Sled()), plain_state).physics.qpos)
    assert environment.reset(jax.random.key(0), 2).physics.model_fields is not None, "the other one still draws"


# Noise and pushes


class Noisy(SensorNoise, Sled):
    observation_noise = (0.1, 0.0, 0.0, 0.2, 0.0, 0.0)


def test_noise_is_on_the_observation_alone():
    environment = made(Noisy())
    state = environment.reset(jax.random.key(0), 2000)
    off = np.asarray(state.observation - jnp.concatenate([state.physics.qpos, state.physics.qvel], axis=1))
    np.testing.assert_allclose(off.std(axis=0), Noisy.observation_noise, atol=0.01)
    np.testing.assert_allclose(off.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_array_equal(state.achieved_goal[:, 0], state.physics.qpos[:, 0])
    assert environment.observation_names == made(Sled()).observation_names
    exact = nominal(environment).reset(jax.random.key(0), 3)
    np.testing.assert_array_equal(exact.observation[:, :3], exact.physics.qpos)


class Windy(Pushes, Sled):
    push_body = "sled"
    push_force = 20.0
    push_time = 0.04
    push_every = 0.2


def test_pushes_come_and_go():
    environment = made(Windy())
    act = jnp.zeros((64, 2))

    def roll(environment):
        def step(state, _):
            return environment.step(state, act)[0], (state.memory["push"], state.physics.qpos)

        begun = environment.reset(jax.random.key(0), 64)
        return jax.tree.map(np.asarray, jax.jit(lambda begun: jax.lax.scan(step, begun, None, 40)[1])(begun))

    push, qpos = roll(environment)
    on = push["steps"] > 0
    assert not on[0].any(), "no episode begins with one"
    assert on[5:].mean() == pytest.approx(1 - 0.9**2, abs=0.06), "two steps, begun in one of ten"
    size = np.linalg.norm(push["force"][on], axis=-1)
    assert 15.0 < size.max() <= 20.0
    assert np.all(push["force"][..., 2] == 0.0)
    quiet = roll(nominal(environment))[1]
    pushed = np.cumsum(on, axis=0) - on > 0  # in a step before this one
    np.testing.assert_array_equal(qpos[~pushed], quiet[~pushed])
    assert np.all(qpos[pushed][:, 0] != quiet[pushed][:, 0])
    assert environment.task.random_parts == ("every 0.2 s: sled is pushed by up to 20 N for 0.04 s",)


class Both(Pushes, Rough):
    push_body = "sled"
    push_force = 20.0
    push_every = 0.02


@pytest.mark.slow
def test_mjx_moves_the_same_robots_by_the_same_pushes():
    ends = []
    for engine in (MujocoEngine, MjxEngine):
        environment = Environment("sled", Both(), engine(Both()), episode_length=3)
        state = environment.reset(jax.random.key(3), 3)
        ends.append(rolled(environment, state, steps=5).physics)
    assert len(np.unique(ends[0].qpos[:, 0])) == 3
    np.testing.assert_allclose(ends[0].qpos, ends[1].qpos, atol=2e-5)
    for name, field in ends[0].model_fields.items():
        np.testing.assert_allclose(field, ends[1].model_fields[name], rtol=1e-6, err_msg=name)


# Refused


def refused(make, engine=MujocoEngine):
    with pytest.raises(ConfigurationError) as caught:
        made(make(), engine)
    (line,) = str(caught.value).splitlines()
    return line


def draws(**fields):
    return lambda: type("Own", (Sled,), {"randomize": lambda self, key: fields})()


def test_engines_that_cannot_say_so_by_name():
    assert "engine 'spring' cannot run task Rough" in refused(Rough, SpringEngine)
    assert "its robots cannot differ in what `randomize` draws" in refused(Rough, SpringEngine)
    assert "engine 'spring' cannot run task Windy: it cannot push bodies" in refused(Windy, SpringEngine)
    with pytest.raises(ConfigurationError, match="env 'sled' draws nothing at random"):
        nominal(made(Sled()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (draws(body_mas=jnp.ones(3)), "randomize draws 'body_mas', which cannot differ between robots; did you mean"),
        (draws(body_mass=jnp.ones(2)), "randomize draws body_mass of shape (2,), float32; the whole field is (3,)"),
        (draws(), "randomize returns {}; it must return a dict of fields"),
        (lambda: type("None", (RandomPhysics, Sled), {})(), "RandomPhysics draws nothing; set friction_scale"),
        (
            lambda: type("Wrong", (RandomPhysics, Sled), {"mass_scale": (0.0, 1.0)})(),
            "mass_scale=(0.0, 1.0) must be the least and the greatest factor, both above 0",
        ),
        (lambda: type("No", (Pushes, Sled), {})(), "push_body is missing"),
        (lambda: type("No", (Pushes, Sled), {"push_body": "slet"})(), "names the body 'slet'"),
        (
            lambda: type("No", (Windy,), {"push_every": 0.01})(),
            "push_every=0.01 s must be at least control_step=0.02 s",
        ),
        (lambda: type("No", (Noisy,), {"observation_noise": (1.0, 2.0)})(), "or one for each of 6 entries"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_cannot_be_drawn_is_one_line(make, words):
    assert words in refused(make)
