"""An agent and a torso of one's own from a file: trained, in the help, resumed and in a study."""

import json
import sys
from pathlib import Path

import pytest

from kilolayer.agents import agent_names, unregister_agent
from kilolayer.cli.main import main
from kilolayer.nn import torso_names, unregister_torso
from kilolayer.runs import RunDirectory
from small_runs import assert_same_state, final_state, flags

ROOT = Path(__file__).parents[2]
AGENT, TORSO = ROOT / "examples" / "my_agent.py", ROOT / "examples" / "my_torso.py"


@pytest.fixture(autouse=True)
def forget_the_examples():
    yield
    unregister_agent("my_agent")
    unregister_torso("my_torso")
    for module in ("my_agent", "my_torso"):
        sys.modules.pop(module, None)


PARTS = {
    "agent": (AGENT, ["--agent", "my_agent", "--my-agent.strength", "0.5"], ("my_agent", "strength", 0.5)),
    "torso": (TORSO, ["--torso", "my_torso", "--architecture.gate", "0.25"], ("architecture", "gate", 0.25)),
}


@pytest.mark.parametrize("part", ["agent", pytest.param("torso", marks=pytest.mark.slow)])
def test_it_trains_resumes_bit_for_bit_and_is_evaluated(part, tmp_path, capsys):
    file, chosen, (block, name, value) = PARTS[part]
    whole, half = tmp_path / "whole", tmp_path / "half"
    start = ["--import", str(file), "train", "reacher", *chosen]
    assert main([*start, f"--run-dir={whole}", *flags()]) == 0
    assert "finished" in capsys.readouterr().out
    config = json.loads(RunDirectory.open(whole).config_file.read_text())
    assert config[block][name] == value
    assert {"my_agent", "crl"} & set(config) == {config["agent"]}

    assert main([*start[2:], f"--run-dir={half}", *flags(total_env_steps=200, num_evals=1)]) == 0
    assert main(["train", "--resume", str(half), "--total-env-steps=400"]) == 0
    assert_same_state(final_state(whole), final_state(half))
    capsys.readouterr()
    assert main(["eval", str(whole), "--episodes=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env"] == "reacher"


@pytest.mark.parametrize(
    ("part", "words"), [("agent", ["--my-agent.strength", "0.5"]), ("torso", ["my_torso", "gate"])]
)
def test_its_settings_are_in_the_help(part, words, capsys):
    file, chosen, _ = PARTS[part]
    assert main(["--import", str(file), "train", "reacher", *chosen, "--help-all"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words)
    assert ("--crl." in text) == (part == "torso")


def test_its_wrong_settings_are_refused_in_one_line(tmp_path, capsys):
    start = ["--import", str(AGENT), "train", "reacher", "--agent", "my_agent", f"--run-dir={tmp_path / 'run'}"]
    for flag, message in (
        ("--my-agent.strength=-1", "strength=-1.0 must not be negative"),
        ("--my-agent.strength=much", "much"),
        ("--my-agent.strenght=1", "--my-agent.strenght"),
    ):
        assert main([*(start if "my_agent" not in agent_names() else start[2:]), flag]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_study_trains_it(tmp_path, capsys):
    settings = ["agent=my_agent", "my_agent.strength=0.5", "width=8", "batch_size=16", "num_envs=4"]
    settings += ["unroll_length=10", "gradient_steps_per_unroll=2", "min_replay=20", "replay_capacity=60"]
    settings += ["total_env_steps=400", "num_evals=2", "num_eval_envs=2", "episode_length=20"]
    command = ["--import", str(AGENT), "study", "depth", "--envs", "point_u_maze", "--only", "depth=4", "--seeds", "0"]
    command += [
        "--set",
        ",".join(settings),
        "--run-dir",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path / "results"),
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["depth"] == 4
    (config,) = (tmp_path / "runs").rglob("config.json")
    assert json.loads(config.read_text())["my_agent"]["strength"] == 0.5


@pytest.mark.slow
def test_a_run_whose_file_is_not_imported_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    assert (
        main(["--import", str(AGENT), "train", "point_u_maze", "--agent=my_agent", f"--run-dir={run}", *flags()]) == 0
    )
    unregister_agent("my_agent")
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "agent='my_agent' is unknown" in line


def test_the_library_names_neither():
    for file in (ROOT / "src").rglob("*.py"):
        assert "my_agent" not in file.read_text(), file
        assert "my_torso" not in file.read_text(), file
    assert "my_agent" not in agent_names()
    assert "my_torso" not in torso_names()
    assert len(AGENT.read_text().splitlines()) <= 80
    assert len(TORSO.read_text().splitlines()) <= 80
