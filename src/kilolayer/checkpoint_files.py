"""The files of the checkpoints of a run: which checkpoints there are, and which is the best. Needs no Orbax.

checkpoints/STEP/           one directory for each whole checkpoint; Orbax renames it to this when all is written
checkpoints/STEP/policy/    the policy by itself: policy.json and policy.safetensors
checkpoints/STEP/metrics/metrics    the evaluation that the checkpoint reached, as JSON
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.errors import RunError

POLICY_ITEM = "policy"
"""Name of the directory of the policy in a checkpoint."""


def steps_in(checkpoints: Path) -> list[int]:
    """Return the steps of all whole checkpoints in a directory, oldest first."""
    if not checkpoints.is_dir():
        return []
    return sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal() and path.is_dir())


def score(metrics: Mapping[str, Any] | None) -> float | None:
    """Return a number that ranks evaluations by success_any, then by time at goal; None without an evaluation."""
    if not metrics or "eval/success_any" not in metrics:
        return None
    time_share = metrics["eval/time_at_goal"] / max(metrics["eval/episode_length"], 1.0)
    return metrics["eval/success_any"] + 1e-3 * time_share


def best_of(scores: Mapping[int, float | None]) -> int | None:
    """Return the step with the highest score, the latest of equals; None if there is no score."""
    known = {step: value for step, value in scores.items() if value is not None}
    return max(known, key=lambda step: (known[step], step)) if known else None


def choose_step(
    checkpoints: Path, steps: Sequence[int], wanted: int | str | None, best: Callable[[], int | None]
) -> int:
    """Return the step of a checkpoint.

    Args:
        checkpoints: the directory, for errors.
        steps: of all checkpoints, oldest first.
        wanted: a step, `latest` (as None), or `best`.
        best: returns the step of the best checkpoint; None takes the latest.

    Raises:
        RunError: if there is no such checkpoint; the line lists all checkpoints.
    """
    if not steps:
        raise RunError(f"{checkpoints} holds no checkpoint yet")
    if wanted is None or wanted == "latest":
        return steps[-1]
    if wanted == "best":
        found = best()
        return steps[-1] if found is None else found
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if wanted not in steps:
        raise RunError(
            f"{checkpoints} has no checkpoint {wanted}; it has {', '.join(map(str, steps))}, latest and best"
        )
    return int(wanted)


def find_step(checkpoints: Path, wanted: int | str | None) -> int:
    """Return the step of a checkpoint in a directory; see `choose_step`."""
    steps = steps_in(checkpoints)
    return choose_step(
        checkpoints, steps, wanted, lambda: best_of({step: score(_metrics(checkpoints / str(step))) for step in steps})
    )


def _metrics(checkpoint: Path) -> Mapping[str, Any] | None:
    """Return the evaluation of a checkpoint; None if there is none or it cannot be read."""
    try:
        found = json.loads((checkpoint / "metrics" / "metrics").read_text(encoding="utf-8"))
        return found if score(found) is not None else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
