"""Every task names the entries of its observations, goals and actions; wrong names are found."""

import dataclasses

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from test_check import Line, Walk

from kilolayer.envs import Environment, RobotTask, make, names, spec
from kilolayer.envs.check import check
from kilolayer.envs.entries import entries_of
from kilolayer.envs.names import PARTS, actuator_names, entry_names, position_names, velocity_names
from kilolayer.envs.tasks import Ant, ArmPush, HalfCheetah, Humanoid, PointMaze
from kilolayer.runs import default_config
from kilolayer.training import Setup, contract_of

MODEL = """
<mujoco>
  <worldbody>
    <body name="ship">
      <freejoint/>
      <geom size="0.1"/>
      <body name="mast">
        <joint name="ball" type="ball"/>
        <geom size="0.1"/>
        <body>
          <joint name="boom" axis="0 0 1"/>
          <joint name="sheet" type="slide" axis="1 0 0"/>
          <geom size="0.1"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="boom" gear="20" ctrlrange="-0.5 0.5" ctrllimited="true"/>
    <motor name="winch" joint="sheet"/>
    <position name="helm" joint="boom" kp="10" ctrlrange="-1 2" ctrllimited="true"/>
    <velocity name="log" joint="sheet" kv="3" ctrlrange="0 4" ctrllimited="true"/>
    <motor name="wind" site="wind" gear="1 0 0 0 0 0"/>
  </actuator>
</mujoco>
""".replace("<geom size", '<site name="wind"/><geom size', 1)

CASES = [(name, variant) for name in names() for variant in ("default", "paper")[: 2 if spec(name).paper_engine else 1]]
ALIKE = ("ant_random_start", "walker2d", "quadruped_stand_up", "six_axis_push")
MANY = [case for case in CASES if ("_maze" in case[0] and "_u_maze" not in case[0]) or case[0] in ALIKE]
"""Of each robot, mazes differ in their walls alone, and others are built like others."""


@pytest.mark.parametrize(
    ("name", "variant"), [pytest.param(*case, marks=[pytest.mark.slow] if case in MANY else []) for case in CASES]
)
def test_every_task_names_every_entry(name, variant):
    environment = make(name, variant=variant, engine="auto" if name.startswith("point") else "mujoco")
    for part in PARTS:
        found = getattr(environment, f"{part}_names")
        assert len(found) == len(set(found)) == getattr(environment, f"{part}_size")
        assert all(text == text.strip() and "\n" not in text for text in found)
        entries = entries_of(environment.task, part)
        assert tuple(entry.name for entry in entries) == found
        assert all(("(" in entry.name) >= bool(entry.unit) for entry in entries)


def test_entries_name_unit_joint_and_body():
    def shown(name, part, *places):
        entries = entries_of(make(name, engine="mujoco" if name != "point_u_maze" else "auto").task, part)
        return [tuple(entries[place][1:]) for place in places]

    assert shown("ant", "observation", 2, 3, 8, 15, 28) == [
        ("m", "", "torso"),
        ("", "", "torso"),
        ("rad", "ankle_1", "lower_leg_1"),
        ("m/s", "", "torso"),
        ("rad/s", "ankle_4", "lower_leg_4"),
    ]
    assert shown("ant", "action", 0) == [("N m", "hip_4", "upper_leg_4")]
    assert shown("reacher", "observation", 0, 4) == [("", "joint0", "body0"), ("m", "", "")]
    assert shown("pusher_easy", "action", 0) == [("N m", "r_shoulder_pan_joint", "r_shoulder_pan_link")]
    assert shown("point_u_maze", "action", 0) == [("N", "", "")]


@pytest.mark.parametrize("name", ["reacher", "half_cheetah"])
def test_the_contract_of_a_policy_names_every_entry(name):
    config = default_config(name, depth=4, width=8)
    contract = contract_of(config, Setup.build(config), env_steps=0, gradient_steps=0)
    environment = make(name, engine=config.engine)
    for part, vector in (("observation", contract.observation), ("goal", contract.goal), ("action", contract.action)):
        assert vector.names == getattr(environment, f"{part}_names")
        assert len(vector.names) == vector.size


def test_names_of_joints_are_in_the_order_of_positions_and_velocities():
    model = mujoco.MjModel.from_xml_string(MODEL)
    assert position_names(model) == (
        *("ship x (m)", "ship y (m)", "ship z (m)"),
        *(f"ship quaternion {axis}" for axis in "wxyz"),
        *(f"ball quaternion {axis}" for axis in "wxyz"),
        "boom angle (rad)",
        "sheet position (m)",
    )
    assert velocity_names(model) == (
        *(f"ship velocity {axis} (m/s)" for axis in "xyz"),
        *(f"ship angular velocity {axis} in body axes (rad/s)" for axis in "xyz"),
        *(f"ball angular velocity {axis} in body axes (rad/s)" for axis in "xyz"),
        "boom velocity (rad/s)",
        "sheet velocity (m/s)",
    )
    assert (len(position_names(model)), len(velocity_names(model))) == (model.nq, model.nv)


def test_names_of_actuators_say_what_an_action_commands():
    assert actuator_names(mujoco.MjModel.from_xml_string(MODEL)) == (
        "boom torque (-10 to 10 N m)",
        "winch force (-1 to 1 N)",
        "helm target (-1 to 2 rad)",
        "log control (0 to 4)",
        "wind control (-1 to 1)",
    )


def test_names_are_those_of_the_tasks_docstring():
    ant = make("ant", engine="mujoco")
    assert ant.observation_names[2] == "torso z (m)"
    assert ant.observation_names[7:9] == ("hip_1 angle (rad)", "ankle_1 angle (rad)")
    assert ant.action_names[0] == "hip_4 torque (-15 to 15 N m)"
    assert make("ant", variant="paper", engine="mujoco").action_names[0] == "hip_4 torque (-150 to 150 N m)"
    paper = Humanoid(variant="paper")
    assert paper.observation_names[24:26] == ("target_x position (m)", "target_y position (m)")
    assert paper.action_names[0] == "abdomen_y torque (-140 to 140 N m)"
    assert ArmPush().action_names[0] == "joint1 target (0.3491 to 2.793 rad)"


@pytest.mark.parametrize("task", [HalfCheetah(), Humanoid()])
def test_an_entry_is_what_its_name_says(task):
    """A joint's velocity, a mass and a torque are in the entries with their names."""
    state = task._zero_state()
    found = task.observation_names
    moved = dataclasses.replace(state, qvel=state.qvel.at[-1].set(3.0))
    changed = np.flatnonzero(np.asarray(task.observe(moved) != task.observe(state)))
    joint = task.model.joint(task.model.njnt - 1).name
    assert [found[entry] for entry in changed] == [f"{joint} velocity (rad/s)"]
    if isinstance(task, Humanoid):
        assert task.observe(state)[found.index("torso mass (kg)")] == pytest.approx(task.model.body("torso").mass[0])
        torqued = dataclasses.replace(state, control=jnp.zeros(17).at[0].set(0.4))
        changed = np.flatnonzero(np.asarray(task.observe(torqued) != task.observe(state)))
        assert [found[entry] for entry in changed] == ["abdomen_y torque (fraction of the maximum)"]


class Blind(Ant):
    """Sees its joints alone, and does not say so."""

    def observe(self, state):
        return state.qpos[7:15]


class Nearsighted(ArmPush):
    """Sees 17 other numbers."""

    def observe(self, state):
        return super().observe(state)[::-1]


class Told(Blind):
    """Says what it sees."""

    observation_names = tuple(f"{joint}_{leg}" for leg in range(1, 5) for joint in ("hip", "ankle"))


def test_names_of_a_method_that_is_overridden_are_not_inherited():
    assert entry_names(Blind(), "observation") is None
    assert entry_names(Nearsighted(), "observation") is None
    assert entry_names(Nearsighted(), "goal") == ("cube x (m)", "cube y (m)", "cube z (m)")
    assert len(entry_names(Told(), "observation")) == 8
    assert RobotTask().goal_names is None
    assert entry_names(Walk(), "observation") is None


@dataclasses.dataclass(frozen=True, eq=False)
class NamedWalk(Walk):
    """A walk with names."""

    observation_names: tuple[str, ...] = ("place (m)",)


def finding(observation_names: tuple[str, ...]) -> tuple[str, str]:
    environment = Environment("walk", NamedWalk("", observation_names), Line(), episode_length=20)
    found = {f.name: f for f in check(environment, num_envs=4, num_steps=5)}
    return found["names"].verdict, found["names"].text


def test_check_compares_names_with_sizes():
    assert finding(("place (m)",)) == ("ok", "observation named; goal, action without names")
    verdict, text = finding(("place (m)", "speed (m/s)"))
    assert verdict == "failed"
    assert "observation_names has 2 entries, but observation_size is 1" in text


def test_check_finds_names_that_repeat():
    environment = make("point_u_maze")
    twice = dataclasses.replace(
        environment, task=type("Twice", (PointMaze,), {"goal_names": ("x", "x")})(environment.task.maze)
    )
    found = {f.name: f for f in check(twice, num_envs=4, num_steps=5)}
    assert found["names"].verdict == "failed"
    assert "goal_names has 'x' twice" in found["names"].text
