"""Numbers that are not finite: where in a training step the first one appeared."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Faults(eqx.Module):
    """Where in a training step the first number appeared that is not finite; -1 where all are finite."""

    action_step: Int[Array, ""]
    """Step of the unroll in which the policy gave such an action."""
    physics_step: Int[Array, ""]
    """Step of the unroll in which the physics gave such an observation."""
    physics_env: Int[Array, ""]
    """The first environment in which it did."""
    gradient_step: dict[str, Int[Array, ""]]
    """For each metric of the agent, the gradient step of the round in which it was such a number."""
    parameter: Bool[Array, ""]
    """The agent's state holds such a number at the end."""

    def describe(self, environment: str, env_steps: int, num_envs: int, gradient_steps: int) -> str | None:
        """Say in words what was first not finite; None if nothing was.

        Args:
            environment: name of the environment.
            env_steps: env steps before the training step.
            num_envs: environments that step side by side.
            gradient_steps: gradient steps before the training step.
        """
        # What was first is the cause: the policy acts before the physics moves, and collecting comes before learning.
        physics = f"the physics of {environment} in environment {int(self.physics_env)}"
        collecting = [
            (int(step), order, cause)
            for order, (step, cause) in enumerate(
                [(self.action_step, "the policy's action"), (self.physics_step, physics)]
            )
            if step >= 0
        ]
        if collecting:
            step, _, cause = min(collecting)
            return f"{cause} is not finite at env step {env_steps + num_envs * step:,}"
        learning = [(int(step), name) for name, step in self.gradient_step.items() if step >= 0]
        if learning:
            step, name = min(learning)
            return f"{name} is not finite at gradient step {gradient_steps + step:,} (env step {env_steps:,})"
        if self.parameter:
            return f"the agent's parameters are not finite after gradient step {gradient_steps:,}"
        return None


def finite_rows(x: Array) -> Bool[Array, " rows"]:
    """Say for each row whether all its numbers are finite."""
    return jnp.all(jnp.isfinite(x), axis=-1)


def first_false(ok: Bool[Array, " length"]) -> Int[Array, ""]:
    """Return the index of the first False; -1 if there is none."""
    return jnp.where(jnp.all(ok), -1, jnp.argmin(ok))
