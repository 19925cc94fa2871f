"""The results of a sweep as those of a study: each trial is a case, the best first."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from kilolayer.report.style import BLUE, DARK, GREY, colors_of, new_figure, tidy
from kilolayer.studies.core.budgets import METRICS
from kilolayer.studies.core.figures import draw_mean_curve, finish_curves, having, metric_name, values_of
from kilolayer.studies.core.registry import register_made_study
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.study import Case, Outcome, Study

if TYPE_CHECKING:
    from kilolayer.studies.sweep.journal import Journal

NAME = "sweep"

SHOWN = 5
"""The best trials, so many, have curves in colour."""

COLUMNS = 4
"""Panels beside each other."""


@dataclasses.dataclass(frozen=True)
class TrialOutcome(Outcome):
    """The run of one seed of a trial, up to the evaluation at which it was pruned, if it was."""

    evaluations: int | None = None
    """How many of its evaluations count; None: all."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of its metrics.jsonl that count."""
        return self.run.metrics()[: self.evaluations]


def sweep_results(journal: "Journal") -> tuple[Study, list[Outcome]]:
    """Return a sweep so far as a study, and the outcomes of its trials that ended, for `write_results`.

    Trials that failed, or repeat another one, are named in the description alone. Pruned trials end at the evaluation
    at which they were pruned, however far they were trained.
    """
    sweep, found = journal.sweep, []
    about: dict[str, Any] = {**sweep.as_data(), "pruned": [], "failed": {}, "repeated": {}, "unfinished": []}
    for trial in journal.endings():
        if trial.repeats is not None:
            about["repeated"][str(trial.number)] = trial.repeats
        elif trial.failure is not None:
            about["failed"][str(trial.number)] = trial.failure
        elif trial.score is None:
            about["unfinished"].append(trial.number)
        else:
            if trial.evaluations is not None:
                about["pruned"].append(trial.number)
            work = sweep.work(trial.number, trial.parameters, journal.directory)
            place = (trial.evaluations is not None, trial.score if sweep.direction == "minimize" else -trial.score)
            outcomes = [
                TrialOutcome(one.case, one.seed, one.run, last=sweep.last, evaluations=trial.evaluations)
                for one in work.outcomes()
            ]
            found.append((*place, trial.number, outcomes))
    found.sort(key=lambda one: one[:3])
    return sweep_study(about), [outcome for one in found for outcome in one[3]]


def sweep_study(about: Mapping[str, Any]) -> Study:
    """Return a sweep as a study without cases of its own.

    Args:
        about: what is swept, as in sweep.json, and how trials ended.
    """
    metric = about["metric"]
    env = "a maze" if "\n" in about["env"] else about["env"]
    return Study(
        name=NAME,
        question=f"Which settings are best on {env}, by {metric_name(metric)}?",
        tasks={},
        settings={},
        cases=lambda scope: (),
        metrics=tuple(dict.fromkeys((metric, *METRICS))),
        draw=lambda outcomes: draw(outcomes, about),
        about=about,
        last=about["last"],
    )


register_made_study(NAME, lambda description: sweep_study(description["about"]))


def draw(outcomes: Sequence[Outcome], about: Mapping[str, Any]) -> Figure:
    """Draw the score over trials, the curves of the best trials, and the score over each setting."""
    metric, names = about["metric"], list(about["space"])
    panels = 2 + len(names)
    columns = min(panels, COLUMNS)
    rows = -(-panels // columns)
    figure = new_figure(3.5 * columns, 3.0 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    _draw_trials(grid[0], outcomes, about)
    _draw_curves(grid[1], outcomes, metric)
    for axes, name in zip(grid[2:], names, strict=False):
        _draw_setting(axes, outcomes, about, name)
    for axes in grid[panels:]:
        axes.set_axis_off()
    figure.suptitle("Each dot is a trial, the mean over its seeds; hollow: pruned", fontsize=9)
    return figure


def _scores(outcomes: Sequence[Outcome], metric: str) -> list[tuple[Case, float, bool]]:
    """Return each trial with its score, and whether it was trained to its end."""
    return [
        (own[0].case, float(np.mean([one.score(metric) for one in own])), all(one.finished for one in own))
        for own in by_case(outcomes)
    ]


def _draw_trials(axes: Axes, outcomes: Sequence[Outcome], about: Mapping[str, Any]) -> None:
    metric = about["metric"]
    found = sorted(_scores(outcomes, metric), key=lambda one: int(one[0].labels["trial"]))
    numbers = [int(case.labels["trial"]) for case, _, _ in found]
    _draw_dots(axes, numbers, found)
    best = np.maximum if about["direction"] == "maximize" else np.minimum
    complete = [(number, score) for number, (_, score, is_complete) in zip(numbers, found, strict=True) if is_complete]
    if complete:
        places, scores = np.transpose(complete)
        axes.step(places, best.accumulate(scores), where="post", color=DARK, linewidth=1.0, label="best so far")
        axes.legend(fontsize=8, frameon=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes, "trials", "trial", metric_name(metric))


def _draw_curves(axes: Axes, outcomes: Sequence[Outcome], metric: str) -> None:
    trials = values_of(outcomes, "trial")
    for trial in trials[SHOWN:]:
        own = having(outcomes, trial=trial)
        steps = [one.curve(metric) for one in own]
        for places, values in steps:
            axes.plot(places, values, color=GREY, linewidth=0.5, alpha=0.5)
    for trial, color in zip(trials[:SHOWN], colors_of(min(SHOWN, len(trials))), strict=True):
        draw_mean_curve(axes, having(outcomes, trial=trial), metric, label=f"trial {trial}", color=color, band=False)
    axes.legend(fontsize=8, frameon=False)
    finish_curves(axes, f"the best {min(SHOWN, len(trials))}, and all others", metric)


def _draw_setting(axes: Axes, outcomes: Sequence[Outcome], about: Mapping[str, Any], name: str) -> None:
    found, written = _scores(outcomes, about["metric"]), about["space"][name]
    values = [case.labels[name] for case, _, _ in found]
    if isinstance(written, list):
        texts = [str(value) for value in written]
        _draw_dots(axes, [texts.index(str(value)) for value in values], found)
        axes.set_xticks(range(len(texts)), texts, fontsize=8, rotation=20 if max(map(len, texts)) > 8 else 0)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    else:
        _draw_dots(axes, [float(value) for value in values], found)
        if written.get("log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(*_widened(written["low"], written["high"], log=bool(written.get("log"))))
    tidy(axes, name, name, metric_name(about["metric"]))


def _widened(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Return the limits of an axis with some room at both ends."""
    if log:
        room = (high / low) ** 0.05
        return low / room, high * room
    room = 0.05 * (high - low)
    return low - room, high + room


def _draw_dots(axes: Axes, places: Sequence[float], found: Sequence[tuple[Case, float, bool]]) -> None:
    for place, (_, score, is_complete) in zip(places, found, strict=True):
        axes.plot([place], [score], "o", color=BLUE, markersize=5, fillstyle="full" if is_complete else "none")


def best_run(outcomes: Sequence[Outcome]) -> Path | None:
    """Return the first run of the best trial that was trained to its end; None if there is none."""
    return next((one.run.path for one in outcomes if one.finished), None)
