"""The check of an environment finds what is wrong with it, and nothing wrong with a sound one."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from kilolayer.envs import Environment, make
from kilolayer.envs.check import check
from kilolayer.envs.engines.restart import where_envs


class Place(eqx.Module):
    place: jax.Array


class Line:
    """A line to walk along."""

    def init(self, start):
        return Place(start)

    def restart(self, physics, start, where):
        return where_envs(where, Place(start), physics)

    def step(self, physics, control):
        return Place(physics.place + control)


@dataclasses.dataclass(frozen=True, eq=False)
class Walk:
    """A sound task, or one with a fault."""

    fault: str = ""
    observation_size = 1
    goal_size = 1
    action_size = 1
    engines = ("line",)

    def reset(self, key):
        start_key, goal_key = jax.random.split(key)
        start, goal = jax.random.uniform(start_key, (1,)), jax.random.uniform(goal_key, (1,), minval=-2.0, maxval=2.0)
        if self.fault == "one start":
            start = jnp.zeros(1)
        if self.fault == "far goals":
            goal = goal + 1e6
        if self.fault == "size":
            goal = jnp.concatenate([goal, goal])
        return start, goal

    def control(self, action):
        return jnp.zeros(1) if self.fault == "control" else 0.3 * action

    def observe(self, physics):
        place = physics.place
        if self.fault == "not finite":
            place = jnp.where(place > 1.5, jnp.nan, place)
        return 1000.0 * place if self.fault == "large" else place

    def achieved_goal(self, physics):
        return physics.place

    def current_goal(self, physics, desired_goal):
        return desired_goal

    def success(self, achieved_goal, desired_goal):
        reached = jnp.abs(achieved_goal - desired_goal)[0] < 0.1
        return ~reached if self.fault == "success" else reached

    def reward(self, achieved_goal, desired_goal):
        return -jnp.abs(achieved_goal - desired_goal)[0]

    def failed(self, physics):
        limit = {"fails at once": -1.0, "fails soon": 1.2}.get(self.fault, 100.0)
        return jnp.abs(physics.place)[0] > limit


def findings(fault: str = "") -> dict[str, tuple[str, str]]:
    environment = Environment("walk", Walk(fault), Line(), episode_length=20)
    return {f.name: (f.verdict, f.text) for f in check(environment, num_envs=16, num_steps=60)}


def test_a_sound_task_passes_every_check() -> None:
    found = findings()
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert set(found) >= {"sizes", "starts", "goals", "zero actions", "random actions", "observations", "actions"}
    assert set(found) >= {"episodes", "reach", "same seed", "speed", "success at the goal", "failed at the start"}


@pytest.mark.parametrize(
    ("fault", "name", "verdict", "words"),
    [
        ("not finite", "random actions", "failed", "not finite at step"),
        ("large", "observations", "warning", "entries 0 exceed 100"),
        ("control", "actions", "failed", "check `control`"),
        ("far goals", "reach", "warning", "out of reach"),
        ("success", "success at the goal", "failed", "check `success`"),
        ("fails at once", "failed at the start", "failed", "100% of the starts count as failed"),
        ("fails soon", "episodes", "ok", "terminate the episode"),
        ("fails at once", "episodes", "failed", "every episode ends in its first step"),
    ],
)
def test_a_fault_is_found(fault: str, name: str, verdict: str, words: str) -> None:
    found = findings(fault)
    assert found[name][0] == verdict
    assert words in found[name][1]


def test_a_wrong_size_is_found(no_type_checks) -> None:
    (only,) = check(Environment("walk", Walk("size"), Line(), episode_length=20), num_envs=4)
    assert (only.name, only.verdict) == ("sizes", "failed")
    assert "task Walk: reset (goal) returns shape (2,); it must be shape (1,)" in only.text


def test_a_registered_robot_passes() -> None:
    found = {f.name: f for f in check(make("reacher"), num_envs=8, num_steps=50)}
    assert not [f for f in found.values() if f.verdict == "failed"]


def test_the_mean_length_is_of_episodes_that_were_seen_to_their_end() -> None:
    environment = Environment("walk", Walk(), Line(), episode_length=20)
    (found,) = (f for f in check(environment, num_envs=4, num_steps=50) if f.name == "episodes")
    assert "mean episode length 20 of 20 steps" in found.text
