"""Cases trained as tasks of Ray come to the same, resume, and say why they failed."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from kilolayer import user_code
from kilolayer.errors import ConfigurationError, RunError, TrainingError
from kilolayer.runs import RunDirectory
from kilolayer.studies import StudyStoppedError, Work, by_ray
from kilolayer.studies.core import on_ray, processes
from kilolayer.studies.core import run as running
from small_runs import SMALL, kilolayer
from small_study import SEEDS, STUDY, numbers, run_all, small_case


class RayError(Exception):
    """Of the stand-in, as `ray.exceptions.RayError`."""


@pytest.fixture
def ray(monkeypatch):
    """Stands for Ray: tasks end at once, as `answers` says."""
    made = SimpleNamespace(
        exceptions=SimpleNamespace(RayError=RayError),
        answers=[],
        tasks=[],
        cancelled=[],
        calls=[],
        connected=False,
        resources={"CPU": 2.0},
        refusal=None,
    )

    def init(**cluster):
        if made.refusal is not None:
            raise made.refusal
        made.calls.append(("init", cluster))
        made.connected = True

    def shutdown():
        made.calls.append(("shutdown", {}))
        made.connected = False

    def remote(**options):
        if options.get("num_cpus", 0) < 0:
            raise ValueError("The quantity of resource num_cpus\ncannot be negative")

        def submit(work, imports):
            made.tasks.append((options, work, imports))
            return len(made.tasks) - 1

        return lambda function: SimpleNamespace(remote=submit)

    def wait(tasks, timeout):
        ended = [task for task in tasks if task < len(made.answers)]
        return ended, [task for task in tasks if task not in ended]

    def get(task):
        if isinstance(made.answers[task], Exception):
            raise made.answers[task]
        return made.answers[task]

    made.init, made.shutdown, made.remote, made.wait, made.get = init, shutdown, remote, wait, get
    made.cancel = made.cancelled.append
    made.is_initialized = lambda: made.connected
    made.cluster_resources = lambda: made.resources
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def works_in(directory):
    return [Work(case, SEEDS, directory) for case in STUDY.grid("cpu")]


def test_each_case_is_a_task(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ray.answers = [(None, False), ("actor_loss is not finite", False)]
    works = works_in(Path("runs"))
    ended = list(by_ray(2, {"num_cpus": 4, "address": "auto"})(works, id))
    assert ended == [(works[0], None), (works[1], "actor_loss is not finite")]
    assert [call for call, _ in ray.calls] == ["init", "shutdown"]
    assert ray.calls[0][1]["address"] == "auto"
    for options, work, imports in ray.tasks:
        assert options == {"max_calls": 1, "num_cpus": 4, "num_gpus": 0}
        assert work.directory == tmp_path / "runs"  # a task may have another working directory
        assert imports == user_code.imported()


def test_a_task_takes_a_gpu_where_there_is_one(ray, tmp_path):
    ray.answers, ray.resources = [(None, False)] * 4, {"GPU": 2.0}
    list(by_ray(2, {})(works_in(tmp_path), id))
    list(by_ray(2, {"num_gpus": 0.5})(works_in(tmp_path), id))
    assert [options["num_gpus"] for options, *_ in ray.tasks] == [1, 1, 0.5, 0.5]


def test_a_connection_of_the_user_s_own_stays(ray, tmp_path):
    ray.answers, ray.connected = [(None, False)] * 2, True
    list(by_ray(2, {})(works_in(tmp_path), id))
    assert ray.calls == []
    assert ray.connected


def test_no_more_tasks_than_jobs_are_begun(ray, tmp_path):
    ray.answers = [(None, False)]
    ended = by_ray(1, {})(works_in(tmp_path), id)
    assert next(ended)[1] is None
    assert len(ray.tasks) == 1


def test_a_task_whose_process_died_is_an_interruption(ray, tmp_path):
    ray.answers = [RayError("The worker died\n  while it trained"), ("it was stopped by SIGINT and saved", True)]
    with by_ray(2, {}) as executor:
        dead, stopped = executor.start(works_in(tmp_path), id)
        assert (dead.failure(), dead.was_interrupted) == ("RayError: The worker died", True)
        assert (stopped.failure(), stopped.was_interrupted) == ("it was stopped by SIGINT and saved", True)


def test_tasks_are_cancelled_when_waiting_is_interrupted(ray, tmp_path):
    ray.answers = [(None, False)]
    ended = by_ray(2, {})(works_in(tmp_path), id)
    assert next(ended)[1] is None
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StudyStoppedError):
        next(ended)
    assert ray.cancelled == [1]
    assert not ray.connected


def test_what_ray_refuses_is_one_line(ray, tmp_path):
    with pytest.raises(ConfigurationError, match=r"^submit: The quantity of resource num_cpus cannot be negative$"):
        by_ray(1, {"num_cpus": -1})
    ray.refusal = ConnectionError("Could not find any\nrunning Ray instance")
    with pytest.raises(RunError, match=r"^submit: Could not find any running Ray instance$"):
        list(by_ray(1, {"address": "auto"})(works_in(tmp_path), id))


def test_without_ray_an_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"install it with `pip install 'kilolayer\[ray\]'`"):
        by_ray(1, {})


def test_a_task_says_how_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "log_to_file", id)
    with monkeypatch.context() as patch:
        patch.setattr(Work, "train", lambda self: None)
        assert on_ray._train_in_task(works_in(tmp_path)[0], ()) == (None, False)

    def fail(**_):
        raise TrainingError("actor_loss is not finite")

    monkeypatch.setattr(running, "train_seeds", fail)
    assert on_ray._train_in_task(works_in(tmp_path)[0], ()) == ("actor_loss is not finite", False)
    stopped = [SimpleNamespace(stopped_by=signal.SIGTERM)]
    monkeypatch.setattr(running, "train_seeds", lambda **_: stopped)
    assert on_ray._train_in_task(works_in(tmp_path)[0], ()) == ("it was stopped by SIGTERM and saved", True)


@pytest.mark.slow
def test_a_local_ray_comes_to_the_same(finished_study, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    cases = [small_case(depth=0), small_case(depth=4)]
    assert numbers(run_all(tmp_path, cases, workers=by_ray(2, {}))) == numbers(finished_study[1])


SPACE = {"depth": [0, 4], "crl.energy": ["l2", "dot"], "batch_size": [8, 16]}


def sweep_on_ray(directory, space):
    settings = SMALL | {"total_env_steps": 800, "num_evals": 8}
    beside = ",".join(f"{name}={value}" for name, value in settings.items() if name not in SPACE)
    return kilolayer(
        *("sweep", "point_u_maze", "--space", str(space), "--set", beside, "--trials", "8", "--jobs", "1"),
        *("--metric", "train/critic_loss", "--direction", "minimize", "--last", "2"),
        *("--submit", "ray", "--run-dir", str(directory), "--json"),
    )


def kill_with_all_below(process):
    """End a process and those that it began, and they in turn, with SIGKILL."""
    below = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = file.read_text()
            below.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(text.split()[0]))
    tree = [process.pid]
    for one in tree:
        tree += below.get(one, [])
    for one in tree:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.communicate()


def without_seconds(table):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


@pytest.mark.slow
def test_a_sweep_on_ray_that_is_killed_in_the_middle_resumes_to_the_same_table(tmp_path, monkeypatch):
    """The command and its Ray die by SIGKILL while the fifth trial trains."""
    pytest.importorskip("ray")
    pytest.importorskip("optuna")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    space = tmp_path / "space.json"
    space.write_text(json.dumps(SPACE))
    tables = {}
    for name in ("whole", "killed"):
        process = sweep_on_ray(tmp_path / name, space)
        if name == "killed":
            run = RunDirectory(tmp_path / name / "trial-0004" / "seeds-0" / "seed-0")
            while len(run.metrics()) < 3:
                assert process.poll() is None
                time.sleep(0.1)
            kill_with_all_below(process)
            process = sweep_on_ray(tmp_path / name, space)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        tables[name] = without_seconds(json.loads(out))
    assert tables["whole"] == tables["killed"]
    assert len(tables["whole"]) > 3
