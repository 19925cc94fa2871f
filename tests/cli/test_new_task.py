"""`kilolayer new-task`: the file that it writes is checked and trained; bad input is one line, and writes nothing."""

import sys

import pytest

from kilolayer.cli.main import main
from kilolayer.envs import registry
from kilolayer.runs import unregister_preset
from small_runs import flags

ARM = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body name="arm" pos="0 0 0.5">
      <joint name="shoulder" axis="0 1 0" range="-90 90"/>
      <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03"/>
      <body name="hand" pos="0.4 0 0">
        <joint name="wrist" axis="0 1 0" range="-90 90"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.03"/>
        <site name="palm &#10;import os" pos="0.2 0 0"/>
      </body>
    </body>
  </worldbody>
  <sensor><jointpos name="angle" joint="wrist"/></sensor>
</mujoco>
"""
DRIVEN = ARM.replace("</mujoco>", '<actuator><position joint="shoulder" kp="20"/></actuator></mujoco>')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My-Arm 2.xml").write_text(ARM)
    (tmp_path / "driven.xml").write_text(DRIVEN)
    (tmp_path / "notes.txt").write_text("no model")
    yield tmp_path
    registry.unregister("my_arm_2")
    unregister_preset("my_arm_2")
    sys.modules.pop("my_arm_2", None)


def test_what_it_writes_passes_the_check_and_trains(folder, capsys):
    assert main(["new-task", "My-Arm 2.xml", "--servo-kp=50"]) == 0
    out = capsys.readouterr().out
    assert "environment my_arm_2, goal: where the end of hand is" in out
    assert "next: kilolayer --import my_arm_2.py envs check my_arm_2" in out
    text = (folder / "my_arm_2.py").read_text()
    assert "# joints:    shoulder hinge -1.571 to 1.571 rad, wrist hinge -1.571 to 1.571 rad" in text
    assert "# sensors:   angle jointpos" in text
    assert "\nimport os" not in text
    assert max(map(len, text.splitlines())) <= 120
    assert main(["--import", "my_arm_2.py", "envs", "check", "my_arm_2", "--num-envs=4", "--num-steps=20"]) == 0
    capsys.readouterr()
    assert main(["train", "my_arm_2", f"--run-dir={folder / 'run'}", *flags()]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.xml"], "model file 'nowhere.xml' is missing"),
        (["notes.txt"], "model file 'notes.txt' cannot be read"),
        (["My-Arm 2.xml"], "has no actuators, so there is nothing to act with; --servo-kp 100 adds position servos"),
        (["My-Arm 2.xml", "--servo-kp=0"], "servo_kp=0.0 must be a number above 0"),
        (["driven.xml", "--name=crane", "--output=notes.txt"], "output='notes.txt' must be a Python file"),
        (["driven.xml", "--output=there.py"], "output='there.py' exists already"),
        (["driven.xml", "--output=no/where.py"], "is in a folder that does not exist"),
        (["driven.xml", "--name=reacher"], "an environment named 'reacher' is registered already"),
        (["driven.xml", "--name=my arm"], "name='my arm' must begin with a letter"),
        ([], "MODEL"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folder, capsys, arguments, words):
    (folder / "there.py").write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["new-task", *arguments]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert words in line
    assert out == ""
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_command_is_listed(capsys):
    assert main(["--help"]) == 0
    assert "new-task   write a task file" in capsys.readouterr().out
