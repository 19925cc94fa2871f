"""The base class of agents: sizes, deep networks, their optimisers, and diagnostics."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.interface import ActionMode, AgentState, Diagnostics, Metrics, count_parameters
from kilolayer.agents.core.optimizers import OptimizerSettings
from kilolayer.agents.core.registry import NetworkSettings, Problem
from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import (
    Architecture,
    ResidualArchitecture,
    Torso,
    block_statistics,
    effective_rank,
    gradient_norms,
    project,
    spread,
)

Parameters = TypeVar("Parameters")

Optimizers = dict[str, optax.OptState]
"""The state of each optimiser, by the part of the agent that it updates."""

RATE = "_learning_rate"


class Probe(NamedTuple):
    """A network, the gradient of its loss, and inputs to diagnose it with."""

    network: Torso
    gradient: Torso
    inputs: Float[Array, "batch in"]


@dataclasses.dataclass(frozen=True)
class DeepAgent:
    """Sizes of the problem and settings of the networks. An agent adds its settings, as `config`, and its equations.

    A network plays a part, such as actor or critic. Where `config` has `PART_depth` or `PART_width` and it is not None,
    it takes precedence over `depth` or `width`. Each `PART_learning_rate` of `config` makes an optimiser.

    The state of an agent is an `equinox.Module` with a field `optimizers`.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    """The parts that the networks of this agent play."""
    ENCODERS: ClassVar[tuple[str, ...]] = ()
    """Names of networks that return embeddings, whose rank and spread are diagnosed too."""
    ACTS_WITH: ClassVar[tuple[str, ...]] = ("actor", "critic")
    """Fields of the state that `act` and `value` read."""
    has_value: ClassVar[bool] = True
    """The agent estimates how near a goal is."""
    has_action_value: ClassVar[bool] = False
    """It also says how good an action is, by `action_value`."""

    observation_size: int
    goal_size: int
    action_size: int
    batch_size: int = 512
    depth: int = 4
    width: int = 256
    architecture: Architecture = dataclasses.field(default_factory=ResidualArchitecture)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    config: Any = None
    copies: int = 1
    """Agents that share the memory of the device; see `Architecture.resolve`."""
    shards: int = 1
    """Equal parts of a batch, each drawn from a part of the replay buffer; they lie one behind the other."""

    @property
    def executed_actions(self) -> int:
        """Actions that `act` and `collect` return side by side, to be executed one after another."""
        return 1

    def __post_init__(self) -> None:
        """Validate depths, widths and the batch size.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        for name in ("width", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be at least 1")
        self.architecture.num_blocks(self.depth)
        for part in self.PARTS:
            try:
                self.architecture.num_blocks(self.depth_of(part))
            except ConfigurationError as error:
                raise ConfigurationError(f"{part}_depth: {error}") from None
            try:
                self.architecture.check_width(self.width_of(part))
            except ConfigurationError as error:
                raise ConfigurationError(f"{part}_width: {error}") from None

    @classmethod
    def build(cls, problem: Problem, config: Any, networks: NetworkSettings) -> "DeepAgent":
        """Return the agent for a problem. Override it to validate settings against the problem, or to read more of it.

        Args:
            problem: sizes of the environment.
            config: settings of the agent.
            networks: settings of networks, batch and optimisers.

        Raises:
            ConfigurationError: if a setting is not valid.
        """
        return cls(**sizes_of(problem, networks), config=config)

    # ---- Networks and optimisers ---------------------------------------------------------------------------------

    def depth_of(self, part: str) -> int:
        """Return the depth of the networks that play a part."""
        depth = getattr(self.config, f"{part}_depth", None)
        return self.depth if depth is None else depth

    def width_of(self, part: str) -> int:
        """Return the width of the networks that play a part."""
        return getattr(self.config, f"{part}_width", None) or self.width

    @property
    def architecture_in_force(self) -> Architecture:
        """The architecture, with a choice in place of every `auto`."""
        return self.architecture.resolve(
            batch_size=self.batch_size,
            depth=max(map(self.depth_of, self.PARTS)),
            width=max(map(self.width_of, self.PARTS)),
            copies=self.copies,
        )

    def network(self, part: str, in_size: int, out_size: int, key: PRNGKeyArray) -> Torso:
        """Return a new network that plays a part."""
        return self.architecture_in_force.build(
            in_size, out_size, depth=self.depth_of(part), width=self.width_of(part), key=key
        )

    @cached_property
    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """The optimiser of each part that has a learning rate: plain Adam for what is no network."""
        rates = {
            field.name.removesuffix(RATE): getattr(self.config, field.name)
            for field in dataclasses.fields(self.config)
            if field.name.endswith(RATE)
        }
        return {
            part: self.network_optimizer(rate) if part in self.PARTS else optax.adam(rate)
            for part, rate in rates.items()
        }

    def network_optimizer(self, learning_rate: float) -> optax.GradientTransformation:
        """Return an optimiser of networks."""
        return self.optimizer.build(learning_rate)

    def init_optimizers(self, **parts: Any) -> Optimizers:
        """Return the state of the optimiser of each part, given the part's parameters."""
        return {part: self.optimizers[part].init(parameters) for part, parameters in parts.items()}

    def descend(
        self, part: str, parameters: Parameters, gradient: Parameters, optimizers: Optimizers
    ) -> tuple[Parameters, Optimizers]:
        """Take one step of the optimiser of a part.

        Args:
            part: name of the part.
            parameters: of the part.
            gradient: of its loss.
            optimizers: states of all optimisers.

        Returns:
            The new parameters, and all states with that of this part replaced.
        """
        updates, state = self.optimizers[part].update(gradient, optimizers[part], parameters)
        return project(optax.apply_updates(parameters, updates)), optimizers | {part: state}

    def init(self, key: PRNGKeyArray) -> AgentState:
        """Return the state of a new agent."""
        raise NotImplementedError

    def networks(self, state: AgentState) -> dict[str, Torso]:
        """Return the networks that learn, by name."""
        raise NotImplementedError

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network that learns."""
        state = jax.eval_shape(self.init, jax.random.key(0))
        return {name: count_parameters(network) for name, network in self.networks(state).items()}

    # ---- Acting --------------------------------------------------------------------------------------------------

    def actor(self, state: AgentState) -> Torso | None:
        """Return the network of the policy: its first outputs are the means, before the tanh."""
        return state.actor

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch chunk"]:
        """Return actions in [-1, 1]: `executed_actions` of them, side by side."""
        raise NotImplementedError

    def collect(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch chunk"]:
        """Return the actions that data are collected with: stochastic ones, unless overridden."""
        return self.act(state, observation, desired_goal, key, "stochastic")

    def value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how near the goal is: larger is nearer.

        Raises:
            ConfigurationError: unless the agent overrides it.
        """
        raise ConfigurationError(f"{type(self).__name__} has no value: it learns no critic")

    def action_value(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        action: Float[Array, "*batch chunk"],
        desired_goal: Float[Array, "*batch goal"],
    ) -> Float[Array, "*batch"]:
        """Return how good an action is by the critic: larger is better.

        Args:
            state: of the agent.
            observation: without the goal.
            action: in [-1, 1]; of a chunk, all its actions side by side.
            desired_goal: the goal to reach.

        Raises:
            ConfigurationError: unless the agent overrides it.
        """
        raise ConfigurationError(f"{type(self).__name__} has no critic of actions")

    def acting(self, state: AgentState) -> tuple["DeepAgent", AgentState]:
        """Return the agent that acts, and the part of the state that `act` and `value` read; all else is None."""
        learning = [field.name for field in dataclasses.fields(state) if field.name not in self.ACTS_WITH]
        kept = eqx.tree_at(
            lambda state: [getattr(state, name) for name in learning],
            state,
            [None] * len(learning),
            is_leaf=lambda node: node is None,
        )
        return self, kept

    # ---- Learning ------------------------------------------------------------------------------------------------

    def prepare(self, state: AgentState, buffer: ReplayBuffer) -> Any:
        """Return what the gradient steps of a round learn from: the whole buffer, unless overridden."""
        del state
        return buffer

    def update(self, state: AgentState, data: Any, key: PRNGKeyArray) -> tuple[AgentState, Metrics]:
        """Take one gradient step on what `prepare` returned."""
        raise NotImplementedError

    def probes(self, state: AgentState, data: Any, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return each network with its gradient on a batch, and inputs from the batch."""
        raise NotImplementedError

    def diagnose(self, state: AgentState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Diagnose the networks on a batch from the buffer (see `kilolayer.nn.diagnostics`)."""
        probes = self.probes(state, self.prepare(state, buffer), key)
        found: Diagnostics = {}
        for name, (network, gradient, inputs) in probes.items():
            by_block = block_statistics(network, inputs) | {"gradient_norm": gradient_norms(gradient)}
            found |= {f"{name}/{what}": value for what, value in by_block.items()}
        for name in self.ENCODERS:
            embeddings = probes[name].network(probes[name].inputs)
            found |= {f"{name}/effective_rank": effective_rank(embeddings), f"{name}/spread": spread(embeddings)}
        return found


def sizes_of(problem: Problem, networks: NetworkSettings) -> dict[str, Any]:
    """Return the fields of `DeepAgent` for a problem, but for `config`."""
    return {
        "observation_size": problem.observation_size,
        "goal_size": problem.goal_size,
        "action_size": problem.action_size,
        "batch_size": networks.batch_size,
        "depth": networks.depth,
        "width": networks.width,
        "architecture": networks.architecture,
        "optimizer": networks.optimizer,
        "copies": networks.copies,
        "shards": networks.shards,
    }
