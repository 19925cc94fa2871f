"""What of a model an engine cannot move. Other engines than MuJoCo's own leave some physics out without a word."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import mujoco
import numpy as np

from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

NAMED = 3
"""Elements of a model that a line names at most."""


def _joints(used: Callable[[Any], Any]) -> Callable[[Any], list[str]]:
    return lambda model: _names(model, "joint", used(model))


def _joints_of_dofs(used: Callable[[Any], Any]) -> Callable[[Any], list[str]]:
    return lambda model: _names(model, "joint", np.isin(np.arange(model.njnt), model.dof_jntid[_any(used(model))]))


def _tendons(used: Callable[[Any], Any]) -> Callable[[Any], list[str]]:
    return lambda model: _names(model, "tendon", used(model))


def _actuators(used: Callable[[Any], Any]) -> Callable[[Any], list[str]]:
    return lambda model: _names(model, "actuator", used(model))


def _bodies(used: Callable[[Any], Any]) -> Callable[[Any], list[str]]:
    return lambda model: _names(model, "body", used(model))


FEATURES: Mapping[str, Callable[[Any], list[str]]] = MappingProxyType(
    {
        "equality constraints": lambda model: _names(model, "equality", np.ones(model.neq, bool)),
        "tendons": _tendons(lambda model: np.ones(model.ntendon, bool)),
        "gravity compensation": _bodies(lambda model: model.body_gravcomp != 0),
        "fluid forces": lambda model: ["density"] * bool(model.opt.density) + ["viscosity"] * bool(model.opt.viscosity),
        "bodies without a joint": _bodies(lambda model: (model.body_dofnum == 0) & (np.arange(model.nbody) > 0)),
        "joint friction loss": _joints_of_dofs(lambda model: model.dof_frictionloss > 0),
        "joint stiffness": _joints(lambda model: model.jnt_stiffness != 0),
        "joint damping": _joints_of_dofs(lambda model: model.dof_damping != 0),
        "joint armature": _joints_of_dofs(lambda model: model.dof_armature != 0),
        "joint force limits": _joints(lambda model: model.jnt_actfrclimited != 0),
        "joint polynomials": lambda model: (
            _joints(lambda model: _any(model.jnt_stiffnesspoly))(model)
            + _joints_of_dofs(lambda model: model.dof_dampingpoly)(model)
        ),
        "yielding springs": lambda model: (
            _joints(lambda model: model.jnt_springyield != 0)(model)
            + _tendons(lambda model: model.tendon_springyield != 0)(model)
        ),
        "tendon polynomials": _tendons(lambda model: _any(model.tendon_stiffnesspoly) | _any(model.tendon_dampingpoly)),
        "activations": _actuators(lambda model: model.actuator_dyntype != mujoco.mjtDyn.mjDYN_NONE),
        "early activations": _actuators(lambda model: model.actuator_actearly != 0),
        "actuator delay": _actuators(lambda model: model.actuator_delay != 0),
        "actuator damping": _actuators(lambda model: (model.actuator_damping != 0) | _any(model.actuator_dampingpoly)),
        "actuator armature": _actuators(lambda model: model.actuator_armature != 0),
    }
)
"""Kinds of physics, and the elements of a model that have them."""

DROPPED_BY_MJX = (
    "joint polynomials",
    "yielding springs",
    "tendon polynomials",
    "early activations",
    "actuator delay",
    "actuator damping",
    "actuator armature",
)
CRASHES_SPRING = ("fluid forces", "bodies without a joint")
"""Brax's spring leaves out all features. These end it in an error of its own, so that they cannot be left out."""

TUNED_FOR_SPRING = ("joint stiffness", "joint damping", "joint armature")
"""Brax takes custom numbers of the model in their place, such as `constraint_stiffness`."""


def dropped(task: RobotTask, features: Sequence[str]) -> dict[str, list[str]]:
    """Return which of these kinds of physics the model of a task has, with the names of the elements."""
    return {name: elements for name in features if (elements := FEATURES[name](task.model))}


def check_features(task: RobotTask, engine: str, features: Sequence[str], *, never: Sequence[str] = ()) -> None:
    """Check that an engine can move a model.

    Args:
        task: with the model; its `leave_out` names kinds of physics that may be left out.
        engine: name of the engine.
        features: kinds of physics that the engine leaves out.
        never: those of them that cannot be left out.

    Raises:
        ConfigurationError: naming the physics and the elements of the model.
    """
    for name in task.leave_out:
        if name not in FEATURES:
            raise ConfigurationError(
                f"task {type(task).__name__}: leave_out has {name!r}; there are {', '.join(FEATURES)}"
            )
    found = dropped(task, features)
    missing = {name: found[name] for name in found if name in never or name not in task.leave_out}
    if not missing:
        return
    parts = []
    for name, elements in missing.items():
        more = ", ..." if len(elements) > NAMED else ""
        parts.append(f"{name} ({', '.join(elements[:NAMED])}{more})")
    allowed = [name for name in missing if name not in never]
    way_out = f"; to train without, set leave_out = {tuple(allowed)} in the task" if allowed == [*missing] else ""
    raise ConfigurationError(
        f"engine {engine!r} cannot run task {type(task).__name__}: it cannot move {', '.join(parts)}{way_out}"
    )


def is_tuned_for_spring(model: mujoco.MjModel) -> bool:
    """Return whether a model has the numbers that Brax's spring takes in place of stiffness, damping and armature."""
    names = [model.numeric(number).name for number in range(model.nnumeric)]
    return any(name.startswith("constraint_") for name in names)


def _any(values: np.ndarray) -> np.ndarray:
    """Return for each element whether one of its numbers is not zero."""
    return np.any(np.asarray(values) != 0, axis=tuple(range(1, np.ndim(values))))


def _names(model: Any, kind: str, used: Any) -> list[str]:
    """Return the names of the elements that are used."""
    element = getattr(model, kind)
    return [element(int(number)).name or f"{kind} {number}" for number in np.flatnonzero(used)]
