"""Compare any runs. Runs that differ only in their seed form a case; other settings that differ are its labels."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kilolayer.errors import ConfigurationError, RunError, nearest_names
from kilolayer.report.style import PALETTE, colors_of, new_figure
from kilolayer.runs import Clocks, RunDirectory, TrainConfig, default_config
from kilolayer.studies.core.budgets import METRICS
from kilolayer.studies.core.figures import UNTRAINED, draw_mean_curve, finish_curves
from kilolayer.studies.core.registry import register_made_study
from kilolayer.studies.core.results import by_case
from kilolayer.studies.core.study import Case, Label, Outcome, Study, by_full_name, decisive_settings

NAME = "compare"

FIRST = ("agent", "env", "depth")
"""Labels that come first, and the labels of a single case."""

BASIS = (*FIRST, "variant", "grow")
"""Settings that the defaults of all other settings depend on."""

MOST_DIRECTORIES = 20_000
"""Directories that are looked into for runs below a path: those of runs do not count below them."""

OF_THE_TASK = ("eval_env", "engine", "episode_length")
"""Settings that come with an environment, even if it is not registered here."""


def compare(
    paths: Sequence[str | os.PathLike],
    *,
    metrics: Sequence[str] = METRICS,
    log: Callable[[str], object] = id,
) -> tuple[Study, list[Outcome]]:
    """Return a study made of existing runs, and its outcomes, for `write_results`.

    Args:
        paths: run directories, or directories with runs anywhere below.
        metrics: names in metrics.jsonl, with or without `eval/`.
        log: called with a line that readers of the figure should know.

    Raises:
        RunError: if there is no run, a run has no evaluations or cannot be read, or a case has the same seed twice.
        ConfigurationError: for a metric that no run has.
    """
    outcomes = group(find_runs(paths))
    names = tuple(_known_metric(metric, outcomes) for metric in metrics)
    if unfinished := [one for one in outcomes if not one.finished]:
        first = unfinished[0]
        at, end = Clocks.of_row(first.rows[-1]), first.case.config.timetable.end
        more = f" (and {len(unfinished) - 1} more)" if len(unfinished) > 1 else ""
        log(f"{first.run.path} is not at its end: {at} of {end}{more}")
    cases = [own[0].case for own in by_case(outcomes)]
    if len(cases) > len(PALETTE):
        log(f"{len(cases)} cases are more than the {len(PALETTE)} colours that are easy to distinguish")
    return _study(f"{len(outcomes)} runs compared", cases, names), outcomes


def _study(question: str, cases: Sequence[Case], metrics: tuple[str, ...]) -> Study:
    return Study(
        name=NAME,
        question=question,
        tasks={},
        settings={},
        cases=lambda scope: cases,
        metrics=metrics,
        draw=lambda found: draw(found, metrics),
    )


def _from_description(description: Mapping[str, Any]) -> Study:
    """Return the study that `compare` made, without its cases."""
    metrics = tuple(name.removesuffix("_stderr") for name in description["table"][0] if name.endswith("_stderr"))
    return _study(description["question"], (), tuple(name for name in metrics if not name.endswith("_untrained")))


register_made_study(NAME, _from_description)


def find_runs(paths: Sequence[str | os.PathLike]) -> list[RunDirectory]:
    """Return the runs at these paths and below them, each once.

    Raises:
        RunError: if there is no path, or no run at a path.
    """
    if not paths:
        raise RunError("there is nothing to compare; give run directories, or directories with runs below")
    found: dict[Path, RunDirectory] = {}
    for path in map(Path, paths):
        runs = list(_runs_below(path))
        if not runs:
            what = "there are no runs in it" if path.is_dir() else "there is no such directory"
            raise RunError(f"{path} cannot be compared: {what}")
        for run in runs:
            found.setdefault(run.path.resolve(), run)
    return list(found.values())


def group(runs: Sequence[RunDirectory]) -> list[Outcome]:
    """Return runs as outcomes, sorted by the labels of their cases, then by seed.

    Raises:
        RunError: if a run has no evaluations or cannot be read, or two runs have the same settings and seed.
    """
    groups: dict[str, dict[int, tuple[RunDirectory, TrainConfig]]] = {}
    for run in runs:
        config = run.config()
        if not run.metrics():
            raise RunError(f"{run.path} has no evaluations yet")
        seeds = groups.setdefault(json.dumps(_settings(config), sort_keys=True), {})
        if config.seed in seeds:
            other = seeds[config.seed][0]
            raise RunError(f"{other.path} and {run.path} have the same settings and seed {config.seed}; leave one out")
        seeds[config.seed] = run, config
    configs = [next(iter(seeds.values()))[1] for seeds in groups.values()]
    cases = [Case(own, config) for own, config in zip(labels(configs), configs, strict=True)]
    together = sorted(zip(cases, groups.values(), strict=True), key=lambda pair: _place(pair[0].labels.values()))
    return [Outcome(case, seed, seeds[seed][0]) for case, seeds in together for seed in sorted(seeds)]


def labels(configs: Sequence[TrainConfig]) -> list[Mapping[str, Label]]:
    """Return for each configuration the settings that differ, by full names such as `crl.energy`.

    Settings that follow from others are left out: those with the default of agent, environment, depth and variant in
    all configurations, and those that differ with the environment alone.
    """
    flat = [by_full_name(_settings(config)) for config in configs]
    every = dict.fromkeys(name for one in flat for name in one)  # agents and torsos have settings of their own
    differing = [name for name in every if any(one.get(name) != flat[0].get(name) for one in flat)]
    defaults = [_defaults(config) for config in configs]
    chosen = [
        name
        for name in differing
        if name in BASIS
        or (
            any(one.get(name) != own.get(name) for one, own in zip(flat, defaults, strict=True))
            and not _is_by_task(name, flat)
        )
    ]
    names = sorted(chosen or FIRST, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    return [{name: _label(one.get(name, "")) for name in names} for one in flat]


def draw(outcomes: Sequence[Outcome], metrics: Sequence[str] = METRICS) -> Figure:
    """Draw a panel for each metric, a curve for each case, named by as few of its labels as tell the cases apart."""
    cases = by_case(outcomes)
    titles = _titles([own[0].case.labels for own in cases])
    longest = max(map(len, titles))
    figure = new_figure(4.2 * len(metrics) + 0.6 + 0.07 * longest, max(3.4, 0.6 + 0.19 * len(cases)))
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for own, title, color in zip(cases, titles, colors_of(len(cases)), strict=True):
            having = [one for one in own if one.curve(metric)[0].size]
            draw_mean_curve(axes, having, metric, label=title, color=color)
        finish_curves(axes, metric, metric)
    lines = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(f"Mean over seeds and its standard error; thin lines are seeds; {UNTRAINED}", fontsize=9)
    return figure


def _runs_below(path: Path) -> Iterator[RunDirectory]:
    if "\0" in str(path):  # no file can have such a name
        return
    for count, (directory, names, files) in enumerate(os.walk(path)):
        if count == MOST_DIRECTORIES:
            raise RunError(
                f"{path} holds more than {MOST_DIRECTORIES:,} directories to look for runs in; give one nearer to them"
            )
        if "config.json" in files:
            names.clear()
            yield RunDirectory(directory)
        names.sort()


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that metrics.jsonl depends on, except the seed. Diagnostics are written to another file."""
    return {name: value for name, value in decisive_settings(config).items() if name != "diagnostics"}


def _defaults(config: TrainConfig) -> dict[str, Any]:
    """Return the default settings for the agent, environment, depth and variant of a run; none if it is unknown."""
    basis = {name: getattr(config, name) for name in BASIS if name != "env"}
    try:
        return by_full_name(_settings(default_config(config.env, **basis)))
    except ConfigurationError:
        return {}


def _is_by_task(name: str, flat: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a setting comes with the environment and has a single value for each environment."""
    values = {(one["env"], one["variant"], one[name]) for one in flat} if name in OF_THE_TASK else ()
    return 0 < len(values) == len({(one["env"], one["variant"]) for one in flat})


def _label(value: Any) -> Label:
    if isinstance(value, str) and "\n" in value:
        return f"maze-{hashlib.sha256(value.encode()).hexdigest()[:6]}"
    if isinstance(value, Mapping) and {"run", "checkpoint"} <= set(value):  # the teacher of a student
        return f"{value['run']} {value['checkpoint'] or ''}".rstrip()
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else str(value)


def _titles(cases: Sequence[Mapping[str, Label]]) -> list[str]:
    """Return a title for each case. Labels that tell no more cases apart than those before them are left out."""
    names: list[str] = []
    for name in cases[0]:
        if len({_values(case, [*names, name]) for case in cases}) > len({_values(case, names) for case in cases}):
            names.append(name)
    return [
        ", ".join(
            str(case[name]) if name in ("agent", "env") else f"{name} {case[name]}"
            for name in names or case
            if case[name] != ""
        )
        for case in cases
    ]


def _values(labels: Mapping[str, Label], names: Sequence[str]) -> tuple[Label, ...]:
    return tuple(labels[name] for name in names)


def _place(values: Any) -> list[tuple[bool, Any]]:
    """Return a sort key for labels: numbers by size, then text."""
    return [(isinstance(value, str), value) for value in values]


def _known_metric(metric: str, outcomes: Sequence[Outcome]) -> str:
    """Return the full name of a metric.

    Raises:
        ConfigurationError: if no run has it.
    """
    known = dict.fromkeys(
        name for one in outcomes for row in one.rows for name, value in row.items() if isinstance(value, int | float)
    )
    for name in (metric, f"eval/{metric}"):
        if name in known:
            return name
    raise ConfigurationError(f"metrics={metric!r} is in none of the runs; {nearest_names(metric, known)}")
