"""Films and strips of several runs side by side: the same starts and goals, a column for each run."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kilolayer.errors import ConfigurationError
from kilolayer.render.camera import CameraMode, default_mode, view
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
from kilolayer.render.scene import Scene

MOMENTS = 4
"""Stills of an episode, one below the other."""

GAP, HEAD = 4, 30
"""Pixels between stills, and of a line of text above them."""


class Column(NamedTuple):
    """The episodes of one run."""

    title: str
    """What tells the run from the others."""
    scene: Scene


def check_columns(columns: Sequence[Column]) -> None:
    """Check that columns show the same episodes.

    Raises:
        ConfigurationError: if there is only one, or the scenes differ in more than the motion.
    """
    if len(columns) < 2:
        raise ConfigurationError("one run has nothing at its side; give at least two")
    first = columns[0].scene
    for title, scene in columns[1:]:
        alike = scene.name == first.name and scene.model.nq == first.model.nq
        if not alike or scene.control_step != first.control_step or len(scene.motions) != len(first.motions):
            raise ConfigurationError(f"{title} shows {scene.name}, not the same episodes of {first.name}")


def film_length_of(columns: Sequence[Column], speed: float) -> int:
    """Return the number of frames of a film at a playback speed relative to real time."""
    pace = Pace.of(columns[0].scene.control_step, speed)
    return sum(pace.count(longest) for longest in _longest(columns))


def write_film_of(
    columns: Sequence[Column],
    path: Path,
    *,
    size: tuple[int, int] = (640, 480),
    camera: CameraMode | None = None,
    speed: float = 1.0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write all episodes as an MP4 file. A run whose episode ends before the others' shows its last frame.

    Args:
        columns: the runs, from the left to the right.
        path: the file.
        size: width and height of a column in pixels, both even.
        camera: `follow` or `top`; None for the default of the scene.
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
    camera: CameraMode | None = None,
    advance: Callable[[int], None] = lambda stills: None,
) -> Path:
    """Write a PNG file: for each episode, moments from above to below and a column for each run.

    A moment is the same time for all runs; a run whose episode ended before shows its last frame.

    Args:
        columns: the runs, from the left to the right.
        path: the file.
        camera: `follow` or `top`; None for the default of the scene.
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
                pen.text((left + 2, top + HEAD / 2), f"{number + 1}: {title}", fill=INK, font=font_of(16), anchor="lm")
                outcome = describe(scene, motion)
                pen.text((left + 2, top + 1.4 * HEAD), outcome, fill=INK, font=font_of(12), anchor="lm")
                camera_at = view(scene, motion, camera or default_mode(scene), aspect=width / height)
                for row, moment in enumerate(np.linspace(0, longest - 1, MOMENTS).round().astype(int)):
                    frame = min(int(moment), len(motion.qpos) - 1)
                    still = draw_still(canvas, scene, motion, camera_at, frame)
                    sheet.paste(still, (left, top + 2 * HEAD + row * (height + GAP)))
                    advance(1)
    sheet.save(path)
    return path


def _longest(columns: Sequence[Column]) -> list[int]:
    """Return the recorded frames of the longest run in each episode."""
    return [
        max(len(motion.qpos) for motion in motions) for motions in zip(*(c.scene.motions for c in columns), strict=True)
    ]
