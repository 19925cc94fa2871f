"""What the entries of observations, goals and actions are on the robot: unit, joint and body, read from their names."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import mujoco

from kilolayer.envs.interface import Task
from kilolayer.envs.names import Part, entry_names

IN_PARENTHESES = re.compile(r" \((?:[-+.e\d]+ to [-+.e\d]+ ?)?([^(),]*)\)$")
"""The unit at the end of a name, behind the range of an action if there is one."""


class Entry(NamedTuple):
    """An entry of an observation, a goal or an action."""

    name: str
    """As the task gives it, with the unit."""
    unit: str
    """Empty for a number without one, such as a cosine."""
    joint: str
    """The joint of the model that it belongs to; empty if it is none's."""
    body: str
    """The body of the model that it belongs to, or that its joint moves; empty if the model has none of this name."""


def entries_of(task: Task, part: Part) -> tuple[Entry, ...] | None:
    """Return the entries of an observation, a goal or an action.

    Args:
        task: the task. A joint, actuator or body of its MuJoCo model is recognised by its name in that of the entry.
        part: which of the three.

    Returns:
        One for each entry, in order; None if the task names none.
    """
    names = entry_names(task, part)
    if names is None:
        return None
    model = getattr(task, "model", None)
    places = {} if model is None else dict(_places(model))
    return tuple(_entry(name, places) for name in names)


def common_unit(task: Task, part: Part) -> str:
    """Return the unit that all entries with one share, such as m; empty if they differ, or the task names none."""
    units = {entry.unit for entry in entries_of(task, part) or () if entry.unit}
    return units.pop() if len(units) == 1 else ""


def _entry(name: str, places: dict[str, tuple[str, str]]) -> Entry:
    unit = IN_PARENTHESES.search(name)
    words = name[: unit.start()] if unit else name
    known = (place for place in places if re.search(rf"(?<!\w){re.escape(place)}(?!\w)", words))
    joint, body = places.get(max(known, key=len, default=""), ("", ""))
    return Entry(name, unit[1] if unit else "", joint, body)


def _places(model: mujoco.MjModel) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names of bodies, actuators and joints, each with its joint and body; joints come last, so they win."""
    bodies = [model.body(number).name for number in range(model.nbody)]
    joints = [(model.joint(number).name, bodies[model.jnt_bodyid[number]]) for number in range(model.njnt)]
    yield from ((body, ("", body)) for body in bodies if body)
    for number in range(model.nu):
        name = model.actuator(number).name
        if name and model.actuator_trntype[number] == mujoco.mjtTrn.mjTRN_JOINT:
            yield name, joints[model.actuator_trnid[number, 0]]
    yield from ((joint, (joint, body)) for joint, body in joints if joint)
