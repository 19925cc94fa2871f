"""Export the policy of a run, with what a control loop needs: the robot's model, and starts and goals to try it on."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.envs import Environment
from kilolayer.envs.control import JointDeltas
from kilolayer.envs.methods import arguments_of
from kilolayer.envs.names import told
from kilolayer.envs.robot_task import RobotTask
from kilolayer.policies import ActingPrecision, Policy
from kilolayer.policies.artifact import CONTRACT_FILE
from kilolayer.policies.export import Exported, export_policy, write_table
from kilolayer.training.evaluation import run_episodes
from kilolayer.training.policies import load_with_setup

XML_FILE, BINARY_FILE, EPISODES_FILE = "robot.xml", "robot.mjb", "episodes.csv"

RECORDED_EPISODES = 4
"""Episodes whose observations an export is checked on."""


def export_run(
    path: str | os.PathLike,
    directory: str | os.PathLike | None = None,
    *,
    format: str = "onnx",
    precision: ActingPrecision = "float32",
    checkpoint: int | str | None = None,
    episodes: int = 128,
) -> Exported:
    """Export the policy of a run, or a policy by itself; see `kilolayer.policies.export.export_policy`.

    The export of a run is checked on observations of episodes, too. If its task is one for robots, the directory also
    holds the robot's model, and the starts and goals that an evaluation with seed 0 begins with.

    Args:
        path: the directory of a run or of a policy.
        directory: must not exist yet; None takes one inside `path`, named by format, precision and env steps.
        format: name of the exporter.
        precision: numbers that hold the weights of the blocks.
        checkpoint: which checkpoint of the run: its step, `latest` (as None), `best` or `untrained`.
        episodes: starts and goals.

    Raises:
        RunError: if there is no such policy, or the directory exists or cannot be written.
        ConfigurationError: in one line, if the policy has no such form, or acts otherwise than the library's.
    """
    root = Path(path)
    more: dict[str, Any] = {}
    if (root / CONTRACT_FILE).exists() and checkpoint is None:
        policy = Policy.read(root)
    else:
        policy, setup = load_with_setup(root, checkpoint=checkpoint)
        environment = setup.eval_environment
        more["recorded"] = _recorded(policy, environment)
        if isinstance(environment.task, RobotTask):
            more["add"] = lambda folder: {"robot": write_robot(environment, folder, episodes=episodes)}
    kind = format if precision == "float32" else f"{format}-{precision}"
    target = root / "export" / f"{kind}-{policy.env_steps}" if directory is None else Path(directory)
    return export_policy(policy, target, format=format, precision=precision, **more)


def write_robot(environment: Environment, directory: Path, *, episodes: int) -> dict[str, Any]:
    """Write the model of a robot, and starts and goals, into a directory.

    Args:
        environment: with a task for robots.
        directory: to write into.
        episodes: starts and goals; they are those of an evaluation with seed 0.

    Returns:
        What a control loop has to know of them, as plain data.
    """
    task: Any = environment.task
    reset_key, _ = jax.random.split(jax.random.key(0))
    _, fresh = jax.random.split(reset_key)
    start, goal = jax.jit(environment.draw, static_argnums=1)(fresh, episodes)
    parts = {"qpos": np.asarray(start.qpos), "qvel": np.asarray(start.qvel), "desired_goal": np.asarray(goal)}
    rule = _joint_steps(task)
    if rule is not None:  # the targets from which the first step is made
        parts["control"] = np.asarray(start.control)
    write_table(directory / EPISODES_FILE, parts)
    return {
        "file": _write_model(task, directory),
        "episodes": EPISODES_FILE,
        "physics_steps": task.substeps,
        "bodies": list(task.tracked_bodies),
        "goal_body": task.goal_body,
        "success_distance": task.success_length,
        "success_text": told(task, "success_text", "success"),
        "control": _control(task),
        "joint_steps": rule,
        "control_text": told(task, "control_text", "control"),
    }


def _write_model(task: RobotTask, directory: Path) -> str:
    """Write the model as MJCF, if MuJoCo reads the same model from it; else in MuJoCo's binary form.

    MJCF holds numbers with few digits, and names meshes instead of holding them.
    """
    path = directory / XML_FILE
    spec = task.build()
    spec.compile()
    path.write_text(spec.to_xml())
    try:
        if _same(mujoco.MjModel.from_xml_path(str(path)), task.model):
            return XML_FILE
    except ValueError:
        pass
    path.unlink()
    mujoco.mj_saveModel(task.model, str(directory / BINARY_FILE))
    return BINARY_FILE


COMPARED = (
    "body_mass",
    "body_inertia",
    "body_pos",
    "dof_damping",
    "dof_armature",
    "actuator_gear",
    "actuator_ctrlrange",
)
"""What makes two models move alike."""


def _same(one: mujoco.MjModel, other: mujoco.MjModel) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in COMPARED]
    steps = (one.opt.timestep, other.opt.timestep)
    return steps[0] == steps[1] and all(a.shape == b.shape and np.allclose(a, b, rtol=1e-5) for a, b in pairs)


def _control(task: RobotTask) -> dict[str, list[float]] | None:
    """Return the controls of the least and the greatest action, if those between are between in proportion.

    They are not if controls depend on the robot's state, or are clipped.
    """
    if arguments_of("control", task.control) > 1:
        return None
    size = task.action_size
    low, high = (np.asarray(task.control(jnp.full(size, each)), float) for each in (-1.0, 1.0))
    action = np.random.default_rng(0).uniform(-1.0, 1.0, size)
    between = low + 0.5 * (action + 1.0) * (high - low) if low.shape == action.shape else None
    if between is None or not np.allclose(between, np.asarray(task.control(jnp.asarray(action))), atol=1e-4):
        return None
    return {"low": low.tolist(), "high": high.tolist()}


def _joint_steps(task: RobotTask) -> dict[str, Any] | None:
    """Return the rule of a task whose actions move the targets of joints in small steps, in no other way."""
    plain = isinstance(task, JointDeltas) and type(task).control is JointDeltas.control
    return task.step_rule() if isinstance(task, JointDeltas) and plain else None


def _recorded(policy: Policy, environment: Environment) -> tuple[np.ndarray, np.ndarray]:
    """Return observations and desired goals of episodes."""
    key = jax.random.key(1)
    found = run_episodes(
        policy.agent, policy.agent_state, environment, key, num_episodes=RECORDED_EPISODES, keep_steps=True
    )
    assert found.steps is not None
    alive = np.asarray(found.alive)
    return np.asarray(found.steps.observation)[alive], np.asarray(found.steps.desired_goal)[alive]
