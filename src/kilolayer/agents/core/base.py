"""What all agents share: sizes, deep networks of one template, and a look into them."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from kilolayer.agents.core.interface import ActionMode, AgentState, Diagnostics, count_parameters
from kilolayer.data import ReplayBuffer
from kilolayer.errors import ConfigurationError
from kilolayer.nn import (
    Architecture,
    ResidualArchitecture,
    Torso,
    block_statistics,
    effective_rank,
    gradient_norms,
    spread,
)

Parameters = TypeVar("Parameters")


class Probe(NamedTuple):
    """A network, the gradient of its loss, and inputs to look at it with."""

    network: Torso
    gradient: Torso
    inputs: Float[Array, "batch in"]


@dataclasses.dataclass(frozen=True)
class DeepAgent:
    """Sizes of the problem and of the networks. An agent adds its settings, as `config`, and its equations.

    A network plays a part, such as actor or critic; where the settings have `PART_depth` or `PART_width` and it is not
    None, it goes before `depth` or `width`.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("actor", "critic")
    """The parts that this agent's networks play."""
    ENCODERS: ClassVar[tuple[str, ...]] = ()
    """Names of networks that put out embeddings, whose rank and spread are looked at too."""
    has_value: ClassVar[bool] = True
    """It can say how near a goal is."""

    observation_size: int
    goal_size: int
    action_size: int
    batch_size: int = 512
    depth: int = 4
    width: int = 256
    architecture: Architecture = ResidualArchitecture()
    config: Any = None

    def __post_init__(self) -> None:
        """Refuse depths, widths and batches that cannot be.

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

    def depth_of(self, part: str) -> int:
        """Return the depth of the networks that play a part."""
        depth = getattr(self.config, f"{part}_depth", None)
        return self.depth if depth is None else depth

    def width_of(self, part: str) -> int:
        """Return the width of the networks that play a part."""
        return getattr(self.config, f"{part}_width", None) or self.width

    @property
    def architecture_in_force(self) -> Architecture:
        """The architecture, with what `auto` stands for here and with these sizes."""
        return self.architecture.resolve(
            batch_size=self.batch_size,
            depth=max(map(self.depth_of, self.PARTS)),
            width=max(map(self.width_of, self.PARTS)),
        )

    def network(self, part: str, in_size: int, out_size: int, key: PRNGKeyArray) -> Torso:
        """Draw the network of a part."""
        return self.architecture_in_force.build(
            in_size, out_size, depth=self.depth_of(part), width=self.width_of(part), key=key
        )

    def init(self, key: PRNGKeyArray) -> AgentState:
        """Draw a new agent."""
        raise NotImplementedError

    def networks(self, state: AgentState) -> dict[str, Torso]:
        """Return the networks that learn, by name."""
        raise NotImplementedError

    def parameter_counts(self) -> dict[str, int]:
        """Return how many parameters each network that learns has."""
        state = jax.eval_shape(self.init, jax.random.key(0))
        return {name: count_parameters(network) for name, network in self.networks(state).items()}

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
        mode: ActionMode = "deterministic",
    ) -> Float[Array, "*batch action"]:
        """Choose actions in [-1, 1]; `stochastic` ones explore."""
        raise NotImplementedError

    def collect(
        self,
        state: AgentState,
        observation: Float[Array, "*batch observation"],
        desired_goal: Float[Array, "*batch goal"],
        key: PRNGKeyArray,
    ) -> Float[Array, "*batch action"]:
        """Choose the actions that data to learn from are collected with: `stochastic` ones."""
        return self.act(state, observation, desired_goal, key, "stochastic")

    def prepare(self, state: AgentState, buffer: ReplayBuffer) -> Any:
        """Return what the gradient steps of a round learn from: the whole buffer, unless overridden."""
        del state
        return buffer

    def probes(self, state: AgentState, data: Any, key: PRNGKeyArray) -> dict[str, Probe]:
        """Return what to look at each network with: a batch, and the gradient on it."""
        raise NotImplementedError

    def diagnose(self, state: AgentState, buffer: ReplayBuffer, key: PRNGKeyArray) -> Diagnostics:
        """Look into the networks on a batch from the buffer (see `kilolayer.nn.diagnostics`)."""
        probes = self.probes(state, self.prepare(state, buffer), key)
        found: Diagnostics = {}
        for name, (network, gradient, inputs) in probes.items():
            by_block = block_statistics(network, inputs) | {"gradient_norm": gradient_norms(gradient)}
            found |= {f"{name}/{what}": value for what, value in by_block.items()}
        for name in self.ENCODERS:
            embeddings = probes[name].network(probes[name].inputs)
            found |= {f"{name}/effective_rank": effective_rank(embeddings), f"{name}/spread": spread(embeddings)}
        return found


def adam(
    learning_rate: float, parameters: Parameters, gradient: Parameters, optimizer: optax.OptState
) -> tuple[Parameters, optax.OptState]:
    """Take one Adam step (Kingma and Ba, 2015)."""
    updates, optimizer = optax.adam(learning_rate).update(gradient, optimizer)
    return optax.apply_updates(parameters, updates), optimizer


def clip_norm(gradient: Parameters, largest: float) -> Parameters:
    """Return the gradient, scaled down to the length `largest` if it is longer."""
    return optax.clip_by_global_norm(largest).update(gradient, optax.EmptyState())[0]
