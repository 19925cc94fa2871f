"""Robots on the command line: your own from a file, checked, timed, trained and gone on with."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.envs import registry
from kilolayer.runs import RunDirectory, unregister_preset
from own_process import own_process
from small_runs import SMALL, assert_same_state, final_state, flags

EXAMPLES = Path(__file__).parents[2] / "examples"
CRANE, CHAIN = EXAMPLES / "crane.py", EXAMPLES / "chain.py"


@pytest.fixture(autouse=True)
def forget_the_examples():
    with own_process():
        yield


@pytest.mark.slow
def test_a_robot_on_mujoco_resumes_bit_for_bit(tmp_path):
    kl.train("reacher", run_dir=tmp_path / "whole", progress=False, **SMALL)
    kl.train("reacher", run_dir=tmp_path / "half", progress=False, **SMALL | {"total_env_steps": 200, "num_evals": 1})
    kl.train(resume=tmp_path / "half", total_env_steps=400, progress=False)
    assert_same_state(final_state(tmp_path / "whole"), final_state(tmp_path / "half"))
    config = RunDirectory.open(tmp_path / "whole").config()
    assert (config.engine, config.variant) == ("mujoco", "default")
    with pytest.raises(kl.ConfigurationError, match="engine"):
        kl.train(resume=tmp_path / "half", engine="mjx", progress=False)


def test_a_robot_of_your_own_from_a_file(capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["--import", str(CRANE), "train", "crane", f"--run-dir={run}", *flags()]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["eval", str(run), "--episodes=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env"] == "crane"

    registry.unregister("crane")  # as in a session that does not import the file
    assert main(["eval", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "env 'crane' is unknown" in line


@pytest.mark.slow
def test_a_robot_that_differs_is_evaluated_as_its_model_says(capsys, tmp_path):
    run = tmp_path / "run"
    brought = ["--import", str(EXAMPLES / "robust_crane.py")]
    assert main([*brought, "envs", "show", "robust_crane", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "mass x 0.5 to 3" in " ".join(shown["randomized"])
    assert shown["success_text"] == "achieved and desired goal are less than 0.1 apart"
    assert main(["train", "robust_crane", f"--run-dir={run}", *flags()]) == 0
    capsys.readouterr()
    found = {}
    for how in (["--randomize=on"], ["--randomize=off"], ["--env=crane"], []):
        assert main(["eval", str(run), "--episodes=4", "--json", *how]) == 0
        found[how[0] if how else ""] = json.loads(capsys.readouterr().out)["eval/return"]
    assert found["--randomize=on"] == found[""] != found["--randomize=off"]
    assert found["--randomize=off"] == found["--env=crane"]
    assert kl.load(run).contract.goal.success == shown["success_text"]
    assert main(["eval", str(run), "--env=crane", "--randomize=on"]) == 2
    assert "env 'crane' draws nothing at random beside starts and goals" in capsys.readouterr().err


def test_the_chain_knows_where_its_tip_is(capsys):
    """As MuJoCo has it, whose bodies the task does not look at."""
    assert main(["envs", "check", "chain_4", f"--import={CHAIN}", "--num-envs=4", "--num-steps=30"]) == 0
    task = registry.spec("chain_4").make_task()
    data = mujoco.MjData(task.model)
    data.qpos[:] = [0.3, -1.2, 0.7, 1.1]
    mujoco.mj_forward(task.model, data)
    tip = data.body("link3").xpos + data.body("link3").xmat.reshape(3, 3) @ [0.25, 0.0, 0.0]
    state = SimpleNamespace(qpos=jnp.asarray(data.qpos), qvel=jnp.zeros(4))
    np.testing.assert_allclose(task.achieved_goal(state), tip[:2], atol=1e-6)
    np.testing.assert_allclose(task.observe(state)[:4], np.cos(data.qpos), atol=1e-6)


def test_check_prints_what_it_found_and_its_exit_code_shows_it(capsys):
    assert main(["--import", str(CRANE), "envs", "check", "crane", "--num-envs=4", "--num-steps=30"]) == 0
    assert "all numbers finite" in " ".join(capsys.readouterr().out.split())
    assert main(["envs", "check", "reacher", "--num-envs=4", "--num-steps=30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"name", "verdict", "text"} == set(found[0])
    assert main(["envs", "check", "reacher", "--num-envs=0"]) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no such file"),
        ("import nonsense_that_is_not_there", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(capsys, tmp_path, text, words):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert main(["--import", str(path), "envs"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert words in line
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--import"], "needs a Python file"), (["--import", "json"], "needs a command")]
)
def test_import_without_a_file_or_a_command_is_one_line(capsys, arguments, words):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_gives_a_row_for_each_side(capsys):
    arguments = ["--envs=reacher", "--engines", "mujoco", "--num-envs=4", "--num-steps=3", "--rounds=2", "--json"]
    assert main(["bench", "env", *arguments]) == 0
    bare, rollout = json.loads(capsys.readouterr().out)["rows"]
    assert (bare["kind"], rollout["kind"]) == ("bare", "rollout")
    assert bare["ratio_to_bare"] == rollout["rollout_ratio"] == 1.0
    assert 0 < rollout["slowest"] <= rollout["env_steps_per_second"] <= rollout["fastest"]
    assert main(["bench", "env", *arguments[:-1]]) == 0
    table = capsys.readouterr().out
    assert "bare" in table
    assert "rollout" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "speed"], "bench 'speed' is unknown"),
        (["bench", "env", "--envs=point_u_maze"], "has no body"),
        (["bench", "env", "--rounds=0"], "rounds=0 must be at least 1"),
        (["train", "reacher", "--engine=unreal"], "engine='unreal' is unknown; there are auto, "),
        (["train", "point_u_maze", "--engine=mujoco"], "engine='mujoco' cannot run task PointMaze; it runs on point"),
        (["train", "point_u_maze", "--variant=paper"], "has no variant 'paper'"),
    ],
)
def test_invalid_arguments_are_one_line(capsys, arguments, words):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_an_engine_that_cannot_run_a_robot_is_left_out_unless_it_is_named(capsys):
    arguments = ["--import", str(CRANE), "bench", "env", "--envs=crane", "--num-envs=4", "--num-steps=2", "--rounds=1"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["engine"] for row in found["rows"]} == {"mujoco"}
    assert found["command"].startswith("kilolayer ")
    assert f"--import {os.path.relpath(CRANE)} " in found["command"]
    assert " bench env --envs=crane" in found["command"]
    assert found["system"]["cpu"]
    sys.modules.pop("crane", None)
    registry.unregister("crane")
    unregister_preset("crane")
    assert main([*arguments, "--engines", "spring"]) == 2
    assert "engine 'spring' cannot run task Crane" in capsys.readouterr().err
