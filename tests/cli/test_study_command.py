"""`kilolayer study`: lists, runs and goes on with studies, and refuses what cannot be in one line."""

import dataclasses
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from kilolayer import user_code
from kilolayer.cli import study as command
from kilolayer.cli.main import main
from kilolayer.cli.values import values
from kilolayer.envs import registry
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.studies import STUDIES, StudyStoppedError, run_study, table, write_results
from kilolayer.studies.core import run as running
from kilolayer.studies.core.study import nested
from small_runs import SMALL
from small_study import STUDY

pytestmark = pytest.mark.usefixtures("with_small_study")

SUCCESS = "eval/success_any"


@pytest.fixture
def with_small_study(monkeypatch):
    monkeypatch.setitem(STUDIES, "small", STUDY)


def one_error_line(capsys, *arguments):
    capsys.readouterr()
    assert main(["study", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("kilolayer: error: ")


def test_it_prints_the_table_and_says_where_the_rest_is(finished_study, capsys, tmp_path):
    directory, outcomes = finished_study
    arguments = ["study", "small", "--run-dir", str(directory), "--results", str(tmp_path), "--quiet"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0].split() == ["task", "depth", "time_at_goal", "success_any", "seconds", "seeds"]
    cases = [line.split() for line in out.splitlines()[1:5]]
    assert [words[:2] for words in cases[::2]] == [["point_u_maze", "0"], ["point_u_maze", "4"]]
    assert [words[0] for words in cases[1::2]] == ["untrained", "untrained"]
    assert "±" in out
    assert f"figure: {tmp_path / 'small.png'}" in out
    assert f"page:   {tmp_path / 'index.html'}" in out
    assert Path(tmp_path / "small.png").is_file()
    assert f"kilolayer {' '.join(arguments)}" in (tmp_path / "index.html").read_text()

    assert main([*arguments, "--json", "--only", "depth=4", "--seeds", "1"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["depth"], row["seeds"], row[f"{SUCCESS}_stderr"]) == (4, 1, None)
    assert row[SUCCESS] == outcomes[3].score(SUCCESS)


def test_results_are_beside_the_runs_unless_asked_otherwise(finished_study, capsys, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "studies").symlink_to(finished_study[0])
    monkeypatch.chdir(tmp_path)
    assert main(["study", "small", "--quiet"]) == 0
    assert "figure: runs/studies/small-cpu/small.png" in capsys.readouterr().out
    assert (finished_study[0] / "small-cpu" / "study.json").is_file()


def test_studies_and_cases_are_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(STUDIES)
    flags = ["--envs", "reacher,point_u_maze", "--set", "total_env_steps=1_000,width=8"]
    assert main(["study", "small", "--dry-run", *flags]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{task}-{depth}: 2 seeds, 1,000 env steps, 0% trained"
        for task in ("reacher", "point_u_maze")
        for depth in (0, 4)
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_cases_shows_what_is_trained(finished_study, capsys):
    flags = ["--dry-run", "--run-dir", str(finished_study[0]), "--only", "depth=4"]
    for seeds, line in (
        ("0,1", "2 seeds, 400 env steps, 100% trained"),
        ("0..3", "4 seeds, 400 env steps, 50% trained"),
    ):
        assert main(["study", "small", *flags, "--seeds", seeds]) == 0
        assert capsys.readouterr().out == f"point_u_maze-4: {line}\n"


def test_settings_reach_the_cases(monkeypatch):
    seen = []

    def note(study, cases, *_, **__):
        seen.extend(cases)
        raise TrainingError("enough")

    monkeypatch.setattr(command, "run_study", note)
    flags = ["crl.energy=dot", "crl.loss=infonce_symmetric", "batch_size=12", "diagnostics=true"]
    assert main(["study", "small", "--set", ",".join(flags)]) == 2
    for case in seen:
        assert (case.config.agent_settings.energy, case.config.agent_settings.loss) == ("dot", "infonce_symmetric")
        assert (case.config.batch_size, case.config.diagnostics) == (12, True)
    assert len(seen) == 2


def test_only_takes_cases_by_labels_that_not_all_have(capsys, monkeypatch):
    def mixed(scope):
        plain = [scope.case({"task": task, "depth": 0}, task, depth=0) for task in scope.tasks]
        wide = [scope.case({"task": task, "width": w}, task, depth=4, width=w) for task in scope.tasks for w in (8, 12)]
        return plain + wide

    monkeypatch.setitem(STUDIES, "small", dataclasses.replace(STUDY, cases=mixed))
    for only, names in (
        (["width=8"], ["point_u_maze-8"]),
        (["width=8", "width=12"], ["point_u_maze-8", "point_u_maze-12"]),
        (["depth=0", "task=point_u_maze"], ["point_u_maze-0"]),
    ):
        assert main(["study", "small", "--dry-run", "--only", ",".join(only)]) == 0
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == names
    line = one_error_line(capsys, "small", "--dry-run", "--only", "depth=0,width=8")
    assert line == "only='depth=0,width=8' matches no case: no case has all of these labels"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline"], "study 'baseline' is unknown; did you mean baselines"),
        (["small", "--only", "agent=sac"], "only='agent=sac' matches no case; there are depth=0, depth=4, task="),
        (["small", "--only", "depth"], "only='depth' matches no case"),
        (["small", "--seeds", "2..1"], "runs backwards"),
        (["small", "--envs", "nowhere"], "env 'nowhere' is unknown"),
        (["small", "--set", "wdith=3"], "setting 'wdith' is unknown"),
        (["small", "--set", "width"], "set='width' must be NAME=VALUE"),
        (["small", "--set", "crl.energy=l3"], "l3"),
        (["small", "--set", "depth=4"], "depth=4: this study sets depth itself"),
        (["small", "--set", "sac.discount=0.9"], "sac.discount=0.9 has no effect with agent='crl'"),
        (["small", "--jobs", "0"], "jobs=0 must be at least 1"),
        (["small", "--submit", "cluster=local", "--jobs", "0"], "jobs=0 must be at least 1"),
        (["small", "--submit", "cluster=nowhere"], "submit: AutoExecutor doesn't know any executor named nowhere"),
        (["small", "--size", "huge"], "--size"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in one_error_line(capsys, *arguments, "--quiet")
    assert list(tmp_path.glob("runs/**/config.json")) == []


def test_cases_are_submitted_where_it_is_said(capsys, monkeypatch, tmp_path):
    def note(submit, jobs):
        raise ConfigurationError(f"{submit} {jobs}")

    monkeypatch.setattr(command, "submitted", note)
    arguments = ["small", "--submit", "ray,num_gpus=1", "--jobs", "3", "--run-dir", str(tmp_path)]
    assert one_error_line(capsys, *arguments) == "('ray', 'num_gpus=1') 3"


def test_a_failed_case_leaves_the_table_of_the_others(finished_study, capsys, monkeypatch, tmp_path):
    directory, outcomes = finished_study
    (tmp_path / outcomes[2].case.directory).symlink_to(directory / outcomes[2].case.directory)

    def fail(**_):
        raise TrainingError("actor_loss is not finite")

    monkeypatch.setattr(running, "train_seeds", fail)
    assert main(["study", "small", "--run-dir", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert [row["depth"] for row in json.loads(out)] == [4]
    assert "small: point_u_maze-0 failed, the study continues: actor_loss is not finite" in err
    assert err.splitlines()[-1].startswith("kilolayer: error: small: point_u_maze-0 could not be trained")
    assert (tmp_path / "small-cpu" / "small.png").is_file()

    monkeypatch.setitem(STUDIES, "small", dataclasses.replace(STUDY, cases=lambda scope: STUDY.cases(scope)[:1]))
    assert main(["study", "small", "--run-dir", str(tmp_path), "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_a_study_that_was_stopped_writes_what_there_is(finished_study, capsys, monkeypatch, tmp_path):
    def stopped(study, cases, seeds, directory, **_):
        yield finished_study[1][:2]
        raise StudyStoppedError(directory, signal.SIGTERM)

    monkeypatch.setattr(command, "run_study", stopped)
    assert main(["study", "small", "--run-dir", str(tmp_path), "--json"]) == 128 + signal.SIGTERM
    out, err = capsys.readouterr()
    assert out == ""
    assert "stopped and saved; start the same study again to resume" in err
    described = json.loads((tmp_path / "small-cpu" / "study.json").read_text())
    assert [row["depth"] for row in described["table"]] == [0]


def test_tables_are_written_while_cases_end(finished_study, monkeypatch, tmp_path):
    """Cases end in any order; the table has that of the grid."""
    seen = []

    def ending(*_, **__):
        yield finished_study[1][2:]
        seen.append(json.loads((tmp_path / "study.json").read_text())["table"])
        yield finished_study[1][:2]

    monkeypatch.setattr(command, "run_study", ending)
    monkeypatch.setattr(command, "WRITE_SECONDS", 0.0)
    assert main(["study", "small", "--run-dir", str(tmp_path), "--results", str(tmp_path), "--quiet"]) == 0
    assert [row["depth"] for row in seen[0]] == [4]
    rows = json.loads((tmp_path / "study.json").read_text())["table"]
    assert [row["depth"] for row in rows] == [0, 4]
    assert rows[1][SUCCESS] == np.mean([one.score(SUCCESS) for one in finished_study[1][2:]])


@pytest.mark.slow
def test_processes_know_the_user_s_own_environments(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(user_code, "_imported", [])
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    crane = Path(__file__).parents[2] / "examples" / "crane.py"
    arguments = ["small", "--envs", "crane", "--only", "depth=0", "--seeds", "0", "--run-dir", str(tmp_path), "--json"]
    try:
        assert main(["--import", str(crane), "study", *arguments, "--jobs", "1"]) == 0
    finally:
        registry.unregister("crane")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["task"], row["seeds"]) == ("crane", 1)
    assert f"--import={crane}" in (tmp_path / "small-cpu" / "index.html").read_text()


# ---- NAME=VALUE --------------------------------------------------------------------------------------------


def test_values_are_json_or_text():
    pairs = ["a=1", "b=1_000", "c=true", "d=null", "e=[1, 2]", "f=dot", "g=a=b", "h=0.5", "i=4@0,8@2M", "j=1e-3", "k="]
    assert values(pairs, flag="set") == {
        "a": 1,
        "b": 1000,
        "c": True,
        "d": None,
        "e": [1, 2],
        "f": "dot",
        "g": "a=b",
        "h": 0.5,
        "i": "4@0,8@2M",
        "j": 1e-3,
        "k": "",
    }


def test_blocks_are_nested():
    assert nested({"crl.energy": "dot", "width": 8, "crl.loss": "x"}) == {
        "crl": {"energy": "dot", "loss": "x"},
        "width": 8,
    }


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["=3"], "set='=3' must be NAME=VALUE"),
        (["width=8", "width=9"], "set: width comes twice"),
        (["crl=5", "crl.energy=dot"], "crl and crl.energy exclude each other"),
    ],
)
def test_invalid_pairs_are_refused(pairs, message):
    with pytest.raises(ConfigurationError, match=message):
        nested(values(pairs, flag="set"))


@pytest.mark.slow
def test_the_example_of_a_study_of_one_s_own_runs(capsys, monkeypatch, tmp_path):
    """As docs/studies/README.md says, by the command and in Python."""
    monkeypatch.setattr(user_code, "_imported", [])
    example = Path(__file__).parents[2] / "examples" / "energies.py"
    small = [f"{name}={value}" for name, value in SMALL.items() if name != "depth"]
    flags = ["--run-dir", str(tmp_path), "--seeds", "0", "--only", "energy=l2,energy=dot", "--json", "--quiet"]
    try:
        assert (
            main(["--import", str(example), "study", "energies", *flags, "--set", ",".join(["depth=0", *small])]) == 0
        )
        rows = json.loads(capsys.readouterr().out)
        assert [(row["energy"], row["seeds"]) for row in rows] == [("l2", 1), ("dot", 1)]
        assert (tmp_path / "energies-cpu" / "energies.png").stat().st_size > 5_000

        study = STUDIES["energies"]
        grid = study.grid("cpu", changes={**SMALL, "depth": 0})
        outcomes = [one for own in run_study(study, grid[:2], [0], tmp_path) for one in own]
        assert [row["energy"] for row in table(study, outcomes)] == ["l2", "dot"]
        assert write_results(study, outcomes, tmp_path / "python").is_file()
    finally:
        STUDIES.pop("energies", None)
        sys.modules.pop("energies", None)
