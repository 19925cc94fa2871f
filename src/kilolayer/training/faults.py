"""Where in a training step the first number appeared that is not finite."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kilolayer.envs.divergence import Divergence


class CollectFaults(eqx.Module):
    """Where in an unroll the first number appeared that is not finite, -1 where all are; and robots that diverged."""

    action_step: Int[Array, ""]
    """Step of the unroll in which the policy returned such an action."""
    observation_step: Int[Array, ""]
    """Step of the unroll in which the task returned such an observation, though the robot had not diverged."""
    observation_env: Int[Array, ""]
    """The first environment that returned one."""
    divergence: Divergence
    """Robots that diverged in the unroll. They fail their episodes, which is no fault of the run."""

    def describe(self, environment: str, env_steps: int, num_envs: int) -> str | None:
        """Return in words which number was the first that is not finite; None if all are finite.

        Args:
            environment: name of the environment.
            env_steps: env steps before the unroll.
            num_envs: environments that step in parallel.
        """
        # The first one is the cause, and within a step the policy acts before the task observes.
        observation = f"the observation of {environment} in environment {int(self.observation_env)}"
        causes = [(int(self.action_step), 0, "the policy's action"), (int(self.observation_step), 1, observation)]
        step, _, cause = min((cause for cause in causes if cause[0] >= 0), default=(-1, 0, ""))
        return f"{cause} is not finite at env step {env_steps + num_envs * step:,}" if cause else None


class LearnFaults(eqx.Module):
    """Where in a round of gradient steps the first number appeared that is not finite."""

    gradient_step: dict[str, Int[Array, ""]]
    """For each metric of the agent, the gradient step of the round in which it was not finite; -1 for none."""
    parameter: Bool[Array, ""]
    """The state of the agent holds a number that is not finite at the end."""

    def describe(self, env_steps: int, gradient_steps: int) -> str | None:
        """Return in words which number was the first that is not finite; None if all are finite.

        Args:
            env_steps: env steps before the training step.
            gradient_steps: gradient steps before the round.
        """
        causes = [(int(step), name) for name, step in self.gradient_step.items() if step >= 0]
        if causes:
            step, name = min(causes)
            return f"{name} is not finite at gradient step {gradient_steps + step:,} (env step {env_steps:,})"
        if self.parameter:
            return f"the agent's parameters are not finite after gradient step {gradient_steps:,}"
        return None


def finite_rows(x: Array) -> Bool[Array, " rows"]:
    """Return for each row whether all its numbers are finite."""
    return jnp.all(jnp.isfinite(x), axis=-1)


def first_false(ok: Bool[Array, " length"]) -> Int[Array, ""]:
    """Return the index of the first False; -1 if there is none."""
    return jnp.where(jnp.all(ok), -1, jnp.argmin(ok))
