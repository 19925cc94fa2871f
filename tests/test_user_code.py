"""A user's own files: their names, what lies beside them, and cells that are run twice."""

import queue
import subprocess
import sys
from pathlib import Path

import pytest

from kilolayer import user_code
from kilolayer.envs import registry
from kilolayer.user_code import import_code

TASK = """
import jax
import jax.numpy as jnp
from kilolayer.envs import EnvironmentSpec, RobotTask, register
{extra}

class Reach(RobotTask):
    mjcf = "robot.xml"
    goal_body = "hand"

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,))

register(EnvironmentSpec("{name}", "a robot", task=Reach))
"""

ROBOT = """<mujoco><worldbody><body name="hand"><joint type="slide"/><geom size="{size}"/></body></worldbody>
<actuator><motor joint="j"/></actuator></mujoco>""".replace('type="slide"', 'name="j" type="slide"')


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders with a task and a robot each, under the same names."""
    monkeypatch.setattr(user_code, "_imported", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for number, name in enumerate(("a", "b"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.py").write_text(TASK.format(name=f"robot_{name}", extra=""))
        (tmp_path / name / "robot.xml").write_text(ROBOT.format(size=0.1 * number))
    yield tmp_path
    for name in ("a", "b", "q", "child"):
        registry.unregister(f"robot_{name}")


def test_two_files_of_one_name_each_have_their_own_robot(folders):
    for name in ("a", "b"):
        import_code(str(folders / name / "task.py"))
    sizes = [float(registry.spec(f"robot_{name}").make_task().model.geom_size[0, 0]) for name in ("a", "b")]
    assert sizes == pytest.approx([0.1, 0.2])


def test_a_file_named_as_a_module_of_python_does_not_replace_it(folders):
    file = folders / "a" / "queue.py"
    file.write_text(TASK.format(name="robot_q", extra=""))
    import_code(str(file))
    assert sys.modules["queue"] is queue
    assert registry.spec("robot_q").make_task().model.nq == 1


def test_a_file_may_import_what_lies_beside_it(folders):
    (folders / "a" / "my_helper_of_robots.py").write_text("SIZE = 3\n")
    (folders / "a" / "task.py").write_text(
        TASK.format(name="robot_a", extra="from my_helper_of_robots import SIZE\nassert SIZE == 3")
    )
    import_code(str(folders / "a" / "task.py"))


def test_a_subclass_in_another_folder_finds_the_model_of_its_parent(folders):
    import_code(str(folders / "b" / "task.py"))
    parent = type(registry.spec("robot_b").make_task())

    class Child(parent):
        """Defined here, far from robot.xml."""

    assert float(Child().model.geom_size[0, 0]) == pytest.approx(0.2)


def test_a_class_of_a_notebook_finds_its_model_in_the_current_folder_and_may_be_registered_twice(folders):
    cell = TASK.format(name="robot_cell", extra="")
    program = f"""
cell = {cell!r}
for _ in range(2):
    exec(cell, globals())
from kilolayer.envs import registry
print(registry.spec("robot_cell").make_task().model.nq)
from kilolayer.errors import ConfigurationError
for _ in range(2):
    try:
        register(EnvironmentSpec("ant", "mine", task=Reach))
    except ConfigurationError as error:
        print(error)
"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(folders) / "a", capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    number, *refused = process.stdout.splitlines()
    assert number == "1"
    assert refused == ["an environment named 'ant' is already registered"] * 2
