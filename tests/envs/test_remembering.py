"""What tasks remember: carried, reset, restored bit for bit; delays, filters and the last action; noise."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import orbax.checkpoint as ocp
import pytest
from test_environment import LineEngine, LinePhysics, LineTask

from kilolayer.envs import Environment, EnvironmentState, RobotState, RobotTask
from kilolayer.envs.engines.jax_engine import JaxEngine
from kilolayer.envs.remembering import ActionDelay, LastAction, LowPass, ObservationDelay
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import ConfigurationError

MODEL = """<mujoco><option timestep="0.05"/><worldbody>
<body name="hand"><joint name="x" type="slide"/><geom size="0.1"/></body>
</worldbody><actuator><motor name="push" joint="x" ctrlrange="-1 1"/></actuator></mujoco>"""


class Walk(RobotTask):
    """A hand that moves by its control in every step; observed is its place."""

    mjcf = "none"
    engines = ("line",)
    observation_names = ("place (m)",)
    goal_body = "hand"

    def build(self):
        return mujoco.MjSpec.from_string(MODEL)

    def draw_goal(self, key):
        return jax.random.uniform(key, (3,), minval=50.0, maxval=60.0)

    def observe(self, state):
        return state.qpos


class Line(JaxEngine):
    """Moves the hand of `Walk`."""

    def init_one(self, start):
        return self._state(start.qpos, jnp.zeros(1))

    def step_one(self, state, control):
        return self._state(state.qpos + control, control)

    def _state(self, place, control):
        position = jnp.stack([jnp.append(place, jnp.zeros(2))])
        rest = {"velocity": jnp.zeros((1, 3)), "angular_velocity": jnp.zeros((1, 3)), "engine": None}
        return RobotState(place, jnp.zeros(1), control, position, jnp.eye(4)[:1], **rest)


def walk(task: RobotTask, length: int = 100) -> Environment:
    made = Environment("walk", task, Line(), episode_length=length)
    check_methods(made)
    return made


def observed(task: RobotTask, actions: list[float], length: int = 100) -> np.ndarray:
    """What one robot observes: at the start, and after each action."""
    made = walk(task, length)
    state = made.reset(jax.random.key(0), 2)
    step = jax.jit(made.step)
    seen = [state.observation[0]]
    for action in actions:
        state, _ = step(state, jnp.full((2, 1), action))
        seen.append(state.observation[0])
    return np.array(seen)


def test_without_a_memory_the_state_is_what_it_was():
    made = walk(Walk())
    state = made.reset(jax.random.key(0), 2)
    after = made.step(state, jnp.zeros((2, 1)))[0]
    assert (state.memory, after.memory) == (None, None)
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    physics = ("qpos", "qvel", "control", "position", "quaternion", "velocity", "angular_velocity")
    own = (".observation", ".achieved_goal", ".desired_goal", ".episode_step", ".key")
    assert names == {*own, *(f".physics.{name}" for name in physics)}
    # The stream of keys is the same, too.
    np.testing.assert_array_equal(jax.random.key_data(after.key), jax.random.key_data(jax.random.split(state.key)[0]))


def test_actions_arrive_late():
    class Late(ActionDelay, Walk):
        action_delay = 2

    assert observed(Late(), [1.0, 0.5, 0.0, 0.0, 0.0]).ravel().tolist() == [0, 0, 0, 1, 1.5, 1.5]
    assert Late().action_names == Walk().action_names
    assert Late().control_text.endswith("; 2 control steps late")


def test_a_new_episode_begins_with_a_new_memory():
    class Late(ActionDelay, Walk):
        action_delay = 2

    seen = observed(Late(), [1.0] * 6, length=3).ravel().tolist()
    assert seen == [0, 0, 0, 0, 0, 0, 0], "an episode of three steps ends as the first action arrives"
    seen = observed(Late(), [1.0] * 8, length=4).ravel().tolist()
    assert seen == [0, 0, 0, 1, 0, 0, 0, 1, 0]


def test_observations_arrive_late():
    class Late(ObservationDelay, Walk):
        observation_delay = 2

    assert observed(Late(), [1.0, 1.0, 1.0, 1.0]).ravel().tolist() == [0, 0, 0, 1, 2]


def test_actions_are_smoothed():
    class Smooth(LowPass, Walk):
        smoothing_time = 0.05 / np.log(2.0)

    np.testing.assert_allclose(observed(Smooth(), [1.0, 1.0, 0.0]).ravel(), [0, 0.5, 1.25, 1.625], rtol=1e-5)


def test_the_last_action_is_observed_as_chosen_or_as_arrived():
    class Chosen(LastAction, ActionDelay, Walk):
        action_delay = 1

    class Arrived(ActionDelay, LastAction, Walk):
        action_delay = 1

    assert observed(Chosen(), [1.0, 0.5, 0.0]).tolist() == [[0, 0], [0, 1], [1, 0.5], [1.5, 0]]
    assert observed(Arrived(), [1.0, 0.5, 0.0]).tolist() == [[0, 0], [0, 0], [1, 1], [1.5, 0.5]]
    assert Chosen().observation_names == ("place (m)", "last push force (-1 to 1 N)")


class Drifting(Walk):
    """An offset of the sensor that is drawn at the start, and drifts; noise on top; lost after three metres."""

    def memory(self, state, key):
        return {"offset": jax.random.normal(key), "steps": 0, "key": jax.random.clone(key)}

    def remember(self, memory, action, state, key):
        drift = 0.1 * jax.random.normal(key)
        return {"offset": memory["offset"] + drift, "steps": memory["steps"] + 1, "key": memory["key"]}

    def observe(self, state, memory, key):
        return state.qpos + memory["offset"] + 0.01 * jax.random.normal(key, (1,))

    def failed(self, state, memory):
        return (state.qpos[0] > 3.0) & (memory["steps"] > 1)


class DriftingLate(ObservationDelay, ActionDelay, LastAction, Drifting):
    pass


def rolled(made: Environment, state: EnvironmentState, steps: int, first: int = 0) -> EnvironmentState:
    step = jax.jit(made.step)
    for number in range(first, first + steps):
        key = jax.random.fold_in(jax.random.key(5), number)
        state, _ = step(state, jax.random.uniform(key, (4, 1), minval=-1.0, maxval=1.0))
    return state


def plain(state: EnvironmentState) -> list[np.ndarray]:
    def numbers(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [numbers(leaf) for leaf in jax.tree.leaves(state)]


def test_a_memory_is_restored_bit_for_bit(tmp_path):
    made = walk(DriftingLate(), length=7)
    begun = jax.jit(lambda key: made.reset(key, 4))(jax.random.key(0))
    there = rolled(made, begun, 10)
    half = rolled(made, begun, 5)
    saved = ocp.StandardCheckpointer()
    data = jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, half
    )
    saved.save(tmp_path / "half", data)
    saved.wait_until_finished()
    read = jax.tree.leaves(saved.restore(tmp_path / "half", data))
    saved.close()
    leaves = [
        jax.random.wrap_key_data(new) if jnp.issubdtype(old.dtype, jax.dtypes.prng_key) else new
        for old, new in zip(jax.tree.leaves(half), read, strict=True)
    ]
    resumed = rolled(made, jax.tree.unflatten(jax.tree.structure(half), leaves), 5, first=5)
    for a, b in zip(plain(there), plain(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_robots_remember_each_their_own_and_noise_is_new_in_each_step():
    made = walk(Drifting())
    state = made.reset(jax.random.key(0), 4)
    assert len(np.unique(state.memory["offset"])) == 4
    after = jax.jit(made.step)(state, jnp.zeros((4, 1)))[0]
    assert after.memory["steps"].tolist() == [1] * 4
    assert (after.memory["offset"] != state.memory["offset"]).all()
    noise = np.stack([np.asarray(each.observation[:, 0] - each.memory["offset"]) for each in (state, after)])
    assert len(np.unique(noise)) == 8
    assert np.abs(noise).max() < 0.06


def test_other_methods_may_ask_the_memory():
    made = walk(Drifting())
    state, step = made.reset(jax.random.key(0), 1), jax.jit(made.step)
    ends = []
    for _ in range(5):
        state, result = step(state, jnp.ones((1, 1)))
        ends.append(bool(result.terminated[0]))
    assert ends == [False, False, False, True, False]


def test_noise_needs_no_memory():
    class Blurred(Walk):
        def observe(self, state, memory, key):
            assert memory is None
            return state.qpos + jax.random.normal(key, (1,))

    assert len(np.unique(observed(Blurred(), [0.0, 0.0, 0.0]))) == 4


def test_a_constant_memory_needs_no_function():
    class Counting(Walk):
        memory = 0.0

        def remember(self, memory, action, state, key):
            return memory + jnp.abs(action[0])

        def observe(self, state, memory):
            return memory[None]

    assert observed(Counting(), [0.5, -0.5, 1.0]).ravel().tolist() == [0, 0.5, 1.0, 2.0]


def test_tasks_that_are_no_robots_may_remember():
    class Counting(LineTask):
        memory = 0

        def remember(self, memory, action, physics, key):
            return memory + 1

        def current_goal(self, physics, desired_goal, memory):
            return desired_goal + memory

    made = Environment("line", Counting(), LineEngine(), episode_length=5)
    state = made.reset(jax.random.key(0), 2)
    after = jax.jit(made.step)(state, jnp.zeros((2, 1)))[0]
    np.testing.assert_allclose(after.desired_goal, state.desired_goal + 1.0)
    assert isinstance(after.physics, LinePhysics)


# Slips


def test_a_memory_that_a_step_changes_in_kind_is_refused():
    class Growing(Walk):
        memory = {"seen": jnp.zeros(2)}  # noqa: RUF012

        def remember(self, memory, action, state, key):
            return {"seen": jnp.append(memory["seen"], 1.0)}

    with pytest.raises(
        ConfigurationError, match=r"remember returns memory\['seen'\] of shape \(3,\), float32; it must be"
    ):
        walk(Growing())


def test_a_method_that_hides_a_mixin_is_refused():
    class Late(ActionDelay, Walk):
        def control(self, action):
            return action

    with pytest.raises(ConfigurationError, match="control of Late hides that of ActionDelay; call super"):
        walk(Late())

    class Own(ActionDelay, Walk):
        memory = {"mine": 0.0}  # noqa: RUF012

    with pytest.raises(ConfigurationError, match="memory of Own hides that of ActionDelay"):
        walk(Own())


@pytest.mark.usefixtures("no_type_checks")
def test_mixins_add_to_a_dict_only():
    class Base(Walk):
        memory = 0.0

    class Late(ActionDelay, Base):
        pass

    with pytest.raises(ConfigurationError, match=r"below ActionDelay is a .*; it must be a dict"):
        walk(Late())
