"""Configurations: one that can be built, or one line, and no directory."""

import json
from typing import Any

from invariants import HOSTILE, check_call, check_command, contents, generators, nothing_ran

from kilolayer.agents import agent_specs
from kilolayer.cli.main import main
from kilolayer.errors import KilolayerError
from kilolayer.runs import RunDirectory, TrainConfig, default_config
from small_runs import SMALL, small_config

VALUES = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 10**30, 0.0, -0.5, 0.5, 1e-300, 1e300),
    *(float("nan"), float("inf"), [], {}, [1], {"a": 1}, [[]], *HOSTILE),
]


def settings(number) -> dict[str, Any]:
    """Return the settings of a small run with a few of them changed, added or removed."""
    agent = number.choice([spec.name for spec in agent_specs()])
    data = json.loads(json.dumps(small_config(agent=agent).to_dict()))
    for _ in range(number.randint(1, 3)):
        block = number.choice([data, *(value for value in data.values() if isinstance(value, dict))])
        match number.randrange(5):
            case 0 if block:
                block.pop(number.choice(list(block)))
            case 1:
                block[number.choice(["widht", "", "agent", "crl", "a.b", "\x00", "é" * 300])] = number.choice(VALUES)
            case _ if block:
                block[number.choice(list(block))] = number.choice(VALUES)
    return data


def test_a_configuration_is_valid_or_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    valid = 0
    for case, number in generators("configurations"):
        data = settings(number)

        def use(data=data):
            config = TrainConfig.from_dict(data)
            assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

        valid += not check_call(use, KilolayerError, case=f"{case}: {data!r:.3000}")
    assert valid > 0
    assert contents(tmp_path) == {}


def test_settings_of_python_are_valid_or_one_line():
    names = [
        *SMALL,
        "seed",
        "agent",
        "engine",
        "eval_env",
        "discount",
        "total_gradient_steps",
        "eval_every",
        "grow",
        "torso",
    ]
    for case, number in generators("settings"):
        changed = {number.choice(names): number.choice(VALUES) for _ in range(number.randint(1, 2))}
        check_call(
            lambda changed=changed: default_config("point_u_maze", **(SMALL | changed)),
            KilolayerError,
            case=(case, changed),
        )


def test_the_configuration_of_a_run_is_read_or_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.create(tmp_path / "run", small_config())
    text = run.config_file.read_text()
    for case, number in generators("config.json"):
        place = number.randrange(len(text) + 1)
        damaged = number.choice(
            [
                text[:place],
                text[:place] + number.choice(HOSTILE) + text[place:],
                text[:place] + text[place + number.randint(1, 30) :],
                json.dumps({"format": 2, **settings(number)}),
                json.dumps(json.loads(text) | {"format": number.choice(VALUES)}),
                json.dumps(json.loads(text) | {"env": number.choice(["/etc/passwd", "maze.txt", *HOSTILE])}),
            ]
        )
        run.config_file.write_bytes(damaged.encode("utf-8", errors="replace"))
        before = contents(tmp_path)
        check_command(main, [number.choice(["eval", "report"]), "run"], capsys, case=f"{case}: {damaged!r:.3000}")
        assert contents(tmp_path) == before, case
    assert nothing_ran(tmp_path)
