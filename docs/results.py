"""Look up numbers under `results/`: the words that comments in the docs are written in. See `docs/figures.py`.

Metrics go by their short names: `time_at_goal` for `eval/time_at_goal`. Labels select rows: `depth=16`.
"""

import csv
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"

LAST = 5
"""Evaluations in the score of a run."""


class Estimate(NamedTuple):
    """A mean over seeds and its standard error, which is NaN for one seed."""

    mean: float
    error: float


def estimate(values: np.ndarray) -> Estimate:
    """Return mean and standard error of the values that are not NaN."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Estimate(np.nan, np.nan)
    error = values.std(ddof=1) / values.size**0.5 if values.size > 1 else np.nan
    return Estimate(float(values.mean()), float(error))


# Files ---------------------------------------------------------------------------------------------------------------


@functools.cache
def rows(name: str) -> Sequence[dict[str, Any]]:
    """Return the rows of a CSV file, such as `depth/scores.csv`, with numbers as numbers."""
    with (RESULTS / name).open(newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


@functools.cache
def data(name: str) -> Any:
    """Return the contents of a JSON file, such as `bench/step-2cores.json`."""
    return json.loads((RESULTS / name).read_text())


def bench(name: str, value: str, **labels: Any) -> float:
    """Return a value of the one row with these labels in `bench/NAME-2cores.json`; rows may be under `rows`."""
    found = data(f"bench/{name}-2cores.json")
    chosen = [row for row in (found["rows"] if isinstance(found, dict) else found) if _has(row, labels)]
    if len(chosen) != 1:
        raise LookupError(f"{len(chosen)} rows of bench {name} have {labels}")
    return chosen[0][value]


# Studies -------------------------------------------------------------------------------------------------------------


def cases(study: str, *labels: str) -> list[tuple[Any, ...]]:
    """Return the values of labels of each case of a study, in its order."""
    return list(dict.fromkeys(tuple(row[label] for label in labels) for row in rows(f"{study}/scores.csv")))


def seeds(study: str, metric: str, **labels: Any) -> np.ndarray:
    """Return the score of each seed of a case."""
    return np.array(_column(f"{study}/scores.csv", metric, labels), float)


def score(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of a case; of the seeds that have one."""
    return estimate(seeds(study, metric, **labels))


def untrained(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of the networks of a case before training."""
    return score(study, f"{metric}_untrained", **labels)


def gain(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the score of a case minus that of its untrained networks, seed by seed."""
    return estimate(seeds(study, metric, **labels) - seeds(study, f"{metric}_untrained", **labels))


def difference(study: str, metric: str, first: dict[str, Any], second: dict[str, Any], **labels: Any) -> np.ndarray:
    """Return the score of one case minus that of another, seed by seed."""
    return seeds(study, metric, **labels, **first) - seeds(study, metric, **labels, **second)


def at(study: str, metric: str, env_steps: int, **labels: Any) -> Estimate:
    """Return a metric of a case in the evaluation at these env steps."""
    return estimate(np.array(_column(f"{study}/curves.csv", metric, labels | {"env_steps": env_steps}), float))


def last(study: str, metric: str, **labels: Any) -> np.ndarray:
    """Return a metric of each seed of a case in the last evaluation."""
    end = max(row["env_steps"] for row in rows(f"{study}/curves.csv") if _has(row, labels))
    return np.array(_column(f"{study}/curves.csv", metric, labels | {"env_steps": end}), float)


def measured(study: str, metric: str, **labels: Any) -> Estimate:
    """Return the mean over seeds of a column of measured.csv, in the rows with these labels."""
    return estimate(np.array(_column(f"{study}/measured.csv", metric, labels), float))


# Files of earlier scripts ---------------------------------------------------------------------------------------------


def engine_rows() -> list[list[str]]:
    """Return the table of `engines/`."""
    found = []
    for engine in ("mujoco", "mjx", "spring"):
        run = data(f"engines/reacher-{engine}-seed0.json")
        first, *_ = curve = run["curve"]
        end = {
            name: np.mean([row[f"eval/{name}"] for row in curve[-LAST:]]) for name in ("success_any", "time_at_goal")
        }
        final = np.mean([row["eval/success_final"] for row in curve[-LAST:]])
        time = [f"{first['eval/time_at_goal']:.0f}", f"{end['time_at_goal']:.0f}"]
        success = [f"{first['eval/success_any']:.2f}", f"{end['success_any']:.2f}"]
        found.append([engine, run["variant"], f"{run['seconds']:.0f}", *time, *success, f"{final:.2f}"])
    return found


def exploration_rows() -> list[list[str]]:
    """Return the table of `laptop/exploration/`."""
    found = []
    for maze in ("hardest", "drawn_10"):
        for depth, evaluations in data(f"laptop/exploration/{maze}.json")["depths"].items():
            end = evaluations[-1]
            columns = (
                ", ".join(f"{v:.2f}" for v in end[n]) for n in ("rank_correlation", "success_any", "critic_loss")
            )
            found.append([maze, depth, *columns, f"{end['seconds']:.0f}"])
    return found


def scaling_rows() -> list[list[str]]:
    """Return the table of `residual_scaling/`."""
    found = []
    for depth in (64, 256, 1024):
        for scaling in ("none", "inverse_sqrt"):
            run = data(f"residual_scaling/depth-{depth}-{scaling}.json")
            losses = {row["gradient_steps"]: row["critic_loss"] for row in run["losses"]}
            first, *_, end = run["diagnostics"]
            streams = (
                ", ".join(f"{max(row[f'{network}/stream_norm']):.0f}" for row in (first, end))
                for network in ("phi", "actor")
            )
            gradients = end["actor/gradient_norm"][-1], first["phi/gradient_norm"][-1]
            loss = ", ".join(f"{losses[step]:.{digits}g}" for step, digits in ((30, 4), (120, 3), (240, 3)))
            found.append(
                [
                    str(depth),
                    scaling,
                    loss,
                    *streams,
                    *(f"{value:.{n}g}" for value, n in zip(gradients, (2, 3), strict=True)),
                ]
            )
    return found


# Text ----------------------------------------------------------------------------------------------------------------


def pm(estimate: tuple[float, float], digits: int = 2, error_digits: int | None = None) -> str:
    """Return mean and standard error as text; the mean alone where there is no error, a dash where there is neither."""
    mean, error = estimate
    if np.isnan(mean):
        return "-"
    after = digits if error_digits is None else error_digits
    return f"{mean:,.{digits}f}" + ("" if np.isnan(error) else f" ± {error:,.{after}f}")


def goals(study: str, **labels: Any) -> list[str]:
    """Return the cells of a case: steps at the goal before and after training, then success_any likewise."""
    return [
        pm(find(study, metric, **labels), digits)
        for metric, digits in (("time_at_goal", 0), ("success_any", 2))
        for find in (untrained, score)
    ]


def rounded(value: float, significant: int) -> str:
    """Return a number with so many significant digits, and commas between thousands."""
    digits = max(significant - 1 - int(np.floor(np.log10(abs(value)))), 0) if value else 0
    return f"{float(f'{value:.{significant}g}'):,.{digits}f}"


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _has(row: dict[str, Any], labels: dict[str, Any]) -> bool:
    return all(row[name] == value for name, value in labels.items())


def _column(file: str, metric: str, labels: dict[str, Any]) -> list[Any]:
    """Return a column of the rows with these labels, in the order of seeds.

    Raises:
        LookupError: if there is no such row or column.
    """
    table = rows(file)
    names = [name for name in (metric, f"eval/{metric}", f"train/{metric}", f"perf/{metric}") if name in table[0]]
    chosen = sorted((row for row in table if _has(row, labels)), key=lambda row: row["seed"])
    if not names or not chosen:
        raise LookupError(f"{file} has no {metric} with {labels}")
    return [np.nan if row[names[0]] == "" else row[names[0]] for row in chosen]


# Tables whose rows come from several studies -------------------------------------------------------------------------

LAPTOP: Sequence[tuple[str, str, str, str, dict[str, Any], str]] = (
    (
        "`reacher`",
        "velocities, and an arm whose tip is a nonlinear function of what is seen",
        "800,000",
        "depth",
        {},
        "it learns sooner ([depth](depth.md)); both reach every goal at the end; not in seconds",
    ),
    (
        "`reacher`, batches of 64",
        "the paper's large batches need depth",
        "800,000",
        "batch",
        {"batch_size": 64},
        "neither depth learns ([batch](batch.md))",
    ),
    (
        "`reacher`, batches of 1024",
        "the same",
        "800,000",
        "batch",
        {"batch_size": 1024},
        "a little ([batch](batch.md))",
    ),
    ("`chain_4`", "fewer links learn sooner", "1,600,000", "laptop/chain_4", {}, "sooner; two seeds"),
    ("`chain_8`", "more links", "800,000", "laptop/chain_8", {}, "neither learns in this time"),
    ("`arm_reach`", "more joints, more numbers in the observation", "800,000", "depth_arm_reach", {}, "no"),
    (
        "`point_u_maze`",
        "the smallest task",
        "800,000",
        "baselines",
        {"task": "point_u_maze", "agent": "crl"},
        "no",
    ),
    (
        "a point maze of 11 x 11 cells, many dead ends, starts and goals everywhere",
        "a value with more structure than four numbers show",
        "1,600,000",
        "laptop/maze",
        {},
        "no",
    ),
)
"""Tasks on which depth was tried on a laptop: task, why, env steps, study, labels, and whether depth pays."""


def baseline_rows(task: str) -> list[list[str]]:
    """Return the table of all agents on a task: for each depth time at the goal, success, and seconds."""
    found = []
    for (agent,) in cases("baselines", "agent"):
        cells = [f"`{agent}`"]
        for depth in (4, 16):
            labels = {"task": task, "agent": agent, "depth": depth}
            for metric, digits in (("time_at_goal", 0), ("success_any", 2)):
                before = untrained("baselines", metric, **labels).mean
                cells.append(f"{before:.{digits}f} → {pm(score('baselines', metric, **labels), digits)}")
            cells.append(f"{score('baselines', 'seconds', **labels).mean:.0f}")
        found.append(cells)
    return found


def seeds_rows() -> list[list[str]]:
    """Return the table of `bench seeds`: seconds of a run and of a training step in each mode."""
    by_case: dict[str, dict[str, Any]] = {}
    for row in data("seeds/seeds-2cores.json"):
        by_case.setdefault(row["case"], {})[row["mode"]] = row
    return [
        [f"`{case}`"]
        + [
            text
            for mode in ("alone", "threads", "vmap")
            for text in (f"{modes[mode]['train_seconds']:.1f}", f"{modes[mode]['step_seconds']:.2f}")
        ]
        for case, modes in by_case.items()
    ]


TRAINED = (
    ("`reacher`, CRL", "depth", {}),
    ("`reacher`, ten agents", "baselines", {"task": "reacher"}),
    ("a chain of six links, CRL", "depth_chain_6", {}),
    ("`arm_reach`, CRL", "depth_arm_reach", {}),
    ("`point_u_maze`, ten agents", "baselines", {"task": "point_u_maze"}),
    ("point mazes, pairs 1 to 3 cells apart, CRL", "stitching", {}),
    ("`arm_push_easy` of the paper, on MuJoCo, CRL", "arm_push_easy_h200", {}),
)
"""What has been trained to its goals here: task, study, labels."""


def trained_rows() -> list[list[str]]:
    """Return the table of what has been trained: depths, env steps, seeds, machine, and success of the deepest."""
    found = []
    for name, study, labels in TRAINED:
        own = [row for row in rows(f"{study}/curves.csv") if _has(row, labels)]
        depths = sorted({row["depth"] for row in own})
        ends = {depth: max(row["env_steps"] for row in own if row["depth"] == depth) for depth in depths}
        steps = [f"{ends[depth] / 1e6:.1f}M" for depth in (depths[0], depths[-1])]
        count = len({row["seed"] for row in own})
        machine = "one H200, 10 minutes" if "h200" in study else "2 CPU cores"
        best = max(row["eval/success_any"] for row in own if row["depth"] == depths[-1])
        found.append(
            [name, ", ".join(map(str, depths)), " to ".join(dict.fromkeys(steps)), str(count), machine, f"{best:.2f}"]
        )
    return found


def bench_rows() -> list[list[str]]:
    """Return the table of README: what was measured on both sides in one run."""
    act = {row["precision"]: 1e3 * row["step_seconds"] for row in data("bench/act-2cores.json") if row["depth"] == 1024}
    compiling = {
        (row["form"], row["depth"]): row["trace_seconds"] + row["compile_seconds"]
        for row in data("bench/compile-2cores.json")
    }
    ours, naive = compiling["kilolayer", 256], compiling["naive", 256]
    deep = compiling["kilolayer", 1024]
    replay = {row["form"]: row["num_batches"] * row["step_seconds"] for row in data("bench/replay-2cores.json")}
    both = [replay["naive at once"], replay["naive one by one"]]
    gibibytes = {row["form"]: row["scratch_bytes"] / 2**30 for row in data("bench/replay-2cores.json")}
    peak = bench("step", "peak_bytes", form="kilolayer", depth=1024, batch_size=512) / 2**30
    ratios = sorted(value / replay["kilolayer"] for value in both)
    return [
        ["trace and compile a gradient step at depth 256", f"{ours:.1f} s", f"{naive:.0f} s", f"{naive / ours:.0f}"],
        [
            "trace and compile it at depth 1024",
            f"{deep:.1f} s, {deep / compiling['kilolayer', 4]:.1f} times depth 4",
            "",
            "",
        ],
        ["peak memory of a step, depth 1024, batch 512", f"{peak:.1f} GiB", "", ""],
        [
            "an action of a 1024-layer actor, one core",
            f"{act['int8']:.1f} ms in int8, {act['float32']:.1f} ms in float32",
            "",
            "",
        ],
        [
            "drawing 800 batches of 256 from 512 environments x 10,000 steps",
            f"{replay['kilolayer']:.3f} s",
            f"{both[0]:.1f} s and {gibibytes['naive at once']:.1f} GiB, or {both[1]:.1f} s",
            f"{ratios[0]:.0f} to {ratios[1]:.0f}",
        ],
    ]


def env_rows() -> list[list[str]]:
    """Return the table of README with env steps per second; all sides of a task took turns in one run."""
    found = []
    for task in ("ant", "humanoid", "arm_push_easy"):
        speed = {
            (row["engine"], row["kind"]): row["env_steps_per_second"]
            for row in data("bench/env-2cores.json")
            if row["task"] == task
        }
        ours, bare, spring = speed["mujoco", "rollout"], speed["mujoco", "bare"], speed.get(("spring", "rollout"))
        note = " (the fallen lie)" if task == "humanoid" else ""
        found.append(
            [
                task,
                rounded(ours, 3),
                rounded(bare, 3) + note,
                rounded(spring, 3) if spring else "",
                f"{ours / bare:.0%}",
                f"{ours / spring:.2f}" if spring else "",
            ]
        )
    return found
