"""Tasks, settings and depths at each size, shared by most studies."""

from collections.abc import Mapping, Sequence
from typing import Any

from kilolayer.runs import GPU
from kilolayer.studies.core.study import Case, Scope, Size

TIME_AT_GOAL, SUCCESS_ANY = "eval/time_at_goal", "eval/success_any"

METRICS = (TIME_AT_GOAL, SUCCESS_ANY)
"""Time at the goal comes first: an untrained agent may touch most goals, but it does not stay."""

TASKS: Mapping[Size, tuple[str, ...]] = {
    "cpu": ("reacher",),
    "gpu": ("ant_big_maze",),
    "paper": ("humanoid", "ant_big_maze", "arm_push_easy"),
}

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {"total_env_steps": 800_000, "width": 64, "num_evals": 10},
    "gpu": GPU,
    "paper": {"variant": "paper"},
}

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": (4, 8, 16, 32, 64), "gpu": (4, 16, 64), "paper": (4, 8, 16, 32, 64)}

SHALLOW_AND_DEEP = (4, 16)

LIMITS = (256, 1024)
"""Depths beyond those of the figures; `Scope.limits` includes them."""


def by_depth(scope: Scope, depths: Sequence[int] = ()) -> list[Case]:
    """Return a case for each task and depth: the grid of several studies, which share its runs.

    Args:
        scope: the size and the user's changes.
        depths: in place of those of the size.

    Raises:
        ConfigurationError: if the user sets the depth, or lets it grow.
    """
    scope.refuse_changes("grow")
    depths = depths or DEPTHS[scope.size] + (LIMITS if scope.limits else ())
    return [
        scope.case({"task": task, "depth": depth}, task, depth=depth, diagnostics=True)
        for task in scope.tasks
        for depth in depths
    ]


def shallow_and_deep(scope: Scope) -> list[Case]:
    """Return a case for each task at two depths, for studies that measure trained networks.

    At the sizes cpu and gpu the runs are shared with `by_depth`; at the paper's size the depths are those that the
    paper compares.
    """
    return by_depth(scope, (4, 64) if scope.size == "paper" else SHALLOW_AND_DEEP)
