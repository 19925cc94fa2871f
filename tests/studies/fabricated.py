"""Outcomes of studies that nothing was trained for: their scores are given."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kilolayer.runs import RunDirectory
from kilolayer.runs.seed_group import GROUP_FILE, GROUP_FORMAT
from kilolayer.studies.core.study import Case, Outcome

STEPS = (0, 1000, 2000)


def outcome(directory: Path, case: Case, seed: int, score: float, *, seconds: float = 10.0) -> Outcome:
    """Return a run whose evaluations all found `score` as success, and 100 times that as the time at the goal."""
    run = RunDirectory(directory / case.name / f"seed-{seed}")
    run.path.mkdir(parents=True)
    rows = [
        {"env_steps": step, "eval/success_any": score, "eval/time_at_goal": 100.0 * score, "perf/seconds": seconds}
        for step in STEPS
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Outcome(case, seed, run)


def outcomes(
    directory: Path, cases: Sequence[Case], scores: Mapping[str, Sequence[float]], *, seconds: float = 10.0
) -> list[Outcome]:
    """Return a run for each score of each case that is named, seeds from 0, side by side."""
    found = []
    for case in cases:
        own = scores.get(case.name, ())
        found += [outcome(directory, case, seed, score, seconds=seconds) for seed, score in enumerate(own)]
        if own:
            group = {"format": GROUP_FORMAT, "seeds": list(range(len(own))), "mode": "threads"}
            (directory / case.name / GROUP_FILE).write_text(json.dumps(group))
    return found
