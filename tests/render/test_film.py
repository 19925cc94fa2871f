"""Films and stills: decoded again they show what was recorded, with the goal marked."""

import dataclasses
import os
import subprocess
import sys
import types
from fractions import Fraction
from pathlib import Path

import av
import jax
import mujoco
import numpy as np
import pytest
from PIL import Image
from scenes import point_scene

from kilolayer.envs import make
from kilolayer.envs.drawing import drawable_of
from kilolayer.errors import ConfigurationError
from kilolayer.render import canvas
from kilolayer.render.camera import default_mode, view
from kilolayer.render.canvas import Canvas, RendererError, context_class
from kilolayer.render.film import STILLS, Pace, film_length, write_film, write_still, write_strip
from kilolayer.render.record import pose_at_start
from kilolayer.render.scene import Motion, dress, scene_model
from kilolayer.report import write
from kilolayer.runs import RunDirectory


@pytest.fixture(scope="module")
def renderer():
    try:
        return context_class()
    except RendererError as error:
        pytest.skip(str(error))


def decoded(path) -> tuple[list[np.ndarray], Fraction, str]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.average_rate, stream.codec_context.name


@pytest.mark.usefixtures("renderer")
def test_a_film_has_all_frames_at_their_pace(tmp_path):
    scene = point_scene(frames=13)
    seen = []
    path = write_film(scene, tmp_path / "film.mp4", size=(160, 96), advance=seen.append)
    frames, rate, codec = decoded(path)
    # Poses every 0.1 s: a pose in between for each, or it would stutter. Two episodes of 13.
    assert len(frames) == film_length(scene, 1.0) == sum(seen) == 2 * 25
    assert (rate, codec) == (20, "h264")
    assert {frame.shape for frame in frames} == {(96, 160, 3)}
    assert all(len(np.unique(frame.reshape(-1, 3), axis=0)) > 50 for frame in frames)
    assert np.abs(frames[24].astype(int) - frames[0]).max() > 100  # the disc has moved
    assert np.abs(frames[25].astype(int) - frames[0]).mean() < 3.0  # and is back at its start
    assert os.listdir(tmp_path) == ["film.mp4"]


@pytest.mark.usefixtures("renderer")
def test_a_film_that_fails_leaves_nothing(tmp_path):
    def fail(frames: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(point_scene(), tmp_path / "film.mp4", size=(64, 64), advance=fail)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("control_step", "speed", "fps", "stride"),
    [(0.05, 1, 20, 1), (0.1, 1, 20, Fraction(1, 2)), (0.015, 1, Fraction(200, 9), 3), (0.05, 4, Fraction(80, 3), 3)],
)
def test_time_runs_as_it_did_unless_asked_otherwise(control_step, speed, fps, stride):
    pace = Pace.of(control_step, speed)
    assert (float(pace.fps), pace.stride) == (pytest.approx(float(fps), rel=1e-3), stride)
    seconds_of_film = pace.count(1001) / pace.fps
    assert float(seconds_of_film) == pytest.approx(1000 * control_step / speed, rel=0.01)


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize("flat", [True, False])
def test_the_goal_is_marked_and_turns_green(flat):
    scene = dataclasses.replace(point_scene(), flat_goal=flat)
    motion = scene.motions[0]
    shot = view(scene, motion, "top", aspect=1.0)
    with Canvas(scene, 200, 200) as drawing:
        plain = drawing.draw(motion.qpos[0], shot, 0).astype(int)
        waiting, reached = (
            drawing.draw(motion.qpos[0], shot, 0, goal=motion.goal[0], radius=0.5, success=success).astype(int)
            for success in (False, True)
        )
    marked = np.abs(waiting - plain).max(axis=-1) > 40
    assert 100 < marked.sum() < 0.2 * marked.size
    red, green, _ = (waiting - reached)[marked].mean(axis=0)
    assert red > 30  # orange before, green after
    assert green < 10


@pytest.mark.usefixtures("renderer")
def test_a_strip_is_a_row_of_stills_for_each_episode(tmp_path):
    one, two = (write_strip(point_scene(episodes=count), tmp_path / f"{count}.png") for count in (1, 2))
    with Image.open(one) as first, Image.open(two) as second:
        assert first.width == second.width > STILLS * 300
        assert second.height > 1.9 * first.height


@pytest.mark.parametrize("name", ["ant_u_maze", "arm_push_easy", "half_cheetah"])
def test_a_camera_has_the_robot_and_its_surroundings_in_the_picture(name):
    scene = pose_at_start(make(name, engine="mujoco"), jax.random.key(0))
    motion = scene.motions[0]
    mode = default_mode(scene)
    assert mode == ("top" if "maze" in name else "follow")
    shot = view(scene, motion, mode, aspect=4 / 3)
    a, e = np.radians([shot.azimuth, shot.elevation])
    forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([np.sin(a), -np.cos(a), 0.0])
    points = [scene.place(motion.qpos[0]).xpos[scene.root]]
    if mode == "top" or not scene.robot_moves:
        points.append(motion.goal[0])
    for point in points:
        offset = point - shot.lookat[0]
        depth = shot.distance + offset @ forward
        slope = np.tan(np.radians(scene.model.vis.global_.fovy) / 2)
        assert depth > 0
        assert abs(offset @ right) < depth * slope * 4 / 3
        assert abs(offset @ np.cross(right, forward)) < depth * slope


def test_only_what_has_a_body_can_be_drawn():
    with pytest.raises(ConfigurationError, match="no body to draw"):
        drawable_of(object(), object())


def test_a_robot_is_dressed_but_moves_the_same():
    task = make("arm_reach", engine="mujoco").task
    model = scene_model(task)
    for name in ("nq", "nv", "nu", "nbody", "ngeom"):
        assert getattr(model, name) == getattr(task.model, name)
    np.testing.assert_array_equal(model.body_mass, task.model.body_mass)


def test_there_is_a_sky_above_a_model_without_one():
    """URDF asks the compiler to discard what is only seen."""
    spec = mujoco.MjSpec.from_file(str(Path(__file__).parents[2] / "examples" / "two_links.urdf"))
    dress(spec)
    assert list(spec.compile().tex_type).count(mujoco.mjtTexture.mjTEXTURE_SKYBOX) == 1


@pytest.mark.usefixtures("renderer")
def test_the_report_shows_a_robot_or_says_why_not(tmp_path, monkeypatch):
    environment = make("arm_reach", engine="mujoco")
    directory = RunDirectory(tmp_path)
    (section,) = write._body(directory, environment)
    assert 'src="data:image/png;base64,' in section
    with Image.open(directory.figures / "body.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 500

    def nothing() -> None:
        raise RendererError("pictures cannot be drawn here")

    monkeypatch.setattr(canvas, "context_class", nothing)
    (section,) = write._body(directory, environment)
    assert "No picture: pictures cannot be drawn here." in section
    assert write._body(directory, make("point_u_maze")) == []


@pytest.mark.usefixtures("renderer")
def test_a_still_of_a_pose(tmp_path):
    scene = point_scene()
    motion = scene.motions[0]
    first = Motion(motion.qpos[:1], motion.goal[:1], motion.radius, motion.success[:1], 0)
    path = write_still(dataclasses.replace(scene, motions=[first]), tmp_path / "figures" / "still.png", size=(120, 80))
    with Image.open(path) as picture:
        assert picture.size == (120, 80)


@pytest.mark.skipif(sys.platform != "linux", reason="EGL and OSMesa are Linux's")
def test_without_any_renderer_one_line_says_what_to_install():
    script = """
import os
from kilolayer.errors import RunError
from kilolayer.render import canvas
from kilolayer.render.canvas import context_class
canvas.PROBE = "raise SystemExit(1)"  # as where no driver can be loaded
for asked in ("", "egl"):
    os.environ["MUJOCO_GL"] = asked
    try:
        context_class()
    except RunError as error:
        print(error)
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    neither, asked = result.stdout.splitlines()
    assert "neither EGL nor OSMesa works" in neither
    assert "MUJOCO_GL=egl does not work" in asked
    assert all("apt-get install libegl1" in line for line in (neither, asked))


@pytest.mark.skipif(sys.platform != "linux", reason="EGL and OSMesa are Linux's")
@pytest.mark.parametrize("asked", ["egl", "osmesa"])
def test_pyopengl_follows_what_mujoco_is_asked_for(asked, monkeypatch):
    """MuJoCo refuses to load a renderer if the two differ."""
    other = {"egl": "osmesa", "osmesa": "egl"}[asked]
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setenv(canvas.PLATFORM, other)
    seen = []

    def run(command, *, env, **options):
        seen.append(env[canvas.PLATFORM])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("kilolayer.render.canvas.subprocess.run", run)
    monkeypatch.setattr(
        "kilolayer.render.canvas.importlib.import_module", lambda name: types.SimpleNamespace(GLContext=name)
    )
    assert canvas.context_class.__wrapped__() == f"mujoco.{asked}"
    assert seen == [asked]
    assert os.environ[canvas.PLATFORM] == asked
