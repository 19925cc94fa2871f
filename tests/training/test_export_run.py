"""The export of a run: with the robot's model, and run by the example, which knows nothing of kilolayer."""

import importlib.util
import json
import os
import re
import shutil
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


def printed_by(process):
    """Return the metrics that an example printed."""
    return dict(re.findall(r"^ *(success_any|time_at_goal) +([\d.]+)", process.stdout, re.MULTILINE))


def test_the_example_alone_drives_the_robot_as_the_library_does(export_packages, run, tmp_path):
    exported = export_run(run, episodes=EPISODES)
    assert exported.directory == run / "export" / "onnx-200"
    process = control_loop(exported.directory, "--episodes", EPISODES, "--rate", 1000)
    assert process.returncode == 0, process.stderr
    assert "deadlines of 1 ms missed" in process.stdout
    printed = printed_by(process)
    policy, setup = load_with_setup(run)
    environment = setup.eval_environment
    episodes = run_episodes(policy.agent, policy.agent_state, environment, jax.random.key(0), num_episodes=EPISODES)
    expected = summarize(episodes)
    assert float(printed["success_any"]) == pytest.approx(expected["eval/success_any"], abs=1e-3)
    assert float(printed["time_at_goal"]) == pytest.approx(expected["eval/time_at_goal"], abs=0.1)
    assert expected["eval/time_at_goal"] > 0.0

    path = exported.directory / "policy.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    process = control_loop(exported.directory)
    assert process.returncode != 0
    assert "policy.onnx is damaged" in process.stderr


def test_the_thirty_lines_of_the_page_run(export_packages, run, tmp_path, monkeypatch):
    export_run(run, tmp_path / "reacher_policy", episodes=1)
    monkeypatch.chdir(tmp_path)
    page = EXAMPLE.parents[2] / "docs" / "deploy.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1)
    names = json.loads((tmp_path / "reacher_policy" / "policy.json").read_text())["observation"]["names"]
    scope = {}
    exec(code.replace('["action"]', '["action_chunk"]'), scope)  # the run of these tests has chunks of two
    action = scope["act"]({name.split(" (")[0]: 0.1 for name in names}, np.zeros(3))
    assert action.shape == (2, 2)


def test_a_run_is_exported_with_observations_of_its_own_and_its_robot(run, tmp_path):
    exported = export_run(run, tmp_path / "made", format="jax", checkpoint="untrained", episodes=3)
    assert exported.files == ("check.csv", "episodes.csv", "policy.json", "policy.stablehlo", "robot.xml")
    data = json.loads((tmp_path / "made" / "policy.json").read_text())
    assert data["exported"]["checked"]["rows"] == 90
    assert data["exported"]["outputs"]["action_chunk"]["shape"] == ["batch", 2, 2]
    assert data["env_steps"] == 0
    robot = data["robot"]
    assert robot["control"] == {"low": [-1.0, -1.0], "high": [1.0, 1.0]}
    assert (robot["physics_steps"], robot["success_distance"]) == (2, 0.05)
    first, *rows = (tmp_path / "made" / "episodes.csv").read_text().splitlines()
    assert first == "qpos_0,qpos_1,qvel_0,qvel_1,desired_goal_0,desired_goal_1,desired_goal_2"
    assert len(rows) == 3


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


def cpp_packages():
    """Return folders of headers of ONNX Runtime, and libraries of it and of MuJoCo; None where one is missing."""
    places = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    headers = [place for place in places if place and (Path(place) / "onnxruntime_cxx_api.h").is_file()]
    wheel = Path(str(importlib.util.find_spec("onnxruntime").origin)).parent / "capi"
    libraries = [*wheel.glob("libonnxruntime.so.*"), *Path(mujoco.__file__).parent.glob("libmujoco.so.*")]
    tools = shutil.which("cmake") and shutil.which("c++")
    return (headers[0], *libraries) if headers and len(libraries) == 2 and tools else None


@pytest.mark.slow
def test_the_example_in_cpp_drives_the_robot_as_the_one_in_python_does(tmp_path):
    """Headers of ONNX Runtime are in Debian 13's libonnxruntime-dev and in the archives of its releases; the libraries
    of the wheels run what is compiled with them.
    """
    pytest.importorskip("onnxruntime")
    found = cpp_packages()
    if found is None:
        pytest.skip("needs cmake, a compiler, and ONNX Runtime's headers, in a usual place or in ONNXRUNTIME_INCLUDE")
    headers, onnxruntime, physics = found
    config = small_config(env="reacher", total_env_steps=200, num_evals=1, episode_length=100)
    kl.train(config=config, run_dir=tmp_path / "run", progress=False)
    exported = export_run(tmp_path / "run", episodes=EPISODES)
    # A wheel's library has the name that it is linked to, but its file has not.
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libonnxruntime.so.1").symlink_to(onnxruntime)
    build = [
        *("cmake", "-S", EXAMPLE.parent / "cpp", "-B", tmp_path / "build", f"-DONNXRUNTIME_INCLUDE={headers}"),
        *(f"-DONNXRUNTIME_LIBRARY={onnxruntime}", f"-DMUJOCO_ROOT={physics.parent}", f"-DMUJOCO_LIBRARY={physics}"),
    ]
    subprocess.run(build, check=True, capture_output=True, timeout=240)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True, timeout=240)
    paths = {"LD_LIBRARY_PATH": str(tmp_path / "lib")}
    command = [tmp_path / "build" / "control_loop", exported.directory, "--realtime", "--rate", "500"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | paths)
    assert process.returncode == 0, process.stderr
    assert printed_by(process) == printed_by(control_loop(exported.directory))
    assert float(printed_by(process)["time_at_goal"]) > 0.0
