"""Command lines of all subcommands: what is asked for, or one line with exit code 2, and nothing left behind."""

import os

import pytest
from invariants import HOSTILE, check_command, contents, generators, nothing_ran

from kilolayer.bench.plan import plan
from kilolayer.cli.main import COMMANDS, main
from kilolayer.runs import default_config
from kilolayer.studies import STUDIES
from small_runs import flags

ENVS = [
    "point_u_maze",
    "reacher",
    "point_u_maze_gen_3f",
    "ant",
    "nowhere",
    "maze.txt",
    "point_u_maze_gen_" + "9" * 4000 + "f",
]


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A working directory with a maze, and commands that stop before they train, draw or measure."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maze.txt").write_text("#####\n#R.G#\n#####\n")
    (tmp_path / "space.yaml").write_text(
        "depth: [4, 8]\ncrl.critic_learning_rate: {low: 1e-4, high: 1e-3, log: true}\n"
    )
    monkeypatch.setenv("COLUMNS", "100")
    for what in ("_page", "_headless"):
        monkeypatch.setattr(f"kilolayer.cli.play.{what}", lambda *given: 0)
    monkeypatch.setattr("kilolayer.cli.train.plan", lambda *given, timed, **named: plan(*given, **named))
    return tmp_path


def train_line(number) -> list[str]:
    fields = list(default_config("point_u_maze").to_dict())
    line = [number.choice(ENVS), *flags()]
    for _ in range(number.randint(1, 3)):
        name = number.choice(
            [*fields, "crl.energy", "crl.critic_depth", "seeds", "checkpoint", "config", "optimizer.name"]
        )
        flag = f"--{name.replace('_', '-')}"
        value = number.choice(HOSTILE)
        line += number.choice([[f"{flag}={value}"], [flag, value], [flag]])
    if number.random() < 0.3:
        number.shuffle(line)
    return [*line, "--dry-run"]


def other_line(number, command: str) -> list[str]:
    words = {
        "eval": ["run", "--episodes", "--checkpoint", "--env", "--engine", "--mode", "--seed", "--randomize", "--json"],
        "distill": ["run", "--depth", "--width", "--torso", "--checkpoint", "--seeds", "--set", "a=b", "--json"],
        "prune": ["run", "--keep", "--fine-tune", "--checkpoint", "--order", "--states", "--results", "--json"],
        "record": [
            "run",
            "--episodes",
            "--format",
            "minari",
            "--output",
            "--noise",
            "--hold",
            "--actions",
            "random",
            "--json",
        ],
        "report": ["run", "--checkpoint"],
        "render": ["run", "--episodes", "--resolution", "--speed", "--camera", "--checkpoint", "--json"],
        "play": [
            "run",
            *ENVS,
            "--headless",
            "2",
            "--actions",
            "zero",
            "--mode",
            "--speed",
            "8",
            "--port",
            "--host",
            "--json",
        ],
        "export": ["run", ".", "--format", "jax", "--output", "--checkpoint", "--int8", "--episodes", "--json"],
        "envs": ["show", "check", *ENVS, "--variant", "--json", "--num-envs", "--steps"],
        "study": [*STUDIES, "zzz", "--dry-run", "--size", "--seeds", "--set", "--run-dir", "--results"],
        "sweep": [
            *ENVS,
            "--space",
            "space.yaml",
            "maze.txt",
            "--trials",
            "3",
            "--metric",
            "--last",
            "--seeds",
            "--set",
        ],
        "compare": ["run", "other", "--metrics", "--json", "--results"],
        "demo": ["--seed", "--run-dir", "--zzz"],
        "completion": ["bash", "zsh", "fish", "tcsh", "--json"],
        "new-task": ["maze.txt", "zzz.xml", "--name", "--output", "--servo-kp", "1e9", "-1", "new.py"],
        "bench": ["zzz", "--json", "--zzz"],
    }[command]
    line = [number.choice([number.choice(words), number.choice(HOSTILE)]) for _ in range(number.randint(0, 5))]
    if command in ("study", "sweep"):
        line.append("--dry-run")
    if command in ("bench", "demo"):  # a valid line would measure, or train
        line.append("--no-such-flag")
    if command == "envs":  # a check simulates
        line = [word for word in line if word != "check"]
    return line


def test_every_training_command_is_planned_or_one_line(directory, capsys):
    before = contents(directory)
    planned = 0
    for case, number in generators("train"):
        planned += check_command(main, ["train", *train_line(number)], capsys, case=case) == 0
        assert contents(directory) == before, case
    assert nothing_ran(directory)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"train"}))
def test_every_other_command_answers_or_is_one_line(directory, capsys, command):
    before = contents(directory)
    for case, number in generators(command):
        check_command(main, [command, *other_line(number, command)], capsys, case=case)
        assert contents(directory) == before, case
    assert nothing_ran(directory)


def test_no_command_is_taken_for_another(directory, capsys):
    before = contents(directory)
    for case, number in generators("commands"):
        word = number.choice([*HOSTILE, "trian", "--import", "--import=x.py", "--version ", "TRAIN"])
        if word not in COMMANDS:
            check_command(main, [word, *number.choices(HOSTILE, k=number.randint(0, 3))], capsys, case=case)
    assert contents(directory) == before
    assert sorted(os.listdir(directory)) == ["maze.txt", "space.yaml"]
