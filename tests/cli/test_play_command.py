"""`kilolayer play`: a page until Ctrl-C, or statistics; and which options go with what."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from kilolayer.cli.main import main
from kilolayer.envs import make
from kilolayer.errors import ConfigurationError
from kilolayer.render.play import Session
from kilolayer.runs import Checkpoints, RunDirectory
from kilolayer.training import Setup, init_state
from small_runs import small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has just begun."""
    config = small_config()
    directory = RunDirectory.create(tmp_path_factory.mktemp("play") / "run", config)
    checkpoints = Checkpoints(directory.checkpoints, keep=1)
    checkpoints.save(init_state(Setup.build(config), 0))
    checkpoints.wait()
    checkpoints.close()
    return directory.path


def test_a_robot_before_training_and_its_policy_in_numbers(capsys, run):
    assert main(["play", "point_u_maze", "--headless", "4", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert (before["env"], before["episodes"], before["actions"]) == ("point_u_maze", 4, "random")
    assert before["distance_unit"] == "m"
    for name in ("time_at_goal", "success_any", "distance_moved", "episode_length"):
        assert isinstance(before[f"eval/{name}"], float)
        assert isinstance(before[f"eval/{name}_stderr"], float)
    assert "env_steps" not in before
    assert main(["play", str(run), "--headless", "4"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "point_u_maze_eval, 4 episodes, policy at checkpoint 0"
    assert [line.split()[0] for line in lines] == ["time_at_goal", "success_any", "distance_moved", "episode_length"]
    assert lines[2].endswith(" m")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["point_u_maze", "--actions", "policy"], "actions='policy' needs a run"),
        (["point_u_maze", "--checkpoint", "best"], "--checkpoint best is for a run, and point_u_maze is none"),
        (["point_u_maze", "--mode", "stochastic"], "--mode stochastic is for a run"),
        (["RUN", "--variant", "paper"], "--variant paper is for an environment"),
        (["RUN", "--robot", "ant"], "--robot ant is for an environment"),
        (["RUN", "--checkpoint", "5"], "no checkpoint 5"),
        (["point_u_maze", "--headless", "0"], "headless=0 must be at least 1"),
        (["point_u_maze", "--json"], "add --headless"),
        (["point_u_maze", "--headless", "2", "--speed", "2"], "--speed 2.0 is for the page"),
        (
            ["RUN", "--headless", "2", "--actions", "zero", "--mode", "best_of"],
            "--mode best_of is for --actions policy",
        ),
        (["point_u_maze", "--speed", "3"], "speed=3.0 must be one of"),
        (["runs/frist"], "runs/frist is not a run directory"),
        (["point_u_mase"], "did you mean point_u_maze"),
        (["point_u_maze", "--seed", "-1"], "seed=-1 must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(capsys, run, arguments, words):
    assert main(["play", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line


def test_what_draws_itself_is_refused_with_a_way_out(capsys):
    pytest.importorskip("gymnasium")
    tiny = ["--import", "tiny_goal_env", "play", "gym:TinyReach-v0"]
    assert main(tiny) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gym:TinyReach-v0 draws itself, and has no 3-D page; take --headless EPISODES, or `kilolayer render`" in line
    assert main([*tiny, "--headless", "2", "--actions", "zero"]) == 0
    assert capsys.readouterr().out.startswith("gym:TinyReach-v0, 2 episodes, zero actions\n")
    with pytest.raises(ConfigurationError, match="draws itself, and has no 3-D page"):
        Session(make("gym:TinyReach-v0"))


RUNNING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "kilolayer", *sys.argv[1:]])
"""
"""Runs the command so that it catches Ctrl-C, even if the tests run in the background."""


def test_ctrl_c_ends_the_page_as_a_success():
    words = [sys.executable, "-c", RUNNING, "play", "point_u_maze", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            name, address = process.stdout.readline().split(": ")
            assert name == "point_u_maze"
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address.strip(), timeout=60) as page:
                assert b"point_u_maze" in page.read()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(address.strip().removesuffix("/") + "x/", timeout=60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out == ""
    assert err.splitlines() == ["Open this address in a browser on this machine. Ctrl-C ends it."]
