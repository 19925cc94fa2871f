"""The table of what has been trained here, from the data under `results/`."""

from collections.abc import Sequence
from typing import Any

from results import data, has, rows, score, untrained
from tables import engine_rows

TRAINED: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("`reacher`, CRL", "depth", {}),
    ("`reacher`, ten agents", "baselines", {"task": "reacher"}),
    ("`point_u_maze`, ten agents", "baselines", {"task": "point_u_maze"}),
    ("`point_u_maze`, CRL, growing networks", "growth", {"networks": "growing"}),
    ("point mazes, pairs 1 to 3 cells apart, CRL", "stitching", {}),
    ("`reacher`, CRL, width 256", "distil", {"agent": "crl"}),
    ("`reacher`, CRL, grown from depth 4 by 64", "distil_grown", {"agent": "crl", "depth": 1024}),
    ("a point maze of 11 x 11 cells, CRL", "laptop/maze", {}),
    ("a chain of four links, CRL", "laptop/chain_4", {}),
    ("a chain of six links, CRL", "depth_chain_6", {}),
    ("`arm_reach`, CRL", "depth_arm_reach", {}),
    ("`examples/crane.py`, CRL", "crane", {}),
    ("`gym:FetchReach-v4`, CRL", "gym_fetch_reach", {}),
    ("`gym:PointMaze_UMaze-v3`, CRL", "gym_point_maze", {}),
    ("`arm_push_easy`, on MuJoCo, CRL; stopped", "arm_push_easy_h200", {}),
    ("`arm_push_easy`, on MuJoCo, CRL; not finished", "arm_push_easy", {"depth": 4}),
    ("`arm_push_easy`, on MuJoCo, CRL; not finished", "arm_push_easy", {"depth": 16}),
)
"""What has been trained to its goals here: task, study, labels."""


def trained_rows() -> list[list[str]]:
    """Return the table of what has been trained: scores of the deepest, and of several agents the least and most."""
    found = []
    for name, study, labels in TRAINED:
        own = [row for row in rows(f"{study}/curves.csv") if has(row, labels)]
        depths = sorted({row["depth"] for row in own})
        ends = {depth: max(row["env_steps"] for row in own if row["depth"] == depth) for depth in depths}
        steps = [f"{ends[depth] / 1e6:.1f}M" for depth in (depths[0], depths[-1])]
        deepest = labels | {"depth": depths[-1]}
        kinds = list(
            dict.fromkeys(
                tuple((key, row[key]) for key in ("agent", "task") if key in row) for row in own if has(row, deepest)
            )
        )
        scores = []
        for metric, digits in (("time_at_goal", 0), ("success_any", 2)):
            before, after = (
                [find(study, metric, **deepest | dict(kind)).mean for kind in kinds] for find in (untrained, score)
            )
            scores.append(f"{_between(before, digits)} → {_between(after, digits)}")
        count = len({row["seed"] for row in own})
        found.append(
            [
                name,
                ", ".join(map(str, depths)),
                " to ".join(dict.fromkeys(steps)),
                str(count),
                machine(study),
                *scores,
            ]
        )
    return [*found, *_trained_on_engines()]


def _trained_on_engines() -> list[list[str]]:
    """Return the rows of `engines/` for the table of what has been trained."""
    found = []
    for engine, _, _, before, after, first, last, *_ in engine_rows():
        end = max(row["env_steps"] for row in rows("engines/curves.csv") if row["engine"] == engine)
        name, steps = f"`reacher` on the engine {engine}, CRL", f"{end / 1e6:.1f}M"
        scores = [f"{before} → {after}", f"{first} → {last}"]
        found.append([name, "4", steps, "1", machine("engines"), *scores])
    return found


def _between(values: Sequence[float], digits: int) -> str:
    return " to ".join(dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values))))


def machine(study: str) -> str:
    """Return what a study ran on, as its systems say."""
    system = data(f"{study}/study.json")["systems"][0]
    cores = f"{system['cpu_cores']} CPU cores"
    device = system["devices"][0]
    return cores if device == "cpu" else f"one {device}, {cores}"
