"""`kilolayer render` and what it records: the episodes of an evaluation, and nothing of the next."""

import json
import os

import av
import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.envs import make
from kilolayer.render.canvas import RendererError, context_class
from kilolayer.render.record import record
from kilolayer.runs import Checkpoints, Clocks, RunDirectory, default_config
from kilolayer.training import Setup, init_state, policy_of, run_episodes
from small_runs import SMALL, small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has just begun: pictures are the same for a policy that knows nothing."""
    config = small_config()
    directory = RunDirectory.create(tmp_path_factory.mktemp("render") / "run", config)
    checkpoints = Checkpoints(directory.checkpoints, keep=1)
    checkpoints.save(init_state(Setup.build(config), 0))
    checkpoints.wait()
    checkpoints.close()
    return directory.path


@pytest.fixture(scope="module")
def policy(run):
    return kl.load(run)


@pytest.mark.parametrize("length", [7, 60])
def test_a_recording_is_the_evaluation_frame_by_frame(policy, length):
    environment = make("point_u_maze", episode_length=length)
    key = jax.random.key(3)
    steps = []
    scene = record(policy, environment, key, num_episodes=3, advance=steps.append)
    episodes = run_episodes(policy.agent, policy.agent_state, environment, key, num_episodes=3)
    assert sum(steps) == length
    assert scene.control_step == pytest.approx(0.1)
    for number, motion in enumerate(scene.motions):
        # XLA may order the sums of the two programs differently.
        expected = np.asarray(episodes.achieved_goal)[:-1, number]
        np.testing.assert_allclose(motion.qpos, expected, atol=1e-3)
        np.testing.assert_allclose(motion.goal[:, :2], np.tile(episodes.desired_goal[number], (length, 1)))
        assert motion.time_at_goal == episodes.metrics()["time_at_goal"][number]


def test_nothing_of_the_next_episode_is_shown():
    settings = SMALL | {"episode_length": 120, "unroll_length": 10, "replay_capacity": 240, "min_replay": 120}
    config = default_config("humanoid", engine="mujoco", **settings | {"total_env_steps": 960})
    setup = Setup.build(config)
    policy = policy_of(config, setup, init_state(setup, 0).agent, clocks=Clocks())
    scene = record(policy, setup.eval_environment, jax.random.key(0), num_episodes=8, mode="stochastic")
    lengths = [len(motion.qpos) for motion in scene.motions]
    assert min(lengths) < 120  # some fall: their episodes end early
    for motion in scene.motions:
        assert len({tuple(goal) for goal in motion.goal}) == 1
        assert np.abs(np.diff(motion.qpos[:, :2], axis=0)).max(initial=0.0) < 1.0
        assert motion.qpos.shape == (len(motion.success), scene.model.nq)


def test_render_writes_film_strip_and_page(capsys, run):
    try:
        context_class()
    except RendererError as error:
        pytest.skip(str(error))
    options = ["--episodes", "2", "--resolution", "128x96", "--speed", "2", "--camera", "follow", "--json", "--quiet"]
    assert main(["render", str(run), *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert (result["env"], result["episodes"], result["env_steps"]) == ("point_u_maze_eval", 2, 0)
    assert sorted(os.listdir(run / "render")) == ["episodes.mp4", "scene.html", "strip.png"]
    with av.open(result["film"]) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == (128, 96)
        assert sum(1 for _ in film.decode(stream)) == 2 * 20


def test_a_page_alone_needs_no_renderer(capsys, run, monkeypatch):
    def nothing() -> None:
        raise RendererError("pictures cannot be drawn here: neither EGL nor OSMesa works")

    monkeypatch.setattr("kilolayer.cli.render.context_class", nothing)
    assert main(["render", str(run), "--no-video", "--episodes", "1", "--env", "point_big_maze"]) == 0
    out = capsys.readouterr().out
    assert "point_big_maze" in out
    assert str(run / "render" / "scene.html") in out
    assert "episodes.mp4" not in out
    assert main(["render", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kilolayer: error: pictures cannot be drawn here")
    assert "--no-video" in line


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--episodes", "0", "episodes=0 must be at least 1"),
        ("--resolution", "641x480", "even numbers from 64 to 4096"),
        ("--resolution", "large", "WIDTHxHEIGHT"),
        ("--speed", "0", "speed=0.0 must be from 0.05 to 100"),
        ("--speed", "nan", "speed=nan must be from 0.05 to 100"),
        ("--camera", "side", "camera='side' is unknown; there are follow, top; the model has no named cameras"),
        ("--groups", "0..9", "groups=6 must be a group of geoms, from 0 to 5: 0..5 are all"),
        ("--groups", "0-5", "'0-5' is not a number; write such as 0..7"),
        ("--checkpoint", "5", "no checkpoint 5"),
        ("--env", "nowhere", "'nowhere' is unknown"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, run, flag, value, words):
    assert main(["render", str(run), flag, value]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line
