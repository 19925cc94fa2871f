"""The results of a study: its table, the data behind its figure, the figure, and a page with all of them."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.files import csv_text, json_text
from kilolayer.report import page
from kilolayer.report.style import save
from kilolayer.runs.run_directory import write_errors
from kilolayer.studies.core.statistics import (
    LEAST_SEEDS,
    interquartile_mean,
    interval_name,
    interval_or_range,
    mean_and_error,
)
from kilolayer.studies.core.study import Outcome, Study

CURVES, SCORES, MEASURED, DESCRIPTION, PAGE = "curves.csv", "scores.csv", "measured.csv", "study.json", "index.html"


def write_results(
    study: Study, outcomes: Sequence[Outcome], directory: str | os.PathLike, *, command: str = ""
) -> Path:
    """Write the results of a study.

    `curves.csv` has every evaluation of every seed, `scores.csv` the score of every seed, and `measured.csv` what the
    study measured in trained runs, if it does. `study.json` has the table, the settings that all cases share, those in
    which each differs, the systems, dates and command. `NAME.png` is the figure, and `index.html` the page.

    Args:
        study: the study.
        outcomes: of all cases, in the order of the grid.
        directory: to write to.
        command: the command line that made them.

    Returns:
        The path of the figure.

    Raises:
        RunError: if the directory cannot be written.
    """
    directory = Path(directory)
    description = describe(study, outcomes) | {"command": command}
    with write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, rows in data_tables(study, outcomes).items():
            (directory / name).write_text(csv_text(rows), newline="")
        (directory / DESCRIPTION).write_text(json_text(description) + "\n")
        figure = save(study.draw(outcomes), directory / f"{study.name}.png")
        (directory / PAGE).write_text(_page(study, outcomes, description, figure, command), encoding="utf-8")
    return figure


def data_tables(study: Study, outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each data file. Each row begins with the labels of its case and the seed."""
    tables: dict[str, list[dict[str, Any]]] = {CURVES: [], SCORES: [], MEASURED: []}
    curves = [metric for metric in study.metrics if any(outcome.curve(metric)[0].size for outcome in outcomes)]
    columns = ("env_steps", "gradient_steps", *curves, "perf/seconds")
    known_untrained = [
        metric for metric in study.metrics if not all(np.isnan(outcome.untrained(metric)) for outcome in outcomes)
    ]
    for outcome in outcomes:
        labels = {**outcome.case.labels, "seed": outcome.seed}
        tables[CURVES] += [labels | {name: row.get(name) for name in columns} for row in outcome.rows]
        scores = {metric: outcome.score(metric) for metric in study.metrics}
        untrained = {f"{metric}_untrained": outcome.untrained(metric) for metric in known_untrained}
        tables[SCORES].append(labels | scores | untrained | {"seconds": outcome.seconds})
        tables[MEASURED] += [labels | dict(row) for row in outcome.measured.rows]
    return {name: rows for name, rows in tables.items() if rows}


def table(study: Study, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each case: its labels, the statistics of each metric over seeds, seconds, and number of seeds.

    METRIC is the mean, METRIC_stderr its standard error, METRIC_iqm the interquartile mean, METRIC_low and METRIC_high
    what METRIC_interval names: its 95 % interval by the bootstrap, or below six seeds their range. Where the score of
    some seeds is NaN, mean and error are those of the other seeds, METRIC_seeds is their number, and there is no
    interval. METRIC_untrained and METRIC_untrained_stderr are those of the networks before training, where they are
    known. Where some runs are not at their end, `unfinished` is their number.
    """
    rows = []
    for own in by_case(outcomes):
        row: dict[str, Any] = dict(own[0].case.labels)
        for metric in study.metrics:
            scores = np.array([outcome.score(metric) for outcome in own])
            known = scores[~np.isnan(scores)]
            row[metric], row[f"{metric}_stderr"] = mean_and_error(known) if known.size else (np.nan, np.nan)
            if known.size < scores.size:
                row[f"{metric}_seeds"] = known.size
            else:
                row[f"{metric}_iqm"] = float(interquartile_mean(scores[:, None]))
                row[f"{metric}_low"], row[f"{metric}_high"] = interval_or_range(scores)
                row[f"{metric}_interval"] = interval_name([scores.size])
            untrained = np.array([outcome.untrained(metric) for outcome in own])
            untrained = untrained[~np.isnan(untrained)]
            if untrained.size:
                row[f"{metric}_untrained"], row[f"{metric}_untrained_stderr"] = mean_and_error(untrained)
        row |= {"seconds": round(max(outcome.seconds for outcome in own), 1), "seeds": len(own)}
        unfinished = sum(not outcome.finished for outcome in own)
        rows.append(row | ({"unfinished": unfinished} if unfinished else {}))
    return rows


def by_case(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Return the outcomes grouped by case, in their order."""
    found: dict[tuple, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(tuple(outcome.case.labels.items()), []).append(outcome)
    return list(found.values())


def describe(study: Study, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the table, settings, systems and dates of a study as plain data."""
    settings = {outcome.case.name: outcome.case.settings for outcome in outcomes}
    systems = [system for outcome in outcomes for system in outcome.systems]
    common = _common(list(settings.values()))
    return {
        "study": study.name,
        "question": study.question,
        "seeds": sorted({outcome.seed for outcome in outcomes}),
        "table": table(study, outcomes),
        "settings": common,
        "cases": {
            case: {name: value for name, value in own.items() if name not in common} for case, own in settings.items()
        },
        "systems": _distinct(systems),
        **({"about": dict(study.about)} if study.about else {}),
        "dates": sorted({str(system["started"]).partition("T")[0] for system in systems if "started" in system}),
    }


def label_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the names of all labels; some cases may lack some labels."""
    return list(dict.fromkeys(label for outcome in outcomes for label in outcome.case.labels))


def score_text(row: Mapping[str, Any], metric: str) -> str:
    """Return mean and standard error of a row of the table as text, with the number of seeds if some have no score."""
    missing = f" ({row[f'{metric}_seeds']} of {row['seeds']} seeds)" if row.get(f"{metric}_seeds") else ""
    return _with_error(row[metric], row[f"{metric}_stderr"]) + missing


def untrained_text(row: Mapping[str, Any], metric: str) -> str:
    """Return the same of the networks before training; empty if it is not known."""
    name = f"{metric}_untrained"
    return _with_error(row[name], row[f"{name}_stderr"]) if name in row else ""


def has_untrained(row: Mapping[str, Any], metrics: Iterable[str]) -> bool:
    """Return whether a row of the table knows a score of the networks before training."""
    return any(f"{metric}_untrained" in row for metric in metrics)


def _with_error(value: float, error: float) -> str:
    return number_text(value) + ("" if np.isnan(error) else f" ± {number_text(error, like=value)}")


def seeds_text(row: Mapping[str, Any]) -> str:
    """Return the number of seeds of a row of the table as text, and how many of them are not at their end."""
    return str(row["seeds"]) + (f" ({row['unfinished']} unfinished)" if "unfinished" in row else "")


def number_text(value: float, *, like: float | None = None) -> str:
    """Return a number as text, with as many digits as suit its size, or the size of `like`; a dash for NaN."""
    size = abs(value if like is None else like)
    digits = 0 if size >= 1000.0 else 1 if size >= 10.0 else 2
    return "-" if np.isnan(value) else f"{value:,.{digits}f}"


def short_name(metric: str) -> str:
    """Return the last part of a metric's name: `success_any` for `eval/success_any`."""
    return metric.split("/")[-1]


def _page(study: Study, outcomes: Sequence[Outcome], description: Mapping[str, Any], figure: Path, command: str) -> str:
    labels = label_names(outcomes)
    metrics = [short_name(metric) for metric in study.metrics]
    rows = []
    for row in description["table"]:
        texts = [text for metric in study.metrics for text in (score_text(row, metric), _interval_text(row, metric))]
        rows.append([_case_name(row, labels), *texts, f"{row['seconds']:.0f}", seeds_text(row)])
        if has_untrained(row, study.metrics):
            before = [text for metric in study.metrics for text in (untrained_text(row, metric), "")]
            rows.append([f"{_case_name(row, labels)}, untrained", *before, "", ""])
    interval = f"IQM, {interval_name(row['seeds'] for row in description['table'])}"
    header = [", ".join(labels), *(text for metric in metrics for text in (metric, interval)), "seconds", "seeds"]
    seeds = [
        [own[0].case.name, *("; ".join(number_text(one.score(metric)) for one in own) for metric in study.metrics)]
        for own in by_case(outcomes)
    ]
    files = [f'<a href="{name}">{name}</a>' for name in (*data_tables(study, outcomes), DESCRIPTION, figure.name)]
    counts = sorted({row["seeds"] for row in description["table"]})
    asked = [page.folded("command", command)] if command else []
    return page.page(
        f"{study.name}: {study.question}",
        f"{len(by_case(outcomes))} cases, {' to '.join(map(str, counts[:1] + counts[1:][-1:]))} seeds each.",
        [
            page.section("Figure", page.picture(figure, study.question), *asked),
            page.section(
                "Scores",
                page.paragraph(
                    "Mean and standard error over seeds; interquartile mean and its 95 % interval by the stratified "
                    f"bootstrap, or below {LEAST_SEEDS} seeds their range. The score of a run is the mean of its last "
                    f"{study.last} evaluations, or what the study measured in the trained run. Rows named untrained "
                    "have the scores of the networks that the runs began with."
                ),
                page.table(header, rows),
            ),
            page.section("Every seed", page.table(["case", *metrics], seeds)),
            page.section("Data", f"<p>{', '.join(files)}</p>"),
            page.section(
                "How it was made",
                page.folded("settings of all cases", json.dumps(description["settings"], indent=1)),
                page.folded("settings in which each case differs", json.dumps(description["cases"], indent=1)),
                *([page.folded("what was asked", json.dumps(study.about, indent=1))] if study.about else []),
                page.folded("versions, hardware", json.dumps(description["systems"], indent=1)),
            ),
        ],
    )


def _case_name(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    return " ".join(str(row[label]) for label in labels if label in row)


def _interval_text(row: Mapping[str, Any], metric: str) -> str:
    if f"{metric}_iqm" not in row:
        return ""
    middle, low, high = (number_text(row[f"{metric}_{name}"], like=row[metric]) for name in ("iqm", "low", "high"))
    return f"{middle} [{low}, {high}]"


def _common(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that all cases have with the same value."""
    first, *others = settings
    return {name: value for name, value in first.items() if all(name in own and own[name] == value for own in others)}


def _without_folder(imported: Any) -> Any:
    """Return what was imported, a file by its name: folders are those of one machine."""
    if isinstance(imported, Mapping) and "file" in imported:
        return {**imported, "file": Path(str(imported["file"])).name}
    return imported


def _distinct(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the distinct systems, without their start times, and with the names of imported files without folders."""
    found: list[dict[str, Any]] = []
    for item in items:
        system = {name: value for name, value in item.items() if name != "started"}
        if "imported" in system:
            system["imported"] = [_without_folder(each) for each in system["imported"]]
        if system not in found:
            found.append(system)
    return found
