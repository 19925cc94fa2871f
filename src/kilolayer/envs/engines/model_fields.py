"""Fields of a model that differ between robots: which ones an engine takes, and the constants that follow from them."""

from collections.abc import Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import Array, Bool, Float

from kilolayer.envs.methods import first_memory, in_full
from kilolayer.envs.robot_state import Command
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError, nearest_names

FIELDS: Final = (
    "geom_friction",
    "geom_solref",
    "geom_solimp",
    "body_mass",
    "body_inertia",
    "dof_damping",
    "dof_armature",
    "dof_frictionloss",
    "jnt_stiffness",
    "actuator_gainprm",
    "actuator_biasprm",
    "actuator_forcerange",
    "opt.gravity",
)
"""What `RobotTask.randomize` may draw, named and shaped as in MuJoCo's model. Friction loss counts only where the model
has some."""

INPUTS: Final = ("body_mass", "body_inertia", "dof_armature")
"""Fields from which MuJoCo computes constants (`mj_setConst`)."""

CONSTANTS: Final = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "dof_M0",
    "tendon_invweight0",
    "actuator_acc0",
)
"""The constants that follow from them."""

Fields = Mapping[str, Float[Array, "..."]]
"""Fields of a model by name, with any leading axes."""


def field_of(model: Any, name: str) -> np.ndarray:
    """Return a field of a model, such as `body_mass` or `opt.gravity`."""
    owner, _, attribute = name.rpartition(".")
    return np.asarray(getattr(getattr(model, owner) if owner else model, attribute))


def check_randomize(task: RobotTask, engine: str, *, able: bool = True) -> None:
    """Check what a task draws of its model.

    Args:
        task: the task.
        engine: name of the engine.
        able: whether robots of the engine can differ in their models.

    Raises:
        ConfigurationError: in one line, if they cannot, or the task draws something else than fields of its model.
    """
    if task.randomize is None:
        return
    name = type(task).__name__
    if not able:
        raise ConfigurationError(
            f"engine {engine!r} cannot run task {name}: its robots cannot differ in what `randomize` draws"
        )
    drawn = jax.eval_shape(task.randomize, jax.random.key(0))
    if not isinstance(drawn, dict) or not drawn:
        raise ConfigurationError(
            f"task {name}: randomize returns {drawn!r}; it must return a dict of fields of the model, such as "
            '{"geom_friction": ...}'
        )
    for field, value in drawn.items():
        if field not in FIELDS:
            listing = f"there are {', '.join(FIELDS)}"
            raise ConfigurationError(
                f"task {name}: randomize draws {field!r}, which cannot differ between robots; "
                f"{nearest_names(str(field), FIELDS, listing=listing)}"
            )
        shape = field_of(task.model, field).shape
        if value.shape != shape or value.dtype != jnp.float32:
            raise ConfigurationError(
                f"task {name}: randomize draws {field} of shape {value.shape}, {value.dtype}; the whole field is "
                f"{shape}, float32"
            )


class ModelFields:
    """Completes the fields that were drawn of a model by the constants that follow from them."""

    def __init__(self, model: Any):
        """Prepare for a model."""
        self.model = model

    def complete(self, drawn: Fields | None, where: Bool[Array, " num_envs"]) -> Fields | None:
        """Return drawn fields of all robots, with constants.

        Args:
            drawn: with a leading axis over robots; None if nothing is drawn.
            where: robots whose constants are asked for; those of others mean nothing.
        """
        inputs = {name: part for name, part in (drawn or {}).items() if name in INPUTS}
        if drawn is None or not inputs:
            return drawn
        shapes = {
            name: jax.ShapeDtypeStruct((*where.shape, *field_of(self.model, name).shape), jnp.float32)
            for name in CONSTANTS
            if field_of(self.model, name).size
        }
        constants = jax.pure_callback(self._constants, shapes, where, inputs, vmap_method="broadcast_all")
        return {**drawn, **constants}

    def _constants(self, where: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Compute constants on the host. Several leading axes are merged."""
        where = np.asarray(where)
        ids = np.flatnonzero(where.reshape(-1))
        # A batch of its own: what MuJoCo derives must depend on the inputs alone, not on robots of the past.
        batch = mujoco.batch.Batch(self.model, nsim=max(1, ids.size), nthread=0 if ids.size > 1 else 1)
        if ids.size:
            for name, part in inputs.items():
                shape = field_of(self.model, name).shape
                batch.expand(name)[...] = np.asarray(part).reshape(-1, *shape)[ids]
            batch.set_const()
        found = {}
        for name in CONSTANTS:
            shared = field_of(self.model, name)
            if not shared.size:
                continue
            rows = np.broadcast_to(shared, (where.size, *shared.shape)).astype(np.float32)
            own = batch.expanded(name) if ids.size else None
            if own is not None:
                rows[ids] = own
            found[name] = rows.reshape(*where.shape, *shared.shape)
        return found


def check_pushes(task: RobotTask, engine: str) -> None:
    """Check that a task does not push bodies, for an engine that cannot.

    Raises:
        ConfigurationError: if its controls are commands with forces (`Command.force`).
    """

    def control(key: Any) -> Any:
        state = task._zero_state()
        memory = first_memory(task.memory, state, key)
        return in_full("control", task.control)(jnp.zeros(task.action_size), state, memory)

    found = jax.eval_shape(control, jax.random.key(0))
    if isinstance(found, Command) and found.force is not None:
        raise ConfigurationError(
            f"engine {engine!r} cannot run task {type(task).__name__}: it cannot push bodies, which `control` asks for "
            "(Command.force)"
        )
