"""Models and tasks of others: an environment whose shapes are known, or one line."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["models", "slips", pytest.param("checks", marks=pytest.mark.slow)])
def test_a_robot_of_somebody_else_is_one_that_moves_or_one_line(tmp_path, kind):
    program = Path(__file__).with_name("robots.py")
    process = subprocess.run([sys.executable, str(program), kind], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-4000:]
