"""What does a critic learn about a maze from random exploration alone, with shallow and with deep networks?

Discs move through a maze under random forces, from starts everywhere. An agent learns from this recording and collects
nothing itself. The study measures the rank correlation of its value with the shortest path to six goals, and success.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float
from matplotlib.figure import Figure

from kilolayer.agents import agent_spec
from kilolayer.data import ReplayBuffer, Trajectory, empty_buffer, insert
from kilolayer.envs import Environment, MazeTask
from kilolayer.envs.mazes.geodesic import free_points, shortest_paths
from kilolayer.errors import ConfigurationError
from kilolayer.report.style import new_figure, tidy
from kilolayer.runs import Clocks, SeedGroup, TrainConfig
from kilolayer.studies.core.figures import draw_mean_line, having, shades_of, values_of, with_caption, with_legend
from kilolayer.studies.core.mazes import DRAWN, maze_text
from kilolayer.studies.core.registry import register_study
from kilolayer.studies.core.study import Case, Measured, Outcome, Scope, Size, Study
from kilolayer.training import Episodes, Setup, TrainResult, choose_mode, run_episodes, summarize
from kilolayer.training.seed_run import SeedRun
from kilolayer.training.step import init_states

NUM_ENVS, NUM_STEPS = 128, 1000
"""Of the recording: 128,000 env steps."""

HOLD = 10
"""Mean number of steps that a random force lasts."""

GOALS, PER_CELL = 6, 5
"""Goals of the rank correlation, and places along the edge of a cell."""

RECORDING: Mapping[str, Any] = {
    "num_envs": NUM_ENVS,
    "unroll_length": NUM_STEPS,
    "replay_capacity": NUM_STEPS,
    "min_replay": 0,
    "total_env_steps": NUM_ENVS * NUM_STEPS,
    "episode_length": 200,
}
"""Settings of a run that holds one recording and learns from it in one round of gradient steps."""

SETTINGS: Mapping[Size, Mapping[str, Any]] = {
    "cpu": {"width": 64, "batch_size": 256, "gradient_steps_per_unroll": 9000, "num_evals": 6},
    "gpu": {"width": 256, "batch_size": 512, "gradient_steps_per_unroll": 50_000, "num_evals": 10},
    "paper": {"width": 256, "batch_size": 512, "gradient_steps_per_unroll": 50_000, "num_evals": 10},
}
"""The paper has no such experiment; its size is that of one GPU."""

DEPTHS: Mapping[Size, tuple[int, ...]] = {"cpu": (4, 16), "gpu": (4, 16, 64), "paper": (4, 16, 64)}

RANK = "eval/rank_correlation"

METRICS = (RANK, "eval/success_any", "train/critic_loss")

PANELS: Mapping[str, str] = {
    RANK: "rank correlation with the path",
    "eval/success_any": "episodes that reach their goal",
    "train/critic_loss": "loss of the critic",
}


# ---- Training ----------------------------------------------------------------------------------------------


@eqx.filter_jit
def explore(environment: Environment, key: jax.Array) -> Trajectory:
    """Record `NUM_STEPS` steps of `NUM_ENVS` discs under random forces, each of which lasts `HOLD` steps on average."""
    reset_key, *keys = jax.random.split(key, NUM_STEPS + 1)

    def step(carried: Any, key: jax.Array) -> tuple[Any, Trajectory]:
        state, force = carried
        force_key, change_key = jax.random.split(key)
        fresh = jax.random.uniform(force_key, force.shape, minval=-1.0, maxval=1.0)
        force = jnp.where(jax.random.bernoulli(change_key, 1.0 / HOLD, (NUM_ENVS, 1)), fresh, force)
        after, result = environment.step(state, force)
        return (after, force), Trajectory(
            observation=state.observation,
            achieved_goal=state.achieved_goal,
            desired_goal=state.desired_goal,
            action=force,
            terminated=result.terminated,
            done=result.done,
        )

    start = (environment.reset(reset_key, NUM_ENVS), jnp.zeros((NUM_ENVS, environment.action_size)))
    return jax.lax.scan(step, start, jnp.stack(keys))[1]


def record(setup: Setup) -> ReplayBuffer:
    """Return a replay buffer full of random exploration, the same for every depth and seed."""
    environment = setup.environment
    sizes = (environment.observation_size, environment.goal_size, environment.action_size)
    return insert(empty_buffer(NUM_STEPS, NUM_ENVS, *sizes), explore(environment, jax.random.key(0)))


def train_from_recording(
    config: TrainConfig, seeds: Sequence[int], run_dir: Path, *, progress: bool = True
) -> list[TrainResult]:
    """Learn with all seeds from the same recording of random exploration; see `Training`."""
    setup = Setup.build(config)
    group = SeedGroup(run_dir, tuple(seeds), choose_mode("vmap"))
    buffer = record(setup)
    rank_correlations = ranker(setup)
    num_steps = config.gradient_steps_per_unroll // config.num_evals

    @eqx.filter_jit
    def learn(agents: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        def one(agent: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            data = setup.agent.prepare(agent, buffer)
            keys = jax.random.split(key, num_steps)
            agent, metrics = jax.lax.scan(lambda agent, key: setup.agent.update(agent, data, key), agent, keys)
            return agent, {name: values[-200:].mean() for name, values in metrics.items()}

        return jax.vmap(one)(agents, jax.random.split(key, len(seeds)))

    @eqx.filter_jit
    def evaluate(agents: Any, key: jax.Array) -> Episodes:
        def one(agent: Any) -> Episodes:
            return run_episodes(setup.agent, agent, setup.environment, key, num_episodes=config.num_eval_envs)

        return jax.vmap(one)(agents)

    with ExitStack() as stack:
        runs = []
        for directory, seed in zip(group.create(config), group.seeds, strict=True):
            stack.enter_context(directory.lock())
            own = dataclasses.replace(config, seed=seed)
            runs.append(stack.enter_context(closing(SeedRun(directory, own))))
        states = init_states(setup, seeds)
        agents = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.agent for state in states))
        for run in runs:
            run.begin(Clocks(config.total_env_steps, 0))
        began = monotonic()
        for number in range(config.num_evals):
            agents, learnt = learn(agents, jax.random.fold_in(jax.random.key(2), number))
            evaluating = monotonic()
            episodes, ranks = jax.device_get((evaluate(agents, jax.random.key(3)), rank_correlations(agents)))
            now = monotonic()
            for place, run in enumerate(runs):
                row = {
                    "env_steps": config.total_env_steps,
                    "gradient_steps": (number + 1) * num_steps,
                    **summarize(jax.tree.map(lambda leaf, place=place: leaf[place], episodes)),
                    RANK: float(ranks[place]),
                    **{f"train/{name}": float(values[place]) for name, values in learnt.items()},
                    "perf/seconds": now - began,
                    "perf/eval_seconds": now - evaluating,
                }
                run.write(row)
        for place, (run, state) in enumerate(zip(runs, states, strict=True)):
            trained = dataclasses.replace(
                state,
                agent=jax.tree.map(lambda leaf, place=place: leaf[place], agents),
                buffer=buffer,
                gradient_steps=jnp.asarray(config.num_evals * num_steps, jnp.int32),
            )
            run.checkpoints.save(trained, run.last_row)
            run.checkpoints.wait()
        learnt_steps = config.num_evals * num_steps
        return [TrainResult(run.directory, config.total_env_steps, learnt_steps, run.last_row, None) for run in runs]


def ranker(setup: Setup) -> Callable[[Any], Float[np.ndarray, " seeds"]]:
    """Return a function from the stacked agents to the mean rank correlation of each with the paths to some goals.

    The value of a place is its mean over the observations that the task has there.
    """
    task: Any = setup.environment.task
    points = free_points(task.maze, task.clearance, per_cell=PER_CELL)
    seen = jax.vmap(task.observations_at)(points.astype(np.float32))
    centres = task.maze.centres(task.maze.goal_cells)
    goals = centres[np.random.default_rng(0).permutation(len(centres))[:GOALS]]
    paths = [shortest_paths(task.maze, task.clearance, goal, per_cell=PER_CELL) for goal in goals]

    @eqx.filter_jit
    def values(agents: Any, goal: jax.Array) -> jax.Array:
        everywhere = jnp.broadcast_to(goal, (*seen.shape[:2], goal.size))
        return jax.vmap(lambda agent: setup.agent.value(agent, seen, everywhere).mean(axis=1))(agents)

    def correlations(agents: Any) -> Float[np.ndarray, " seeds"]:
        ranks = [
            [scipy.stats.spearmanr(value, -path).statistic for value in np.asarray(values(agents, jnp.float32(goal)))]
            for goal, path in zip(goals, paths, strict=True)
        ]
        return np.mean(ranks, axis=0)

    return correlations


# ---- The study ---------------------------------------------------------------------------------------------


def cases(scope: Scope) -> list[Case]:
    """Return every maze at every depth.

    Raises:
        ConfigurationError: for a task that is not a maze of this study; if the user sets the depth or a setting of the
            recording; if the evaluations do not divide the gradient steps; or if the agent has no value, or learns from
            its own actions only.
    """
    scope.refuse_changes("grow", "collector_depth")
    grid = [
        scope.case({"task": task, "depth": depth}, maze_text(task), depth=depth, **RECORDING)
        for task in scope.tasks
        for depth in DEPTHS[scope.size]
    ]
    for case in grid:
        config = case.config
        setup = Setup.build(config)
        assert isinstance(setup.environment.task, MazeTask)
        if agent_spec(config.agent).on_policy:
            raise ConfigurationError(f"agent={config.agent!r} learns from its own actions only, not from a recording")
        if not setup.agent.has_value:
            raise ConfigurationError(f"agent={config.agent!r} has no value to compare with the paths")
        if config.gradient_steps_per_unroll % config.num_evals:
            raise ConfigurationError(
                f"gradient_steps_per_unroll={config.gradient_steps_per_unroll} must be a multiple of "
                f"num_evals={config.num_evals}"
            )
    return grid


def measure(outcome: Outcome) -> Measured:
    """Return the scores of the last evaluation."""
    last = outcome.rows[-1]
    scores = {name: float(last[name]) for name in METRICS if name in last}
    rows = [
        {"gradient_steps": row["gradient_steps"], **{name.split("/")[1]: row[name] for name in METRICS if name in row}}
        for row in outcome.rows
    ]
    return Measured(scores, rows)


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Draw for each maze the scores over gradient steps, with a curve for each depth."""
    tasks = values_of(outcomes, "task")
    figure = new_figure(3.6 * len(PANELS) + 1.2, 3.0 * len(tasks) + 0.3)
    grid = figure.subplots(len(tasks), len(PANELS), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for axes, (metric, title) in zip(line, PANELS.items(), strict=True):
            for depth, color in shades_of(values_of(outcomes, "depth")).items():
                own = having(outcomes, task=task, depth=depth)
                if own and metric in own[0].rows[-1]:
                    steps = [row["gradient_steps"] for row in own[0].rows]
                    values = np.array([[row[metric] for row in one.rows] for one in own])
                    draw_mean_line(axes, steps, values, label=f"depth {depth}", color=color)
            tidy(axes, f"{task}: {title}", "gradient steps")
    with_legend(figure, grid[0, 0])
    return with_caption(figure, outcomes, "Learnt from random exploration alone; mean and standard error over seeds")


RANDOM_EXPLORATION = register_study(
    Study(
        name="random_exploration",
        question="What does a critic learn about a maze from random exploration alone?",
        tasks=dict.fromkeys(("cpu", "gpu", "paper"), ("hardest", f"{DRAWN}10")),
        settings=SETTINGS,
        cases=cases,
        metrics=METRICS,
        draw=draw,
        measure=measure,
        train=train_from_recording,
        seeds=2,
    )
)
