"""The text of a task file: what the model has as comments, and a task that reaches for a point."""

import keyword
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import mujoco

from kilolayer.envs.names import actuator_names, xyz
from kilolayer.envs.new_task.survey import Survey, survey
from kilolayer.envs.quaternions import rotate
from kilolayer.envs.robots.mjcf import load_mjcf, one_line
from kilolayer.envs.robots.servos import add_servos
from kilolayer.errors import ConfigurationError

TEXT = '''\
"""{title}

{usage}
"""

import dataclasses

import jax
import jax.numpy as jnp

from kilolayer.envs import {imports}
{rotate}from kilolayer.runs import LAPTOP, register_preset

# What {file} has, by name:
#
{listing}

GOAL_LOW = jnp.array({low})
GOAL_HIGH = jnp.array({high})
"""Corners of the box that goals are drawn from: x, y, z in metres, in world axes. {box}"""


class {cls}(RobotTask):
    """Move {body_text} to a point. Observation: joint positions and velocities; goal: x, y, z."""

    mjcf = {mjcf}
    control_step = {control_step}  # seconds between two actions: {substeps}
    # {because}.
    goal_body = {goal_body}
    success_distance = {success_distance}  # metres
{build}{tip}
    def draw_goal(self, key):
        """Draw a point in the box."""
        return jax.random.uniform(key, (3,), minval=GOAL_LOW, maxval=GOAL_HIGH)

    def draw_start(self, key):
        """Begin in {start}, hardly moving."""
        speed = jax.random.uniform(key, self.home.qvel.shape, minval=-0.05, maxval=0.05)
        return dataclasses.replace(self.home, qvel=speed)

    # An episode ends early where the robot fails; by default it never does:
    #
    # def failed(self, state):
    #     return state.position[self.body({goal_body})][2] < 0.1

    # What the policy sees; give `observation_names` with it, a text with a unit for each entry:
    #
    # def observe(self, state):
    #     return jnp.concatenate([state.qpos, state.qvel])


register(EnvironmentSpec({name}, {summary}, task={cls}, episode_length={episode_length}))
register_preset({name}, {{**LAPTOP, "min_replay": {episode_length}}})
'''

BUILD = '''
    def build(self):
        """Return the model with position servos, which take targets of its joints."""
        return add_servos(super().build(), kp={kp})
'''

TIP = '''
    goal_names = {names}

    def achieved_goal(self, state):
        """Return the end of the body; its origin is where it turns."""
        body = self.body({goal_body})
        return state.position[body] + rotate(state.quaternion[body], jnp.array({offset}))
'''

WIDTH = 116
"""Characters of a line of comments."""

RESERVED = frozenset({"EnvironmentSpec", "RobotTask"})
"""Names that the file imports."""


def read_model(path: Path, *, servo_kp: float | None = None) -> mujoco.MjModel:
    """Read the model that a task is to be written for.

    Args:
        path: an MJCF or URDF file.
        servo_kp: stiffness of servos to add; None for none.

    Raises:
        ConfigurationError: if the file is missing, is no model, or cannot get servos.
    """
    spec = load_mjcf(path)
    try:
        return (spec if servo_kp is None else add_servos(spec, kp=servo_kp)).compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ConfigurationError(f"model file {str(path)!r} does not compile: {one_line(error)}") from None


def write_task(
    path: Path,
    model: mujoco.MjModel,
    name: str,
    *,
    folder: Path,
    usage: Sequence[str],
    servo_kp: float | None = None,
) -> tuple[str, Survey]:
    """Write a task for a model, with what the model has as comments.

    Args:
        path: the model's file.
        model: the model, with actuators.
        name: name of the environment.
        folder: the folder in which the task's file will be.
        usage: lines on how to go on, for the head of the file.
        servo_kp: as for `read_model`.

    Returns:
        The text of the file, and what it begins with.

    Raises:
        ConfigurationError: as `survey`.
    """
    found = survey(model)
    file = safe(path.name)
    mjcf = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    body = safe(found.goal_body)
    point = body if found.offset is None else f"the end of {body}"
    imports = ["EnvironmentSpec", "RobotTask", *(["add_servos"] if servo_kp is not None else []), "register"]
    text = TEXT.format(
        title=f"The robot of {file}: move {point} to a point.",
        usage="\n".join(map(safe, usage)),
        imports=", ".join(imports),
        file=file,
        listing="\n".join(_listing(model)),
        low=list(found.low),
        high=list(found.high),
        box="The base begins in its middle." if found.moves else "In random poses the body is in it.",
        cls=class_name(name),
        body_text=point,
        mjcf=_literal(mjcf),
        control_step=found.control_step,
        substeps=f"{found.substeps} time steps of the model" if found.substeps > 1 else "a time step of the model",
        because=f"Chosen as {found.because}; any other body of the list will do",
        goal_body=_literal(found.goal_body),
        success_distance=found.success_distance,
        build="" if servo_kp is None else BUILD.format(kp=servo_kp),
        rotate="" if found.offset is None else f"from {rotate.__module__} import rotate\n",
        tip=""
        if found.offset is None
        else TIP.format(
            names=f"({', '.join(map(_literal, xyz(f'end of {body}')))})",
            goal_body=_literal(found.goal_body),
            offset=list(found.offset),
        ),
        start="the first keyframe" if model.nkey else "the model's zero pose",
        name=_literal(name),
        summary=_literal(f"{file}: {point} goes to a point"),
        episode_length=500 if found.moves else 200,
    )
    return text, found


def class_name(name: str) -> str:
    """Return the name of the task's class, such as `MyRobot` for `my_robot`."""
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return f"{camel}Task" if camel in RESERVED or keyword.iskeyword(camel) else camel


def environment_name(stem: str) -> str:
    """Return a name for an environment that resembles that of a file."""
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if name[:1].isalpha() else f"robot_{name}".rstrip("_")


def check_name(name: str) -> None:
    """Check that an environment can have a name.

    Raises:
        ConfigurationError: if it holds other characters than letters, digits and underscores.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigurationError(f"name={name!r} must begin with a letter and hold letters, digits and underscores")


def safe(text: str) -> str:
    """Return text that cannot end a comment or a docstring: without line breaks, backslashes and triple quotes."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown.replace("\\", "/").replace('"""', "'''")


def _literal(text: str) -> str:
    """Return text as a Python string in double quotes."""
    literal = ascii(text)
    return literal if '"' in text or literal[0] == '"' else f'"{literal[1:-1]}"'


def _listing(model: mujoco.MjModel) -> list[str]:
    """Return what a model has, as comments."""
    kinds = {
        "bodies": [_name(model.body(number), "body") for number in range(1, model.nbody)],
        "joints": [_joint(model, number) for number in range(model.njnt)],
        "actuators": list(actuator_names(model)),
        "sites": [_name(model.site(number), "site") for number in range(model.nsite)],
        "sensors": [_sensor(model, number) for number in range(model.nsensor)],
        "keyframes": [_name(model.key(number), "key") for number in range(model.nkey)],
        "cameras": [_name(model.camera(number), "camera") for number in range(model.ncam)],
    }
    lines = []
    for kind, names in kinds.items():
        text = safe(", ".join(names)) if names else "none"
        lines += textwrap.wrap(
            f"{kind + ':':11}{text}",
            WIDTH,
            initial_indent="# ",
            subsequent_indent=f"# {'':11}",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _name(element: object, kind: str) -> str:
    return getattr(element, "name", "") or f"{kind} {getattr(element, 'id', '')} (no name)"


def _joint(model: mujoco.MjModel, number: int) -> str:
    kind = mujoco.mjtJoint(model.jnt_type[number])
    text = f"{_name(model.joint(number), 'joint')} {kind.name.removeprefix('mjJNT_').lower()}"
    if not model.jnt_limited[number] or kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
        return text
    low, high = model.jnt_range[number]
    return f"{text} {low:.4g} to {high:.4g} {'rad' if kind == mujoco.mjtJoint.mjJNT_HINGE else 'm'}"


def _sensor(model: mujoco.MjModel, number: int) -> str:
    kind = mujoco.mjtSensor(model.sensor_type[number]).name.removeprefix("mjSENS_").lower()
    return f"{_name(model.sensor(number), 'sensor')} {kind}"
