"""The report of a run: pictures as PNG files, and report.html, which contains them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from kilolayer.envs import Environment, MazeTask
from kilolayer.envs.drawing import has_body
from kilolayer.errors import RunError
from kilolayer.policies import Policy
from kilolayer.render.canvas import RendererError
from kilolayer.render.film import write_still
from kilolayer.render.record import pose_at_start
from kilolayer.report import page
from kilolayer.report.diagnostics import draw_diagnostics
from kilolayer.report.learning import draw_curve, draw_learning
from kilolayer.report.maze import draw_maps, draw_paths, draw_paths_figure, draw_steps, extent_in_cells
from kilolayer.report.steps_to_goal import StepsMap, can_start_anywhere, steps_map
from kilolayer.report.style import new_figure, save
from kilolayer.report.values import ValueMap, chosen_goals, value_maps
from kilolayer.runs import RunDirectory
from kilolayer.training import load_with_setup, run_episodes, summarize
from kilolayer.training.evaluation import METRICS, Episodes, remarks

NUM_EPISODES = 64


def write_report(run: str | os.PathLike, *, checkpoint: int | str | None = None) -> Path:
    """Write `report.html` and `figures/*.png` into a run directory.

    Args:
        run: the run directory.
        checkpoint: env steps of the checkpoint to show, `latest` (the same as None) or `best`.

    Returns:
        The path of report.html.

    Raises:
        RunError: if the directory is not a run, has no such checkpoint, or cannot be written.
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
        config = directory.config()
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
        "Evaluation",
        page.paragraph(
            f"{NUM_EPISODES} episodes with the deterministic policy, each with its own start and goal: mean and "
            "standard error."
        ),
        page.table(["metric", "mean", "standard error"], page.metric_rows(metrics, METRICS)),
        *(page.paragraph(f"{remark}.") for remark in remarks(metrics)),
    )


def _learning(directory: RunDirectory) -> str:
    path = save(draw_learning(directory.metrics()), directory.figures / "learning.png")
    return page.section(
        "Learning curves",
        page.paragraph("Evaluations during training. Bands: one standard error over episodes."),
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
                "For each residual block, first to last, on a batch from the replay buffer; dark lines are early in "
                "training, light ones late. Shown are the norm of the residual stream before a block, the norm of what "
                "the block adds, the norm of the loss gradient with respect to its parameters, and the share of its "
                "units that hardly react to any input. Below: the effective rank of the embeddings, and their spread."
            ),
            page.picture(path, "Norms, gradients and dead units by block; rank and spread of the embeddings"),
        )
    ]


def _body(directory: RunDirectory, environment: Environment) -> list[str]:
    """Show a robot at a start, with its goal. A disc has no body to show."""
    if not has_body(environment.task, environment.engine):
        return []
    title = "The task"
    try:
        path = write_still(pose_at_start(environment, jax.random.key(0)), directory.figures / "body.png")
    except RendererError as error:
        return [page.section(title, page.paragraph(f"No picture: {error}."))]
    return [
        page.section(
            title,
            page.paragraph("One start, and its goal in orange. `kilolayer render` shows whole episodes."),
            page.picture(path, "The robot at the start of an episode, and its goal"),
        )
    ]


def _maze(directory: RunDirectory, policy: Policy, environment: Environment, episodes: Episodes) -> list[str]:
    task = environment.task
    if not isinstance(task, MazeTask):
        return []
    goals = chosen_goals(task.maze)
    steps = steps_map(policy, environment, goals) if can_start_anywhere(environment) else []
    values = value_maps(policy, environment, goals) if policy.agent.has_value else []
    paths = save(draw_paths_figure(task.maze, episodes), directory.figures / "paths.png")
    _overview(directory, task, episodes, steps[:1])
    return [
        page.section(
            "Paths",
            page.paragraph("Paths until the goal is first reached: blue reaches it, orange does not. Stars are goals."),
            page.picture(paths, "Paths of evaluation episodes over the walls"),
        ),
        *_maps(directory, task, steps, values),
    ]


def _maps(directory: RunDirectory, task: MazeTask, steps: Sequence[StepsMap], values: Sequence[ValueMap]) -> list[str]:
    if not (steps or values):
        return []
    path = save(draw_maps(task.maze, steps, values), directory.figures / "maps.png")
    shown = ["Steps that the agent needs"] * bool(steps) + ["true distance"] + ["critic's value"] * bool(values)
    header, rows, texts = ["goal at x, y (m)", "farthest place"], [], []
    for each in steps or values:
        rows.append([f"({each.goal[0]:.1f}, {each.goal[1]:.1f})", f"{each.distance.max():.1f} m"])
    if steps:
        header += ["places that reach it", "rank correlation of the steps"]
        for row, each in zip(rows, steps, strict=True):
            row += [f"{each.reached:.0%}", f"{each.rank_correlation:.3f}"]
        texts.append(
            "An episode starts at each place, and the agent drives to the goal: the colour is the number of steps that "
            "it needs, orange if it does not arrive. Beside it is the true distance along the shortest path. The rank "
            "correlation is 1 if nearer places always need fewer steps."
        )
    if values:
        header.append("rank correlation of the critic's value")
        for row, value in zip(rows, values, strict=True):
            row.append(f"{value.rank_correlation:.3f}")
        texts.append(
            "The critic's value is the mean over typical states at a place, less the mean value of all cells as goals: "
            "how much nearer than an average cell the critic takes the goal to be, as seen from there. The rank "
            "correlation compares it with minus the distance; an exact critic comes close to 1."
        )
    return [
        page.section(
            "How far each place is",
            *map(page.paragraph, texts),
            page.table(header, rows),
            page.picture(path, f"{', '.join(shown)} of every place"),
        ),
    ]


def _overview(directory: RunDirectory, task: MazeTask, episodes: Episodes, steps: Sequence[StepsMap]) -> None:
    """Draw the main pictures in one row: learning curve, paths, and the steps to one goal if there is a map."""
    rows, columns = extent_in_cells(task.maze)
    pictures = 2 + len(steps)
    figure = new_figure(4.0 * pictures, 3.4 * min(max(rows / columns, 0.8), 1.4) + 0.6)
    curve, paths, *fields = figure.subplots(1, pictures)
    draw_curve(curve, directory.metrics(), "eval/success_any", "episodes that reach the goal")
    draw_paths(paths, task.maze, episodes)
    for axes, each in zip(fields, steps, strict=True):
        figure.colorbar(draw_steps(axes, task.maze, each), ax=axes, shrink=0.8)
    save(figure, directory.figures / "overview.png")


def _settings(directory: RunDirectory) -> list[str]:
    config = json.dumps(directory.config().to_dict(), indent=2)
    system = directory.system_file.read_text(errors="replace") if directory.system_file.exists() else "not recorded"
    return [page.section("Settings", page.folded("settings", config), page.folded("versions and hardware", system))]
