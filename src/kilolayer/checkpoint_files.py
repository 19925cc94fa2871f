"""The files of the checkpoints of a run: which checkpoints there are, and which is the best. Needs no Orbax.

checkpoints/STEP/           one directory for each whole checkpoint; Orbax renames it to this when all is written
checkpoints/STEP/policy/    the policy by itself: policy.json and policy.safetensors
checkpoints/STEP/metrics/metrics    the evaluation that the checkpoint reached, as JSON
"""

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from kilolayer.errors import RunError

CHECKPOINTS = "checkpoints"
"""Name of the directory of the checkpoints in a run."""

POLICY_ITEM = "policy"
"""Name of the directory of the policy in a checkpoint."""

METRICS_FILE = Path("metrics", "metrics")
"""The evaluation in a checkpoint."""

METADATA_FILE = Path("_CHECKPOINT_METADATA")
"""What Orbax writes about a checkpoint: the times of its save, and the kinds of its parts."""

_METADATA_OBJECTS = ("item_handlers", "metrics", "performance_metrics", "custom_metadata")
"""Fields of the metadata that are objects."""

ATTEMPTS = 10
"""To read a checkpoint of a run that is being trained."""

Result = TypeVar("Result")

_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What damaged files raise when they are read."""


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


UNTRAINED = "untrained"
"""Name of the networks that a run began with, in place of a checkpoint. They need no file."""


def find_step(checkpoints: Path, wanted: int | str | None) -> int:
    """Return the step of a checkpoint.

    Args:
        checkpoints: the directory of the checkpoints of a run.
        wanted: a step, `latest` (as None), or `best`, which is the latest if none was evaluated.

    Raises:
        RunError: if there is no such checkpoint; the line lists all checkpoints.
    """
    steps = steps_in(checkpoints)
    if not steps:
        raise RunError(f"{checkpoints} holds no checkpoint yet")
    if wanted is None or wanted == "latest":
        return steps[-1]
    if wanted == "best":
        found = best_in(checkpoints)
        return steps[-1] if found is None else found
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if wanted not in steps:
        known = ", ".join(map(str, steps))
        raise RunError(f"{checkpoints} has no checkpoint {wanted}; it has {known}, latest, best and {UNTRAINED}")
    return int(wanted)


def best_in(checkpoints: Path) -> int | None:
    """Return the step of the checkpoint with the best evaluation in a directory; None if none was evaluated.

    A checkpoint whose evaluation cannot be read counts as one that was not evaluated.
    """
    scores: dict[int, float | None] = {}
    for step in steps_in(checkpoints):
        with suppress(*_UNREADABLE):
            scores[step] = score(_metrics(checkpoints / str(step)))
    known = {step: value for step, value in scores.items() if value is not None}
    return max(known, key=lambda step: (known[step], step)) if known else None


def read_again_if_rotated(checkpoints: Path, read: Callable[[], Result]) -> Result:
    """Return what `read` finds; call it again if checkpoints came or went while it read, as those of a run that trains.

    Raises:
        RunError: of `read`, if the checkpoints are what they were before.
    """
    for _ in range(ATTEMPTS):
        before = steps_in(checkpoints)
        try:
            return read()
        except RunError:
            if steps_in(checkpoints) == before:
                raise
    return read()


def set_damaged_files_aside(checkpoint: Path) -> None:
    """Rename what Orbax would refuse all checkpoints for: an evaluation or metadata that cannot be read. Warn of it."""
    for file, read in ((METRICS_FILE, lambda data: score(_object(data))), (METADATA_FILE, _metadata)):
        path = checkpoint / file
        try:
            read(path.read_bytes())
        except FileNotFoundError:
            continue
        except _UNREADABLE as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            warnings.warn(
                f"{path} cannot be read ({type(error).__name__}) and is {aside.name} now; checkpoint {checkpoint.name} "
                "is used without it",
                stacklevel=2,
            )


def _object(data: bytes) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError, TypeError, RecursionError: if it is none.
    """
    found = json.loads(data.decode("utf-8"))
    if not isinstance(found, Mapping):
        raise TypeError(f"{type(found).__name__} is not an object")
    return found


def _metadata(data: bytes) -> None:
    """Check the types of the metadata that Orbax writes for a checkpoint.

    Raises:
        ValueError, TypeError, RecursionError: if one differs.
    """
    for name, value in _object(data).items():
        expected = int if name.endswith("_nsecs") else Mapping if name in _METADATA_OBJECTS else object
        if value is not None and not isinstance(value, expected):
            raise TypeError(f"{name} is {type(value).__name__}")


def _metrics(checkpoint: Path) -> Mapping[str, Any]:
    """Return the evaluation of a checkpoint.

    Raises:
        OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError: if it cannot be read.
    """
    return _object((checkpoint / METRICS_FILE).read_bytes())
