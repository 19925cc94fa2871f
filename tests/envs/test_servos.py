"""Servos for a model without actuators: a small URDF of our own, and what of it comes in."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from kilolayer.envs import RobotTask, add_servos
from kilolayer.errors import ConfigurationError

URDF = Path(__file__).parents[2] / "examples" / "two_links.urdf"
MJCF = """
<mujoco>
  <worldbody>
    <body>
      <joint name="a" range="-90 90"/><joint name="b" type="slide" range="0 1"/><joint type="slide" axis="1 0 0"/>
      <geom size="0.1"/>
    </body>
    <body><freejoint/><geom size="0.1"/></body>
  </worldbody>
  <actuator><motor name="b" joint="a"/></actuator>
  <keyframe><key qpos="0.5 2 0 0 0 0 1 0 0 0" ctrl="0.7"/><key/></keyframe>
</mujoco>
"""


class Arm(RobotTask):
    mjcf = str(URDF)
    goal_body = "lower"

    def build(self):
        return add_servos(super().build(), kp=100.0)


def test_a_urdf_with_servos_goes_where_they_are_told():
    model = Arm().model
    # The base and the tool, which are fixed, become part of what they are fixed to.
    assert [model.body(number).name for number in range(model.nbody)] == ["world", "upper", "lower"]
    np.testing.assert_allclose(model.body("lower").mass, 0.6)
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-1.5, 1.5], [-np.pi, np.pi]])
    np.testing.assert_allclose(model.jnt_actfrcrange[0], [-60, 60])  # its effort
    data = mujoco.MjData(model)
    data.ctrl[:] = [0.4, -0.3]
    mujoco.mj_step(model, data, nstep=2000)
    np.testing.assert_allclose(data.qpos, data.ctrl, atol=0.1)
    assert np.abs(data.qvel).max() < 1e-2


def test_a_joint_that_mimics_another_gets_no_servo():
    mimic = """<link name="finger"><inertial><mass value="1"/>
      <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
    <joint name="follower" type="continuous"><parent link="lower"/><child link="finger"/><mimic joint="elbow"/></joint>
    </robot>"""
    model = add_servos(mujoco.MjSpec.from_string(URDF.read_text().replace("</robot>", mimic)), kp=1.0).compile()
    assert [model.actuator(number).name for number in range(model.nu)] == ["shoulder", "elbow"]


def test_keyframes_and_actuators_that_are_there_stay():
    spec = mujoco.MjSpec.from_string(MJCF)
    assert add_servos(spec, kp={"b": 7.0}, joints=["b"]) is spec
    model = spec.compile()
    assert [model.actuator(number).name for number in range(model.nu)] == ["b", "b_servo"]
    np.testing.assert_allclose(model.key_ctrl, [[0.7, 1.0], [0.0, 0.0]])  # its target lies within the range
    assert model.actuator_gainprm[1, 0] == 7.0
    assert all(model.joint(number).name for number in range(model.njnt))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kp": 1.0}, "slide joint 'joint_2' has no range for a servo"),
        ({"kp": 1.0, "joints": ["c"]}, "joints names 'c', which is no hinge or slide joint"),
        ({"kp": 1.0, "joints": ["a"]}, "joint 'a' has an actuator already"),
        ({"kp": 0.0, "joints": ["b"]}, "kp=0.0 for joint b must be a number above 0"),
        ({"kp": {}, "joints": ["b"]}, "kp has no number for joint b"),
        ({"kp": 1.0, "joints": ["b"], "damping_ratio": -1.0}, "damping_ratio=-1.0 must be a number above 0"),
    ],
)
def test_what_cannot_get_a_servo_is_one_line(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        add_servos(mujoco.MjSpec.from_string(MJCF), **settings)


def test_a_model_in_which_nothing_moves_gets_no_servos():
    with pytest.raises(ConfigurationError, match="no hinge or slide joint without an actuator"):
        add_servos(mujoco.MjSpec(), kp=1.0)
