"""`kilolayer demo`: trains, writes the report, and resumes what was interrupted."""

from types import SimpleNamespace

import pytest

from kilolayer.cli import demo
from kilolayer.cli.main import main
from kilolayer.runs import RunDirectory
from small_runs import small_config


@pytest.fixture
def short(monkeypatch, tmp_path):
    """A demo of seconds, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "default_config", lambda env, seed: small_config(env=env, seed=seed))
    return tmp_path


@pytest.mark.slow
def test_it_trains_and_says_where_the_picture_is(short, capsys, monkeypatch):
    assert main(["demo", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "picture: runs/demo/figures/overview.png" in out
    for name in ("report.html", "figures/overview.png"):
        assert (short / "runs" / "demo" / name).is_file()
    began = []
    monkeypatch.setattr(demo, "train", lambda **given: began.append(given) or 1 / 0)
    for words in (["demo"], ["demo", "--seed=3"], ["demo", "--seed=3", "--run-dir=elsewhere"]):
        with pytest.raises(ZeroDivisionError):
            main(words)
    assert [given.get("resume", given.get("run_dir")).as_posix() for given in began] == [
        "runs/demo",
        "runs/demo-seed3",
        "elsewhere",
    ]
    assert ["resume" in given for given in began] == [True, False, False]
    assert began[1]["config"].seed == 3


def test_an_interrupted_demo_says_how_it_is_resumed(short, capsys, monkeypatch):
    monkeypatch.setattr(demo, "train", lambda **given: SimpleNamespace(stopped_by=2, clocks="8 env steps"))
    assert main(["demo", "--seed", "5"]) == 130
    assert capsys.readouterr().out == "stopped and saved at 8 env steps; resume with: kilolayer demo --seed 5\n"


def test_a_run_of_another_seed_is_not_resumed(short, capsys):
    RunDirectory.create(short / "mine", small_config(seed=1))
    assert main(["demo", "--run-dir=mine"]) == 2
    line = "run_dir='mine' holds a run in point_u_maze with seed 1; choose another directory"
    assert capsys.readouterr().err == f"kilolayer: error: {line}\n"
