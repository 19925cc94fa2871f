"""Robots whose simulation diverges: they fail their episode, and the run goes on, up to a limit."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.envs import EnvironmentSpec, RobotTask, Start, make, register, registry
from kilolayer.envs.tasks import PointMaze
from kilolayer.runs import RunDirectory, default_config
from kilolayer.training import Setup, collect_step, init_state, run_episodes
from small_runs import SMALL, assert_same_state, final_state, flags

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="cart">
      <joint name="rail" type="slide" axis="1 0 0" stiffness="1e5"/><geom size="0.1" mass="0.01"/>
    </body>
    <body name="pole" pos="0 3 0.3"><joint name="swing" axis="0 1 0"/><geom pos="0.1 0 0" size="0.1" mass="1"/></body>
  </worldbody>
  <actuator>
    <motor name="pull" joint="rail" gear="0" ctrlrange="-1 1"/><motor name="turn" joint="swing" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


class Springy(RobotTask):
    """At rest a robot stays where it is; a share of them begins 1 mm off, and explodes within a few steps."""

    goal_body = "pole"
    control_step = 0.01
    share = 0.1

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_start(self, key):
        off = 1e-3 * (jax.random.uniform(key) < self.share)
        return Start(qpos=self.home.qpos.at[0].add(off), qvel=self.home.qvel)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,))


@pytest.fixture(params=[0.1])
def springy(request):
    task = type("Springy", (Springy,), {"share": request.param})
    register(EnvironmentSpec("springy", "a cart on a spring", task=task, episode_length=40))
    yield "springy"
    registry.unregister("springy")


SETTINGS = SMALL | {"episode_length": 40, "num_envs": 8, "total_env_steps": 1600, "num_evals": 4, "engine": "mujoco"}


def test_a_robot_that_diverges_fails_its_episode_and_the_run_goes_on(springy, tmp_path, capfd):
    result = kl.train(springy, run_dir=tmp_path / "run", progress=False, **SETTINGS)
    diverged = [row["train/diverged"] for row in result.run.metrics()]
    assert diverged[-1] > 0
    assert diverged == sorted(diverged)
    state = final_state(result.run.path)
    assert int(state.diverged) == diverged[-1]
    assert np.isfinite(state.buffer.observation).all()
    assert np.isfinite(state.collector.observation).all()
    assert not np.asarray(state.buffer.terminated).any()
    assert capfd.readouterr().err == ""


def test_it_is_counted_and_leaves_no_transition(springy):
    config = default_config(springy, **SETTINGS)
    setup = Setup.build(config)
    state, collect = init_state(setup, 0), jax.jit(lambda state: collect_step(setup, state))
    seen = 0
    for _ in range(20):
        state, faults = collect(state)
        seen += int(faults.divergence.robots)
        assert faults.describe("springy", 0, 8) is None
    assert seen == int(state.diverged) > 0
    assert state.episodes >= seen
    episode = run_episodes(setup.agent, state.agent, setup.eval_environment, jax.random.key(0), num_episodes=100)
    assert 0 < int(episode.diverged.sum()) < 25
    assert bool(episode.finite)
    lengths = np.asarray(episode.alive).sum(axis=0)
    np.testing.assert_array_equal(lengths < 40, episode.diverged)


@pytest.mark.parametrize("springy", [1.0], indirect=True)
def test_too_many_end_the_run_and_name_joints_and_actuators(springy, tmp_path, capsys):
    path = tmp_path / "run"
    assert main(["train", springy, f"--run-dir={path}", "--engine=mujoco", *flags(num_envs=8, episode_length=40)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "robots of springy diverged in" in line
    assert "more than max_diverged=0.1; fastest before: rail velocity (m/s)" in line
    assert "actuators there: pull" in line
    assert f"the last good checkpoint is {path / 'checkpoints' / '0'}" in line or "no checkpoint yet" in line


@pytest.mark.slow
def test_the_limit_may_change_when_a_run_is_resumed(springy, tmp_path):
    with pytest.raises(kl.TrainingError, match=r"diverged in \d+ of \d+ episodes .* more than max_diverged=0;"):
        kl.train(springy, run_dir=tmp_path / "run", progress=False, max_diverged=0.0, **SETTINGS)
    resumed = kl.train(resume=tmp_path / "run", progress=False, max_diverged=0.5)
    other = kl.train(springy, run_dir=tmp_path / "other", progress=False, max_diverged=0.5, **SETTINGS)
    assert resumed.env_steps == other.env_steps
    assert_same_state(final_state(tmp_path / "run"), final_state(tmp_path / "other"))


def test_a_limit_is_a_share():
    with pytest.raises(kl.ConfigurationError, match=r"max_diverged=1\.5 must be from 0 to 1"):
        default_config("reacher", max_diverged=1.5)


@pytest.mark.parametrize("engine", ["mujoco", pytest.param("mjx", marks=pytest.mark.slow)])
def test_every_engine_ends_the_episode_of_the_robot_alone(engine):
    environment = make("reacher", engine=engine)
    state = environment.reset(jax.random.key(0), 3)
    fast = dataclasses.replace(state.physics, qvel=state.physics.qvel.at[1].set(jnp.nan))
    if engine == "mujoco":
        action = jnp.zeros((3, 2)).at[1].set(jnp.nan)
    else:
        state, action = dataclasses.replace(state, physics=fast), jnp.zeros((3, 2))
    after, result = jax.jit(environment.step)(state, action)
    np.testing.assert_array_equal(result.diverged, [False, True, False])
    np.testing.assert_array_equal(result.terminated, result.diverged)
    np.testing.assert_array_equal(result.observation[1], state.observation[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.physics) if leaf.dtype == jnp.float32)
    np.testing.assert_array_equal(after.episode_step, [1, 0, 1])


def test_a_state_of_one_s_own_counts_too():
    environment = make("point_u_maze")
    assert isinstance(environment.task, PointMaze)
    state = environment.reset(jax.random.key(0), 2)
    broken = dataclasses.replace(state.physics, velocity=state.physics.velocity.at[0].set(jnp.inf))
    _, result = environment.step(dataclasses.replace(state, physics=broken), jnp.zeros((2, 2)))
    np.testing.assert_array_equal(result.diverged, [True, False])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (mujoco.FatalError("mj_stackAlloc: insufficient memory"), "mj_stackAlloc: insufficient memory"),
        pytest.param(MemoryError("9 GB"), "MemoryError: 9 GB", marks=pytest.mark.slow),
    ],
)
def test_an_error_of_the_engine_is_one_line_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, capsys, error, words):
    path, step, calls = tmp_path / "run", mujoco.batch.Batch.step, []

    def failing(self, *arguments, **settings):
        calls.append(1)
        if len(calls) > 60:
            raise error
        return step(self, *arguments, **settings)

    monkeypatch.setattr(mujoco.batch.Batch, "step", failing)
    settings = flags(num_envs=8, episode_length=21, num_evals=20)
    assert main(["train", "reacher", f"--run-dir={path}", "--engine=mujoco", *settings]) == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "a program failed after" in line
    assert words in line
    assert "Traceback" not in err
    kept = RunDirectory.open(path)
    assert f"the last good checkpoint is {path / 'checkpoints'}" in line
    assert kl.load(kept.path).env_steps >= 0
    monkeypatch.undo()
    assert kl.train(resume=path, progress=False).stopped_by is None
