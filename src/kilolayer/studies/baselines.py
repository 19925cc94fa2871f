"""Does depth help contrastive RL, and does it help other methods (Wang et al. 2025, Figure 13)?"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from kilolayer.agents import agent_specs
from kilolayer.studies.core.budgets import METRICS, SETTINGS, SHALLOW_AND_DEEP, TASKS
from kilolayer.studies.core.figures import agents_by_depth
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Study


def cases(scope: Scope) -> list[Case]:
    """Return every agent for continuous actions on every task at every depth, with equal env steps."""
    depths = (4, 8, 16, 32, 64) if scope.size == "paper" else SHALLOW_AND_DEEP
    return [
        scope.case({"task": task, "agent": agent, "depth": depth}, task, agent=agent, depth=depth)
        for task in scope.tasks
        for agent in [spec.name for spec in agent_specs() if not spec.discrete]
        for depth in depths
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task and metric and a column for each depth, with a curve for each agent."""
    return agents_by_depth(
        outcomes, METRICS, "Every agent with equal env steps; thick lines are means, thin lines are seeds"
    )


BASELINES = register_study(
    Study(
        name="baselines",
        question="Does depth help contrastive RL, and does it help the other methods?",
        tasks={**TASKS, "cpu": ("point_u_maze",), "gpu": ("ant_big_maze", "arm_push_easy")},
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
    )
)
