"""A sweep whose trials are not trained: their evaluations are given by their settings, one each time one looks."""

import json

from kilolayer.runs import RunDirectory
from kilolayer.runs.seed_group import SeedGroup
from kilolayer.studies import Executor, Job, Sweep, run_sweep, sweep_results
from kilolayer.studies.sweep.plan import trial_config
from kilolayer.studies.sweep.run import open_journal
from kilolayer.studies.sweep.space import space_from
from small_runs import SMALL

SETTINGS = {**SMALL, "num_evals": 4}
METRIC = "eval/time_at_goal"
SPACE = {"width": [8, 12, 16], "crl.critic_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def small_space(data=SPACE):
    return space_from(data, lambda own: trial_config("point_u_maze", settings_beside(data), own))


def small_sweep(data=SPACE, **others) -> Sweep:
    return Sweep("point_u_maze", small_space(data), settings_beside(data), **{"last": 2, **others})


def settings_beside(data):
    """Settings of all trials, as far as they are not swept."""
    return {name: one for name, one in SETTINGS.items() if name not in data}


def score(config, seed, evaluation) -> float:
    """What an evaluation finds: better with a larger rate and each evaluation, and a little with the seed."""
    return round(1e4 * config.agent_settings.critic_learning_rate, 6) * evaluation + config.width + seed


class Killed(BaseException):
    """As if the process were gone."""


class StandIn(Executor):
    """Trains nothing. `starts` has the trials in the order of their starts."""

    def __init__(self, jobs=1, *, kill_after=10**9, fail=lambda work: None, score=score):
        super().__init__(jobs)
        self.starts, self.stopped = [], []
        self.kill_after, self.fail, self.score = kill_after, fail, score

    def start(self, works, log):
        self.starts += [int(work.folder.removeprefix("trial-")) for work in works]
        return [_StandInJob(self, work) for work in works]

    def wait(self, running):
        self.kill_after -= 1
        if self.kill_after < 0:
            raise Killed


class _StandInJob(Job):
    def __init__(self, executor, work):
        self.executor, self.work, self.is_stopped = executor, work, False
        self.config = work.case.config
        self.reason = executor.fail(work)

    def has_ended(self):
        return self.is_stopped or self.reason is not None or self._evaluate()

    def failure(self):
        return "it was stopped by SIGTERM and saved" if self.is_stopped else self.reason

    @property
    def was_interrupted(self):
        return self.is_stopped or (self.reason or "").startswith("killed")

    def stop(self):
        self.is_stopped = True
        self.executor.stopped.append(int(self.work.folder.removeprefix("trial-")))

    def join(self):
        pass

    def _evaluate(self) -> bool:
        """Write the next evaluation of every seed; return whether it was the last one."""
        path = self.work.path / f"seeds-{'-'.join(map(str, self.work.seeds))}"
        group = SeedGroup(path, self.work.seeds, "threads")
        runs = group.runs if SeedGroup.is_at(path) else group.create(self.config)
        end, most = self.config.timetable.end.step, self.config.num_evals
        for seed, run in zip(self.work.seeds, runs, strict=True):
            number = len(run.metrics())
            if number <= most:
                found = self.executor.score(self.config, seed, number)
                row = {"env_steps": end * number // most, METRIC: found, "eval/success_any": 0.5, "perf/seconds": 1.0}
                with run.metrics_file.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            (run.checkpoints / str(end * number // most)).mkdir(parents=True, exist_ok=True)
        return len(RunDirectory(runs[0].path).metrics()) > most


def run_stand_in(directory, trials, executor=None, sweep=None, log=id):
    """Run a sweep to its end; return its executor."""
    executor = executor or StandIn()
    for _ in run_sweep(sweep or small_sweep(), directory, trials, executor=executor, log=log):
        pass
    return executor


def results_of(directory, sweep=None):
    with open_journal(sweep or small_sweep(), directory) as journal:
        return sweep_results(journal)


def endings_of(directory, sweep=None):
    with open_journal(sweep or small_sweep(), directory) as journal:
        return journal.endings()
