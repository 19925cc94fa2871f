"""What a task returns is checked by its shapes: one line with the task, the method, what came and what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, registry
from kilolayer.envs.task_check import check_attributes, check_methods
from kilolayer.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("no_type_checks")

MODEL = """<mujoco><worldbody>
<body name="hand"><joint name="j" type="slide"/><geom size="0.1"/></body>
</worldbody><actuator><motor joint="j"/></actuator></mujoco>"""


def error_of(call) -> str:
    """Return the one line that a call raises, or nothing."""
    try:
        call()
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.fixture
def line(tmp_path):
    """Returns the error line of a task that differs from a sound one in some attributes."""
    file = tmp_path / "m.xml"
    file.write_text(MODEL)

    def of(**changes):
        sound = {"mjcf": str(file), "goal_body": "hand", "draw_goal": lambda self, key: jax.random.uniform(key, (3,))}
        task = type("Reach", (RobotTask,), sound | changes)
        registry.register(EnvironmentSpec("checked", "a robot", task=task, episode_length=10))
        try:
            return error_of(lambda: check_methods(registry.make("checked", engine="mujoco")))
        finally:
            registry.unregister("checked")

    return of


def returns(value):
    return lambda self, *arguments: value


SLIPS = [
    (
        {"draw_start": returns(Start(jnp.zeros(2), jnp.zeros(1)))},
        "draw_start (qpos) returns shape (2,); it must be shape (1,)",
    ),
    ({"draw_start": returns(Start(jnp.zeros(1), jnp.zeros(0)))}, "draw_start (qvel) returns shape (0,)"),
    ({"draw_start": returns(None)}, "draw_start returns nothing; it must return a Start"),
    ({"draw_goal": returns(jnp.zeros(4))}, "draw_goal returns shape (4,); it must be shape (3,)"),
    ({"draw_goal": returns(jnp.zeros(3, int))}, "draw_goal returns int32; it must return float32"),
    ({"draw_goal": returns([0.0, 0.0, 0.0])}, "draw_goal returns a list; it must return one JAX array of shape (3,)"),
    ({"draw_goal": returns(0.5)}, "draw_goal returns shape (); it must be shape (3,)"),
    ({"reset": returns(None)}, "reset returns nothing; it must return start and goal"),
    ({"control": returns(jnp.zeros(2))}, "control returns shape (2,); it must be shape (1,)"),
    ({"failed": returns(jnp.zeros(()))}, "failed returns float32; it must return bool"),
    ({"failed": returns(jnp.zeros(1, bool))}, "failed returns shape (1,)"),
    ({"success": returns(jnp.zeros(3, bool))}, "success returns shape (3,); it must be shape ()"),
    ({"reward": returns(None)}, "reward returns nothing"),
    ({"marker": returns(3)}, "marker returns a int; it must return a position of shape (3,) and a radius"),
    ({"failed": lambda self, state: state.qpos[0] > 1 and state.qvel[0] > 1}, "failed has `if`, `and` or `while`"),
    ({"failed": lambda self, state: state.qpos[0] > 1 and state.qvel[0] > 1}, "test_task_check.py, line"),
    ({"achieved_goal": lambda self, state: np.asarray(state.qpos)}, "achieved_goal has numpy on an array"),
    ({"observe": lambda self, state: state.nothing}, "observe raises AttributeError"),
    ({"control_step": float("nan")}, "control_step=nan must be a number of seconds above 0"),
    ({"control_step": 0.0}, "control_step=0.0 must be"),
    ({"control_step": None}, "control_step=None must be"),
    ({"engines": ()}, "engines=() must be names of engines"),
    ({"engines": "mujoco"}, "engines='mujoco' must be names of engines"),
    ({"success_distance": -1.0}, "success_distance=-1.0 must be"),
    ({"goal_body": 3}, "goal_body=3 must be the name of a body"),
    ({"bodies": "hand"}, "bodies='hand' must be names of bodies"),
    ({"mjcf": 3}, "mjcf=3 must be the path"),
]


def test_a_sound_task_passes(line):
    assert line() == ""
    assert line(success_distance=None) == ""


@pytest.mark.parametrize("name", ["point_u_maze", "ant", "arm_push_easy", "humanoid", "reacher"])
def test_the_tasks_of_the_library_pass(name):
    check_methods(registry.make(name))


@pytest.mark.parametrize(("changes", "words"), SLIPS)
def test_a_slip_is_one_line(line, changes, words):
    found = line(**changes)
    assert words in found
    assert len(found.splitlines()) == 1


def test_a_model_without_actuators_says_so(tmp_path, line):
    file = tmp_path / "still.xml"
    file.write_text(MODEL.split("<actuator>")[0] + "</mujoco>")
    assert "has no actuators" in line(mjcf=str(file))


def test_other_tasks_need_engines():
    class Nothing:
        engines = None

    with pytest.raises(ConfigurationError, match="engines=None"):
        check_attributes(Nothing())
