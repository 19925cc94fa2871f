"""Pictures of environments that are stepped one by one, and the window that shows them."""

import contextlib

import gymnasium
import numpy as np
import pytest

import kilolayer
import kilolayer.gym
from kilolayer.render import live
from kilolayer.render.canvas import RendererError, context_class


@pytest.fixture
def reacher():
    env = kilolayer.gym.make_env("reacher", render_mode="rgb_array", width=64, height=48)
    yield env
    env.close()


def test_a_picture_shows_the_pose(reacher):
    try:
        context_class()
    except RendererError as error:
        pytest.skip(str(error))
    with pytest.raises(gymnasium.error.ResetNeeded):
        reacher.render()
    reacher.reset(seed=0)
    first = reacher.render()
    assert (first.shape, first.dtype) == ((48, 64, 3), np.uint8)
    for _ in range(5):
        reacher.step(np.ones(2, np.float32))
    assert (reacher.render() != first).any()


class Viewer:
    """Stands in for MuJoCo's window."""

    def __init__(self, model, data, **_):
        import mujoco

        self.data, self.synced, self.open = data, 0, True
        self.user_scn = mujoco.MjvScene(model, maxgeom=10)

    def is_running(self):
        return self.open

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        self.synced += 1

    def close(self):
        self.open = False


def test_a_window_follows_the_pose(reacher, monkeypatch):
    from mujoco import viewer

    opened = []
    monkeypatch.setattr(live, "has_screen", lambda: True)
    monkeypatch.setattr(viewer, "launch_passive", lambda *a, **k: opened.append(Viewer(*a, **k)) or opened[-1])
    env = kilolayer.gym.make_env("reacher", render_mode="human")
    assert "human" in env.metadata["render_modes"]
    seen, _ = env.reset(seed=0)
    pose = opened[0].data.qpos.copy()
    env.step(np.ones(2, np.float32))
    assert (opened[0].data.qpos != pose).any()
    assert opened[0].synced == 2
    assert opened[0].user_scn.ngeom == 1
    np.testing.assert_allclose(opened[0].user_scn.geoms[0].pos[:2], seen["desired_goal"][:2], atol=1e-5)
    opened[0].open = False
    env.step(np.ones(2, np.float32))  # somebody closed the window
    assert opened[0].synced == 2
    env.close()


def test_without_a_screen_there_is_no_window(monkeypatch):
    monkeypatch.setattr(live.sys, "platform", "linux")
    for name in live.SCREENS:
        monkeypatch.delenv(name, raising=False)
    assert not live.has_screen()
    with pytest.raises(kilolayer.ConfigurationError, match="there are 'rgb_array'"):
        kilolayer.gym.make_env("reacher", render_mode="human")
    with pytest.raises(RendererError, match="needs a screen"):
        live._launch(None, None)
    monkeypatch.setenv("DISPLAY", ":0")
    assert live.has_screen()
