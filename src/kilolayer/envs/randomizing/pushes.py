"""Pushes: forces on a body from a side that a policy does not know of before."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.envs.methods import in_full
from kilolayer.envs.names import names_below, told
from kilolayer.envs.remembering import memory_below
from kilolayer.envs.robot_state import Command, RobotState
from kilolayer.envs.robot_task import RobotTask
from kilolayer.errors import ConfigurationError


class Pushes(RobotTask):
    """A body is pushed along the ground, every few seconds, by a force of random size and direction.

    It stands before what limits or delays actions: `class Rough(Pushes, ActionDelay, Walk)`.

    Raises:
        ConfigurationError: if the model has no such body, or a number is not valid.
    """

    passes_on = True
    push_body: str = ""
    """Name of the body that is pushed at its centre of mass."""
    push_force: float = 10.0
    """Greatest force, in newtons; forces are uniform up to it."""
    push_time: float = 0.1
    """How long a push lasts, in seconds."""
    push_every: float = 5.0
    """Mean time between the beginnings of two pushes, in seconds; they begin at random."""

    def memory(self, state: RobotState, key: PRNGKeyArray) -> dict[str, Any]:
        """Return the push that goes on: none at first."""
        below = memory_below(super().memory, state, key, mixin=Pushes)
        return below | {"push": {"force": jnp.zeros(3), "steps": jnp.zeros((), jnp.int32)}}

    def control(self, action: Float[Array, " action"], state: RobotState, memory: Any) -> Any:  # type: ignore[override]
        """Return the task's controls, with the force of the push."""
        wanted = in_full("control", super().control)(action, state, memory)
        if not self.randomized:
            return wanted
        command = wanted if isinstance(wanted, Command) else Command(wanted)
        force = jnp.zeros((self.model.nbody, 6)) if command.force is None else command.force
        pushed = jnp.where(memory["push"]["steps"] > 0, memory["push"]["force"], 0.0)
        return dataclasses.replace(command, force=force.at[self._pushed, :3].add(pushed))

    def remember(self, memory: Any, action: Float[Array, " action"], state: RobotState, key: PRNGKeyArray) -> Any:
        """Begin a push, or go on with the last one."""
        below_key, begin_key, size_key, side_key = jax.random.split(key, 4)
        memory = memory | super().remember(memory, action, state, below_key)
        begins = jax.random.bernoulli(begin_key, self.control_step / self.push_every)
        side = jax.random.uniform(side_key, maxval=2.0 * jnp.pi)
        size = jax.random.uniform(size_key, maxval=self.push_force)
        force = size * jnp.stack([jnp.cos(side), jnp.sin(side), jnp.zeros(())])
        lasts = max(1, round(self.push_time / self.control_step))
        push = {
            "force": jnp.where(begins, force, memory["push"]["force"]),
            "steps": jnp.where(begins, lasts, jnp.maximum(memory["push"]["steps"] - 1, 0)),
        }
        return memory | {"push": push}

    @property
    def _pushed(self) -> int:
        """The body that is pushed, by its number in the model."""
        owner = type(self).__name__
        if not self.push_body:
            raise ConfigurationError(f"task {owner}: push_body is missing; name a body of the model")
        for name in ("push_force", "push_time", "push_every"):
            if not getattr(self, name) > 0.0:
                raise ConfigurationError(f"task {owner}: {name}={getattr(self, name)!r} must be above 0")
        if self.push_every < self.control_step:
            raise ConfigurationError(
                f"task {owner}: push_every={self.push_every:g} s must be at least control_step={self.control_step:g} s"
            )
        self._known("body", (self.push_body,), first=1)
        return int(self.model.body(self.push_body).id)

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Name, range and unit of each entry of an action."""
        return names_below(self, Pushes, "action")

    @property
    def control_text(self) -> str | None:
        """What actions do, in one line."""
        return told(self, "control_text", "control", below=Pushes)

    @property
    def random_parts(self) -> tuple[str, ...]:
        """What is drawn to make a policy robust, in words."""
        text = f"{self.push_body} is pushed by up to {self.push_force:g} N for {self.push_time:g} s"
        return (*super().random_parts, f"every {self.push_every:g} s: {text}")
