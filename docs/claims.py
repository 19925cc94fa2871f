"""What sentences of README and docs claim, from the data under `results/`: the words for their comments."""

from collections.abc import Callable

import numpy as np
from results import (
    LAST,
    Estimate,
    bench,
    cases,
    data,
    difference,
    estimate,
    gain,
    last,
    measured,
    paper_rows,
    rows,
    score,
)
from tables import inside


def best_agent(task: str, depth: int) -> str:
    """Return the agent of the study `baselines` that stays longest."""
    agents = [agent for (agent,) in cases("baselines", "agent")]
    return max(agents, key=lambda agent: score("baselines", "time_at_goal", task=task, agent=agent, depth=depth).mean)


def by_gain(task: str, depth: int) -> list[str]:
    """Return the agents of the study `baselines`, first those to which training adds most steps at the goal."""
    agents = [agent for (agent,) in cases("baselines", "agent")]
    labels = {"task": task, "depth": depth}
    return sorted(agents, key=lambda agent: -gain("baselines", "time_at_goal", agent=agent, **labels).mean)


def within_errors(task: str, find: Callable[..., Estimate]) -> list[bool]:
    """Return for each agent whether depth 16 is ahead of 4 by no more than both errors; `find` is `score` or `gain`."""
    found = []
    for (agent,) in cases("baselines", "agent"):
        shallow, deep = (find("baselines", "time_at_goal", task=task, agent=agent, depth=depth) for depth in (4, 16))
        found.append(deep.mean - shallow.mean <= shallow.error + deep.error)
    return found


def ends_ahead_offline() -> list[tuple[str, str]]:
    """Return task and agent of the study `offline` where depth 16 ends ahead of 4 by more than both errors."""
    found = []
    for task, agent in cases("offline", "task", "agent"):
        labels = {"task": task, "agent": agent}
        shallow, deep = (estimate(last("offline", "time_at_goal", **labels, depth=depth)) for depth in (4, 16))
        if deep.mean - shallow.mean > shallow.error + deep.error:
            found.append((task, agent))
    return found


def gains_of_batch(depth: int) -> float:
    """Return the steps at the goal that batches of 1024 add to those of 64."""
    labels = {"depth": depth}
    return float(difference("batch", "time_at_goal", {"batch_size": 1024}, {"batch_size": 64}, **labels).mean())


def last_over_first(network: str, depth: int) -> float:
    """Return what the last block of a network adds over what the first adds, in the study `norms`."""
    first, last = (
        measured("norms", "residual_norm", network=network, depth=depth, block=b).mean for b in (1, depth // 4)
    )
    return last / first


def least_gradient(network: str, depth: int) -> int:
    """Return the block with the least gradient, from 1."""
    blocks = range(1, depth // 4 + 1)
    return min(blocks, key=lambda b: measured("norms", "gradient_norm", network=network, depth=depth, block=b).mean)


def by_distance(task: str, depth: int) -> list[float]:
    """Return the success of the study `stitching` at each distance, rounded as a reader sees it."""
    distances = sorted({row["distance"] for row in rows("stitching/measured.csv") if row["task"] == task})
    labels = {"task": task, "depth": depth}
    return [round(measured("stitching", "success_any", distance=n, **labels).mean, 2) for n in distances]


def of_floor(form: str, depth: int, batch_size: int) -> float:
    """Return the time of a gradient step over its floor."""
    labels = {"form": form, "depth": depth, "batch_size": batch_size}
    return bench("step", "step_seconds", **labels) / bench("step", "floor_seconds", **labels)


def seeds_step(case: str, mode: str) -> float:
    """Return the seconds of a training step of all seeds in `bench seeds`."""
    (row,) = [row for row in data("seeds/seeds-2cores.json") if row["case"] == case and row["mode"] == mode]
    return row["step_seconds"]


def push(depth: int, metric: str) -> list[float]:
    """Return a metric of `arm_push_easy` on one H200 at each million env steps that both depths have."""
    own = [row for row in rows("arm_push_easy_h200/curves.csv") if row["depth"] == depth]
    return [row[f"eval/{metric}"] for row in own]


def paper_at(task: str, depth: int, million: float) -> float:
    """Return the steps at the goal of the paper's Figure 1 at so many million env steps."""
    curve = [
        (row["env_steps_M"], row["time_at_goal"])
        for row in paper_rows()
        if (row["task"], row["depth"]) == (task, depth)
    ]
    return float(np.interp(million, *zip(*curve, strict=True)))


def paper_end(task: str, depth: int) -> float:
    """Return the mean of the last five points of a curve of the paper's Figure 1."""
    curve = [row["time_at_goal"] for row in paper_rows() if (row["task"], row["depth"]) == (task, depth)]
    return float(np.mean(curve[-LAST:]))


def scaling_gradients(depth: int, scaling: str) -> list[float]:
    """Return the length of the gradient of each block of the actor at the last evaluation of `residual_scaling`."""
    return inside("gradient_norm", depth, scaling, "actor")[-1]
