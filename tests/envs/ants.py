"""What the tests of the ant tasks share."""

from collections import Counter

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.envs import Environment, RobotState, RobotTask
from kilolayer.envs.engines.mujoco import MujocoEngine

GRID = 4.0
"""Metres: the cells of the paper's ant mazes."""


def robot_state(task: RobotTask, qpos: np.ndarray | None = None, qvel: np.ndarray | None = None) -> RobotState:
    """A robot as MuJoCo has it: at home and at rest unless said otherwise."""
    data = mujoco.MjData(task.model)
    data.qpos = task.home.qpos if qpos is None else qpos
    data.qvel = task.home.qvel if qvel is None else qvel
    mujoco.mj_forward(task.model, data)
    return RobotState(
        qpos=jnp.asarray(data.qpos, jnp.float32),
        qvel=jnp.asarray(data.qvel, jnp.float32),
        control=jnp.zeros(task.model.nu),
        position=jnp.zeros((0, 3)),
        quaternion=jnp.zeros((0, 4)),
        velocity=jnp.zeros((0, 3)),
        angular_velocity=jnp.zeros((0, 3)),
        engine=None,
    )


def kind(name: str) -> str:
    """The name of a geom without its number: `foot_3` is a foot."""
    return name.split("_")[0]


def may_touch(model: mujoco.MjModel) -> Counter[tuple[str, str]]:
    """Count the pairs of geoms that can touch, by their kinds in alphabetical order.

    As MuJoCo has it: masks must meet, and neither parts of one body nor a body and its parent touch each other, but for
    bodies that stand on the world.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    weld, parent = model.body_weldid, model.body_parentid
    for a in range(model.ngeom):
        for b in range(a):
            masks = (model.geom_contype[a] & model.geom_conaffinity[b]) | (
                model.geom_contype[b] & model.geom_conaffinity[a]
            )
            body_a, body_b = weld[model.geom_bodyid[a]], weld[model.geom_bodyid[b]]
            family = body_a and body_b and (weld[parent[body_a]] == body_b or weld[parent[body_b]] == body_a)
            if masks and body_a != body_b and not family:
                first, second = sorted((kind(model.geom(a).name), kind(model.geom(b).name)))
                pairs[first, second] += 1
    return pairs


def touching(task: RobotTask, qpos: np.ndarray) -> set[tuple[str, str]]:
    """The kinds of geoms that touch in a pose, each pair in alphabetical order."""
    data = mujoco.MjData(task.model)
    data.qpos = qpos
    mujoco.mj_forward(task.model, data)
    found = set()
    for contact in data.contact[: data.ncon]:
        first, second = sorted(kind(task.model.geom(int(geom)).name) for geom in contact.geom)
        found.add((first, second))
    return found


def thrash(task: RobotTask, *, num_envs: int, steps: int, hold: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Take random actions on engine `mujoco`: qpos, qvel and whether the episode ended, after each step before a reset.

    With probability `hold` an action is kept for another step; then, all actions are the greatest there are.
    """
    environment = Environment("ant", task, MujocoEngine(task), 1000)

    def step(carry, key):
        state, action = carry
        fresh_key, hold_key = jax.random.split(key)
        fresh = jax.random.uniform(fresh_key, action.shape, minval=-1.0)
        if hold:
            keep = jax.random.uniform(hold_key, (num_envs, 1)) < hold
            fresh = jnp.where(keep, action, jnp.sign(fresh))
        state, result = environment.step(state, fresh)
        return (state, fresh), (result.observation, result.terminated)

    @jax.jit
    def run(key):
        reset_key, key = jax.random.split(key)
        carry = (environment.reset(reset_key, num_envs), jnp.zeros((num_envs, task.action_size)))
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[1]

    observation, terminated = run(jax.random.key(seed))
    return np.asarray(observation), np.asarray(terminated)


def gap_to_walls(model: mujoco.MjModel, positions: np.ndarray) -> np.ndarray:
    """Distance from points x, y to the nearest wall, in metres; below zero inside."""
    gap = np.full(positions.shape[:-1], np.inf)
    for geom in range(model.ngeom):
        if kind(model.geom(geom).name) == "wall":
            beyond = np.abs(positions - model.geom_pos[geom, :2]) - model.geom_size[geom, :2]
            outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1)
            gap = np.minimum(gap, np.where((beyond < 0).all(-1), beyond.max(-1), outside))
    return gap


def in_a_storm(task_class: type[RobotTask], angle: float, force: float) -> type[RobotTask]:
    """A task in which everything is drawn sideways with `force`, in metres per second squared."""

    class Storm(task_class):
        def build(self) -> mujoco.MjSpec:
            spec = super().build()
            spec.option.gravity = [force * np.cos(angle), force * np.sin(angle), -9.81]
            return spec

    return Storm
