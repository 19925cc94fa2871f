"""Several runs side by side: the same starts and goals, a column for each run."""

import dataclasses
import json

import av
import mujoco
import numpy as np
import pytest
from PIL import Image

from kilolayer.cli.main import main
from kilolayer.envs import make
from kilolayer.errors import ConfigurationError
from kilolayer.render.canvas import RendererError, context_class
from kilolayer.render.scene import Motion, Scene
from kilolayer.render.side_by_side import MOMENTS, Column, check_columns, check_environments, film_length_of
from kilolayer.runs import Checkpoints, RunDirectory
from kilolayer.training import Setup, init_state
from small_runs import small_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that have just begun, of different depth."""
    folder = tmp_path_factory.mktemp("runs")
    for depth in (4, 8):
        config = small_config(depth=depth)
        directory = RunDirectory.create(folder / f"deep-{depth}", config)
        checkpoints = Checkpoints(directory.checkpoints, keep=1)
        checkpoints.save(init_state(Setup.build(config), 0))
        checkpoints.wait()
        checkpoints.close()
    return [str(folder / f"deep-{depth}") for depth in (4, 8)]


@pytest.fixture
def renderer():
    try:
        context_class()
    except RendererError as error:
        pytest.skip(str(error))


def test_a_film_and_a_strip_have_a_column_for_each_run(capsys, runs, renderer):
    options = ["--side-by-side", "--episodes=2", "--resolution=128x96", "--speed=2", "--json", "--quiet"]
    assert main(["render", *runs, *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert list(found["reached"]) == ["depth 4", "depth 8"]
    with Image.open(found["strip"]) as strip:
        assert strip.size[0] > 2 * 320
        assert strip.size[1] > 2 * MOMENTS * 240
        pixels = np.asarray(strip)
    assert np.any(pixels[:, : pixels.shape[1] // 2] != pixels[:, -(pixels.shape[1] // 2) :])
    with av.open(found["film"]) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert frames[0].shape == (96, 256, 3)
    assert len(frames) >= 2 * 20 / 2
    # Both runs begin in the same place, with the same goal, and go different ways.
    left, right = frames[-1][:, :128].astype(int), frames[-1][:, 128:].astype(int)
    assert np.abs(left - right).max() > 50


def scene(name="ant", *, frames=(3, 5), mass=1.0, start=0.0, goal=1.0, control_step=0.05):
    """A bead on a wire in one episode for each number of frames."""
    body = f"<body><joint type='slide'/><geom size='.1' mass='{mass}'/></body>"
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    motions = [
        Motion(np.full((count, 1), start), np.full((count, 3), goal), 0.1, np.zeros(count, bool), 0) for count in frames
    ]
    return Scene(name, model, motions, control_step, flat_goal=True, maze=None)


def test_columns_show_the_same_episodes():
    columns = [Column("a", scene()), Column("b", scene(frames=(4, 2)))]
    check_columns(columns)
    assert film_length_of(columns, speed=1.0) == 4 + 5


@pytest.mark.parametrize(
    ("others", "line"),
    [
        ([scene("humanoid")], "b shows humanoid, not the same episodes of ant"),
        ([scene(mass=2.0)], "b shows ant, not the same episodes"),
        ([scene(control_step=0.02)], "b shows ant, not the same episodes"),
        ([scene(frames=(3,))], "b shows ant, not the same episodes"),
        ([scene(start=0.1)], "b has another start or goal in episode 1"),
        ([scene(goal=2.0)], "b has another start or goal in episode 1"),
        ([], "one run has nothing at its side"),
    ],
)
def test_other_episodes_are_refused(others, line):
    with pytest.raises(ConfigurationError, match=line):
        check_columns([Column("a", scene()), *(Column("b", other) for other in others)])


def test_worlds_are_compared_before_episodes_are_run():
    ant = make("ant")
    check_environments([("mujoco", ant), ("mjx", make("ant", engine="mjx"))])
    for other, line in (
        (make("humanoid"), "b is in humanoid, and a in ant"),
        (make("ant", variant="paper", engine="mujoco"), "b and a are both in ant, but the robot or its surroundings"),
        (dataclasses.replace(ant, episode_length=7), "b and a are both in ant, but the length of an episode differs"),
    ):
        with pytest.raises(ConfigurationError, match=line):
            check_environments([("a", ant), ("b", other)])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{0}", "{1}"], "several runs are rendered with --side-by-side, or one by one"),
        (["{0}", "--side-by-side"], "--side-by-side needs at least two runs"),
        (["{0}", "{1}", "--side-by-side", "--no-video"], "--no-video leaves nothing of --side-by-side"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(capsys, runs, renderer, arguments, line):
    assert main(["render", *(argument.format(*runs) for argument in arguments)]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
