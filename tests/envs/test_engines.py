"""The robots' engines: one signature, the same physics, states that go on bit for bit, and no deadlock."""

import dataclasses
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.envs import RobotState, RobotTask, Start, make
from kilolayer.envs.engines.mjx import MjxEngine
from kilolayer.envs.engines.mujoco import MujocoEngine
from kilolayer.errors import ConfigurationError

TWO_LINKS = """
<mujoco>
  <option timestep="0.005"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="upper" pos="0 0 1">
      <joint name="shoulder" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0"/>
      <body name="lower" pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0"/>
        <body name="tip" pos="0.3 0 0"><geom size="0.01"/></body>
      </body>
    </body>
    <body name="loose" pos="1 0 1"><freejoint/><geom type="box" size="0.1 0.2 0.3"/></body>
  </worldbody>
  <actuator>
    <motor joint="shoulder" gear="2" ctrlrange="-1 1" ctrllimited="true"/>
    <position joint="elbow" kp="5" ctrlrange="-2 1" ctrllimited="true"/>
  </actuator>
</mujoco>
"""


class TwoLinks(RobotTask):
    """Swing a tip to a point; a loose box falls beside it."""

    control_step = 0.02
    goal_body = "tip"
    bodies = ("loose", "lower")

    def build(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(TWO_LINKS)

    def draw_start(self, key):
        spin = jax.random.normal(key, (self.model.nv,))
        return Start(qpos=self.home.qpos, qvel=spin)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,), minval=-0.5, maxval=0.5) + jnp.array([0.0, 0.0, 1.0])


def starts(task: RobotTask, num_envs: int, seed: int = 0) -> Start:
    return jax.vmap(task.draw_start)(jax.random.split(jax.random.key(seed), num_envs))


def controls(task: RobotTask, num_envs: int, steps: int, seed: int = 0) -> jax.Array:
    action = jax.random.uniform(jax.random.key(seed), (steps, num_envs, task.action_size), minval=-1.0, maxval=1.0)
    return jax.vmap(jax.vmap(task.control))(action)


@dataclasses.dataclass
class Rig:
    """An engine, compiled once for all tests."""

    task: RobotTask
    engine: Any

    def __post_init__(self) -> None:
        self.init, self.step, self.restart = (
            jax.jit(function) for function in (self.engine.init, self.engine.step, self.engine.restart)
        )

    def roll(self, state: RobotState, control: jax.Array) -> RobotState:
        for one in control:
            state = self.step(state, one)
        return state


@functools.cache
def rig(kind: Callable[[RobotTask], Any]) -> Rig:
    task = TwoLinks()
    return Rig(task, kind(task))


def on_warp(task: RobotTask) -> MjxEngine:
    return MjxEngine(task, impl="warp")


ENGINES = [MujocoEngine, MjxEngine, pytest.param(on_warp, marks=pytest.mark.slow)]
"""Warp compiles its kernels for a minute on a new machine."""


def check_against_mujoco(task: RobotTask, state, index: int = 0, atol: float = 1e-5) -> None:
    """Compare what an engine tells of the bodies with MuJoCo's own functions at the same positions and velocities."""
    data = mujoco.MjData(task.model)
    data.qpos[:], data.qvel[:] = state.qpos[index], state.qvel[index]
    mujoco.mj_forward(task.model, data)
    for place, name in enumerate(task.tracked_bodies):
        body = task.model.body(name).id
        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(task.model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
        np.testing.assert_allclose(state.position[index, place], data.xpos[body], atol=atol)
        np.testing.assert_allclose(state.quaternion[index, place], data.xquat[body], atol=atol)
        np.testing.assert_allclose(state.angular_velocity[index, place], velocity[:3], atol=10 * atol)
        np.testing.assert_allclose(state.velocity[index, place], velocity[3:], atol=10 * atol)


@pytest.mark.parametrize("kind", ENGINES)
def test_bodies_are_read_as_they_are_now(kind) -> None:
    one = rig(kind)
    state = one.init(starts(one.task, 4))
    check_against_mujoco(one.task, state, 1)
    check_against_mujoco(one.task, one.roll(state, controls(one.task, 4, 5)), 2)


def test_mujoco_steps_as_a_plain_loop_does() -> None:
    one = rig(MujocoEngine)
    start, control = starts(one.task, 4), controls(one.task, 4, 10)
    state = one.roll(one.init(start), control)
    assert one.engine.substeps == 4
    data = mujoco.MjData(one.task.model)
    data.qpos[:], data.qvel[:] = start.qpos[1], start.qvel[1]
    for step in range(10):
        data.ctrl[:] = control[step, 1]
        mujoco.mj_step(one.task.model, data, 4)
    np.testing.assert_array_equal(state.qpos[1], data.qpos.astype(np.float32))
    np.testing.assert_array_equal(state.qvel[1], data.qvel.astype(np.float32))
    np.testing.assert_array_equal(state.control, control[-1])


@pytest.mark.parametrize("kind", ENGINES)
def test_a_copied_state_resumes_bit_for_bit(kind) -> None:
    one = rig(kind)
    first, second = controls(one.task, 4, 6), controls(one.task, 4, 6, seed=1)
    halfway = one.roll(one.init(starts(one.task, 4)), first)
    saved = jax.tree.map(np.array, halfway)  # as through a checkpoint
    end = one.roll(halfway, second)
    other = Rig(one.task, MujocoEngine(one.task)) if kind is MujocoEngine else one
    other.roll(other.init(starts(one.task, 4, seed=5)), first)
    jax.tree.map(np.testing.assert_array_equal, end, other.roll(jax.tree.map(jnp.asarray, saved), second))


def test_the_number_of_threads_changes_no_bit() -> None:
    task = rig(MujocoEngine).task
    ends = []
    for threads in (1, 2):
        one = Rig(task, MujocoEngine(task, num_threads=threads))
        ends.append(one.roll(one.init(starts(task, 16)), controls(task, 16, 10)))
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize("kind", ENGINES)
def test_restart_touches_only_those_that_it_names(kind) -> None:
    one = rig(kind)
    state = one.roll(one.init(starts(one.task, 4)), controls(one.task, 4, 5))
    where, fresh = jnp.array([False, True, False, True]), starts(one.task, 4, seed=9)
    after, begun = one.restart(state, fresh, where), one.init(fresh)
    for leaf, old, new in zip(*map(jax.tree.leaves, (after, state, begun)), strict=True):
        np.testing.assert_array_equal(leaf[jnp.array([0, 2])], old[jnp.array([0, 2])])
        np.testing.assert_allclose(leaf[jnp.array([1, 3])], new[jnp.array([1, 3])], atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, one.restart(state, fresh, jnp.zeros(4, bool)), state)


@pytest.mark.parametrize("kind", ENGINES[1:])
def test_mujoco_and_mjx_agree(kind) -> None:
    task = rig(MujocoEngine).task
    ends = [one.roll(one.init(starts(task, 4)), controls(task, 4, 20)) for one in map(rig, (MujocoEngine, kind))]
    np.testing.assert_allclose(ends[0].qpos, ends[1].qpos, atol=2e-4)
    np.testing.assert_allclose(ends[0].position, ends[1].position, atol=2e-4)


def test_a_vmap_over_whole_environments_is_the_same_as_one_after_another() -> None:
    task = TwoLinks()
    engine = MujocoEngine(task)
    both = jax.vmap(engine.init)(jax.tree.map(lambda *x: jnp.stack(x), starts(task, 3), starts(task, 3, seed=1)))
    control = controls(task, 3, 2)
    stepped = jax.jit(jax.vmap(engine.step))(both, control)
    for number in range(2):
        alone = engine.step(jax.tree.map(lambda leaf, n=number: leaf[n], both), control[number])
        jax.tree.map(lambda a, b, n=number: np.testing.assert_array_equal(a[n], b), stepped, alone)


def test_a_control_that_is_no_number_ends_the_episode_of_its_robot_and_nothing_else(
    monkeypatch, tmp_path, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = make("reacher", engine="mujoco")
    state = jax.jit(environment.reset, static_argnums=1)(jax.random.key(0), 3)
    action = jnp.zeros((3, 2)).at[1, 0].set(jnp.nan)
    state, result = jax.jit(environment.step)(state, action)
    np.testing.assert_array_equal(result.diverged, [False, True, False])
    np.testing.assert_array_equal(result.terminated, [False, True, False])
    assert jnp.isfinite(state.observation).all()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_no_deadlock_when_two_environments_run_and_a_third_thread_copies_states() -> None:
    """Training and evaluation at the same time, in `jit` and `scan`, with states so large that they are copied late."""
    task = TwoLinks()
    engine = MujocoEngine(task)
    states = {}
    failures = []

    def run(number: int, num_envs: int) -> None:
        try:
            state = jax.jit(engine.init)(starts(task, num_envs, seed=number))
            control = controls(task, num_envs, 5)
            step = jax.jit(lambda state: jax.lax.scan(lambda s, c: (engine.step(s, c), None), state, control)[0])
            for _ in range(40):
                state = step(state)
                states[number] = state
            jax.block_until_ready(state)
        except BaseException as error:
            failures.append(error)

    def copy(stop: threading.Event) -> None:
        while not stop.is_set():
            for state in list(states.values()):
                jax.tree.map(np.array, state)

    stop = threading.Event()
    runs = [threading.Thread(target=run, args=(number, 512 * number), daemon=True) for number in (1, 2, 4)]
    copier = threading.Thread(target=copy, args=(stop,), daemon=True)
    for thread in (*runs, copier):
        thread.start()
    for thread in runs:
        thread.join(timeout=300)
        assert not thread.is_alive(), "the engine hangs"
    stop.set()
    copier.join(timeout=60)
    assert not failures


class Unknown(TwoLinks):
    """Names a body that the model does not have."""

    goal_body = "tipp"


class Broken(TwoLinks):
    """MJCF that does not compile."""

    def build(self) -> mujoco.MjSpec:
        spec = super().build()
        spec.body("lower").add_geom(size=[0, 0, 0])
        return spec


class Uneven(TwoLinks):
    """A control step that is no multiple of the time step."""

    control_step = 0.012


class Still(TwoLinks):
    """A time step of zero, which MuJoCo compiles."""

    timestep = 0.0

    def build(self) -> mujoco.MjSpec:
        spec = super().build()
        spec.option.timestep = self.timestep
        return spec


class Backwards(Still):
    """A time step below zero."""

    timestep = -0.01


class Endless(Still):
    """A time step so small that the steps in a control step are no number."""

    timestep = 5e-324


class Missing(RobotTask):
    """A model file that is not there."""

    mjcf = "nowhere.xml"


class Unreadable(RobotTask):
    """A model file that is no MJCF."""

    mjcf = __file__


class Empty(RobotTask):
    """No model at all."""


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Unknown, "names the body 'tipp', which its model does not have; did you mean tip"),
        (Broken, "the model of task Broken does not compile"),
        (Uneven, "control_step=0.012 s of task Uneven is not a multiple of the model's time step of 0.005 s"),
        (Still, "of task Still is not a multiple of the model's time step of 0.0 s"),
        (Backwards, "time step of -0.01 s"),
        (Endless, "time step of 5e-324 s"),
        (Missing, "nowhere.xml' is missing"),
        (Unreadable, "cannot be read"),
        (Empty, "names no model"),
    ],
)
def test_an_invalid_task_is_refused_in_one_line(task: type[RobotTask], words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        MujocoEngine(task())
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "mujco"}, "engine='mujco' is unknown; did you mean mujoco"),
        ({"engine": "point"}, "engine='point' cannot run task Reacher; it runs on"),
        ({"variant": "papers"}, "variant='papers' must be one of 'default', 'paper'"),
    ],
)
def test_an_invalid_engine_or_variant_is_refused_in_one_line(settings: dict, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make("reacher", **settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("engine", "package", "words"),
    [
        ("spring", "brax.io", "pip install 'kilolayer[brax]'"),
        ("mjx", "mujoco.mjx", "pip install 'kilolayer[mjx]'"),
        ("mjx-warp", "warp", "pip install 'kilolayer[warp]'"),
    ],
)
def test_a_missing_engine_names_its_install_command(monkeypatch, engine: str, package: str, words: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package == "mujoco.mjx":
        monkeypatch.delattr(mujoco, "mjx", raising=False)
    with pytest.raises(ConfigurationError) as error:
        make("reacher", engine=engine, variant="paper")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_actions_of_the_wrong_size_or_not_finite_are_refused_in_one_line() -> None:
    environment = make("reacher", engine="mujoco")
    state = environment.reset(jax.random.key(0), 2)
    with pytest.raises(
        ConfigurationError, match=r"action has shape \(2, 3\); reacher with 2 environments takes \(2, 2\)"
    ):
        environment.step(state, jnp.zeros((2, 3)))
    with pytest.raises(ConfigurationError, match=r"action\[1, 0\] is NaN"):
        environment.step(state, jnp.zeros((2, 2)).at[1, 0].set(jnp.nan))


def test_auto_is_the_machines_engine_or_the_papers() -> None:
    assert isinstance(make("arm_reach").engine, MujocoEngine)
    assert isinstance(make("arm_reach", variant="paper").engine, MjxEngine)
