"""What a scene places before it is drawn."""

import mujoco
import numpy as np

from kilolayer.render.scene import Scene
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
    assert not_on_page(mujoco.MjModel.from_xml_string(MODEL)) == ["tendons", "flex bodies"]
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
