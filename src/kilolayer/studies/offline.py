"""Does depth help where nothing is collected: with a contrastive critic, with time, imitation and Q-learning?

Two data sets are made here and learnt from: what random actions, each held for some steps, do in a maze; and the replay
of a run that learnt to hold a goal, from its first random steps to its last. Wang et al. (2025) find that depth hurts
on data sets; they ask it of contrastive RL alone.
"""

import functools
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kilolayer.agents import agent_spec
from kilolayer.data import ReplayBuffer, empty_buffer
from kilolayer.envs import MazeTask, registry
from kilolayer.errors import TrainingError
from kilolayer.runs import TrainConfig, default_config
from kilolayer.studies.core.budgets import METRICS, SHALLOW_AND_DEEP
from kilolayer.studies.core.figures import agents_by_depth
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Outcome, Scope, Size, Study
from kilolayer.training import Setup, train
from kilolayer.training.initial import collected_by, poured
from kilolayer.training.recording import Exploring, record

AGENTS = ("crl", "survival", "gcbc", "gciql")

EPISODES, HOLD = 512, 10
"""Of the explorer of a maze: episodes, and the mean number of steps that an action lasts."""

TEACHER: Mapping[str, Any] = {"total_env_steps": 200_000, "width": 64, "depth": 4, "num_evals": 1, "seed": 0}
"""Settings of the run whose replay is learnt from; all else is the environment's default."""

RINGS: Mapping[str, Any] = {"total_env_steps": 0, "num_envs": 128, "replay_capacity": 1500}
"""Settings of a run that collects nothing and learns from a replay buffer with room for either data set."""

_COMMON: Mapping[str, Any] = {"batch_size": 256, "gradient_steps_per_unroll": 250}
_GPU: Mapping[str, Any] = {
    **_COMMON,
    "width": 256,
    "batch_size": 1024,
    "total_gradient_steps": 100_000,
    "num_evals": 10,
}

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {**_COMMON, "width": 64, "batch_size": 128, "total_gradient_steps": 1500, "num_evals": 3},
    "gpu": _GPU,
    "paper": _GPU,
}
"""The paper's own data sets are not those of this study; its size is that of one GPU."""


# ---- The data sets -----------------------------------------------------------------------------------------


def given(config: TrainConfig) -> ReplayBuffer:
    """Return the data that all agents, depths and seeds of a task learn from."""
    environment = Setup.build(config).environment
    sizes = (environment.observation_size, environment.goal_size, environment.action_size)
    make = wandering if isinstance(environment.task, MazeTask) else replay_of_a_run
    return poured(make(config.env), empty_buffer(config.replay_capacity, config.num_envs, *sizes))


@functools.cache
def wandering(env: str) -> ReplayBuffer:
    """Return what random actions do in a maze, each held for `HOLD` steps in the mean, whatever the goal."""
    return record(env, episodes=EPISODES, how=Exploring("random", hold=HOLD)).to_buffer()


@functools.cache
def replay_of_a_run(env: str) -> ReplayBuffer:
    """Train an agent, and return what it collected on its way."""
    with tempfile.TemporaryDirectory(prefix="kilolayer-") as place:
        result = train(config=default_config(env, **TEACHER), run_dir=Path(place) / "run", progress=False)
        if result.stopped_by is not None:
            raise TrainingError(f"{result.stopped_by.name} stopped the run whose replay is learnt from")
        return collected_by(result.run.path)


# ---- The study ---------------------------------------------------------------------------------------------


def cases(scope: Scope) -> list[Case]:
    """Return every agent on every task at two depths.

    Raises:
        ConfigurationError: if the user changes the depth, the agent, or a setting of the data.
    """
    scope.refuse_changes("grow", "collector_depth", "dataset", "init_from")
    return [
        scope.case(
            {"task": task, "agent": agent, "depth": depth},
            registry.resolve(task),
            agent=agent,
            depth=depth,
            **{agent: dict(agent_spec(agent).offline)},
            **RINGS,
        )
        for task, agent, depth in itertools.product(scope.tasks, AGENTS, SHALLOW_AND_DEEP)
    ]


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw a row for each task and metric and a column for each depth, with a curve for each agent."""
    what = "Learnt from given data alone; thick lines are means, thin lines are seeds"
    return agents_by_depth(outcomes, METRICS, what, clock="gradient steps")


OFFLINE = register_study(
    Study(
        name="offline",
        question="Does depth help where nothing is collected?",
        tasks=dict.fromkeys(("cpu", "gpu", "paper"), ("point_u_maze", "reacher")),
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        data=given,
    )
)
