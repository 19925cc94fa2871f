"""A task and an engine that know nothing of the library are drawn as its own: by what they offer."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.cli.main import main
from kilolayer.envs import EngineSpec, EnvironmentSpec, Ghost, register_engine, registry
from kilolayer.envs.drawing import has_body
from kilolayer.envs.engines.registry import unregister_engine
from kilolayer.errors import ConfigurationError
from kilolayer.render.camera import view
from kilolayer.render.canvas import Canvas, RendererError, context_class
from kilolayer.render.record import model_of, pose_at_start, record
from kilolayer.render.viewer import write_page
from kilolayer.runs import Checkpoints, Clocks, RunDirectory
from kilolayer.training import Setup, init_state, policy_of
from small_runs import small_config

MODEL = """
<mujoco>
  <worldbody>
    <camera name="above" pos="0 0 6" fovy="50"/>
    <site name="post" pos="1 0 0.5" size="0.05"/>
    <body name="sled">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 1 0"/>
      <geom type="box" size="0.3 0.2 0.1"/>
      <geom type="sphere" size="0.5" group="4" rgba="1 0 1 1"/>
    </body>
  </worldbody>
</mujoco>
"""


class Sleds:
    """An engine with a state of its own, which also has the model."""

    time_step = 0.1

    def init(self, start):
        return {"place": start, "speed": jnp.zeros_like(start)}

    def restart(self, physics, start, where):
        fresh = self.init(start)
        return jax.tree.map(lambda new, old: jnp.where(where[:, None], new, old), fresh, physics)

    def step(self, physics, control):
        return {"place": physics["place"] + 0.1 * control, "speed": control}

    def scene(self):
        return mujoco.MjSpec.from_string(MODEL)

    def scene_qpos(self, physics):
        return physics["place"]


class Park:
    """A task of which nothing is drawn; its sizes are those of a point maze."""

    observation_size, goal_size, action_size = 4, 2, 2
    engines = ("sleds",)

    def reset(self, key):
        return jnp.zeros(2), jax.random.uniform(key, (2,), minval=-1.0)

    def control(self, action):
        return action

    def observe(self, physics):
        return jnp.concatenate([physics["place"], physics["speed"]])

    def achieved_goal(self, physics):
        return physics["place"]

    def current_goal(self, physics, desired_goal):
        return desired_goal

    def success(self, achieved_goal, desired_goal):
        return jnp.linalg.norm(achieved_goal - desired_goal) < 0.1

    def reward(self, achieved_goal, desired_goal):
        return -jnp.linalg.norm(achieved_goal - desired_goal)

    def failed(self, physics):
        return jnp.zeros((), bool)


class GhostlyPark(Park):
    """A task that shows its goal as a second sled, and no mark."""

    def marker(self, desired_goal):
        return None

    def ghost(self, desired_goal):
        return Ghost(qpos=desired_goal)


class MarkedPark(Park):
    """A task that shows its goal as a mark."""

    def marker(self, desired_goal):
        return np.array([*desired_goal, 0.0]), 0.1


@pytest.fixture
def park():
    def build(task):
        registry.register(EnvironmentSpec("park", "sleds", task=task, episode_length=12))
        return registry.make("park")

    register_engine(EngineSpec("sleds", "sleds", build=lambda task: Sleds()))
    yield build
    registry.unregister("park")
    unregister_engine("sleds")


@pytest.fixture(scope="module")
def policy():
    config = small_config()
    setup = Setup.build(config)
    return policy_of(config, setup, init_state(setup, 0).agent, clocks=Clocks())


@pytest.fixture(scope="module")
def renderer():
    try:
        return context_class()
    except RendererError as error:
        pytest.skip(str(error))


def test_a_foreign_task_is_recorded_on_a_foreign_engine(park, policy):
    environment = park(GhostlyPark)
    assert has_body(environment.task, environment.engine)
    scene = record(policy, environment, jax.random.key(0), num_episodes=2)
    for motion in scene.motions:
        assert motion.goal is None
        assert motion.qpos.shape == (12, 2)
        assert motion.ghost.position.shape == (1, 1, 3)  # its goal stays
        assert np.abs(motion.ghost.position[0, 0, :2]).max() > 0.1
    assert scene.motions[0].ghost.position[0, 0, 0] != scene.motions[1].ghost.position[0, 0, 0]


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize(("task", "shows"), [(Park, False), (GhostlyPark, True), (MarkedPark, True)])
def test_the_goal_is_drawn_as_the_task_says(park, task, shows):
    scene = pose_at_start(park(task), jax.random.key(0))
    (motion,) = scene.motions
    shot = view(scene, motion, "above", aspect=1.0)
    goal = None if motion.goal is None else motion.goal[0]
    with Canvas(scene, 120, 120) as canvas:
        bare = canvas.draw(motion.qpos[0], shot, 0).astype(int)
        waiting, reached = (
            canvas.draw(
                motion.qpos[0], shot, 0, goal=goal, radius=motion.radius, ghost=motion.ghost, success=success
            ).astype(int)
            for success in (False, True)
        )
    assert (np.abs(waiting - bare).max(axis=-1) > 20).any() == shows
    assert (np.abs(waiting - reached).max(axis=-1) > 20).any() == shows


@pytest.mark.usefixtures("renderer")
def test_a_camera_of_the_model_is_looked_through_and_groups_are_drawn(park):
    scene = pose_at_start(park(Park), jax.random.key(0))
    (motion,) = scene.motions
    pictures = {}
    for groups in ({0}, {0, 4}, {4}):
        shown = dataclasses.replace(scene, groups=frozenset(groups))
        with Canvas(shown, 90, 90) as canvas:
            pictures[tuple(groups)] = canvas.draw(motion.qpos[0], view(shown, motion, "above", aspect=1.0), 0)
    purple = {groups: (picture[..., 0] > 2 * picture[..., 1].astype(int)) for groups, picture in pictures.items()}
    assert not purple[(0,)].any()
    assert purple[(4,)].sum() > purple[(0, 4)].sum() * 0.9 > 0
    # Seen from straight above, 5 degrees to a metre or so: the sphere is round, and in the middle.
    rows, columns = np.nonzero(purple[(4,)])
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2
    assert abs(rows.mean() - 44.5) < 2
    assert abs(columns.mean() - 44.5) < 2
    half_angle = np.degrees(np.arctan2(0.5, 6.0))
    assert np.ptp(rows) / 2 == pytest.approx(45 * np.tan(np.radians(half_angle)) / np.tan(np.radians(25)), rel=0.15)


def test_the_page_has_ghosts_sites_and_the_view_of_a_camera(park, tmp_path):
    scene = pose_at_start(park(GhostlyPark), jax.random.key(0))
    path = write_page(scene, tmp_path / "scene.html", camera="above")
    data = json.loads(re.search(r'id="scene">(.*?)</script>', path.read_text())[1])
    (episode,) = data["episodes"]
    assert episode["goals"] == []
    assert [[len(pose) for pose in frame] for frame in episode["ghost"]] == [[7]]
    np.testing.assert_allclose(episode["ghost"][0][0][:3], scene.motions[0].ghost.position[0, 0], atol=1e-4)
    assert [(geom["type"], geom["body"]) for geom in data["ghost"]] == [("box", 0)]  # the sphere is in a hidden group
    assert [(site["type"], site["position"]) for site in data["sites"]] == [("sphere", [1, 0, 0.5])]
    assert data["fovy"] == 50
    assert episode["camera"]["elevation"] == pytest.approx(-np.pi / 2)


def test_neither_task_nor_engine_with_a_model_is_one_line(park):
    class Blind(Sleds):
        scene = None

    environment = park(Park)
    environment = type(environment)("park", environment.task, Blind(), 12)
    assert not has_body(environment.task, environment.engine)
    with pytest.raises(ConfigurationError, match="task Park has no body to draw; define `scene` and `scene_qpos`"):
        model_of(environment)


def test_the_command_takes_a_camera_and_lists_those_there_are(park, tmp_path, capsys):
    park(GhostlyPark)
    config = small_config(env="park", engine="sleds")
    directory = RunDirectory.create(tmp_path / "run", config)
    checkpoints = Checkpoints(directory.checkpoints, keep=1)
    checkpoints.save(init_state(Setup.build(config), 0))
    checkpoints.wait()
    checkpoints.close()
    shown = ["render", str(directory.path), "--no-video", "--episodes=1", "--quiet"]
    assert main([*shown, "--camera=above", "--groups=0,4"]) == 0
    data = json.loads(re.search(r'id="scene">(.*?)</script>', (directory.path / "render/scene.html").read_text())[1])
    assert [geom["type"] for geom in data["geoms"]] == ["box", "sphere"]
    capsys.readouterr()
    assert main([*shown, "--camera=side"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "camera='side' is unknown; there are follow, top; the model's cameras above" in line
