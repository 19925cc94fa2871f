"""`kilolayer new-task`: write a task file for a robot model, to begin with."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kilolayer.cli.options import parse
from kilolayer.cli.user_code import FLAG
from kilolayer.envs import registry
from kilolayer.envs.new_task.write import check_name, environment_name, read_model, write_task
from kilolayer.errors import ConfigurationError, UnknownNameError
from kilolayer.files import write_whole


@dataclasses.dataclass(frozen=True)
class NewTaskOptions:
    """Write a commented Python file with a task for a robot model (MJCF or URDF): move one of its bodies to a point.

    The file lists bodies, joints, actuators, sites, sensors, keyframes and cameras of the model, and says which body
    was chosen and why. It passes `kilolayer envs check` and trains; edit it until it is the task that you want.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model's file."""
    output: Path | None = None
    """Path to write: a Python file; None for NAME.py in the current directory."""
    name: str | None = None
    """Name of the environment; None for that of the model's file."""
    servo_kp: float | None = None
    """Give every hinge and slide joint that has no actuator a position servo of this stiffness, as models from URDF
    need."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(NewTaskOptions, arguments, command="new-task")
    name = environment_name(options.model.stem) if options.name is None else options.name
    output = Path(f"{name}.py") if options.output is None else options.output
    _check(options, name, output)
    model = read_model(options.model, servo_kp=options.servo_kp)
    if not model.nu:
        raise ConfigurationError(
            f"model file {str(options.model)!r} has no actuators, so there is nothing to act with; --servo-kp 100 adds "
            "position servos, or give the MJCF an <actuator>"
        )
    imported = ("kilolayer", FLAG, output.name)
    usage = [shlex.join((*imported, *words, name)) for words in (("envs", "check"), ("train",))]
    text, found = write_task(options.model, model, name, folder=output.parent, usage=usage, servo_kp=options.servo_kp)
    write_whole(output, text)
    point = found.goal_body if found.offset is None else f"the end of {found.goal_body}"
    print(f"{output}: environment {name}, goal: where {point} is ({found.because})")
    print(f"next: {shlex.join(('kilolayer', FLAG, str(output), 'envs', 'check', name))}")
    return 0


def _check(options: NewTaskOptions, name: str, output: Path) -> None:
    """Check the name and the file to write, before the model is read."""
    check_name(name)
    try:
        registry.spec(name)
    except UnknownNameError:
        pass
    else:
        raise ConfigurationError(f"an environment named {name!r} is registered already; give another with --name")
    if options.servo_kp is not None and not 0.0 < options.servo_kp < math.inf:
        raise ConfigurationError(f"servo_kp={options.servo_kp} must be a number above 0")
    if output.suffix != ".py":
        raise ConfigurationError(f"output={str(output)!r} must be a Python file, NAME.py")
    if output.exists() or output.is_symlink():
        raise ConfigurationError(f"output={str(output)!r} exists already; give another with --output")
    if not output.parent.is_dir():
        raise ConfigurationError(f"output={str(output)!r} is in a folder that does not exist")
