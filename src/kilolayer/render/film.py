"""Films (MP4), strips of stills and single stills (PNG) of episodes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kilolayer.render.camera import View, view
from kilolayer.render.canvas import REACHED_RGB, WAITING_RGB, Canvas
from kilolayer.render.scene import Motion, Scene

FPS = (20.0, 30.0)
"""Minimum and maximum frames per second of a film."""

STILLS = 6
"""Number of stills of an episode in a strip."""
STILL_SIZE = (320, 240)
INK, PAPER = (38, 42, 49), (255, 255, 255)

Pixels = UInt8[np.ndarray, "height width 3"]


@dataclasses.dataclass(frozen=True)
class Pace:
    """Frame rate of a film, and its frames in terms of the recorded ones."""

    fps: Fraction
    stride: Fraction
    """Recorded frames from one frame of the film to the next; below 1, poses are interpolated."""

    @classmethod
    def of(cls, control_step: float, speed: float) -> "Pace":
        """Return the pace of a film.

        Args:
            control_step: time between recorded frames, in seconds.
            speed: playback speed relative to real time.
        """
        recorded = Fraction(speed / control_step).limit_denominator(1000)
        low, high = FPS
        if recorded > high:
            stride = Fraction(math.ceil(recorded / Fraction(high)))
        else:
            stride = Fraction(1, math.ceil(low / recorded))
        return cls(fps=recorded / stride, stride=stride)

    def count(self, frames: int) -> int:
        """Return the number of frames of the film for an episode with `frames` recorded ones."""
        return int((frames - 1) / self.stride) + 1


def film_length(scene: Scene, speed: float) -> int:
    """Return the number of frames of a film at a playback speed relative to real time."""
    pace = Pace.of(scene.control_step, speed)
    return sum(pace.count(len(motion.qpos)) for motion in scene.motions)


def write_film(
    scene: Scene,
    path: Path,
    *,
    size: tuple[int, int] = (640, 480),
    camera: str | None = None,
    speed: float = 1.0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write all episodes of a scene as an MP4 file (H.264, which browsers play). The file appears when it is complete.

    Args:
        scene: the scene.
        path: the file.
        size: width and height in pixels, both even.
        camera: `follow`, `top` or a camera of the model; None for the default of the scene.
        speed: playback speed relative to real time.
        advance: called after every frame.

    Returns:
        The path.

    Raises:
        RendererError: if pictures cannot be drawn on this machine.
    """
    pace = Pace.of(scene.control_step, speed)
    with Canvas(scene, *size) as canvas:
        pictures = (
            np.asarray(picture)
            for number, motion in enumerate(scene.motions, 1)
            for picture in film_frames(
                canvas,
                scene,
                motion,
                f"{scene.name}  {number}/{len(scene.motions)}",
                size=size,
                camera=camera,
                pace=pace,
            )
        )
        return encode(pictures, path, size=size, fps=pace.fps, advance=advance)


def encode(
    pictures: Iterable[Pixels],
    path: Path,
    *,
    size: tuple[int, int],
    fps: Fraction,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write pictures as an MP4 file, which appears when it is complete, and return its path.

    Args:
        pictures: one after another.
        path: the file.
        size: width and height of every picture in pixels, both even.
        fps: pictures in a second.
        advance: called after every picture.
    """
    import av  # loads the codecs, so import it only here

    partial = path.with_suffix(".partial")
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "19", "preset": "fast"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for pixels in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                advance(1)
            container.mux(stream.encode(None))
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def film_frames(
    canvas: Canvas,
    scene: Scene,
    motion: Motion,
    title: str,
    *,
    size: tuple[int, int],
    camera: str | None,
    pace: Pace,
) -> Iterator[Image.Image]:
    """Draw one frame of an episode after another."""
    width, height = size
    place = view(scene, motion, camera, aspect=width / height)
    last = len(motion.qpos) - 1
    for index in range(pace.count(len(motion.qpos))):
        frame, share = divmod(index * pace.stride, 1)
        frame = int(frame)
        following = min(frame + 1, last)
        qpos = motion.qpos[frame]
        if share:
            qpos = scene.between(qpos, motion.qpos[following], float(share))
            lookat = place.lookat[frame] + float(share) * (place.lookat[following] - place.lookat[frame])
            shot = dataclasses.replace(place, lookat=lookat[None])
        else:
            shot = dataclasses.replace(place, lookat=place.lookat[frame][None])
        picture = Image.fromarray(_draw(canvas, motion, frame, qpos, shot))
        _write_over(picture, motion, frame, title, f"{float(frame + share) * scene.control_step:.1f} s")
        yield picture


def write_strip(
    scene: Scene, path: Path, *, camera: str | None = None, advance: Callable[[int], None] = lambda stills: None
) -> Path:
    """Write a PNG file with a row of stills for each episode.

    Args:
        scene: the scene.
        path: the file.
        camera: `follow`, `top` or a camera of the model; None for the default of the scene.
        advance: called after every still.

    Returns:
        The path.

    Raises:
        RendererError: if pictures cannot be drawn on this machine.
    """
    width, height = STILL_SIZE
    gap, head = 4, 30
    sheet = Image.new("RGB", (STILLS * (width + gap) + gap, len(scene.motions) * (height + head) + gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    with Canvas(scene, width, height) as canvas:
        for row, motion in enumerate(scene.motions):
            place = view(scene, motion, camera, aspect=width / height)
            top = row * (height + head)
            title = f"{scene.name}, episode {row + 1}: {describe(scene, motion)}"
            pen.text((gap + 2, top + head / 2), title, fill=INK, font=font_of(16), anchor="lm")
            for column, frame in enumerate(np.linspace(0, len(motion.qpos) - 1, STILLS).round().astype(int)):
                still = draw_still(canvas, scene, motion, place, int(frame))
                sheet.paste(still, (gap + column * (width + gap), top + head))
                advance(1)
    sheet.save(path)
    return path


def draw_still(canvas: Canvas, scene: Scene, motion: Motion, place: View, frame: int) -> Image.Image:
    """Draw a frame of an episode, with its time."""
    shot = dataclasses.replace(place, lookat=place.lookat[frame][None])
    still = Image.fromarray(_draw(canvas, motion, frame, motion.qpos[frame], shot))
    _write_over(still, motion, frame, "", f"{frame * scene.control_step:.1f} s")
    return still


def write_still(scene: Scene, path: Path, *, size: tuple[int, int] = (880, 495)) -> Path:
    """Write the first frame of a scene, with its goal, as a PNG file.

    Args:
        scene: the scene.
        path: the file.
        size: width and height in pixels.

    Returns:
        The path.

    Raises:
        RendererError: if pictures cannot be drawn on this machine.
    """
    motion = scene.motions[0]
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with Canvas(scene, width, height) as canvas:
        place = view(scene, motion, None, aspect=width / height)
        Image.fromarray(_draw(canvas, motion, 0, motion.qpos[0], place)).save(path)
    return path


def describe(scene: Scene, motion: Motion) -> str:
    """Return the outcome of an episode as text."""
    if not motion.time_at_goal:
        return f"goal not reached in {len(motion.qpos) * scene.control_step:.1f} s"
    first = int(motion.success.argmax()) if motion.success.any() else len(motion.qpos)
    steps = f"{motion.time_at_goal} step{'s' if motion.time_at_goal > 1 else ''}"
    return f"at the goal after {first * scene.control_step:.1f} s, for {steps}"


def _draw(canvas: Canvas, motion: Motion, frame: int, qpos: np.ndarray, shot: View) -> Pixels:
    success = bool(motion.success[frame])
    trail = None if shot.path is None else shot.path[: frame + 1]
    goal = None if motion.goal is None else motion.goal[frame]
    ghost = None if motion.ghost is None else motion.ghost.at(frame)
    return canvas.draw(qpos, shot, 0, goal=goal, radius=motion.radius, ghost=ghost, success=success, trail=trail)


def _write_over(picture: Image.Image, motion: Motion, frame: int, title: str, clock: str) -> None:
    """Write title, time and success into a picture, with a progress bar at its lower edge."""
    width, height = picture.size
    pen = ImageDraw.Draw(picture, "RGBA")
    font = font_of(max(11, round(height / 30)))
    room, line = round(height / 40), max(3, height // 120)
    pen.text((room, room), title, fill=INK, font=font)
    pen.text((room, height - room - line), clock, fill=INK, font=font, anchor="ls")
    if motion.success[frame]:
        text = "at the goal"
        left, up, right, down = pen.textbbox((width - 2 * room, 1.6 * room), text, font=font, anchor="ra")
        box = (left - room, up - 0.6 * room, right + room, down + 0.6 * room)
        pen.rounded_rectangle(box, radius=(box[3] - box[1]) / 2, fill=_rgb(REACHED_RGB))
        pen.text((width - 2 * room, 1.6 * room), text, fill=PAPER, font=font, anchor="ra")
    columns = np.arange(width) * len(motion.success) // width
    for column, at in enumerate(columns):
        if at <= frame:
            colour = _rgb(REACHED_RGB if motion.success[at] else WAITING_RGB)
            pen.line((column, height - line, column, height), fill=colour)


def _rgb(colour: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


@functools.cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib includes."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
