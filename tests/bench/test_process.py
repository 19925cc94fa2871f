"""Measurements in processes of their own take turns, say what they do, and end when their time is over."""

import os

import pytest

from kilolayer.bench.process import Apart, tell
from kilolayer.errors import KilolayerError

FUNCTIONS = """
import time
from kilolayer.bench.process import tell

def measure(start):
    while True:
        tell(f"counting from {start}")
        request = yield start
        if request == "sleep":
            time.sleep(60.0)
        start += int(request)
"""


def test_a_process_answers_in_turn_until_its_time_is_over(tmp_path):
    (tmp_path / "functions_of_a_test.py").write_text(FUNCTIONS)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    said = []
    with Apart("functions_of_a_test:measure", {"start": 3}, environment={"PYTHONPATH": path}, log=said.append) as one:
        assert one.result() == 3
        assert one.ask("4") == 7
        assert one.ask("5") == 12
        assert said == ["counting from 3", "counting from 7", "counting from 12"]
        one.limit(0.1)
        with pytest.raises(KilolayerError, match="the measurement of start=3 failed: its time was over"):
            one.ask("sleep")


def test_elsewhere_nothing_is_said(capsys):
    tell("measuring")
    assert capsys.readouterr().out == ""
