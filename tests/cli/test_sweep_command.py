"""`kilolayer sweep`: runs and resumes sweeps, and refuses what cannot be in one line for each mistake."""

import json
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

from small_sweep import METRIC, SETTINGS, StandIn

from kilolayer.cli import submitting
from kilolayer.cli import sweep as command
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.studies import StudyStoppedError
from kilolayer.studies.core import executor as executors

SPACE = {"crl.critic_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "width": [8, 16]}
BESIDE = ",".join(f"{name}={value}" for name, value in SETTINGS.items() if name != "width")


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A directory with a space, in which trials are not trained; what stands for the processes."""
    pytest.importorskip("optuna")
    made = StandIn()
    monkeypatch.setattr(executors, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(command, "in_processes", lambda jobs: made)
    return made


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return tmp_path


def sweep(*arguments):
    return main(["sweep", "point_u_maze", "--space", "space.json", "--set", BESIDE, *arguments])


def test_it_prints_the_table_and_says_where_the_rest_is(stand_in, capsys, directory):
    assert sweep("--trials", "3", "--last", "2") == 0
    out, err = capsys.readouterr()
    here = Path("runs/sweeps/point_u_maze-space")
    lines = out.splitlines()
    assert lines[0].split() == [
        *("trial", "crl.critic_learning_rate", "width", "time_at_goal", "success_any", "seconds", "seeds")
    ]
    assert f"figure: {here / 'sweep.png'}" in lines
    assert f"page:   {here / 'index.html'}" in lines
    assert lines[-1].startswith(f"best:   kilolayer train --config {here}/trial-")
    assert Path(lines[-1].split()[-1]).is_file()
    assert "sweep: 3 of 3 trials ended, trial-0002" in err
    assert "kilolayer sweep point_u_maze --space space.json" in (directory / here / "index.html").read_text()

    assert sweep("--trials", "3", "--last", "2", "--json", "--quiet") == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = json.loads(out)
    assert [row[METRIC] for row in rows] == sorted((row[METRIC] for row in rows), reverse=True)
    assert stand_in.starts == [0, 1, 2]  # nothing is trained twice


def test_a_dry_run_lists_what_is_tried_and_writes_nothing(stand_in, capsys, directory):
    before = sorted(directory.rglob("*"))
    assert sweep("--dry-run", "--seeds", "0..2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "crl.critic_learning_rate: low 0.0001, high 0.01, log True",
        "width: 8, 16",
        "any number of combinations; 50 trials of 3 seeds, 400 env steps each unless swept",
    ]
    assert sorted(directory.rglob("*")) == before
    assert sweep("--trials", "2", "--quiet", "--run-dir", "mine", "--results", "there") == 0
    assert (directory / "there" / "study.json").is_file()
    capsys.readouterr()
    assert sweep("--dry-run", "--run-dir", "mine") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 trials have ended in mine"


def test_options_reach_the_sweep(monkeypatch):
    seen = []

    def note(asked, directory, trials, **_):
        seen.append((asked, directory, trials))
        raise ConfigurationError("enough")

    monkeypatch.setattr(command, "run_sweep", note)
    flags = ["--metric", "success_final", "--direction", "minimize", "--last", "3", "--seeds", "1,2", "--seed", "5"]
    assert sweep(*flags, "--sampler", "random", "--pruner", "none", "--trials", "9") == 2
    ((asked, directory, trials),) = seen
    assert (asked.metric, asked.direction, asked.last, asked.seeds) == ("eval/success_final", "minimize", 3, (1, 2))
    assert (asked.seed, asked.sampler, asked.pruner, trials) == (5, "random", "none", 9)
    assert asked.settings["num_evals"] == 4
    assert directory == Path("runs/sweeps/point_u_maze-space")


def test_every_mistake_of_a_space_is_a_line(capsys, directory):
    (directory / "space.json").write_text(json.dumps({"wdith": [8], "width": {"low": 3, "high": 1}}))
    assert sweep() == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("kilolayer: error: space: setting 'wdith' is unknown; did you mean width")
    assert second == "kilolayer: error: space: width: low=3 must be below high=1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "trials=0 must be at least 1"),
        (["--last", "0"], "last=0 must be at least 1"),
        (["--jobs", "0"], "jobs=0 must be at least 1"),
        (["--seed", "-1"], "seed=-1 must be at least 0"),
        (["--space", "lost.json"], "space: lost.json cannot be read: No such file"),
        (["--direction", "up"], "--direction"),
        (["--submit", "ray,num_cpus=-1"], "submit: "),
        (["--submit", "cluster=7"], "submit: cluster=7 must be a name"),
        (["--set", "seed=3"], "seed cannot be changed as a setting: all trials have the same seeds"),
        (["--set", "wdith=8"], "error: setting 'wdith' is unknown; there are"),
        (["--set", "width=8"], "space: width is set for all trials, too; leave it out in one place"),
    ],
)
def test_invalid_options_are_refused_in_one_line(capsys, directory, monkeypatch, arguments, message):
    monkeypatch.setattr(command, "run_sweep", None)
    if "ray" in message or arguments[0] == "--submit":
        pytest.importorskip("ray")
    assert main(["sweep", "point_u_maze", "--space", "space.json", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (directory / "runs").exists()


def test_an_unknown_environment_is_no_mistake_of_the_space(capsys):
    assert main(["sweep", "point_u_mase", "--space", "space.json"]) == 2
    assert capsys.readouterr().err.startswith("kilolayer: error: env 'point_u_mase' is unknown; did you mean")


def test_a_sweep_that_is_stopped_writes_what_there_is(stand_in, capsys, monkeypatch, directory):
    whole = command.run_sweep

    def stopped(*given, **named):
        yield next(whole(*given, **named))
        raise StudyStoppedError(directory, signal.SIGINT)

    monkeypatch.setattr(command, "run_sweep", stopped)
    assert sweep("--trials", "3", "--run-dir", "mine", "--quiet") == 128 + signal.SIGINT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["stopped and saved; start the same sweep again to resume in mine"]
    assert [row["trial"] for row in json.loads((directory / "mine" / "study.json").read_text())["table"]] == [0]


def test_tables_are_written_while_trials_end(stand_in, monkeypatch, directory):
    written = []
    monkeypatch.setattr(command, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(command, "write_results", lambda study, outcomes, *_, **__: written.append(len(outcomes)))
    assert sweep("--trials", "3", "--quiet", "--pruner", "none") == 0
    assert written == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("submit", "jobs", "made"),
    [
        (("ray",), None, ("ray", 16, {})),
        (("ray", "num_gpus=1"), 4, ("ray", 4, {"num_gpus": 1})),
        (("cluster=ray", "address=auto"), 4, ("ray", 4, {"address": "auto"})),
        (("slurm", "slurm_partition=gpu"), 4, ("submitit", 4, {"cluster": "slurm", "slurm_partition": "gpu"})),
        (("timeout_min=60",), None, ("submitit", 16, {"timeout_min": 60})),
    ],
)
def test_a_cluster_is_named_first(monkeypatch, submit, jobs, made):
    for name in ("ray", "submitit"):
        monkeypatch.setattr(submitting, f"by_{name}", lambda jobs, parameters, name=name: (name, jobs, parameters))
    assert submitting.submitted(submit, jobs) == made
