"""The report of a run: pictures as PNG files, and report.html with all of them inside."""

import json
import os
from pathlib import Path

import jax

from kilolayer.envs import Environment, MazeTask
from kilolayer.errors import RunError
from kilolayer.policies import Policy
from kilolayer.render.canvas import RendererError
from kilolayer.render.film import write_still
from kilolayer.render.record import pose_at_start
from kilolayer.render.scene import has_body
from kilolayer.report import page
from kilolayer.report.diagnostics import draw_diagnostics
from kilolayer.report.learning import draw_curve, draw_learning
from kilolayer.report.maze import (
    ValueMap,
    chosen_goals,
    draw_field,
    draw_paths,
    draw_paths_figure,
    draw_value_maps,
    value_map,
)
from kilolayer.report.style import new_figure, save
from kilolayer.runs import RunDirectory
from kilolayer.training import load_with_setup, run_episodes, summarize
from kilolayer.training.evaluation import METRICS, Episodes

NUM_EPISODES = 64


def write_report(run: str | os.PathLike, *, checkpoint: int | str | None = None) -> Path:
    """Write `report.html` and `figures/*.png` into a run directory.

    Args:
        run: the run directory.
        checkpoint: env steps of the checkpoint to show, `latest` (as None) or `best`.

    Returns:
        The path of report.html.

    Raises:
        RunError: if the directory is not a run, holds no such checkpoint, or cannot be written.
    """
    directory = RunDirectory.open(run)
    policy, setup = load_with_setup(run, checkpoint=checkpoint)
    environment = setup.eval_environment
    episodes = run_episodes(policy.agent, policy.agent_state, environment, jax.random.key(0), num_episodes=NUM_EPISODES)
    try:
        sections = [
            *_body(directory, environment),
            _learning(directory),
            *_diagnostics(directory),
            *_maze(directory, policy, environment, episodes),
            *_settings(directory),
        ]
        metrics = summarize(episodes)
        sections.insert(0, _summary(metrics))
        config = setup.config
        title = f"{setup.environment.name}, {config.agent}, depth {setup.depth}"
        lead = (
            f"{policy.env_steps:,} env steps, width {config.width}, batch {config.batch_size}, seed {config.seed}; "
            f"evaluated in {environment.name}."
        )
        directory.report_file.write_text(page.page(title, lead, sections), encoding="utf-8")
    except OSError as error:
        raise RunError(f"the report cannot be written in {directory.path}: {error.strerror or error}") from error
    return directory.report_file


def _summary(metrics: dict[str, float]) -> str:
    return page.section(
        "What it reaches",
        page.paragraph(
            f"{NUM_EPISODES} episodes with the deterministic policy, each with a start and goal of its own; "
            "mean and standard error."
        ),
        page.table(["metric", "mean", "standard error"], page.metric_rows(metrics, METRICS)),
    )


def _learning(directory: RunDirectory) -> str:
    path = save(draw_learning(directory.metrics()), directory.figures / "learning.png")
    return page.section(
        "Learning curves",
        page.paragraph("Evaluations during training; bands are one standard error over episodes."),
        page.picture(path, "Learning curves over env steps"),
    )


def _diagnostics(directory: RunDirectory) -> list[str]:
    rows = directory.diagnostics()
    if not rows:
        return []
    path = save(draw_diagnostics(rows), directory.figures / "diagnostics.png")
    return [
        page.section(
            "Inside the networks",
            page.paragraph(
                "By residual block, from the first to the last, on a batch from the replay buffer; dark lines are "
                "early in training, light ones late. The length of the stream into a block, of what the block adds to "
                "it, and of the loss's gradient with respect to its parameters; the share of its units that hardly "
                "react to any input. Below: in how many directions the embeddings spread, and how far."
            ),
            page.picture(path, "Norms, gradients and dead units by block; rank and spread of the embeddings"),
        )
    ]


def _body(directory: RunDirectory, environment: Environment) -> list[str]:
    """Show a robot at a start, with its goal; a disc is shown well enough by its paths."""
    if not has_body(environment.task):
        return []
    title = "What it is asked to do"
    try:
        path = write_still(pose_at_start(environment, jax.random.key(0)), directory.figures / "body.png")
    except RendererError as error:
        return [page.section(title, page.paragraph(f"Left out: {error}."))]
    return [
        page.section(
            title,
            page.paragraph("One start of many, and its goal in orange. `kilolayer render` shows whole episodes."),
            page.picture(path, "The robot where an episode begins, and its goal"),
        )
    ]


def _maze(directory: RunDirectory, policy: Policy, environment: Environment, episodes: Episodes) -> list[str]:
    task = environment.task
    if not isinstance(task, MazeTask):
        return []
    maps = []
    if policy.agent.has_value:
        maps = [value_map(policy, environment, goal) for goal in chosen_goals(task.maze)]
    paths = save(draw_paths_figure(task.maze, episodes), directory.figures / "paths.png")
    _overview(directory, task, episodes, maps[:1])
    return [
        page.section(
            "Where it goes",
            page.paragraph(
                "Paths up to the first moment at the goal: blue reaches it, orange does not; stars are goals."
            ),
            page.picture(paths, "Paths of evaluation episodes over the walls"),
        ),
        *_values(directory, task, maps),
    ]


def _values(directory: RunDirectory, task: MazeTask, maps: list[ValueMap]) -> list[str]:
    if not maps:
        return []
    values = save(draw_value_maps(task.maze, maps), directory.figures / "values.png")
    rows = [
        [f"({each.goal[0]:.0f}, {each.goal[1]:.0f})", f"{each.distance.max():.1f} m", f"{each.rank_correlation:.3f}"]
        for each in maps
    ]
    return [
        page.section(
            "What the critic knows",
            page.paragraph(
                "The critic's value of every reachable place, the mean over typical states there, beside the true "
                "shortest-path distance. The rank correlation is 1 where the critic orders all places as the "
                "distance does."
            ),
            page.table(["goal at x, y (m)", "farthest place", "rank correlation"], rows),
            page.picture(values, "The critic's value beside the true distance"),
        ),
    ]


def _overview(directory: RunDirectory, task: MazeTask, episodes: Episodes, maps: list[ValueMap]) -> None:
    """Draw the pictures that tell most in one row: learning, paths, and the values for a goal if there are any."""
    rows, columns = task.maze.walls.shape
    pictures = 2 + len(maps)
    figure = new_figure(4.0 * pictures, 3.6 * max(rows / columns, 0.8) + 0.3)
    curve, paths, *fields = figure.subplots(1, pictures)
    draw_curve(curve, directory.metrics(), "eval/success_any", "episodes that reach the goal")
    draw_paths(paths, task.maze, episodes)
    for field, values in zip(fields, maps, strict=True):
        title = f"critic's value, rank correlation {values.rank_correlation:.3f}"
        draw_field(field, task.maze, values.points, values.value, values.goal, title)
    save(figure, directory.figures / "overview.png")


def _settings(directory: RunDirectory) -> list[str]:
    config = json.dumps(directory.config().to_dict(), indent=2)
    system = directory.system_file.read_text() if directory.system_file.exists() else "not recorded"
    return [page.section("How it was made", page.folded("settings", config), page.folded("versions, hardware", system))]
