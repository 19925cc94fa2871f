"""The export of a run: with the robot's model, and run by the example, which knows nothing of kilolayer."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.envs import registry
from kilolayer.training import load_with_setup, run_episodes, summarize
from kilolayer.training.export import export_run, write_robot
from small_runs import small_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy" / "control_loop.py"

ALONE = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "kilolayer", "onnx", "scipy", "equinox"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

EPISODES = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "run"
    config = small_config(env="reacher", crl={"action_chunk": 2}, total_env_steps=200, num_evals=1)
    kl.train(config=config, run_dir=path, progress=False)
    return path


def control_loop(*arguments):
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True, timeout=240
    )


def test_the_example_alone_drives_the_robot_as_the_library_does(export_packages, run, tmp_path):
    exported = export_run(run, episodes=EPISODES)
    assert exported.directory == run / "export" / "onnx-200"
    process = control_loop(exported.directory, "--episodes", EPISODES)
    assert process.returncode == 0, process.stderr
    printed = dict(re.findall(r"^ *(success_any|time_at_goal) +([\d.]+)", process.stdout, re.MULTILINE))

    policy, setup = load_with_setup(run)
    environment = setup.eval_environment
    episodes = run_episodes(policy.agent, policy.agent_state, environment, jax.random.key(0), num_episodes=EPISODES)
    expected = summarize(episodes)
    assert float(printed["success_any"]) == pytest.approx(expected["eval/success_any"], abs=1e-3)
    assert float(printed["time_at_goal"]) == pytest.approx(expected["eval/time_at_goal"], abs=0.1)
    assert expected["eval/time_at_goal"] > 0.0

    path = exported.directory / "policy.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    process = control_loop(exported.directory)
    assert process.returncode != 0
    assert "policy.onnx is damaged" in process.stderr


def test_a_run_is_exported_with_observations_of_its_own_and_its_robot(run, tmp_path):
    exported = export_run(run, tmp_path / "made", format="jax", checkpoint="untrained", episodes=3)
    assert exported.files == ("check.npz", "episodes.npz", "policy.json", "policy.stablehlo", "robot.xml")
    data = json.loads((tmp_path / "made" / "policy.json").read_text())
    assert data["exported"]["checked"]["rows"] == 90
    assert data["exported"]["outputs"]["action_chunk"]["shape"] == ["batch", 2, 2]
    assert data["env_steps"] == 0
    robot = data["robot"]
    assert robot["control"] == {"low": [-1.0, -1.0], "high": [1.0, 1.0]}
    assert (robot["physics_steps"], robot["success_distance"]) == (2, 0.05)
    assert {name: value.shape for name, value in np.load(tmp_path / "made" / "episodes.npz").items()} == {
        "qpos": (3, 2),
        "qvel": (3, 2),
        "desired_goal": (3, 3),
    }


@pytest.mark.parametrize("name", ["ant", pytest.param("arm_push_easy", marks=pytest.mark.slow)])
def test_a_robot_is_written_such_that_mujoco_reads_the_same_one(tmp_path, name):
    environment = registry.make(name)
    about = write_robot(environment, tmp_path, episodes=1)
    path = tmp_path / about["file"]
    read = mujoco.MjModel.from_xml_path if path.suffix == ".xml" else mujoco.MjModel.from_binary_path
    model, task = read(str(path)), environment.task
    assert (model.nq, model.nu) == (task.model.nq, task.model.nu)
    action = np.linspace(-1.0, 1.0, task.action_size).astype(np.float32)
    if about["control"] is not None:
        low, high = (np.array(about["control"][end]) for end in ("low", "high"))
        np.testing.assert_allclose(
            low + 0.5 * (action + 1) * (high - low), task.control(jnp.asarray(action)), rtol=1e-5
        )
