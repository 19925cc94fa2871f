"""Environments of Gymnasium behind the interface of `Environment`."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.environment import Environment, EnvironmentState, StepResult
from kilolayer.errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class GymEnvironment(Environment):
    """A vectorised environment whose episodes, goals and success are those of an environment in Python."""

    def __post_init__(self) -> None:
        """Validate the episode length, and hand it on.

        Raises:
            ConfigurationError: if it is below 1, or goals are to be fixed, which the environment draws itself.
        """
        super().__post_init__()
        if self.fixed_goals:
            raise ConfigurationError(f"fixed_goals=True: {self.name} draws its starts and goals itself; leave it out")
        engine: Any = self.engine
        engine.episode_length = self.episode_length

    @property
    def has_success(self) -> bool:
        """Success of any pair of goals is known; else only that of the steps that were taken."""
        task: Any = self.task
        return task.about.sparse

    def reset(self, key: PRNGKeyArray, num_envs: int, *, action_chunk: int = 1) -> EnvironmentState:
        """Begin an episode in every environment; see `Environment.reset`."""
        state = super().reset(key, num_envs, action_chunk=action_chunk)
        return dataclasses.replace(state, desired_goal=state.physics.desired_goal)

    def step(
        self, state: EnvironmentState, action: Float[Array, "num_envs action"]
    ) -> tuple[EnvironmentState, StepResult]:
        """Take one action in every environment; see `Environment.step`."""
        self._check(state, action)
        engine: Any = self.engine
        physics, found = engine.step(state.physics, self.control(state, action))
        result = StepResult(
            **{field: getattr(found, field) for field in found.__dataclass_fields__},
            diverged=jnp.zeros_like(found.success),
        )
        return (
            EnvironmentState(
                physics=physics,
                observation=physics.observation,
                achieved_goal=physics.achieved_goal,
                desired_goal=physics.desired_goal,
                episode_step=jnp.where(result.done, 0, state.episode_step + 1),
                key=state.key,
            ),
            result,
        )
