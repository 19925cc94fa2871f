"""The contract of a policy: what it takes and returns, and how its networks are built."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic

from kilolayer.agents import Agent, NetworkSettings, Problem, agent_spec, make_agent
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture, torso_spec
from kilolayer.settings import first_fault, settings_from

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
"""How pydantic reads these classes: no unknown fields, no conversions."""


@dataclasses.dataclass(frozen=True)
class VectorContract:
    """An observation or a goal: a vector of float32."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    size: int
    """Entries of the vector."""
    names: tuple[str, ...] | None = None
    """What each entry is, with its unit, if the task says so."""

    def __post_init__(self) -> None:
        """Validate the size and the number of names.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.size < 1:
            raise ConfigurationError(f"size={self.size} must be at least 1")
        if self.names is not None and len(self.names) != self.size:
            raise ConfigurationError(f"names has {len(self.names)} entries for size={self.size}; give one for each")


@dataclasses.dataclass(frozen=True)
class GoalContract(VectorContract):
    """A goal: a vector of float32, and when it is reached."""

    success: str | None = None
    """When it is reached, in words, such as `palm within 0.05 m and 0.2 rad`; None if the task does not say."""


@dataclasses.dataclass(frozen=True)
class ActionContract(VectorContract):
    """An action: a vector of float32 within bounds. A discrete action is 1 at the chosen entry and 0 at the others."""

    low: float = -1.0
    """Least value of an entry."""
    high: float = 1.0
    """Greatest value of an entry."""
    discrete: bool = False
    """The action is one of `size` choices."""
    chunk: int = 1
    """Actions that are chosen at once and executed one after another, before the next observation is looked at."""

    def __post_init__(self) -> None:
        """Validate the numbers.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        super().__post_init__()
        if self.chunk < 1:
            raise ConfigurationError(f"chunk={self.chunk} must be at least 1")


@dataclasses.dataclass(frozen=True)
class EnvironmentContract:
    """The environment that the policy was trained in."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    """As registered; of a maze given as text, the name of the environment that it became."""
    maze: str | None
    """The maze as text, if the environment was given as one."""
    variant: str
    """Form of the task."""
    engine: str
    """Physics engine."""
    episode_length: int
    """Steps after which an episode is truncated."""
    control_step: float | None
    """Seconds between two actions; None if the task does not say."""

    def __post_init__(self) -> None:
        """Validate the numbers.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.episode_length < 1:
            raise ConfigurationError(f"episode_length={self.episode_length} must be at least 1")
        if self.control_step is not None and not (math.isfinite(self.control_step) and self.control_step > 0.0):
            raise ConfigurationError(f"control_step={self.control_step} must be above 0 and finite")


@dataclasses.dataclass(frozen=True)
class Component:
    """A member of a registry, with its settings as plain data."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Contract:
    """What a policy takes and returns, how its networks are built, and where it comes from.

    `print` shows it as JSON; `to_dict` returns plain data.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    observation: VectorContract
    goal: GoalContract
    action: ActionContract
    environment: EnvironmentContract
    agent: Component
    """The method, and its settings."""
    torso: Component
    """The kind of network, and its settings."""
    depth: int
    """Depth of every network, unless the settings of the agent say otherwise."""
    width: int
    """Units in a layer, unless the settings of the agent say otherwise."""
    batch_size: int
    """Rows of a gradient step in training."""
    unroll_length: int
    """Steps of each environment between two rounds of gradient steps in training."""
    env_steps: int
    """Steps taken in all environments together when the policy was saved."""
    gradient_steps: int | None
    """Gradient steps taken when the policy was saved; None if it is not known."""
    seed: int
    """Seed of the run."""
    versions: dict[str, str]
    """Versions of the packages that trained the policy."""

    def __post_init__(self) -> None:
        """Validate the numbers.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        least = {"width": 1, "batch_size": 1, "unroll_length": 1, "env_steps": 0, "gradient_steps": 0, "seed": 0}
        for name, value in least.items():
            found = getattr(self, name)
            if found is not None and found < value:
                raise ConfigurationError(f"{name}={found} must be at least {value}")

    def __str__(self) -> str:
        """Return the contract as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Contract":
        """Return the contract that `to_dict` returned as plain data, also after a way through JSON.

        Raises:
            ConfigurationError: if a field is missing, unknown or not valid.
        """
        try:
            return pydantic.TypeAdapter(cls).validate_json(json.dumps(data))
        except pydantic.ValidationError as error:
            raise ConfigurationError(first_fault(error)) from None

    def architecture(self) -> Architecture:
        """Return the settings of the networks.

        Raises:
            ConfigurationError: if the torso is not registered, or a setting is not valid.
        """
        return settings_from(torso_spec(self.torso.name).settings, self.torso.settings, "torso.settings")

    def build_agent(self) -> Agent:
        """Return the agent, which acts and values but does not learn.

        Raises:
            ConfigurationError: if the agent or the torso is not registered, or a setting is not valid.
        """
        problem = Problem(
            name=self.environment.name,
            observation_size=self.observation.size,
            goal_size=self.goal.size,
            action_size=self.action.size,
            episode_length=self.environment.episode_length,
            unroll_length=self.unroll_length,
            discrete_actions=self.action.discrete,
        )
        try:
            agent, _ = agent_spec(self.agent.name), torso_spec(self.torso.name)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}; if a file of your own registers it, import that file first") from None
        networks = NetworkSettings(
            batch_size=self.batch_size,
            depth=self.depth,
            width=self.width,
            architecture=self.architecture(),
        )
        settings: Any = settings_from(agent.settings, self.agent.settings, "agent.settings")
        return make_agent(agent.name, problem, settings, networks, acts_only=True)
