"""Distillation: a student learns to act as a teacher does, in the states that the student itself comes to.

The student collects, and the teacher says what it would have done there (DAgger; Ross, Gordon and Bagnell, 2011). The
loss is the divergence of both policies, so it needs no reward and no draw of an action: means and standard deviations
of the teacher's Gaussians are known (policy distillation; Rusu et al., 2016).
"""

import dataclasses
import math
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.base import DeepAgent, Optimizers, Probe, sizes_of
from kilolayer.agents.core.checks import check_choice, check_finite, check_positive
from kilolayer.agents.core.gaussian_policy import choose, policy_input, split_policy
from kilolayer.agents.core.interface import ActionMode, Agent, AgentState, Metrics
from kilolayer.agents.core.registry import AgentSpec, NetworkSettings, Problem, register_agent
from kilolayer.agents.core.teacher import Teacher
from kilolayer.data import ReplayBuffer, Transitions, sample_transitions
from kilolayer.errors import ConfigurationError
from kilolayer.named_arrays import fill, to_arrays
from kilolayer.nn import Torso
from kilolayer.objectives import tanh_gaussian

Scalar = Float[Array, ""]
Weighting = Literal["none", "critic"]

SATURATED = 4.0
"""Means of the teacher beyond it count as it: their tanh is within 0.001 of 1, and a student need not follow them."""

DETERMINISTIC_STD = 0.1
"""Standard deviation before the tanh that policies without one of their own count with, teacher and student alike."""


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Settings of distillation."""

    teacher: Teacher | None = None
    """The policy to learn from."""
    weighting: Weighting = "none"
    """Weight of a state: none (all alike), or critic: states weigh more where the student's action is worse than the
    teacher's by the teacher's critic."""
    actor_learning_rate: float = 1e-3
    """Learning rate of the actor: higher than that of other agents, as labels carry no noise."""
    kept_blocks: tuple[int, ...] | None = None
    """Blocks of the teacher's actor, by number, that the student begins with, as pruning leaves it. None: it begins as
    a new network."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_positive(self, "actor_learning_rate")
        check_choice(self, "weighting", get_args(Weighting))
        if self.kept_blocks is not None and list(self.kept_blocks) != sorted({*self.kept_blocks}):
            raise ConfigurationError(f"kept_blocks={self.kept_blocks} must be numbers in rising order")


class DistillState(eqx.Module):
    """The state of a student, with its teacher."""

    actor: Torso
    optimizers: Optimizers
    teacher: Any
    """The networks of the teacher that the loss reads. They never change; zeros until `Distill.taught_by`."""


@dataclasses.dataclass(frozen=True)
class Distill(DeepAgent):
    """A student of a policy: minimise the mean of KL(teacher || student) over the states that the student visits.

    The student's head is that of the teacher: means before the tanh, then raw log standard deviations if the teacher
    has them, of all actions of a chunk.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("actor",)
    ACTS_WITH: ClassVar[tuple[str, ...]] = ("actor",)
    has_value: ClassVar[bool] = False

    config: DistillConfig = DistillConfig()
    teacher: Agent = dataclasses.field(kw_only=True)
    """Labels states; its networks are in the state."""

    @classmethod
    def build(cls, problem: Problem, config: DistillConfig, networks: NetworkSettings) -> "Distill":
        """Return the student for a problem.

        Raises:
            ConfigurationError: if there is no teacher, it has no actor to learn from, or no critic to weigh with.
        """
        if config.teacher is None:
            raise ConfigurationError(
                "agent='distill' learns from a trained policy, and distill.teacher is not set; begin with "
                "`kilolayer distill RUN`, or kilolayer.distill"
            )
        teacher = config.teacher.build(problem, networks)
        student = cls(**sizes_of(problem, networks), config=config, teacher=teacher)
        student.check_teacher()
        return student

    def check_teacher(self) -> None:
        """Check that the teacher can be learned from.

        Raises:
            ConfigurationError: if it cannot.
        """
        if self._teacher_actor(self._teacher_shape) is None:
            raise ConfigurationError(f"a teacher of agent={self._teacher_name!r} has no actor network to distil")
        wanted = self.executed_actions * self.action_size
        if self.head_size < wanted or (self.head_size > wanted and self.head_size % 2):
            raise ConfigurationError(
                f"the actor of agent={self._teacher_name!r} returns {self.head_size} numbers; {wanted} means, or means "
                "and as many log standard deviations, can be distilled"
            )
        if self.config.weighting == "critic" and not getattr(self.teacher, "has_action_value", False):
            raise ConfigurationError(
                f"distill.weighting='critic' needs a teacher with a critic of actions, which agent="
                f"{self._teacher_name!r} does not have; take weighting='none'"
            )

    @property
    def _teacher_name(self) -> str:
        assert self.config.teacher is not None
        return self.config.teacher.agent

    # ---- Networks ------------------------------------------------------------------------------------------------

    @property
    def executed_actions(self) -> int:
        """Actions that the teacher, and so the student, executes before the next are chosen."""
        return self.teacher.executed_actions

    @cached_property
    def _teacher_shape(self) -> AgentState:
        """What acts of the teacher, with shapes in place of arrays."""
        return jax.eval_shape(lambda: self.teacher.acting(self.teacher.init(jax.random.key(0)))[1])

    @cached_property
    def head_size(self) -> int:
        """Numbers that the teacher's actor returns, and the student's."""
        x = jax.ShapeDtypeStruct((self.observation_size + self.goal_size,), jnp.float32)
        return jax.eval_shape(lambda actor, x: actor(x), self._teacher_actor(self._teacher_shape), x).shape[-1]

    def _teacher_actor(self, acting_state: AgentState) -> Torso | None:
        return self.teacher.actor(acting_state)

    def _kept_of(self, acting_state: AgentState) -> Any:
        """Return what the loss reads of a teacher: its actor, or all that acts if its critic weighs."""
        return acting_state if self.config.weighting == "critic" else self._teacher_actor(acting_state)

    def init(self, key: PRNGKeyArray) -> DistillState:
        """Return the state of a new student whose teacher is still missing: zeros."""
        actor = self.network("actor", self.observation_size + self.goal_size, self.head_size, key)
        teacher = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._kept_of(self._teacher_shape))
        return DistillState(actor, self.init_optimizers(actor=actor), teacher)

    def taught_by(self, state: DistillState, acting_state: AgentState) -> DistillState:
        """Return the state of a new student with its teacher, and with the blocks of it that `kept_blocks` names.

        Args:
            state: as `init` returns it.
            acting_state: what acts of the teacher. Its arrays are copied.

        Raises:
            ConfigurationError: if the networks are not those that the settings describe, or the student has no place
                for the blocks.
        """
        try:
            teacher = fill(self._kept_of(self._teacher_shape), to_arrays(self._kept_of(acting_state)))
        except ValueError as error:
            raise ConfigurationError(f"the teacher is not as distill.teacher describes it: {error}") from None
        if self.config.kept_blocks is None:
            return DistillState(state.actor, state.optimizers, teacher)
        actor: Any = self._teacher_actor(acting_state)
        try:
            begun = fill(state.actor, to_arrays(actor.keep_blocks(self.config.kept_blocks)))
        except ValueError as error:
            raise ConfigurationError(f"kept_blocks do not fit the student's networks: {error}") from None
        return DistillState(begun, state.optimizers, teacher)

    def networks(self, state: DistillState) -> dict[str, Torso]:
        """Return the actor."""
        return {"actor": state.actor}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def split(self, output: Float[Array, "*batch out"]) -> tuple[Float[Array, "*batch n"], Float[Array, "*batch n"]]:
        """Return means and log standard deviations from what an actor returns, of the teacher or of the student."""
        if self.head_size == self.executed_actions * self.action_size:
            return output, jnp.full_like(output, math.log(DETERMINISTIC_STD))
        return split_policy(output)

    def act(
        self,
        state: DistillState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return actions in [-1, 1]: tanh(mean), or a draw; those of a chunk that are executed, side by side.

        Raises:
            ConfigurationError: for an unknown mode, and for `best_of`.
        """
        mean, log_std = self.split(state.actor(policy_input(observation, desired_goal)))
        return choose(mean, log_std, key, mode)[..., : self.executed_actions * self.action_size]

    # ---- Learning ------------------------------------------------------------------------------------------------

    def labels(
        self, state: DistillState, observation: Float[Array, "batch observation"], desired_goal: Float[Array, "b goal"]
    ) -> tuple[Float[Array, "batch n"], Float[Array, "batch n"]]:
        """Return means and log standard deviations of the teacher; means are bounded, see `SATURATED`."""
        weighs = self.config.weighting == "critic"
        actor: Any = self._teacher_actor(state.teacher) if weighs else state.teacher
        mean, log_std = self.split(actor.infer(policy_input(observation, desired_goal)))
        return jax.lax.stop_gradient((jnp.clip(mean, -SATURATED, SATURATED), log_std))

    def weights(
        self, state: DistillState, batch: Transitions, own: Float[Array, "batch n"], taught: Float[Array, "batch n"]
    ) -> Float[Array, " batch"]:
        """Return the weights of states, 1 on average.

        By the critic they are a softmax over the batch of what the teacher's critic finds that the student's action
        loses, in units of its standard deviation over the batch.
        """
        if self.config.weighting == "none":
            return jnp.ones(own.shape[0])
        critic: Any = self.teacher
        better, worse = (
            critic.action_value(state.teacher, batch.observation, tanh_gaussian.mode(mean), batch.desired_goal)
            for mean in (taught, own)
        )
        loss = better - worse
        return jax.lax.stop_gradient(jax.nn.softmax(loss / (jnp.std(loss) + 1e-6)) * loss.shape[0])

    def actor_loss(self, actor: Torso, state: DistillState, batch: Transitions) -> tuple[Scalar, Metrics]:
        """Return the weighted mean of KL(teacher || student)."""
        mean, log_std = self.split(actor(policy_input(batch.observation, batch.desired_goal)))
        taught, taught_log_std = self.labels(state, batch.observation, batch.desired_goal)
        divergence = tanh_gaussian.divergence(taught, taught_log_std, mean, log_std)
        weights = self.weights(state, batch, mean, taught)
        loss = jnp.mean(weights * divergence)
        error = jnp.abs(tanh_gaussian.mode(mean) - tanh_gaussian.mode(taught))
        return loss, {
            "actor_loss": loss,
            "divergence": jnp.mean(divergence),
            "action_error": jnp.mean(error),
            "largest_weight": jnp.max(weights),
        }

    def learn(self, state: DistillState, batch: Transitions) -> tuple[DistillState, Metrics]:
        """Take one gradient step on `batch`."""
        gradient, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        return DistillState(*self.descend("actor", state.actor, gradient, state.optimizers), state.teacher), metrics

    def update(self, state: DistillState, data: ReplayBuffer, key: PRNGKeyArray) -> tuple[DistillState, Metrics]:
        """Draw states with their commanded goals from the whole buffer and learn what the teacher does there."""
        return self.learn(state, sample_transitions(data, (self.batch_size,), key))

    # ---- Diagnostics ---------------------------------------------------------------------------------------------

    def probes(self, state: DistillState, data: ReplayBuffer, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return the actor with the gradient of its loss on a batch."""
        batch = sample_transitions(data, (self.batch_size,), key)
        gradient, _ = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        return {"actor": Probe(state.actor, gradient, policy_input(batch.observation, batch.desired_goal))}


register_agent(
    AgentSpec(
        "distill",
        "a student of a trained policy, in the states that it visits",
        DistillConfig,
        Distill,
        needs_teacher=True,
    )
)
