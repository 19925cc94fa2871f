"""Robots that differ: friction, masses, damping and the strength of actuators, drawn for each robot and episode."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError

Range = tuple[float, float]


class RandomPhysics(RobotTask):
    """Each robot and episode has a model of its own: its numbers are the model's, times factors that are drawn.

    Factors are uniform in the logarithm, so that half as much and twice as much are as likely. A task below that
    defines `randomize`, too, is asked first.

    Raises:
        ConfigurationError: if no range is set, or one is not valid.
    """

    friction_scale: Range | None = None
    """Least and greatest factor of the sliding friction of all geoms together."""
    mass_scale: Range | None = None
    """Least and greatest factor of the mass and inertia of each body."""
    damping_scale: Range | None = None
    """Least and greatest factor of the damping of each degree of freedom."""
    strength_scale: Range | None = None
    """Least and greatest factor of the force of each actuator: of the torque of a motor, of the stiffness and damping
    of a servo."""

    def _scales(self) -> dict[str, Range]:
        """Return the ranges that are set, by what they are of."""
        every = {name: getattr(self, f"{name}_scale") for name in ("friction", "mass", "damping", "strength")}
        found = {name: scale for name, scale in every.items() if scale is not None}
        owner = type(self).__name__
        for name, scale in found.items():
            if not (len(scale) == 2 and 0.0 < scale[0] <= scale[1] < math.inf):
                raise ConfigurationError(
                    f"task {owner}: {name}_scale={scale!r} must be the least and the greatest factor, both above 0"
                )
        if not found:
            raise ConfigurationError(
                f"task {owner}: RandomPhysics draws nothing; set {', '.join(f'{name}_scale' for name in every)} or one "
                "of them"
            )
        return found

    def randomize(self, key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """Draw fields of the model for one robot."""
        below_key, friction_key, mass_key, damping_key, strength_key = jax.random.split(key, 5)
        below = super().randomize
        drawn: dict[str, Array] = {} if below is None else dict(below(below_key))
        scales, model = self._scales(), self.model

        def field(name: str) -> Array:
            return drawn[name] if name in drawn else jnp.asarray(getattr(model, name), jnp.float32)

        def scaled(name: str, factor: Float[Array, " elements"]) -> Array:
            return field(name) * factor.reshape(-1, *(1,) * (field(name).ndim - 1))

        if "friction" in scales:
            factor = _factors(friction_key, (), scales["friction"])
            drawn["geom_friction"] = field("geom_friction").at[:, 0].multiply(factor)
        if "mass" in scales:
            factor = _factors(mass_key, (model.nbody,), scales["mass"])
            drawn |= {name: scaled(name, factor) for name in ("body_mass", "body_inertia")}
        if "damping" in scales:
            drawn["dof_damping"] = scaled("dof_damping", _factors(damping_key, (model.nv,), scales["damping"]))
        if "strength" in scales:
            factor = _factors(strength_key, (model.nu,), scales["strength"])
            drawn |= {name: scaled(name, factor) for name in ("actuator_gainprm", "actuator_biasprm")}
        return drawn

    @property
    def random_parts(self) -> tuple[str, ...]:
        """What is drawn to make a policy robust, in words."""
        factors = ", ".join(f"{name} x {low:g} to {high:g}" for name, (low, high) in self._scales().items())
        return (*super().random_parts, f"of each robot and episode: {factors}")


def _factors(key: PRNGKeyArray, shape: tuple[int, ...], scale: Range) -> Float[Array, "..."]:
    low, high = map(math.log, scale)
    return jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high))
