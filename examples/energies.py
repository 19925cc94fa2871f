"""A study of your own: which energy should contrastive RL compare its embeddings with?

kilolayer --import examples/energies.py study energies --jobs 2
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from kilolayer.report.style import new_figure, tidy
from kilolayer.studies import Case, Outcome, Scope, Study, register_study
from kilolayer.studies.core.figures import draw_bars, having, metric_name, values_of, with_caption

METRIC = "eval/success_any"


def cases(scope: Scope) -> list[Case]:
    """Return the grid: each case has labels, a task, and settings."""
    return [
        scope.case({"task": task, "energy": energy}, task, crl={"energy": energy})
        for task in scope.tasks
        for energy in ("l2", "dot", "cosine")
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a panel for each task with a bar for each energy. This also works while cases are missing."""
    tasks = values_of(outcomes, "task")
    figure = new_figure(4.0 * len(tasks), 2.4)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        own = having(outcomes, task=task)
        draw_bars(axes, {str(energy): having(own, energy=energy) for energy in values_of(own, "energy")}, METRIC)
        tidy(axes, str(task), metric_name(METRIC))
    return with_caption(figure, outcomes, "Interquartile mean, its 95 % interval, and every seed")


register_study(
    Study(
        name="energies",
        question="Which energy suits contrastive RL?",
        tasks={"cpu": ("point_u_maze",), "gpu": ("ant_big_maze",), "paper": ("humanoid", "ant_big_maze")},
        settings={
            "cpu": {"total_env_steps": 800_000, "width": 64, "num_evals": 10},
            "gpu": {"total_env_steps": 10_000_000, "num_evals": 20},
            "paper": {"variant": "paper"},
        },
        cases=cases,
        metrics=(METRIC, "eval/time_at_goal"),
        draw=draw,
    )
)
