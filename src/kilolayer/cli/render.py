"""`kilolayer render`: show how a run's policy behaves, as a film, as stills and as a page in 3-D."""

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

import jax
import mujoco
import tyro

from kilolayer.cli.episodes import EpisodeOptions
from kilolayer.cli.lists import Numbers
from kilolayer.cli.options import parse
from kilolayer.envs import Environment
from kilolayer.envs.gym import GymEnvironment
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.files import json_text
from kilolayer.policies import Policy
from kilolayer.progress import counted
from kilolayer.render.camera import check_camera
from kilolayer.render.canvas import RendererError, context_class
from kilolayer.render.film import STILLS, film_length, write_film, write_strip
from kilolayer.render.python_film import write_python_film
from kilolayer.render.record import model_of, record
from kilolayer.render.scene import GROUPS, Scene
from kilolayer.render.side_by_side import (
    MOMENTS,
    Column,
    check_environments,
    film_length_of,
    write_film_of,
    write_strip_of,
)
from kilolayer.render.viewer.write import not_on_page, write_page
from kilolayer.runs import RunDirectory
from kilolayer.studies.core.compare import labels

SMALLEST, LARGEST = 64, 4096
"""Pixels along an edge of the film."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderOptions(EpisodeOptions):
    """Write a film (MP4), stills (PNG) and an interactive 3-D page (HTML) of evaluation episodes into RUN/render.

    With --side-by-side several runs go through the same starts and goals: a film and stills with a column for each.
    They have to be of the same environment and variant; engines may differ, and then stand above the columns.
    """

    FIRST: ClassVar[tuple[str, ...]] = (
        "episodes",
        "checkpoint",
        "side-by-side",
        "camera",
        "resolution",
        "speed",
        "video",
    )
    """Flags that people use first."""

    others: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ()
    """With --side-by-side: more runs."""
    side_by_side: bool = False
    """Show several runs of the same environment in one film and one strip, in RUN/render of the first."""

    episodes: int = 4
    """Episodes, each with a start and goal of its own."""
    camera: str | None = None
    """Where it is seen from: follow goes along with the robot, top shows the whole maze, and the name of a camera of
    the model looks through that one; None takes what suits."""
    groups: Numbers = tuple(sorted(GROUPS))
    """Groups of geoms to draw, such as 0..5 or 0,2,4. Models often keep what only collides in group 3."""
    resolution: str = "640x480"
    """Width and height of the film in pixels, both even."""
    speed: float = 1.0
    """Times as fast as it happens that the film plays."""
    video: bool = True
    """Draw film and stills; --no-video writes the page alone, which needs no renderer on this machine."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(RenderOptions, arguments, command="render")
    if not (math.isfinite(options.speed) and 0.05 <= options.speed <= 100.0):
        raise ConfigurationError(f"speed={options.speed} must be from 0.05 to 100")
    size, _ = _size(options.resolution), _groups(options.groups)
    if options.video:
        _need_renderer()
    if options.side_by_side:
        return _side_by_side(options, size)
    if options.others:
        raise ConfigurationError(f"{options.others[0]}: several runs are rendered with --side-by-side, or one by one")
    policy, environment = options.load()
    if isinstance(environment, GymEnvironment):
        return _drawn_by_itself(options, policy, environment)
    check_camera(model_of(environment), options.camera)
    scene = _recorded(options, policy, environment)
    paths = _write(scene, options, size)
    reached = sum(motion.time_at_goal > 0 for motion in scene.motions)
    if options.json:
        about = {"env": environment.name, "episodes": options.episodes, "env_steps": policy.env_steps}
        print(json_text(about | {"reached": reached} | {name: str(path) for name, path in paths.items()}))
        return 0
    print(
        f"{environment.name}, checkpoint {policy.env_steps:,}, {options.mode}: "
        f"{reached} of {options.episodes} episodes reach the goal"
    )
    for name, path in paths.items():
        print(f"  {name:5} {path}")
    if "page" in paths and (left_out := not_on_page(scene.model)):
        print(f"the 3-D page does not draw {', '.join(left_out)}; the film does", file=sys.stderr)
    return 0


def _drawn_by_itself(options: RenderOptions, policy: Policy, environment: GymEnvironment) -> int:
    """Write a film of an environment in Python, from the pictures that it draws."""
    if not options.video:
        raise ConfigurationError(
            f"--no-video leaves nothing of {environment.name}: it draws a film, and has no 3-D page"
        )
    if options.camera is not None:
        raise ConfigurationError(
            f"--camera {options.camera} has no effect: {environment.name} draws itself; leave it out"
        )
    film = options.run / "render" / "episodes.mp4"
    total = options.episodes * (environment.episode_length + 1)
    with _writing(film.parent), counted("drawing", total, shown=not options.quiet) as advance:
        reached = write_python_film(
            policy,
            environment,
            film,
            num_episodes=options.episodes,
            seed=options.seed,
            mode=options.mode,
            speed=options.speed,
            advance=advance,
        )
    if options.json:
        about = {"env": environment.name, "episodes": options.episodes, "env_steps": policy.env_steps}
        print(json_text(about | {"reached": reached, "film": str(film)}))
        return 0
    print(
        f"{environment.name}, checkpoint {policy.env_steps:,}, {options.mode}: "
        f"{reached} of {options.episodes} episodes reach the goal"
    )
    print(f"  film  {film}")
    return 0


def _recorded(options: RenderOptions, policy: Policy, environment: Environment) -> Scene:
    """Run the episodes of a run."""
    with counted("running", environment.episode_length, shown=not options.quiet) as advance:
        scene = record(
            policy,
            environment,
            jax.random.key(options.seed),
            num_episodes=options.episodes,
            mode=options.mode,
            advance=advance,
        )
    return dataclasses.replace(scene, groups=_groups(options.groups))


def _side_by_side(options: RenderOptions, size: tuple[int, int]) -> int:
    """Write a film and a strip of several runs."""
    if not options.video:
        raise ConfigurationError("--no-video leaves nothing of --side-by-side, which draws a film and stills")
    if not options.others:
        raise ConfigurationError("--side-by-side needs at least two runs: kilolayer render RUN RUN ... --side-by-side")
    runs = (options.run, *options.others)
    titles = _titles(runs)
    loaded = [dataclasses.replace(options, run=run, others=()).load() for run in runs]
    for _, environment in loaded:
        if isinstance(environment, GymEnvironment):
            raise ConfigurationError(f"{environment.name} draws itself; such runs are rendered one by one")
    check_environments([(title, environment) for title, (_, environment) in zip(titles, loaded, strict=True)])
    check_camera(model_of(loaded[0][1]), options.camera)
    columns = [Column(title, _recorded(options, *one)) for title, one in zip(titles, loaded, strict=True)]
    folder = options.run / "render"
    film, strip = folder / "side-by-side.mp4", folder / "side-by-side.png"
    episodes = options.episodes * len(columns)
    with _writing(folder):
        total = film_length_of(columns, options.speed) + MOMENTS * episodes
        with counted("drawing", total, shown=not options.quiet) as advance:
            write_strip_of(columns, strip, camera=options.camera, advance=advance)
            write_film_of(columns, film, size=size, camera=options.camera, speed=options.speed, advance=advance)
    reached = {title: sum(motion.time_at_goal > 0 for motion in scene.motions) for title, scene in columns}
    if options.json:
        about = {"env": columns[0].scene.name, "episodes": options.episodes, "reached": reached}
        print(json_text(about | {"strip": str(strip), "film": str(film)}))
        return 0
    for title, count in reached.items():
        print(f"{title}: {count} of {options.episodes} episodes reach the goal")
    print(f"  strip {strip}\n  film  {film}")
    return 0


def _titles(runs: Sequence[Path]) -> list[str]:
    """Return what tells each run from the others: the settings that differ, or its path if none does."""
    found = [
        ", ".join(f"{name} {value}" for name, value in one.items() if value != "")
        for one in labels([RunDirectory.open(run).config() for run in runs])
    ]
    return found if len(set(found)) == len(found) else [str(run) for run in runs]


def _size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise ConfigurationError(f"resolution={text!r} is no size; write WIDTHxHEIGHT in pixels, as 640x480")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2 or not all(SMALLEST <= edge <= LARGEST for edge in (width, height)):
        raise ConfigurationError(f"resolution={text} must have even numbers from {SMALLEST} to {LARGEST}")
    return width, height


def _groups(groups: Sequence[int]) -> frozenset[int]:
    """Check groups of geoms."""
    last = mujoco.mjNGROUP - 1
    for group in groups:
        if group > last:
            raise ConfigurationError(f"groups={group} must be a group of geoms, from 0 to {last}: 0..{last} are all")
    return frozenset(groups)


def _need_renderer() -> None:
    """Fail before any episode is run, not after."""
    try:
        context_class()
    except RendererError as error:
        raise RendererError(f"{error}; or take --no-video, which writes the page alone") from None


def _write(scene: Scene, options: RenderOptions, size: tuple[int, int]) -> dict[str, Path]:
    folder = options.run / "render"
    with _writing(folder):
        paths = {"page": write_page(scene, folder / "scene.html", camera=options.camera)}
        if options.video:
            total = film_length(scene, options.speed) + STILLS * len(scene.motions)
            with counted("drawing", total, shown=not options.quiet) as advance:
                paths["strip"] = write_strip(scene, folder / "strip.png", camera=options.camera, advance=advance)
                film = folder / "episodes.mp4"
                paths["film"] = write_film(
                    scene, film, size=size, camera=options.camera, speed=options.speed, advance=advance
                )
    return paths


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make a folder, and say in one line why something cannot be written into it."""
    try:
        folder.mkdir(exist_ok=True)
        yield
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
