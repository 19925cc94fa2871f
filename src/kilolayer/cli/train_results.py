"""What is printed when training ends: of one run, or of several seeds."""

import statistics
import sys
from collections.abc import Sequence
from typing import Any

from kilolayer.cli.output import command, exit_code_stands
from kilolayer.envs.check import ENDS_AT_ONCE
from kilolayer.files import json_text
from kilolayer.training import TrainResult
from kilolayer.training.evaluation import ends_at_once, remarks


def print_outcome(results: Sequence[TrainResult], *, several: bool, as_json: bool) -> int:
    """Print how runs ended, and return the exit code: that of the signal if one ended them.

    Args:
        results: of each seed.
        several: the seeds were asked for together.
        as_json: print JSON.
    """
    stopped_by = results[0].stopped_by
    code = 0 if stopped_by is None else 128 + stopped_by
    with exit_code_stands(code):
        if several:
            _print_results(results, as_json=as_json)
        else:
            _print_result(results[0], as_json=as_json)
    return code


def _as_data(result: TrainResult) -> dict[str, Any]:
    status = "finished" if result.stopped_by is None else "stopped"
    return {"run_dir": str(result.run.path), "status": status, **result.metrics}


def _print_results(results: Sequence[TrainResult], *, as_json: bool) -> None:
    """Print the results of several seeds: a line for each, and the mean."""
    if as_json:
        print(json_text([_as_data(result) for result in results]))
        return
    directory = results[0].run.path.parent
    if results[0].stopped_by is not None:
        print(f"stopped and saved at {results[0].clocks}; resume with: {command('train', '--resume', directory)}")
        return
    success = [result.metrics["eval/success_any"] for result in results]
    for result, value in zip(results, success, strict=True):
        print(f"{result.run.path}: success_any {value:.2f}, time_at_goal {result.metrics['eval/time_at_goal']:.0f}")
        _say_more(result)
    error = statistics.stdev(success) / len(success) ** 0.5 if len(success) > 1 else float("nan")
    print(
        f"finished {results[0].clocks} with each of {len(results)} seeds: success_any "
        f"{statistics.fmean(success):.3f} ± {error:.3f} (mean and standard error over seeds)"
    )


def _print_result(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        print(json_text(_as_data(result)))
        return
    if result.stopped_by is not None:
        print(f"stopped and saved at {result.clocks}; resume with: {command('train', '--resume', result.run.path)}")
        return
    metrics = result.metrics
    print(
        f"finished {result.clocks}: success_any {metrics['eval/success_any']:.2f}, "
        f"time_at_goal {metrics['eval/time_at_goal']:.0f} of {metrics['eval/episode_length']:.0f} steps; "
        f"next: {command('report', result.run.path)}"
    )
    _say_more(result)


def _say_more(result: TrainResult) -> None:
    """Say what the means of a finished run hide, and what makes it worthless."""
    for remark in remarks(result.metrics):
        print(f"{result.run.path}: {remark}")
    if ends_at_once(result.metrics):
        print(f"warning: {result.run.path}: {ENDS_AT_ONCE}", file=sys.stderr)
