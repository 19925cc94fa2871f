"""What a scene places before it is drawn."""

import mujoco
import numpy as np
import pytest

from kilolayer.envs.drawing import Ghost
from kilolayer.errors import ConfigurationError
from kilolayer.render.ghost import place_ghosts
from kilolayer.render.scene import Motion, Scene
from kilolayer.render.viewer.shapes import height_field, tendon_pieces
from kilolayer.render.viewer.write import not_on_page

MODEL = """
<mujoco>
  <worldbody>
    <site name="wall" pos="0 0 1"/>
    <body name="slider">
      <joint name="x" type="slide" axis="1 0 0"/>
      <geom size="0.1"/>
      <site name="hand"/>
    </body>
    <flexcomp name="cloth" type="grid" count="3 3 1" spacing="0.1 0.1 0.1" dim="2" mass="0.1" radius="0.01"/>
  </worldbody>
  <tendon><spatial name="rope"><site site="wall"/><site site="hand"/></spatial></tendon>
  <actuator><motor joint="x"/></actuator>
</mujoco>
"""


def test_the_page_says_what_it_leaves_out():
    skin = """<deformable><skin vertex="0 0 0 1 0 0 0 1 0" face="0 1 2">
      <bone body="slider" bindpos="0 0 0" bindquat="1 0 0 0" vertid="0 1 2" vertweight="1 1 1"/>
    </skin></deformable></mujoco>"""
    model = mujoco.MjModel.from_xml_string(MODEL.replace("</mujoco>", skin))
    assert not_on_page(model) == ["skins", "flex bodies"]
    assert not_on_page(mujoco.MjSpec().compile()) == []


def test_tendons_and_cloth_are_where_the_pose_puts_them():
    model = mujoco.MjModel.from_xml_string(MODEL)
    expected = mujoco.MjData(model)
    qpos = np.linspace(0.1, 0.4, model.nq)
    expected.qpos[:] = qpos
    mujoco.mj_forward(model, expected)
    data = Scene("rope", model, [], 0.1, False, None).place(qpos)
    assert np.linalg.norm(data.wrap_xpos) > 0.5
    np.testing.assert_array_equal(data.wrap_xpos, expected.wrap_xpos)
    np.testing.assert_array_equal(data.ten_wrapnum, expected.ten_wrapnum)
    assert np.linalg.norm(data.flexvert_xpos) > 0.5
    np.testing.assert_array_equal(data.flexvert_xpos, expected.flexvert_xpos)


ARM = """
<mujoco>
  <asset><hfield name="hill" nrow="3" ncol="2" size="1 2 0.5 0.1"/></asset>
  <worldbody>
    <geom type="hfield" hfield="hill"/>
    <site name="wall" pos="-1 0 1"/>
    <body name="upper" pos="0 0 1">
      <joint axis="0 1 0"/>
      <geom size="0.1"/>
      <body name="lower" pos="1 0 0">
        <joint axis="0 1 0"/>
        <geom size="0.1"/>
        <site name="hand" pos="1 0 0"/>
      </body>
    </body>
  </worldbody>
  <tendon>
    <spatial name="rope">
      <site site="wall"/><site site="hand"/><pulley divisor="2"/><site site="hand"/><site site="wall"/>
    </spatial>
  </tendon>
</mujoco>
"""


@pytest.fixture(scope="module")
def arm():
    return mujoco.MjModel.from_xml_string(ARM)


def test_a_ghost_has_the_poses_that_the_goal_has(arm):
    down = np.pi / 2
    placed = place_ghosts(arm, [Ghost(qpos=np.array([down, np.nan]))], np.array([0.0, -down]))
    assert [arm.body(body).name for body in placed.bodies] == ["upper", "lower"]
    np.testing.assert_allclose(placed.position[0], [[0, 0, 1], [0, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(placed.quaternion[0, 1], [1, 0, 0, 0], atol=1e-9)  # its joint is that of the start

    one = place_ghosts(arm, [Ghost(qpos=np.array([down, 0.0]), bodies=("lower",))] * 2, np.zeros(2))
    assert [arm.body(body).name for body in one.bodies] == ["lower"]
    assert one.position.shape == (2, 1, 3)

    half = np.sqrt(0.5)
    pose = (np.array([5.0, 0, 0]), np.array([2 * half, 0, 2 * half, 0]))  # not of unit length
    hung = place_ghosts(arm, [Ghost(poses={"upper": pose})], np.array([0.3, 0.0]))
    np.testing.assert_allclose(hung.position[0], [[5, 0, 0], [5, 0, -1]], atol=1e-9)


@pytest.mark.parametrize(
    ("ghosts", "words"),
    [
        ([Ghost(qpos=np.zeros(3))], r"qpos of shape \(3,\); the drawn model takes \(2,\)"),
        ([Ghost(qpos=np.zeros(2), bodies=("lowr",))], "names the body 'lowr'.*did you mean lower"),
        ([Ghost(qpos=np.zeros(2)), Ghost(qpos=np.zeros(2), bodies=("lower",))], "the same in every step"),
    ],
)
def test_a_ghost_that_does_not_fit_is_one_line(arm, ghosts, words):
    with pytest.raises(ConfigurationError, match=words):
        place_ghosts(arm, ghosts, np.zeros(2))


def test_height_fields_become_triangles(arm):
    arm.hfield_data[:] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    vertices, faces = height_field(arm, 0)
    np.testing.assert_allclose(vertices[[0, -1]], [[-1, -2, 0], [1, 2, 0.5]], atol=1e-6)
    corners = vertices[faces]
    upwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert (upwards > 0).all()
    assert 0.5 * upwards.sum() == pytest.approx(2 * 4)


def test_tendons_become_straight_pieces(arm):
    qpos = np.array([[0.0, 0.0], [0.2, 0.1]])
    motion = Motion(qpos, None, 0.0, np.zeros(2, bool), 0)
    scene = Scene("arm", arm, [motion], 0.1, False, None)
    tendons, (pieces,) = tendon_pieces(scene, [qpos])
    assert tendons == [0, 0]  # nothing is drawn across the pulley
    for frame, pose in enumerate(qpos):
        wall, hand = [-1, 0, 1], scene.place(pose).site("hand").xpos
        np.testing.assert_allclose(pieces[frame], [[wall, hand], [hand, wall]])
