"""The command line: flags, JSON, and errors of one line with exit code 2."""

import dataclasses
import json
import os

import pytest

from kilolayer.agents import agent_specs
from kilolayer.cli.main import main
from kilolayer.runs import TrainConfig

SMALL = [
    "--width=16",
    "--batch-size=16",
    "--num-envs=4",
    "--episode-length=20",
    "--unroll-length=10",
    "--gradient-steps-per-unroll=2",
    "--replay-capacity=60",
    "--min-replay=20",
    "--total-env-steps=160",
    "--num-evals=2",
    "--num-eval-envs=4",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "point_u_maze", f"--run-dir={path}", *SMALL]) == 0
    return path


def error_line(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("kilolayer: error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "did you mean train"),
        (["train"], "ENV is missing"),
        (["train", "point_u_mase"], "did you mean point_u"),
        (["train", "point_u_maze", "--eval-env", "nowhere"], "'nowhere' is unknown"),
        (["train", "point_u_maze", "--depth", "6"], "try 4 or 8"),
        (["train", "point_u_maze", "--depth", "deep"], "--depth"),
        (["train", "point_u_maze", "--dept", "4"], "--depth"),
        (["train", "point_u_maze", "--num-envs", "0"], "num_envs=0 must be at least 1"),
        (["train", "point_u_maze", "--width", "-1"], "width=-1 must be at least 1"),
        (["train", "point_u_maze", "--batch-size", "256001"], "at most 256000"),
        (["train", "point_u_maze", "--total-env-steps", "1000"], "leaves nothing to train on"),
        (["train", "point_u_maze", "--crl.energy", "l3"], "squared_l2"),
        (["train", "--resume", "no_such_run"], "not a run directory"),
        (["train", "--config", "no_such.json"], "cannot be read"),
        (["train", "no_such_maze.txt"], "no_such_maze.txt"),
        (["train", "point_u_maze", "--run-dir", "/dev/null/run"], "cannot be written"),
        (["train", "point_u_maze", "--checkpoint", "5"], "needs --resume"),
        (["eval", "no_such_run"], "not a run directory"),
        (["eval"], "RUN"),
        (["report", "."], "config.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in error_line(capsys, *arguments)
    assert os.listdir(tmp_path) == []


def test_a_newer_configuration_and_a_truncated_one_are_one_line(capsys, run, tmp_path):
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "config.json").write_text(json.dumps(json.loads((run / "config.json").read_text()) | {"format": 99}))
    assert "newer kilolayer" in error_line(capsys, "eval", str(newer))
    (newer / "config.json").write_text((run / "config.json").read_text()[:100])
    assert "is not a configuration" in error_line(capsys, "train", "--resume", str(newer))


def test_settings_of_a_run_cannot_change(capsys, run):
    assert "width cannot change" in error_line(capsys, "train", "--resume", str(run), "--width", "32")
    assert "leave them out" in error_line(capsys, "train", "point_u_maze", "--resume", str(run))
    assert "episodes=0" in error_line(capsys, "eval", str(run), "--episodes", "0")
    assert "no checkpoint 5" in error_line(capsys, "eval", str(run), "--checkpoint", "5")


def test_envs_lists_sizes_as_json(capsys):
    assert main(["envs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    by_name = {row["name"]: row for row in rows}
    (moved,) = by_name["point_u_maze"].pop("random_actions")
    assert (moved["variant"], moved["engine"]) == ("default", "point")
    assert moved["median"] < moved["ninety"] < moved["farthest"]
    assert by_name["ant"]["presets"] == ["paper"]
    assert by_name["point_u_maze"] == {
        "name": "point_u_maze",
        "observation_size": 4,
        "goal_size": 2,
        "action_size": 2,
        "discrete_actions": False,
        "episode_length": 200,
        "engines": ["point"],
        "paper_engine": None,
        "presets": [],
    }
    layouts = ["u", "u2", "u3", "u4", "u5", "u6", "u7", "big", "hardest"]
    assert {f"point_{layout}_maze" for layout in layouts} <= set(by_name)
    assert {f"point_{layout}_maze_eval" for layout in layouts[:-1]} <= set(by_name)


def test_envs_prints_a_table(capsys):
    assert main(["envs"]) == 0
    assert "point_hardest_maze" in capsys.readouterr().out


def test_eval_prints_the_metrics_as_json(capsys, run):
    assert main(["eval", str(run), "--episodes", "5", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    for name in ("time_at_goal", "success_any", "success_final", "return", "episode_length"):
        assert isinstance(metrics[f"eval/{name}"], float)
        assert isinstance(metrics[f"eval/{name}_stderr"], float)
    assert metrics["env"] == "point_u_maze_eval"
    assert metrics["eval/episode_length"] == 20.0


def test_eval_in_another_environment(capsys, run):
    assert main(["eval", str(run), "--episodes", "3", "--env", "point_big_maze", "--mode", "best_of"]) == 0
    assert "point_big_maze, 3 episodes" in capsys.readouterr().out


def test_a_dry_run_prints_sizes_and_trains_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "point_u_maze", *SMALL, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["observation_size"] == 4
    assert plan["actor_parameters"] == (6 + 1) * 16 + 5 * 2 * 16 + 4 * (16 * 16 + 16) + (16 + 1) * 4
    assert plan["compile_seconds"] > 0.0
    assert plan["step_peak_bytes"] > plan["state_bytes"] > plan["replay_bytes"] > 60 * 4 * 8 * 4
    assert os.listdir(tmp_path) == []


def test_a_run_starts_again_from_its_configuration_alone(capsys, run, tmp_path):
    assert main(["train", f"--config={run / 'config.json'}", f"--run-dir={tmp_path / 'again'}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "finished"
    old = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    new = [json.loads(line) for line in (tmp_path / "again" / "metrics.jsonl").read_text().splitlines()]
    for a, b in zip(old, new, strict=True):
        assert {k: v for k, v in a.items() if "perf" not in k} == {k: v for k, v in b.items() if "perf" not in k}


@pytest.mark.parametrize("agent", ["crl", "sac_her"])
def test_every_setting_that_is_read_is_a_flag_with_help(capsys, agent):
    assert main(["train", "point_u_maze", "--agent", agent, "--help-all"]) == 0
    text = capsys.readouterr().out
    for spec in agent_specs():
        for setting in dataclasses.fields(spec.settings):
            flag = f"--{spec.name}.{setting.name}".replace("_", "-")
            assert (f"{flag} " in text) == (spec.name == agent), flag
    for field in dataclasses.fields(TrainConfig):
        if field.name not in ("env", "architecture", "optimizer", "agent_settings"):
            assert f"--{field.name.replace('_', '-')}" in text
    for flag in ("--run-dir", "--resume", "--dry-run", "--architecture.activation", "--optimizer.name"):
        assert flag in text
    text = " ".join(text.replace("│", " ").split())
    assert "(default: point_u_maze_eval)" in text
    assert f"(default: {agent};" in text


def test_without_arguments_the_commands_are_shown(capsys):
    assert main([]) == 0
    assert "kilolayer help COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
