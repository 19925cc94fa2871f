"""What `envs check` finds in models of robots: servos, joints that blow up."""

import jax
import mujoco
import pytest

from kilolayer.envs import EnvironmentSpec, RobotTask, registry
from kilolayer.envs.check import check
from kilolayer.envs.tasks import Reacher

MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="hand"><joint name="lift" type="slide" axis="0 0 1" range="-2 2"/><geom size="0.1"/></body>
  </worldbody>
  <actuator>{actuator}</actuator>
  {keyframe}
</mujoco>
"""

KEYFRAME = '<keyframe><key qpos="0" ctrl="0.9"/></keyframe>'


def findings(
    actuator: str, keyframe: str = '<keyframe><key qpos="0" ctrl="0.9"/></keyframe>'
) -> list[tuple[str, str, str]]:
    class Lift(RobotTask):
        goal_body = "hand"
        control_step = 0.02

        def build(self):
            return mujoco.MjSpec.from_string(MODEL.format(actuator=actuator, keyframe=keyframe))

        def draw_goal(self, key):
            return jax.random.uniform(key, (3,))

    registry.register(EnvironmentSpec("lift", "a lift", task=Lift, episode_length=20))
    try:
        found = list(check(registry.make("lift", engine="mujoco"), num_envs=2, num_steps=30))
    finally:
        registry.unregister("lift")
    return [(one.name, one.verdict, one.text) for one in found]


@pytest.mark.parametrize(
    ("actuator", "words"),
    [
        ('<position name="servo" joint="lift" kp="10"/>', "position servos without a ctrlrange: servo"),
        (
            '<position name="servo" joint="lift" kp="10" ctrlrange="-1 0.5"/>',
            "the keyframe's controls are out of range: servo",
        ),
    ],
)
def test_servos_that_cannot_be_told_where_to_go_are_warned_of(actuator, words):
    (text,) = [text for name, _, text in findings(actuator) if name == "actuators"]
    assert words in text


@pytest.mark.parametrize(
    "actuator",
    ['<motor joint="lift" ctrlrange="-1 1"/>', '<position joint="lift" kp="10" ctrlrange="-0.2 1.8"/>'],
)
def test_others_are_not(actuator):
    assert not [one for one in findings(actuator) if one[0] == "actuators"]


def test_a_task_without_success_is_not_asked_for_it():
    class NeverReached(Reacher):
        success_distance = None

    registry.register(EnvironmentSpec("never", "a reacher", task=NeverReached, episode_length=20))
    try:
        found = list(check(registry.make("never", engine="mujoco"), num_envs=2, num_steps=30))
    finally:
        registry.unregister("never")
    assert {one.verdict for one in found} == {"ok"}
    assert not [one for one in found if "success" in one.name]


@pytest.mark.parametrize(("ctrlrange", "verdict"), [("-1 1", "ok"), ("-0.2 1.8", "warning")])
def test_servos_that_leave_the_start_without_actions_are_warned_of(ctrlrange, verdict):
    servo = f'<position joint="lift" kp="400" kv="40" ctrlrange="{ctrlrange}"/>'
    (found,) = [one for one in findings(servo, keyframe="") if one[0] == "start"]
    assert found[1] == verdict
    assert "zero actions move the achieved goal by up to" in found[2]
    assert ("more than the success distance of 0.1: its servos" in found[2]) == (verdict == "warning")


def test_episodes_that_begin_at_their_goal_are_counted_apart():
    class Wide(Reacher):
        success_distance = 0.2

    registry.register(EnvironmentSpec("wide", "a reacher", task=Wide, episode_length=20))
    try:
        found = {one.name: one for one in check(registry.make("wide", engine="mujoco"), num_envs=64, num_steps=30)}
    finally:
        registry.unregister("wide")
    assert found["success at the start"].verdict == "warning"
    assert (
        "of the episodes begin at their goal; `eval` counts their success apart" in found["success at the start"].text
    )


def test_after_numbers_that_are_not_finite_nothing_else_is_found():
    found = findings('<general joint="lift" gainprm="1e8" biastype="affine" biasprm="0 1e9 1e9" ctrlrange="-1 1"/>')
    name, verdict, text = found[-1]
    assert name in ("zero actions", "random actions")
    assert verdict == "failed"
    assert "the robot diverged in" in text
    assert "fastest before: lift velocity (m/s)" in text or "all joints were at rest before" in text
