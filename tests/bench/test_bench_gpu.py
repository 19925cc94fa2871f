"""`kilolayer bench gpu`: the most valuable first, what fits into the budget, and nothing lost."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kilolayer.bench import ActSpeed, bench_gpu, gpu, gpu_plan
from kilolayer.bench.budget import Budget
from kilolayer.bench.first_step import FirstStep, until_first_step
from kilolayer.bench.gpu_plan import PARTS, Plan, Sizes
from kilolayer.bench.jobs import GpuRow, Job, run_jobs
from kilolayer.bench.round import RoundCost, bench_round
from kilolayer.bench.step import StepCost
from kilolayer.cli.bench_options import train_command
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError, KilolayerError

TINY = Sizes(
    depths=(4, 128),
    width=16,
    batch_size=16,
    steps=3,
    rounds=2,
    num_envs=4,
    unroll_length=10,
    gradient_steps=3,
    rounds_of_training=2,
    physics_steps=5,
    act_depths=(4,),
    calls=3,
    processes=2,
    run={"episode_length": 20, "replay_capacity": 60, "min_replay": 20, "num_eval_envs": 4},
)


class Clock:
    """A clock that only jobs move."""

    now = 100.0

    def __call__(self):
        return self.now

    def job(self, name, kind, seconds, fails=False, turns=None):
        def run(left):
            assert left > 0.0
            self.now += seconds
            if fails:
                raise KilolayerError("it does not run here")
            yield {"seconds": seconds}

        return Job(GpuRow("step", name), kind, run, turns)


def test_what_does_not_fit_is_left_out_and_what_does_is_measured():
    """100 seconds: 30 and 20 of kind a, 10 of b; of 40 left, another a fits, and then only b."""
    clock = Clock()
    jobs = [
        clock.job("a1", "a", 30.0),
        clock.job("a2", "a", 20.0),
        clock.job("b1", "b", 10.0),
        clock.job("a3", "a", 25.0),  # as long as the longest before: 30 of 40
        clock.job("a4", "a", 1.0),  # 30 of 15
        clock.job("b2", "b", 10.0),  # 10 of 15
        clock.job("c1", "c", 1.0),  # of a new kind: the median of all, 20
    ]
    rows = list(run_jobs(jobs, Budget(100.0, clock)))
    assert [row.what for row in rows if row.seconds is not None] == ["a1", "a2", "b1", "a3", "b2"]
    assert [(row.what, row.left_out) for row in rows if row.seconds is None] == [
        ("a4", "no time: 15 s are left, and it takes about 30"),
        ("c1", "no time: 5 s are left, and it takes about 20"),
    ]
    assert [row.took_seconds for row in rows[:2]] == [30.0, 20.0]


def test_nothing_starts_when_the_time_is_over():
    clock = Clock()
    rows = list(run_jobs([clock.job("a", "a", 200.0), clock.job("b", "b", 0.0)], Budget(100.0, clock)))
    assert [row.left_out for row in rows] == ["", "no time: 0 s are left, and it takes about 200"]


def test_a_measurement_that_fails_has_a_row_and_the_next_goes_on():
    clock = Clock()
    first, second = (SimpleNamespace(closed=0), SimpleNamespace(closed=0))
    for turns in (first, second):
        turns.close = lambda turns=turns: setattr(turns, "closed", turns.closed + 1)
    jobs = [
        clock.job("a", "a", 1.0, fails=True, turns=first),
        clock.job("b", "a", 1.0, turns=first),
        clock.job("c", "a", 1.0, turns=second),
    ]
    rows = run_jobs(jobs, Budget(100.0, clock))
    assert next(rows).left_out == "it does not run here"
    assert next(rows).seconds == 1.0
    assert first.closed == 0
    next(rows)
    assert (first.closed, second.closed) == (1, 0)
    rows.close()
    assert second.closed == 1


@pytest.fixture
def measured(monkeypatch):
    """Every measurement is made up; what was asked for is listed."""
    asked = []

    class Turns:
        def __init__(self, rounds):
            self.first = True

        def measure(self, form, *, depth, architecture, seconds, log, **sizes):
            asked.append((form, depth, architecture))
            ratio, self.first = None if self.first else 2.0, False
            chain = architecture.get("chain", "plain") if form == "kilolayer" else ""
            fields = {field.name: 1.0 for field in dataclasses.fields(StepCost)} | sizes
            own = {"form": form, "depth": depth, "ratio": ratio, "chain": chain, "kernels": "xla", "remat": "none"}
            return StepCost(**{name: fields[name] for name in fields if name in StepCost.__annotations__} | own)

        def close(self):
            pass

    def run_apart(function, arguments, **options):
        if function.endswith(":machine"):
            return {"backend": "cpu", "system": {"cpu": "a CPU", "commit": "abc", "versions": {"jax": "1"}}}
        speed = {"step_seconds": 0.1, "env_steps_per_second": 40.0, "compile_seconds": 1.0}
        return [{"kind": kind, **speed} for kind in ("bare", "rollout")]

    def bench_round(settings, **options):
        asked.append(("round", settings["engine"], settings["variant"], settings["overlap"]))
        if settings["engine"] == "mjx-warp":
            raise KilolayerError("no warp")
        return RoundCost(**{field.name: 1.0 for field in dataclasses.fields(RoundCost)})

    def bench_act(depths, **options):
        row = {field.name: 1.0 for field in dataclasses.fields(ActSpeed)} | {"precision": "int8"}
        return iter([ActSpeed(**row)])

    for fake in (Turns, run_apart, bench_round, bench_act):
        monkeypatch.setattr(gpu_plan, fake.__name__, fake)
    monkeypatch.setattr(gpu, "run_apart", run_apart)
    monkeypatch.setattr(gpu_plan, "time_to_first_step", lambda *arguments, **options: FirstStep(12.0, "mjx"))
    monkeypatch.setattr(gpu_plan, "has_torch", lambda: True)
    return asked


def test_the_most_valuable_comes_first_and_each_row_is_written(measured, tmp_path):
    notes = []
    (tmp_path / "gpu.jsonl").write_text('{"half a li')
    rows = bench_gpu(100.0, train_command=train_command, sizes=TINY, results=tmp_path, note=notes.append)
    next(rows)
    lines = (tmp_path / "gpu.jsonl").read_text().splitlines()
    assert lines[0] == '{"half a li'  # a process was killed while it wrote; the next row has its own line
    assert len(lines) == 2
    found = json.loads(lines[1])
    assert (found["part"], found["what"], found["depth"], found["width"]) == ("step", "kilolayer plain xla", 4, 16)
    assert found["system"]["commit"] == "abc"
    assert found["date"]
    rest = list(rows)
    assert len((tmp_path / "gpu.jsonl").read_text().splitlines()) == 2 + len(rest)
    assert list(dict.fromkeys(row.part for row in rest)) == list(PARTS)
    assert notes == ["there is no GPU: these are figures of a CPU"]
    steps = [entry for entry in measured if entry[0] != "round"]
    assert steps[:4] == [("kilolayer", 4, {}), ("naive", 4, {}), ("torch", 4, {}), ("kilolayer", 128, {})]
    forms = [{"chain": "short", "kernels": "fused"}, {"chain": "short", "kernels": "xla"}]
    assert steps[4:8] == [("kilolayer", depth, form) for depth in (4, 128) for form in forms]
    assert [entry[1:] for entry in measured if entry[0] == "round"] == [
        ("mujoco", "default", False),
        ("mujoco", "default", True),
        ("spring", "paper", False),
        ("mjx", "default", False),
        ("mjx-warp", "default", False),
    ]
    by_what = {(row.part, row.what): row for row in rest}
    assert by_what["round", "mjx-warp"].left_out == "no warp"
    assert by_what["physics", "mjx rollout"].per_second == 40.0
    assert by_what["start", "nothing compiled"].seconds == 12.0
    assert by_what["spread", "process 2 of 2"].ratio == 1.0


def test_parts_come_in_the_order_that_is_asked_for(measured):
    rows = list(bench_gpu(100.0, train_command=train_command, sizes=TINY, parts=["act", "spread"]))
    assert [row.part for row in rows] == ["act", "spread", "spread"]


def test_pytorch_is_one_graph_too_on_a_gpu(measured):
    jobs = list(Plan(TINY, train_command, id, on_gpu=True).step())
    assert [job.row.what for job in jobs] == ["kilolayer", "naive", "torch", "torch graph", "kilolayer"]


def test_a_run_until_the_first_step_learns_one_round(tmp_path):
    settings = until_first_step(TINY.run_settings, "mujoco")
    assert (settings["total_env_steps"], settings["num_evals"]) == (20 * 4 + 10 * 4, 1)
    command = train_command(settings, tmp_path)
    assert command[3:5] == ["train", "ant"]
    assert {"--total-env-steps=120", "--num-envs=4", f"--run-dir={tmp_path}"} <= set(command)


def test_this_process_does_not_touch_the_device():
    """On a GPU it would take most of the memory that the measurements need."""
    program = """
from jax._src import xla_bridge
from kilolayer.bench.first_step import until_first_step
from kilolayer.bench.gpu_plan import Plan, Sizes
plan = Plan(Sizes(), None, id)
until_first_step(Sizes().run_settings, plan._engines()[0][0])
assert [list(part(plan)) for part in (Plan.step, Plan.round, Plan.forms, Plan.physics, Plan.act, Plan.start)]
assert not xla_bridge.backends_are_initialized()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_calls_of_deep_networks_have_fewer_steps():
    assert [Sizes().steps_at(depth) for depth in (0, 4, 16, 64, 1024)] == [50, 50, 50, 12, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget=0"], "budget=0 must be above 0"),
        (["--parts", "stepp"], "part='stepp' is unknown; did you mean step"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    assert main(["bench", "gpu", f"--results={tmp_path / 'new'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_what_the_plan_asks_for_is_measured(tmp_path):
    sizes = dataclasses.replace(TINY, depths=(4,))
    parts = ["step", "act", "start"]
    rows = list(bench_gpu(600.0, train_command=train_command, sizes=sizes, parts=parts, results=tmp_path))
    assert {row.part for row in rows} == set(parts)
    for row in rows:
        assert row.left_out or row.seconds > 0.0
    by_what = {(row.part, row.what): row for row in rows}
    assert by_what["step", "naive"].ratio > 0.0
    assert by_what["start", "compiled before"].seconds > 1.0
    cost = bench_round(TINY.run_settings | {"engine": "mujoco", "overlap": True}, rounds=2)
    assert (cost.engine, cost.gradient_steps, cost.overlap) == ("mujoco", 3, True)
    assert cost.env_steps_per_second == pytest.approx(4 * 10 / cost.seconds)


def test_a_budget_is_refused_at_the_call():
    with pytest.raises(ConfigurationError):
        bench_gpu(-1.0, train_command=train_command)
