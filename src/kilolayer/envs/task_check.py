"""What a task returns, checked once by its shapes before anything is compiled: every method, one clear line each."""

import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.envs.drawing import Ghost, ghost_of, mark_of
from kilolayer.envs.environment import Environment
from kilolayer.envs.interface import Task
from kilolayer.envs.methods import first_memory, in_full, strong
from kilolayer.envs.robot_state import Command, Start
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError, KilolayerError

CURES = {
    jax.errors.TracerBoolConversionError: "`if`, `and` or `while` on a number that JAX traces; use jnp.where or &",
    jax.errors.TracerArrayConversionError: "numpy on an array that JAX traces; use jax.numpy",
    jax.errors.TracerIntegerConversionError: "an index that JAX traces; use jnp.take or jax.lax.dynamic_slice",
    jax.errors.ConcretizationTypeError: "float() or int() on a number that JAX traces; use jnp functions",
}
"""What JAX refuses in a function that it traces, and what to write there."""


def check_attributes(task: Task) -> None:
    """Check the attributes of a task that its model and engine are built from.

    Raises:
        ConfigurationError: naming the attribute, its value and what would be right.
    """
    name = type(task).__name__
    engines = getattr(task, "engines", None)
    if isinstance(engines, str) or not _items(engines) or not all(isinstance(one, str) for one in _items(engines)):
        raise ConfigurationError(f'task {name}: engines={engines!r} must be names of engines, such as ("mujoco",)')
    if not isinstance(task, RobotTask):
        return
    step, distance = task.control_step, task.success_distance
    if not _is_number(step) or not 0.0 < step < math.inf:
        raise ConfigurationError(f"task {name}: control_step={step!r} must be a number of seconds above 0")
    if distance is not None and (not _is_number(distance) or not distance > 0.0):
        raise ConfigurationError(f"task {name}: success_distance={distance!r} must be a number above 0, or None")
    if task.goal_body is not None and not isinstance(task.goal_body, str):
        raise ConfigurationError(f"task {name}: goal_body={task.goal_body!r} must be the name of a body")
    for attribute in ("bodies", "sites", "sensors", "quantities"):
        value = getattr(task, attribute)
        if isinstance(value, str) or not all(isinstance(one, str) for one in _items(value)):
            raise ConfigurationError(f"task {name}: {attribute}={value!r} must be names of {attribute}, in a tuple")
    if task.keyframe is not None and not isinstance(task.keyframe, str):
        raise ConfigurationError(f"task {name}: keyframe={task.keyframe!r} must be the name of a keyframe")
    if not _is_number(task.settle) or not 0.0 <= task.settle < math.inf:
        raise ConfigurationError(f"task {name}: settle={task.settle!r} must be a number of seconds from 0 on")
    share = task.servo_share
    if share is not None and (not _is_number(share) or not 0.0 < share <= 2.0):
        raise ConfigurationError(f"task {name}: servo_share={share!r} must be a number above 0 and up to 2, or None")
    if task.mjcf is not None and not isinstance(task.mjcf, str | Path):
        raise ConfigurationError(f"task {name}: mjcf={task.mjcf!r} must be the path of an MJCF file")


def check_methods(environment: Environment) -> None:
    """Check shapes and types of everything that the task of an environment returns.

    Raises:
        ConfigurationError: naming the task, the method, what it returns and what would be right.
    """
    task, name = environment.task, type(environment.task).__name__
    if isinstance(task, RobotTask) and not task.action_size:
        raise ConfigurationError(
            f"task {name}: the model has no actuators, so there is nothing to act with; "
            "return add_servos(super().build(), kp=...) from its `build`, or give the MJCF an <actuator>"
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    goal_size = _call(name, "achieved_goal", lambda: environment.goal_size)
    observation_size = _call(name, "observe", lambda: environment.observation_size)
    if isinstance(task, RobotTask) and type(task).reset is RobotTask.reset:
        start = _shape(name, "draw_start", task.draw_start, key)
        goal = _shape(name, "draw_goal", task.draw_goal, key)
        source = "draw_start"
    else:
        drawn = _shape(name, "reset", task.reset, key)
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise ConfigurationError(f"task {name}: reset returns {_described(drawn)}; it must return start and goal")
        (start, goal), source = drawn, "reset"
    if isinstance(task, RobotTask):
        if not isinstance(start, Start):
            raise ConfigurationError(f"task {name}: {source} returns {_described(start)}; it must return a Start")
        _array(name, f"{source} (qpos)", start.qpos, (task.model.nq,))
        _array(name, f"{source} (qvel)", start.qvel, (task.model.nv,))
        more: dict[str, tuple[Any, tuple[int, ...]]] = {
            "act": (start.act, (task.model.na,)),
            "control": (start.control, (task.model.nu,)),
        }
        if start.mocap is not None:
            more["mocap.position"] = (start.mocap.position, (task.model.nmocap, 3))
            more["mocap.quaternion"] = (start.mocap.quaternion, (task.model.nmocap, 4))
        for part, (found, shape) in more.items():
            if found is not None:
                _array(name, f"{source} ({part})", found, shape)
    _array(name, "draw_goal" if source == "draw_start" else "reset (goal)", goal, (goal_size,))

    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), start)
    physics = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), jax.eval_shape(environment.engine.init, one)
    )
    goal = jax.ShapeDtypeStruct((goal_size,), jnp.float32)
    action = jax.ShapeDtypeStruct((environment.action_size,), jnp.float32)
    memory = _check_memory(task, name, physics, action, key)

    def told(method: str, *arguments: Any) -> Any:
        return _shape(name, method, in_full(method, getattr(task, method)), *arguments)

    control = told("control", action, physics, memory)
    if isinstance(control, Command) and control.mocap is not None:
        nmocap = task.model.nmocap if isinstance(task, RobotTask) else 0
        _array(name, "control (mocap.position)", control.mocap.position, (nmocap, 3))
        _array(name, "control (mocap.quaternion)", control.mocap.quaternion, (nmocap, 4))
    control = control.control if isinstance(control, Command) else control
    _array(name, "control", control, (task.model.nu,) if isinstance(task, RobotTask) else None)
    _array(name, "observe", told("observe", physics, memory, key), (observation_size,))
    _array(name, "achieved_goal", told("achieved_goal", physics, memory), (goal_size,))
    _array(name, "current_goal", told("current_goal", physics, goal, memory), (goal_size,))
    _array(name, "success", _shape(name, "success", task.success, goal, goal), (), bool)
    _array(name, "reward", _shape(name, "reward", task.reward, goal, goal), ())
    _array(name, "failed", told("failed", physics, memory), (), bool)
    _check_drawn_goal(task, name, np.zeros(goal_size, np.float32))


def _check_memory(task: Any, name: str, physics: Any, action: Any, key: Any) -> Any:
    """Return the shapes of what a task remembers, after checking that a step does not change them."""
    memory = getattr(task, "memory", None)
    if memory is None:
        return None
    before = _shape(name, "memory", lambda *of: first_memory(memory, *of), physics, key)
    if not hasattr(task, "remember"):
        return before
    after = _shape(name, "remember", lambda *of: strong(task.remember(*of)), before, action, physics, key)
    structures: list[Any] = [jax.tree.structure(each) for each in (before, after)]
    if structures[0] != structures[1]:
        raise ConfigurationError(f"task {name}: remember returns another structure than the memory has at the start")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ConfigurationError(
                f"task {name}: remember returns memory{jax.tree_util.keystr(path)} of shape {new.shape}, {new.dtype}; "
                f"it must be {old.shape}, {old.dtype}, as at the start"
            )
    return before


def _check_drawn_goal(task: Any, name: str, goal: np.ndarray) -> None:
    """Check what pictures show of a goal: a mark or none, a ghost or none."""
    ghost = _call(name, "ghost", lambda: ghost_of(task, goal))
    if ghost is not None and not isinstance(ghost, Ghost):
        raise ConfigurationError(f"task {name}: ghost returns {_described(ghost)}; it must return a Ghost or None")
    found = _call(name, "marker", lambda: mark_of(task, goal))
    if found is None:
        return
    try:
        position, radius = found
        fits = np.shape(position) == (3,) and np.ndim(radius) == 0 and float(radius) > 0.0
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigurationError(
            f"task {name}: marker returns {_described(found)}; it must return a position of shape (3,) and a radius, "
            "or None"
        )


def _shape(name: str, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a method returns, with shapes in place of arrays."""
    kept: list[Any] = []

    def traced(*values: Any) -> Any:
        kept[:] = [function(*values)]
        return jax.tree.map(jnp.asarray, kept[0])

    shapes = _call(name, method, lambda: jax.eval_shape(traced, *arguments))
    return shapes if kept[0] is not None else None


def _call(name: str, method: str, function: Callable[[], Any]) -> Any:
    """Call a function of a task; raise what it raises as one line with the place in the user's file."""
    try:
        return function()
    except KilolayerError:
        raise
    except Exception as error:
        cure = next((text for kind, text in CURES.items() if isinstance(error, kind)), None)
        text = f"has {cure}" if cure else f"raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ConfigurationError(f"task {name}: {method} {text} ({_place(error)})") from error


def _place(error: Exception) -> str:
    """Return file and line of the innermost frame that belongs neither to JAX nor to this library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not any(f"/{package}/" in Path(frame.filename).as_posix() for package in ("jax", "kilolayer", "equinox"))
    ]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _array(name: str, method: str, found: Any, shape: tuple[int, ...] | None, kind: type = float) -> None:
    """Check that a method returns one array of this shape; None for any vector."""
    right = f"shape {shape}" if shape is not None else "one axis"
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ConfigurationError(
            f"task {name}: {method} returns {_described(found)}; it must return one JAX array of {right}"
        )
    if len(found.shape) != 1 if shape is None else found.shape != shape:
        raise ConfigurationError(f"task {name}: {method} returns shape {found.shape}; it must be {right}")
    wanted, text = (jnp.bool_, "bool") if kind is bool else (jnp.float32, "float32")
    if found.dtype != wanted:
        raise ConfigurationError(f"task {name}: {method} returns {found.dtype}; it must return {text}")


def _described(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _items(value: Any) -> tuple[Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        return (None,)
