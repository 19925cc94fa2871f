"""Cases trained in other processes, or by a cluster, come to the same as in this one, and their failures are told."""

import dataclasses
import logging
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from kilolayer import user_code
from kilolayer.envs import registry
from kilolayer.errors import ConfigurationError, KilolayerError, RunError, TrainingError
from kilolayer.studies import StudyStoppedError, Work, by_submitit, in_processes
from kilolayer.studies.core import cluster as clusters
from kilolayer.studies.core import executor, processes, watch
from kilolayer.studies.core import run as running
from small_study import SEEDS, STUDY, numbers, run_all, small_case

MINE = """
import dataclasses
from kilolayer.envs import registry
registry.register(dataclasses.replace(registry.spec("point_u_maze"), name="my_maze"))
"""


@pytest.fixture
def my_maze(tmp_path, monkeypatch):
    """An environment that a file of the user's own registers: `point_u_maze` under another name."""
    monkeypatch.setattr(user_code, "_imported", [])
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    user_code.import_code(str(path))
    yield "my_maze"
    registry.unregister("my_maze")
    sys.modules.pop("mine")


@pytest.fixture
def quick_children(monkeypatch):
    """Let other processes compile as this one does."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(executor, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(watch, "LOG_SECONDS", 0.0)


def works_in(directory):
    return [Work(case, SEEDS, directory) for case in STUDY.grid("cpu")]


def test_what_is_imported_already_is_not_imported_again(my_maze, tmp_path):
    (path,) = user_code.imported()
    user_code.import_missing([path, "fractions"])
    assert user_code.imported() == (path, "fractions")
    with pytest.raises(KilolayerError, match="there is no such file"):
        user_code.import_missing([str(tmp_path / "lost.py")])


# ---- Processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_come_to_the_same_and_tell_why_one_failed(finished_study, tmp_path, my_maze, quick_children):
    """One case is in an environment of the user's own, and one in an environment that is not there."""
    lost = small_case(depth=4)
    lost = dataclasses.replace(lost, config=dataclasses.replace(lost.config, eval_env="nowhere"), labels={"is": "lost"})
    cases = [lost, small_case(depth=4), small_case(env=my_maze, depth=0, eval_env="point_u_maze_eval")]
    told, found = [], []
    study = running.run_study(STUDY, cases, SEEDS, tmp_path, workers=in_processes(2), log=told.append)
    with pytest.raises(TrainingError, match="lost could not be trained"):
        found.extend(one for own in study for one in own)
    assert any("lost failed, the study continues: " in text and "'nowhere' is unknown" in text for text in told)
    by_env = {env: [one for one in found if one.case.config.env == env] for env in (my_maze, "point_u_maze")}
    assert numbers(by_env[my_maze]) == numbers(finished_study[1][:2])
    assert numbers(by_env["point_u_maze"]) == numbers(finished_study[1][2:])
    assert (tmp_path / cases[1].directory / processes.LOG_FILE).stat().st_size > 0


def test_no_process_is_started_for_what_is_finished(finished_study, monkeypatch):
    monkeypatch.setattr(processes.multiprocessing, "get_context", None)
    assert numbers(run_all(finished_study[0], workers=in_processes(2))) == numbers(finished_study[1])


@pytest.mark.parametrize(
    ("log", "exit_code", "reason"),
    [
        ("compiling\nactor_loss is not finite\n", 2, "actor_loss is not finite"),
        ("", 1, "its process ended with 1"),
        ("compiling\n", -9, "its process was killed by SIGKILL"),
        ("compiling\n", 128 + 15, "it was stopped by SIGTERM and saved"),
    ],
)
def test_the_reason_of_a_process_is_its_last_line_or_its_signal(tmp_path, log, exit_code, reason):
    work = Work(small_case(), SEEDS, tmp_path)
    work.path.mkdir()
    (work.path / processes.LOG_FILE).write_text(log)
    assert processes._why(work, exit_code) == reason


def test_progress_shows_shares_and_the_time_left(finished_study, tmp_path, monkeypatch):
    now = SimpleNamespace(time=0.0)
    monkeypatch.setattr(watch.time, "monotonic", lambda: now.time)
    told = []
    works = [dataclasses.replace(work, directory=tmp_path) for work in works_in(finished_study[0])]
    progress = watch.Progress(works, told.append)
    progress.update(works)
    now.time = 120.0
    progress.update(works)
    done = dataclasses.replace(works[0], directory=finished_study[0])
    progress.end(done.name)
    now.time = 240.0
    progress.update(works[1:])
    assert told == [
        "0 of 2 cases ended; compiling",
        "1 of 2 cases ended, point_u_maze-0",
        "1 of 2 cases ended; compiling; ETA 4 min",
    ]


# ---- A cluster ---------------------------------------------------------------------------------------------


class FakeJob:
    """A job that is done when it is asked for the second time."""

    def __init__(self, number, outcome):
        self.job_id, self.paths = f"7_{number}", SimpleNamespace(folder="logs")
        self.outcome, self.asked, self.cancelled = outcome, 0, False

    def done(self):
        self.asked += 1
        return self.asked > 1 and self.outcome != "runs"

    def exception(self):
        return self.outcome if isinstance(self.outcome, Exception) else None

    def result(self):
        return self.outcome

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def cluster(monkeypatch, impatient):
    """Stands for submitit: its jobs end as `outcomes` says."""
    made = SimpleNamespace(outcomes=[None, None], jobs=[], parameters={}, submitted=None)

    class Executor:
        def __init__(self, folder, cluster):
            made.folder, self.cluster = folder, cluster or "slurm"

        def update_parameters(self, **parameters):
            made.parameters = parameters

        def map_array(self, function, works):
            made.submitted = function, list(works)
            made.jobs = [FakeJob(number, outcome) for number, outcome in enumerate(made.outcomes)]
            return made.jobs

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor))
    return made


def test_cases_are_submitted_as_one_array(cluster, tmp_path, my_maze):
    works, told = works_in(tmp_path), []
    ended = list(by_submitit(3, {"slurm_partition": "gpu", "timeout_min": 60})(works, told.append))
    assert ended == [(works[0], None), (works[1], None)]
    assert cluster.folder == tmp_path / "jobs"
    assert cluster.parameters == {
        "name": "kilolayer",
        "timeout_min": 60,
        "slurm_array_parallelism": 3,
        "slurm_partition": "gpu",
    }
    job, submitted = cluster.submitted
    assert submitted == works
    assert job.imports == user_code.imported() != ()
    assert told[0] == "2 jobs submitted, the first is 7_0; logs are in logs"
    assert not any(job.cancelled for job in cluster.jobs)


def test_only_slurm_takes_the_size_of_the_array(cluster, tmp_path):
    list(by_submitit(3, {"cluster": "local"})(works_in(tmp_path), id))
    assert cluster.parameters == {"name": "kilolayer", "timeout_min": 24 * 60}


def test_jobs_that_fail_tell_why(cluster, tmp_path):
    cluster.outcomes = [
        "actor_loss is not finite",
        RuntimeError(
            "Job 7 with path x\nhas not produced any output (state: FAILED)\nError stream produced:\n---\nlog"
        ),
    ]
    reasons = [reason for _, reason in by_submitit(3, {})(works_in(tmp_path), id)]
    assert reasons == [
        "actor_loss is not finite",
        "Job 7 with path x has not produced any output (state: FAILED)",
    ]


def test_jobs_are_cancelled_when_waiting_is_interrupted(cluster, tmp_path):
    cluster.outcomes = [None, "runs"]
    ended = by_submitit(3, {})(works_in(tmp_path), id)
    assert next(ended)[1] is None
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StudyStoppedError) as stopped:
        next(ended)
    assert stopped.value.signal == signal.SIGTERM
    assert [job.cancelled for job in cluster.jobs] == [False, True]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cluster": "nowhere"}, "submit: AutoExecutor doesn't know any executor named nowhere"),
        ({"cluster": "local", "gpu": 1}, "submit: Parameter 'gpu' need to be prefixed"),
        ({"cluster": "local", "timeout_min": "long"}, 'submit: Parameter "timeout_min" expected type'),
        ({"cluster": "local", "nodes": 2}, "submit: LocalExecutor can use only one node"),
        ({"cluster": "slurm"}, 'submit: Could not detect "srun"'),
    ],
)
def test_parameters_that_submitit_does_not_take_are_one_line(tmp_path, parameters, message):
    with pytest.raises(ConfigurationError) as refused:
        list(by_submitit(1, parameters)(works_in(tmp_path), id))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_cluster_that_refuses_the_jobs_is_one_line(cluster, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("sbatch: error:\n  no such account")

    monkeypatch.setattr(sys.modules["submitit"].AutoExecutor, "map_array", refuse)
    with pytest.raises(RunError, match=r"^submit: sbatch: error: no such account$"):
        list(by_submitit(1, {})(works_in(tmp_path), id))


def test_submitit_leaves_logging_and_the_environment_alone(monkeypatch):
    """Its log would be on standard output, where tables go; in jobs it is as the user wants it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "submitit"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "INFO")
    by_submitit(1, {})
    assert logging.getLogger("submitit").handlers == []
    assert os.environ["SUBMITIT_LOG_LEVEL"] == "INFO"


def test_without_submitit_an_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigurationError, match=r"install it with `pip install 'kilolayer\[cluster\]'`"):
        by_submitit(1, {})


@pytest.mark.parametrize("make", [in_processes, lambda count: by_submitit(count, {})])
def test_there_must_be_a_job(make):
    with pytest.raises(ConfigurationError, match="jobs=0 must be at least 1"):
        make(0)


def test_a_job_trains_answers_and_resumes_when_it_is_preempted(finished_study, tmp_path, monkeypatch):
    job, work = clusters._Submitted(()), works_in(finished_study[0])[0]
    assert job(work) is None
    again = job.checkpoint(work)
    assert (again.function, again.args) == (job, (work,))

    new = works_in(tmp_path)[0]
    for error, answer in (
        (TrainingError("actor_loss\nis not finite"), "actor_loss\\nis not finite"),
        (MemoryError("16 GiB"), "MemoryError: 16 GiB"),
    ):

        def fail(error=error, **_):
            raise error

        monkeypatch.setattr(running, "train_seeds", fail)
        assert job(new) == answer

    def stop(**_):
        return [SimpleNamespace(stopped_by=signal.SIGTERM)]

    monkeypatch.setattr(running, "train_seeds", stop)
    with pytest.raises(SystemExit) as ended:  # without an answer, so that the cluster may start it again
        job(new)
    assert ended.value.code == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_local_cluster_comes_to_the_same(finished_study, tmp_path, my_maze, quick_children):
    cases = [small_case(env=my_maze, depth=0, eval_env="point_u_maze_eval"), small_case(depth=4)]
    outcomes = run_all(tmp_path, cases, workers=by_submitit(2, {"cluster": "local"}))
    assert numbers(outcomes) == numbers(finished_study[1])
    assert len(list((tmp_path / "jobs").glob("*_result.pkl"))) == 2
