"""Films and strips of several runs side by side: the same starts and goals, a column for each run."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from kilolayer.envs import Environment
from kilolayer.errors import ConfigurationError
from kilolayer.render.camera import view
from kilolayer.render.canvas import Canvas
from kilolayer.render.film import (
    INK,
    PAPER,
    STILL_SIZE,
    Pace,
    Pixels,
    describe,
    draw_still,
    encode,
    film_frames,
    font_of,
)
from kilolayer.render.record import model_of
from kilolayer.render.scene import Motion, Scene

MOMENTS = 4
"""Stills of an episode, one below the other."""

GAP, HEAD = 4, 30
"""Pixels between stills, and of a line of text above them."""

NEAR = 1e-4
"""Difference of a joint position at the start, in metres or radians, that is rounding of an engine."""


class Column(NamedTuple):
    """The episodes of one run."""

    title: str
    """What tells the run from the others."""
    scene: Scene


def _bytes(model: mujoco.MjModel) -> bytes:
    """Return everything that a model is made of, but for what a canvas sets to draw it."""
    own = copy.copy(model)
    own.vis.global_.offwidth = own.vis.global_.offheight = 1
    own.vis.map.znear = own.vis.map.zfar = own.stat.extent = 1.0
    buffer = np.empty(mujoco.mj_sizeModel(own), np.uint8)
    mujoco.mj_saveModel(own, None, buffer)
    return buffer.tobytes()


WORLD: dict[str, Callable[[Environment], object]] = {
    "the observation": lambda environment: (environment.observation_size, environment.observation_names),
    "the goal": lambda environment: environment.goal_size,
    "the length of an episode": lambda environment: environment.episode_length,
    "the control step": lambda environment: environment.control_step,
    "the robot or its surroundings": lambda environment: _bytes(model_of(environment)),
}
"""What has to be the same in an environment of the same name, for two runs to be seen in the same episodes."""


def check_environments(environments: Sequence[tuple[str, Environment]]) -> None:
    """Check that runs are of one world, before any episode is run. Engines may differ: the task draws the starts.

    Args:
        environments: the title of each run, and the environment that it is seen in.

    Raises:
        ConfigurationError: if a run differs from the first in its task, its observation or its physics.
    """
    (first_title, first), *others = environments
    for title, other in others:
        if other.name != first.name:
            raise ConfigurationError(f"{title} is in {other.name}, and {first_title} in {first.name}; take one of both")
        for what, read in WORLD.items():
            if read(other) != read(first):
                raise ConfigurationError(
                    f"{title} and {first_title} are both in {first.name}, but {what} differs; "
                    "give runs of the same variant of the task"
                )


def check_columns(columns: Sequence[Column]) -> None:
    """Check that columns show the same episodes.

    Raises:
        ConfigurationError: if there is only one, or the scenes differ in more than the motion.
    """
    if len(columns) < 2:
        raise ConfigurationError("one run has nothing at its side; give at least two")
    first = columns[0].scene
    for title, scene in columns[1:]:
        alike = scene.name == first.name and _bytes(scene.model) == _bytes(first.model)
        if not alike or scene.control_step != first.control_step or len(scene.motions) != len(first.motions):
            raise ConfigurationError(f"{title} shows {scene.name}, not the same episodes of {first.name}")
        for number, (own, others) in enumerate(zip(scene.motions, first.motions, strict=True), start=1):
            if not (np.allclose(own.qpos[0], others.qpos[0], atol=NEAR) and _same_goal(own, others)):
                raise ConfigurationError(f"{title} has another start or goal in episode {number}; record with one key")


def _same_goal(one: Motion, other: Motion) -> bool:
    """Return whether two episodes have the same goal, as far as pictures show it."""
    shown = [
        [each.goal, *((each.ghost.position, each.ghost.quaternion) if each.ghost else (None, None))]
        for each in (one, other)
    ]
    return all(
        (a is None) == (b is None) and (a is None or b is None or np.allclose(a[0], b[0]))
        for a, b in zip(*shown, strict=True)
    )


def film_length_of(columns: Sequence[Column], speed: float) -> int:
    """Return the number of frames of a film at a playback speed relative to real time."""
    pace = Pace.of(columns[0].scene.control_step, speed)
    return sum(pace.count(longest) for longest in _longest(columns))


def write_film_of(
    columns: Sequence[Column],
    path: Path,
    *,
    size: tuple[int, int] = (640, 480),
    camera: str | None = None,
    speed: float = 1.0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write all episodes as an MP4 file. A run whose episode ends before the others' shows its last frame.

    Args:
        columns: the runs, from the left to the right.
        path: the file.
        size: width and height of a column in pixels, both even.
        camera: `follow`, `top` or a camera of the model; None for the default of the scene.
        speed: playback speed relative to real time.
        advance: called after every frame.

    Returns:
        The path.

    Raises:
        ConfigurationError: if the columns do not show the same episodes.
        RendererError: if pictures cannot be drawn on this machine.
    """
    check_columns(columns)
    first = columns[0].scene
    pace = Pace.of(first.control_step, speed)
    width, height = size
    with Canvas(first, width, height) as canvas:  # the models are the same

        def pictures() -> Iterator[Pixels]:
            for number in range(len(first.motions)):
                episodes = [
                    film_frames(canvas, scene, scene.motions[number], title, size=size, camera=camera, pace=pace)
                    for title, scene in columns
                ]
                shown: list[Image.Image] = [next(episode) for episode in episodes]
                for index in itertools.count():
                    if index:
                        following = [next(episode, None) for episode in episodes]
                        if not any(following):
                            break
                        shown = [new or last for new, last in zip(following, shown, strict=True)]
                    yield np.concatenate([np.asarray(picture) for picture in shown], axis=1)

        return encode(pictures(), path, size=(width * len(columns), height), fps=pace.fps, advance=advance)


def write_strip_of(
    columns: Sequence[Column],
    path: Path,
    *,
    camera: str | None = None,
    advance: Callable[[int], None] = lambda stills: None,
) -> Path:
    """Write a PNG file: for each episode, moments from above to below and a column for each run.

    A moment is the same time for all runs; a run whose episode ended before shows its last frame.

    Args:
        columns: the runs, from the left to the right.
        path: the file.
        camera: `follow`, `top` or a camera of the model; None for the default of the scene.
        advance: called after every still.

    Returns:
        The path.

    Raises:
        ConfigurationError: if the columns do not show the same episodes.
        RendererError: if pictures cannot be drawn on this machine.
    """
    check_columns(columns)
    width, height = STILL_SIZE
    block = 2 * HEAD + MOMENTS * (height + GAP)
    sheet = Image.new("RGB", (len(columns) * (width + GAP) + GAP, len(columns[0].scene.motions) * block + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    with Canvas(columns[0].scene, width, height) as canvas:
        for number, longest in enumerate(_longest(columns)):
            top = number * block
            for place, (title, scene) in enumerate(columns):
                motion, left = scene.motions[number], GAP + place * (width + GAP)
                _write(pen, (left + 2, top + HEAD / 2), f"{number + 1}: {title}", size=16)
                _write(pen, (left + 2, top + 1.4 * HEAD), describe(scene, motion), size=12)
                camera_at = view(scene, motion, camera, aspect=width / height)
                for row, moment in enumerate(np.linspace(0, longest - 1, MOMENTS).round().astype(int)):
                    frame = min(int(moment), len(motion.qpos) - 1)
                    still = draw_still(canvas, scene, motion, camera_at, frame)
                    sheet.paste(still, (left, top + 2 * HEAD + row * (height + GAP)))
                    advance(1)
    sheet.save(path)
    return path


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, *, size: int) -> None:
    """Write a line above a column, smaller if it is too long."""
    room = STILL_SIZE[0] - 4
    size = min(size, int(size * room / pen.textlength(text, font=font_of(size))))
    pen.text(place, text, fill=INK, font=font_of(max(size, 6)), anchor="lm")


def _longest(columns: Sequence[Column]) -> list[int]:
    """Return the recorded frames of the longest run in each episode."""
    return [
        max(len(motion.qpos) for motion in motions) for motions in zip(*(c.scene.motions for c in columns), strict=True)
    ]
