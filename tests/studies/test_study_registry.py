"""Studies are an open set: those of the library and of a user's file register through the same door."""

import dataclasses
import json
import sys

import pytest

from kilolayer import user_code
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.studies import STUDIES, find_study, register_study, unregister_study
from small_runs import SMALL
from small_study import STUDY

MY_STUDY = f"""
from kilolayer.report.style import new_figure
from kilolayer.studies import Study, register_study
from kilolayer.studies.core.figures import draw_mean_curve

SMALL = {SMALL!r}
SMALL.pop("depth")


def cases(scope):
    return [scope.case({{"task": task, "depth": depth}}, task, depth=depth) for task in scope.tasks for depth in (0, 4)]


def draw(outcomes):
    figure = new_figure(3.0, 2.0)
    draw_mean_curve(figure.subplots(), outcomes, "eval/success_any", label="all", color="black")
    return figure


SIZES = ("cpu", "gpu", "paper")
register_study(
    Study(
        name="my_study",
        question="Does this file register a study?",
        tasks=dict.fromkeys(SIZES, ("point_u_maze",)),
        settings=dict.fromkeys(SIZES, SMALL),
        cases=cases,
        metrics=("eval/success_any",),
        draw=draw,
        seeds=1,
    )
)
"""


@pytest.fixture
def my_study(tmp_path, monkeypatch):
    monkeypatch.setattr(user_code, "_imported", [])
    path = tmp_path / "my_study.py"
    path.write_text(MY_STUDY)
    yield path
    unregister_study("my_study")
    sys.modules.pop("my_study", None)


def test_a_study_of_a_users_file_runs(my_study, tmp_path, capsys):
    arguments = ["--run-dir", str(tmp_path / "runs"), "--only", "depth=0", "--quiet", "--json"]
    assert main(["--import", str(my_study), "study", "my_study", *arguments]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["depth"], row["seeds"]) == (0, 1)
    assert (tmp_path / "runs" / "my_study-cpu" / "my_study.png").is_file()
    assert main(["study"]) == 0
    assert "Does this file register a study?" in capsys.readouterr().out


def test_a_name_is_registered_once():
    registered = register_study(dataclasses.replace(STUDY, name="once"))
    try:
        assert STUDIES["once"] is registered is find_study("once")
        with pytest.raises(ConfigurationError, match="a study named 'once' is registered already"):
            register_study(registered)
    finally:
        unregister_study("once")
    with pytest.raises(ConfigurationError, match="study 'once' is unknown"):
        find_study("once")


@pytest.mark.parametrize("name", ["", "my/study", "..", "my study"])
def test_a_name_must_suit_a_file(name):
    with pytest.raises(ConfigurationError, match="the name must consist of letters"):
        register_study(dataclasses.replace(STUDY, name=name))
    assert name not in STUDIES


def test_every_study_of_the_library_is_registered_under_its_name():
    assert len(STUDIES) >= 16
    for name, study in STUDIES.items():
        assert study.name == name
        assert study.question.endswith("?")
