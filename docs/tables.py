"""The tables of README and docs that need more than a line: the rows of each, from the data under `results/`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from results import (
    bench,
    benchmark,
    cases,
    data,
    has,
    paper_rows,
    pm,
    rounded,
    rows,
    score,
    untrained,
)
from scipy.stats import spearmanr

from kilolayer.envs.coverage import recorded

# Tables of one study -------------------------------------------------------------------------------------------------


def engine_rows() -> list[list[str]]:
    """Return the table of `engines/`."""
    found = []
    for engine, variant in cases("engines", "engine", "variant"):
        row = [engine, variant, f"{score('engines', 'seconds', engine=engine).mean:.0f}"]
        for metric, digits in (("time_at_goal", 0), ("success_any", 2), ("success_final", 2)):
            row += [f"{find('engines', metric, engine=engine).mean:.{digits}f}" for find in (untrained, score)]
        found.append(row)
    return found


def scaling_rows() -> list[list[str]]:
    """Return the table of `residual_scaling/`: losses, longest streams, and gradients of the last block."""
    found = []
    for depth, scaling in cases("residual_scaling", "depth", "residual_scaling"):
        losses = {
            row["gradient_steps"]: row["train/critic_loss"]
            for row in rows("residual_scaling/curves.csv")
            if (row["depth"], row["residual_scaling"]) == (depth, scaling)
        }
        loss = ", ".join(f"{losses[step]:.{digits}g}" for step, digits in ((30, 4), (120, 3), (240, 3)))
        streams = (
            ", ".join(f"{max(inside('stream_norm', depth, scaling, network)[step]):.0f}" for step in (0, -1))
            for network in ("phi", "actor")
        )
        gradients = (
            f"{inside('gradient_norm', depth, scaling, network)[step][-1]:.{digits}g}"
            for network, step, digits in (("actor", -1, 2), ("phi", 0, 3))
        )
        found.append([str(depth), scaling, loss, *streams, *gradients])
    return found


def inside(norm: str, depth: float, scaling: str, network: str) -> list[list[float]]:
    """Return a norm of each block of a network in `residual_scaling/`, for each evaluation."""
    found: dict[float, list[float]] = {}
    for row in rows("residual_scaling/measured.csv"):
        if (row["depth"], row["residual_scaling"], row["network"]) == (depth, scaling, network):
            found.setdefault(row["gradient_steps"], []).append(row[norm])
    return list(found.values())


def agent_rows() -> list[list[str]]:
    """Return the table of `bench agents`, the cheapest first."""
    return [
        [
            f"`{row['agent']}`",
            ", ".join(f"{name} {value:g}" for name, value in row["settings"].items()),
            f"{1e3 * row['step_seconds']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in sorted(benchmark("agents"), key=lambda row: row["ratio"])
    ]


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


def act_rows(name: str) -> list[list[str]]:
    """Return the table of a file of `bench act`."""
    return [
        [
            str(row["depth"]),
            {"onnxruntime": "ONNX Runtime"}.get(row["runtime"], row["runtime"]),
            row["precision"],
            *(f"{1e3 * row[time]:.2f}" for time in ("step_seconds", "slowest", "slowest_of_thousand")),
            f"{1 / row['step_seconds']:,.0f}",
            f"{row['weight_bytes'] / 2**20:.1f}",
            f"{row['largest_action_error']:.1e}",
        ]
        for row in benchmark(name)
    ]


DEEP_ACTOR = {"depth": 1024, "runtime": "library"}


def bench_rows() -> list[list[str]]:
    """Return the table of README: what was measured on both sides in one run."""
    act = {row["precision"]: 1e3 * row["step_seconds"] for row in benchmark("act") if has(row, DEEP_ACTOR)}
    compiling = {
        (row["form"], row["depth"]): row["trace_seconds"] + row["compile_seconds"] for row in benchmark("compile")
    }
    ours, naive = compiling["kilolayer", 256], compiling["naive", 256]
    deep = compiling["kilolayer", 1024]
    replay = {row["form"]: row["num_batches"] * row["step_seconds"] for row in benchmark("replay")}
    both = [replay["naive at once"], replay["naive one by one"]]
    gibibytes = {row["form"]: row["scratch_bytes"] / 2**30 for row in benchmark("replay")}
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
            (row["engine"], row["kind"]): row["env_steps_per_second"] for row in benchmark("env") if row["task"] == task
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


# Maps of values ------------------------------------------------------------------------------------------------------

MAPS = (
    ("value at rest", "value at rest"),
    ("value at 2 m/s, mean of 8 directions (the former map)", "value at 2 m/s"),
    ("value at 2 m/s, best of 8 directions", "value at 2 m/s, best direction"),
    ("value at 4 m/s", "value at 4 m/s"),
    ("best of 17 actions at rest", "best action at rest"),
    ("best action at rest minus no push (advantage)", "best action at rest - no push"),
    ("minus the distance of psi(place) and psi(goal)", "psi(place) to psi(goal)"),
    ("value at 2 m/s, minus the value of the own place", "value at 2 m/s - value of its own place"),
    ("value at 2 m/s, minus the logsumexp over all places", "value at 2 m/s - logsumexp over places"),
    ("value at 2 m/s, doubly centred, both ways", "value at 2 m/s, doubly centred, both ways"),
    ("value at 2 m/s: share of places valued below the goal", "value at 2 m/s: share of places valued below the goal"),
    ("value at 2 m/s, minus the mean over all places", "value at 2 m/s - mean over places"),
    ("**value at 2 m/s, minus the mean over cell centres**", "value at 2 m/s - mean over cell centres"),
    ("value at 4 m/s, minus the mean over cell centres", "value at 4 m/s - mean over cell centres"),
    ("steps, actions chosen by the critic alone", "steps to the goal, actions chosen by the critic alone"),
    ("**steps, actions of the policy**", "steps to the goal, actions of the policy"),
)
"""What a map may show, as the page and as `candidates.csv` name it."""

FINISHED = 1_600_000


def candidates(**labels: Any) -> list[dict[str, Any]]:
    """Return the rows of `value_map/candidates.csv` with these labels."""
    return [row for row in rows("value_map/candidates.csv") if has(row, labels)]


def map_value(candidate: str, **labels: Any) -> float:
    """Return the mean over seeds of a candidate's rank correlation."""
    return float(np.nanmean([row["rank_correlation"] for row in candidates(candidate=candidate, **labels)]))


def map_rows() -> list[list[str]]:
    """Return the table of all candidates in the demo runs, by env steps."""
    demo = {"env": "point_u_maze", "agent": "crl"}
    found = []
    for name, candidate in MAPS:
        means = [map_value(candidate, env_steps=steps, **demo) for steps in (0, 204_800, 800_000, FINISHED)]
        worst = min(row["rank_correlation"] for row in candidates(candidate=candidate, env_steps=FINISHED, **demo))
        trained = [row for row in candidates(candidate=candidate, **demo) if row["env_steps"] > 0]
        with_success = spearmanr([row["rank_correlation"] for row in trained], [row["success_any"] for row in trained])
        found.append([name, *(f"{value:.2f}" for value in (*means, worst, with_success.statistic))])
    return found


def other_map_rows() -> list[list[str]]:
    """Return the table of the finished runs of other tasks and agents."""
    found = []
    for env, agent in (("point_u2_maze", "crl"), ("point_u_maze", "sac_her"), ("point_u_maze", "qrl")):
        labels = {"env": env, "agent": agent, "seed": 0, "env_steps": FINISHED}
        values = (
            map_value(name, **labels)
            for name in (
                "value at rest",
                "value at 2 m/s",
                "value at 2 m/s - mean over cell centres",
                "steps to the goal, actions of the policy",
            )
        )
        success = candidates(**labels)[0]["success_any"]
        found.append([f"`{env}`, {agent}", f"{success:.2f}", *(f"{value:.2f}" for value in values)])
    return found


def ratio_rows() -> list[list[str]]:
    """Return the table of the critic, the counted log-ratio and the distance, on the way to a goal."""
    found = []
    for name, candidate in (
        ("critic with the counted log-ratio", "on the way: critic with counted log-ratio"),
        ("counted log-ratio with minus the distance", "on the way: counted log-ratio"),
        ("critic with minus the distance", "on the way: critic"),
    ):
        own = candidates(candidate=candidate, env="point_u_maze", agent="crl", env_steps=FINISHED)
        values = [row["rank_correlation"] for row in own]
        found.append([name, f"{np.mean(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"])
    return found


def straight_line(task: str) -> float:
    """Return the rank correlation of the straight-line distance with the path in a maze."""
    from kilolayer.envs import make
    from kilolayer.studies.value_map import straight_line_correlation

    return straight_line_correlation(make(task).task)


# The paper's task -----------------------------------------------------------------------------------------------------


def push_rows(study: str, millions: int, *, mean_of: int = 1) -> list[list[str]]:
    """Return the table of `arm_push_easy`, beside the paper's curves at the same env steps.

    Args:
        study: where it was trained.
        millions: env steps of the last row.
        mean_of: evaluations, the last ones up to the env steps of a row, that are averaged.
    """
    own = rows(f"{study}/curves.csv")
    paper = [row for row in paper_rows() if row["task"] == "arm_push_easy"]
    found = []
    for million in range(millions + 1):
        cells = ["0" if not million else f"{million}M"]
        for depth in (4, 16):
            upto = [row for row in own if row["depth"] == depth and row["env_steps"] < (million + 0.25) * 1e6]
            ended = upto[-1]["env_steps"] < (million - 0.25) * 1e6
            for metric, digits in (("time_at_goal", 0), ("success_any", 2)):
                mean = np.mean([row[f"eval/{metric}"] for row in upto[-mean_of:]])
                cells.append("-" if ended else f"{mean:.{digits}f}")
        for depth in (4, 16):
            curve = [(row["env_steps_M"], row["time_at_goal"]) for row in paper if row["depth"] == depth]
            cells.append(f"{np.interp(million, *zip(*curve, strict=True)):.0f}")
        found.append(cells)
    return found


# How far random actions get -------------------------------------------------------------------------------------------


def coverage_rows() -> list[list[str]]:
    """Return the table of random actions: a row for each task, variant and engine."""
    return [
        [
            f"`{row['env']}`",
            f"{row['variant']}, {row['engine']}",
            *(f"{row[name]:.2g}" for name in ("median", "ninety", "farthest")),
            f"{row['moved']:.0%}",
            f"{row['lived']:.0f}",
        ]
        for row in recorded()
    ]
