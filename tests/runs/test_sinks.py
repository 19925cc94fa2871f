"""Metric sinks: the same rows everywhere, and extras that are missing are named before anything is written."""

import csv
import importlib.util
import json
import re
import sys
import types

import pytest

import kilolayer as kl
from kilolayer.runs import RunDirectory
from kilolayer.runs.sinks import FileSink, WandbSink
from small_runs import small_config


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run", small_config())


def test_the_table_grows_columns_and_keeps_its_rows(run):
    sink = FileSink(run, 0)
    sink.write({"env_steps": 0, "eval/a": 1.0})
    sink.write({"env_steps": 10, "eval/a": 2.0, "train/b": 3.0})
    sink.write({"env_steps": 20, "eval/a": 4.0, "train/b": 5.0})
    with run.csv_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["eval/a"] for row in rows] == ["1.0", "2.0", "4.0"]
    assert [row["train/b"] for row in rows] == ["", "3.0", "5.0"]
    assert [json.loads(line)["env_steps"] for line in run.metrics_file.read_text().splitlines()] == [0, 10, 20]


def test_going_on_drops_the_rows_that_will_come_again(run):
    sink = FileSink(run, 0)
    for step in (0, 10, 20):
        sink.write({"env_steps": step})
    again = FileSink(run, 10)
    again.write({"env_steps": 15})
    assert [row["env_steps"] for row in run.metrics()] == [0, 10, 15]
    assert run.csv_file.read_text().split() == ["env_steps", "0", "10", "15"]


@pytest.mark.parametrize(("flag", "module"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_missing_extra_is_one_line_before_anything_is_written(monkeypatch, tmp_path, flag, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(kl.ConfigurationError, match=rf"pip install 'kilolayer\[{flag}\]'"):
        kl.train(config=small_config(**{flag: True}), run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_gets_every_row_under_the_runs_name(monkeypatch, run):
    calls = []
    handle = types.SimpleNamespace(
        log=lambda row, step: calls.append(("log", row, step)), finish=lambda: calls.append(("finish",))
    )
    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: (calls.append(("init", settings)), handle)[1]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sink = WandbSink(run, "project", {"depth": 4})
    sink.write({"env_steps": 10, "eval/a": 1.0})
    sink.close()
    assert calls[0][1]["project"] == "project"
    assert calls[0][1]["name"] == "run"
    assert calls[0][1]["resume"] == "allow"
    WandbSink(run, "project", {"depth": 4})
    assert calls.pop()[1]["id"] == calls[0][1]["id"] != "run"
    assert calls[1:] == [("log", {"env_steps": 10, "eval/a": 1.0}, 10), ("finish",)]


@pytest.mark.parametrize("name", ["lr=3e-4,goal:far", "a b?c%d", "鹿" * 60])
def test_weights_and_biases_gets_an_id_that_it_takes_and_the_same_when_a_run_resumes(monkeypatch, tmp_path, name):
    ids = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: ids.append(settings["id"])
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = RunDirectory.create(tmp_path / name, small_config())
    for _ in range(2):
        WandbSink(run, "project", {})
    assert len(set(ids)) == 1
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", ids[0])


def test_nothing_is_sent_anywhere_unless_asked_for():
    config = small_config()
    assert not config.wandb
    assert not config.tensorboard
    assert importlib.util.find_spec("wandb") is None or "wandb" not in sys.modules
