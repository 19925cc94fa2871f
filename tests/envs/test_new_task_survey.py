"""Which body carries the goal of a new task, and where its goals are."""

import ast

import mujoco
import numpy as np
import pytest

from kilolayer.envs.new_task.survey import survey
from kilolayer.envs.new_task.write import class_name, environment_name, safe
from kilolayer.envs.robots.mjcf import model_file
from kilolayer.errors import ConfigurationError


def model_of(worldbody: str, actuators: str, rest: str = "") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{worldbody}</worldbody><actuator>{actuators}</actuator>{rest}</mujoco>"
    )


LINK = '<geom type="capsule" fromto="0 0 0 0.5 0 0" size="0.02"/>'
FINGER = '<body name="{0}"><joint name="{0}" type="slide" axis="0 1 0" range="0 0.1"/><geom size="0.02"/></body>'
GRIPPER = f"""
<body name="link"><joint name="a" axis="0 0 1"/>{LINK}
  <body name="hand" pos="0.5 0 0"><geom size="0.03"/>{FINGER.format("left")}{FINGER.format("right")}</body>
</body>
<body name="cube" pos="1 0 1"><freejoint/><geom size="0.03"/></body>
"""


@pytest.mark.parametrize("name", ["ant", "half_cheetah", "humanoid"])
def test_a_robot_that_moves_goes_somewhere(name):
    found = survey(mujoco.MjModel.from_xml_path(model_file(name)))
    assert (found.goal_body, found.moves) == ("torso", True)
    assert found.low[0] < -1 < 1 < found.high[0]
    assert found.low[2] == found.high[2] > 0  # over the ground, as high as it stands
    assert (found.low[1] == found.high[1]) == (name == "half_cheetah")  # which stays in a plane


def test_a_hand_is_chosen_before_its_fingers():
    found = survey(model_of(GRIPPER, '<motor joint="a"/><motor joint="left"/><motor joint="right"/>'))
    assert (found.goal_body, found.moves) == ("hand", False)
    assert "fingers" in found.because
    np.testing.assert_allclose([found.low[2], found.high[2]], 0.0)
    assert -0.5 <= found.low[0] < -0.3 < 0.3 < found.high[0] <= 0.5
    assert found.control_step == pytest.approx(0.05)


def test_a_chain_without_a_hand_is_taken_at_its_end():
    last = f"<body pos='0.5 0 0'><joint name='b'/>{LINK}</body>"
    links = f"<body name='one'><joint name='a' axis='0 1 0'/>{LINK}{last}</body>"
    found = survey(model_of(links, '<motor joint="a"/><motor joint="b"/>'))
    assert found.goal_body == "one"  # the last one that has a name
    # Its origin lies on the axis, so that the goal is a point at its end.
    np.testing.assert_allclose(found.offset, [0.52, 0, 0], atol=1e-6)
    assert found.low[0] < -0.4
    assert found.high[2] > 0.4


def test_a_tendon_drives_what_it_pulls():
    tendon = '<tendon><fixed name="t"><joint joint="left" coef="1"/><joint joint="right" coef="1"/></fixed></tendon>'
    found = survey(model_of(GRIPPER, '<motor joint="a"/><motor tendon="t"/>', tendon))
    assert found.goal_body == "hand"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (model_of(f"<body><joint name='a'/>{LINK}</body>", "<motor joint='a'/>"), "have no names"),
        (model_of(f"<body name='b'><joint/>{LINK}</body>", "<adhesion body='b' ctrlrange='0 1'/>"), "no actuator of"),
    ],
)
def test_a_model_that_offers_nothing_is_one_line(model, words):
    with pytest.raises(ConfigurationError, match=words):
        survey(model)


def test_names_become_names_of_python():
    assert [environment_name(stem) for stem in ("My-Robot v2", "2arms", "Öl", "ü")] == [
        "my_robot_v2",
        "robot_2arms",
        "l",
        "robot",
    ]
    assert [class_name(name) for name in ("my_robot", "none", "robot_task")] == ["MyRobot", "NoneTask", "RobotTaskTask"]
    for text in ('a """ b', "a\\", "a\nb", "a\u2028b"):
        assert ast.parse(f'"""{safe(text)}."""\n# {safe(text)}\n').body
        assert len(f"# {safe(text)}".splitlines()) == 1
