"""An engine moves what a model has, or refuses it in one line: one small model for each kind of physics."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import RobotTask
from kilolayer.envs.check import check
from kilolayer.envs.engines import make_engine
from kilolayer.envs.engines.features import FEATURES
from kilolayer.envs.environment import Environment
from kilolayer.errors import ConfigurationError

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  {option}
  <worldbody>
    <body name="cart" pos="0 0 1" {body}>
      <joint name="lift" type="slide" axis="0 0 1" {joint}/>
      <geom size="0.1" mass="1"/>
      <body pos="0.3 0 0">
        <joint name="hinge" axis="0 1 0"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="0.5"/>
        {inside}
      </body>
    </body>
    {world}
  </worldbody>
  {more}
  <actuator>{actuator}<motor name="turn" joint="hinge" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
MOTOR = 'name="push" joint="lift" ctrlrange="-1 1" gear="5"'
TENDON = '<tendon><fixed name="cord" {}><joint joint="lift" coef="1"/></fixed></tendon>'


def tendon(attributes=""):
    return {"more": TENDON.format(attributes)}


ZOO = {
    "plain": ((), {}),
    "limit": ((), {"joint": 'range="-0.1 0.1"'}),
    "servo": ((), {"actuator": '<position name="push" joint="lift" kp="50" kv="5" ctrlrange="-1 1"/>'}),
    "force range": ((), {"actuator": f'<motor {MOTOR} forcerange="-0.1 0.1"/>'}),
    "equality": (("equality constraints",), {"more": '<equality><joint joint1="hinge" joint2="lift"/></equality>'}),
    "tendon": (("tendons",), tendon('stiffness="30"')),
    "gravcomp": (("gravity compensation",), {"body": 'gravcomp="1"'}),
    "fluid": (("fluid forces",), {"option": '<option density="50" viscosity="5"/>'}),
    "fixed body": (("bodies without a joint",), {"inside": '<body name="hand"><geom size="0.05" mass="1"/></body>'}),
    "post": (("bodies without a joint",), {"world": '<body name="post" pos="3 0 0"><geom size="0.1"/></body>'}),
    "friction": (("joint friction loss",), {"joint": 'frictionloss="2"'}),
    "stiffness": (("joint stiffness",), {"joint": 'stiffness="50"'}),
    "damping": (("joint damping",), {"joint": 'damping="3"'}),
    "armature": (("joint armature",), {"joint": 'armature="2"'}),
    "joint force": (("joint force limits",), {"joint": 'actuatorfrcrange="-1 1"'}),
    "stiffness polynomial": (("joint stiffness", "joint polynomials"), {"joint": 'stiffness="50 90"'}),
    "damping polynomial": (("joint damping", "joint polynomials"), {"joint": 'damping="3 20"'}),
    "yield": (("joint stiffness", "yielding springs"), {"joint": 'stiffness="200" springyield="0.01"'}),
    "tendon polynomial": (("tendons", "tendon polynomials"), tendon('damping="3 40"')),
    "filter": (("activations",), {"actuator": f'<general {MOTOR} dyntype="filter" dynprm="0.3"/>'}),
    "early": (
        ("activations", "early activations"),
        {"actuator": f'<general {MOTOR} dyntype="filterexact" dynprm="0.3" actearly="true"/>'},
    ),
    "delay": (("actuator delay",), {"actuator": f'<motor {MOTOR} delay="0.1" nsample="20"/>'}),
    "actuator damping": (("actuator damping",), {"actuator": f'<motor {MOTOR} damping="3"/>'}),
    "actuator armature": (("actuator armature",), {"actuator": f'<motor {MOTOR} armature="3"/>'}),
}
"""For each model, the kinds of physics that it has beside a plain one's, and how it is written."""

MJX_MOVES = {
    "equality constraints",
    "tendons",
    "gravity compensation",
    "fluid forces",
    "bodies without a joint",
    "joint friction loss",
    "joint stiffness",
    "joint damping",
    "joint armature",
    "joint force limits",
    "activations",
}


class Zoo(RobotTask):
    goal_body = "cart"
    control_step = 0.01

    def __init__(self, name, leave_out=()):
        self.text = MODEL.format(
            **(
                {"actuator": f"<motor {MOTOR}/>"}
                | dict.fromkeys(("option", "body", "joint", "inside", "world", "more"), "")
            )
            | ZOO[name][1]
        )
        self.leave_out = leave_out

    def build(self):
        return mujoco.MjSpec.from_string(self.text)

    def draw_goal(self, key):
        return jnp.zeros(3)


def motion(task, engine, steps=60):
    """Return the joint positions under changing controls."""
    engine = make_engine(engine, task)
    state, step = jax.jit(engine.init)(jax.tree.map(lambda leaf: leaf[None], task.home)), jax.jit(engine.step)
    places = []
    for time in range(steps):
        state = step(state, jnp.full((1, task.model.nu), np.clip(np.sin(time / 7) + 0.5, -1, 1), jnp.float32))
        places.append(np.asarray(state.qpos[0]))
    return np.array(places)


def refused(name, engine):
    features = ZOO[name][0]
    return [one for one in features if engine == "spring" or one not in MJX_MOVES]


@pytest.mark.parametrize("engine", ["mjx", "spring"])
@pytest.mark.parametrize("name", ZOO)
def test_what_an_engine_cannot_move_is_refused_in_one_line(name, engine):
    missing = refused(name, engine)
    if not missing:
        make_engine(engine, Zoo(name))
        return
    with pytest.raises(ConfigurationError, match=f"engine '{engine}' cannot run task Zoo: it cannot move") as error:
        make_engine(engine, Zoo(name))
    assert all(f"{one} (" in str(error.value) for one in missing)
    crashes = {"fluid forces", "bodies without a joint"} & set(missing)
    assert ("set leave_out = (" in str(error.value)) == (not crashes)
    if crashes:
        with pytest.raises(ConfigurationError, match="cannot move"):
            make_engine(engine, Zoo(name, leave_out=tuple(missing)))
    else:
        make_engine(engine, Zoo(name, leave_out=tuple(missing)))


def test_the_zoo_has_all_kinds_of_physics():
    assert set(FEATURES) == {one for features, _ in ZOO.values() for one in features}


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_physics_moves_the_robot_differently_in_mujoco(name):
    if name in ("plain", "post"):
        return
    assert np.abs(motion(Zoo(name), "mujoco") - motion(Zoo("plain"), "mujoco")).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if not refused(name, "mjx")])
def test_what_mjx_takes_it_moves_as_mujoco_does(name):
    np.testing.assert_allclose(motion(Zoo(name), "mjx"), motion(Zoo(name), "mujoco"), atol=1e-4)


@pytest.mark.slow
def test_what_is_left_out_on_request_has_no_effect():
    task = Zoo("delay", leave_out=("actuator delay",))
    np.testing.assert_allclose(motion(task, "mjx"), motion(Zoo("plain"), "mjx"), atol=1e-5)


def test_a_check_says_what_may_be_left_out():
    task = Zoo("delay", leave_out=("actuator delay",))
    environment = Environment("zoo", task, make_engine("mujoco", task), episode_length=20)
    found = {one.name: one for one in check(environment, num_envs=2, num_steps=20)}
    assert found["physics"].text == "leave_out allows an engine not to move actuator delay (push)"


def test_an_unknown_kind_of_physics_is_refused():
    with pytest.raises(ConfigurationError, match="leave_out has 'gravity'; there are equality constraints, tendons"):
        make_engine("mjx", Zoo("plain", leave_out=("gravity",)))


def test_what_mujoco_cannot_step_in_batches_is_refused():
    task = Zoo("plain")
    task.text = task.text.replace("<worldbody>", '<option><flag sleep="enable"/></option><worldbody>')
    with pytest.raises(ConfigurationError, match="engine 'mujoco' cannot run task Zoo: sleep"):
        make_engine("mujoco", task)
