"""The registry of agents: what each is called, which settings it has, what it needs, and how it is built.

The methods of the library and those of a user's own file are registered by the same function:

    register_agent(AgentSpec("my_method", "what it is, in one line", MyConfig, MyMethod))

Then `agent="my_method"` trains it, and the fields of `MyConfig` are its settings.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from kilolayer.agents.core.interface import Agent
from kilolayer.agents.core.optimizers import OptimizerSettings
from kilolayer.errors import ConfigurationError, UnknownNameError, nearest_names
from kilolayer.nn import Architecture, ResidualArchitecture
from kilolayer.objectives import Success
from kilolayer.user_code import is_rerun


@dataclasses.dataclass(frozen=True)
class Problem:
    """What an agent must know of the environment and of how data are collected."""

    name: str
    """Name of the environment, for messages."""
    observation_size: int
    """Numbers in an observation, without the goal."""
    goal_size: int
    """Numbers in a goal."""
    action_size: int
    """Numbers in an action; with discrete actions, the number of actions to choose among."""
    episode_length: int
    """Steps after which an episode is truncated."""
    unroll_length: int
    """Steps of each environment between two rounds of gradient steps."""
    discrete_actions: bool = False
    """An action is one of `action_size` choices."""
    success: Success | None = None
    """Returns whether an achieved goal is at a desired goal; None if the task does not define it."""


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Settings of the networks, the batch and the optimisers, which every agent has."""

    batch_size: int = 512
    """Rows in a gradient step."""
    depth: int = 4
    """Depth of every network, unless the agent's own settings say otherwise."""
    width: int = 256
    """Units in a layer, unless the agent's own settings say otherwise."""
    architecture: Architecture = dataclasses.field(default_factory=ResidualArchitecture)
    """Settings of the torso."""
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    """Settings of the optimisers of all networks."""
    copies: int = 1
    """Agents that are trained in the same memory at the same time."""
    shards: int = 1
    """Equal parts of a batch, each drawn from a part of the replay buffer; they lie one behind the other."""


@runtime_checkable
class Buildable(Protocol):
    """A class of agents. `DeepAgent` provides `build`."""

    def build(self, problem: Problem, config: Any, networks: NetworkSettings, /) -> Agent:
        """Return the agent for a problem.

        Raises:
            ConfigurationError: if its settings are not valid for the problem.
        """
        ...


def _no_preset(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True)
class AgentSpec:
    """An entry of the registry of agents."""

    name: str
    """What `agent` takes, and the name of the block of its settings."""
    summary: str
    """One line for lists."""
    settings: type
    """Class of its settings: a frozen dataclass in which every field has a default."""
    agent: Buildable
    """The class of the agent."""
    discrete: bool = False
    """It chooses among discrete actions; without this flag it needs continuous actions."""
    needs_success: bool = False
    """It learns from a reward for reached goals, so the task must define success."""
    on_policy: bool = False
    """It learns from the newest unroll only, which its own policy must have collected."""
    needs_teacher: bool = False
    """It learns from the policy of another run, so it is not trained by itself, and lists of agents leave it out. Its
    settings have a field `teacher`, a `Teacher`; the agent has a method `taught_by`, which puts the teacher's networks
    into the state of a new agent."""
    offline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Its settings that suit learning from a data set, to which nothing is added, better than their defaults. A run
    that begins with its networks and collects takes the defaults again."""
    preset: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_preset
    """Takes the training settings so far (the environment's preset and what the user set) and returns settings that
    suit the agent better. What the user set takes precedence over them. The input is not validated yet."""


_AGENTS: dict[str, AgentSpec] = {}


def register_agent(spec: AgentSpec) -> None:
    """Add an agent under its name.

    Raises:
        ConfigurationError: if the name is taken or not a valid name, or a setting has no default.
    """
    if not spec.name.isidentifier():
        raise ConfigurationError(f"agent name {spec.name!r} must be made of letters, digits and underscores")
    if not is_rerun("agent", spec.name) and spec.name in _AGENTS:
        raise ConfigurationError(f"an agent named {spec.name!r} is registered already")
    if not dataclasses.is_dataclass(spec.settings):
        raise ConfigurationError(f"the settings of agent {spec.name!r} must be a dataclass")
    for field in dataclasses.fields(spec.settings):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigurationError(f"the setting {field.name!r} of agent {spec.name!r} needs a default")
    _AGENTS[spec.name] = spec


def unregister_agent(name: str) -> None:
    """Remove an agent from the registry."""
    _AGENTS.pop(name, None)


def agent_names() -> list[str]:
    """Return the names of all registered agents that need no teacher."""
    return [spec.name for spec in agent_specs()]


def agent_specs() -> Iterator[AgentSpec]:
    """Yield the entries of all registered agents that need no teacher."""
    yield from (spec for spec in _AGENTS.values() if not spec.needs_teacher)


def agent_spec(name: str) -> AgentSpec:
    """Return the entry called `name`.

    Raises:
        ConfigurationError: if there is none; the line names the nearest.
    """
    if name not in _AGENTS:
        raise UnknownNameError(f"agent={name!r} is unknown; {nearest_names(name, _AGENTS, listing=_listing())}")
    return _AGENTS[name]


def make_agent(
    name: str, problem: Problem, config: Any, networks: NetworkSettings, *, acts_only: bool = False
) -> Agent:
    """Build an agent.

    Args:
        name: of a registered agent.
        problem: what it is for.
        config: its settings, an instance of its spec's `settings`.
        networks: settings of networks, batch and optimisers.
        acts_only: the agent only acts and values, so the task need not define success.

    Raises:
        ConfigurationError: if the agent is not for such a problem, or its settings are not valid.
    """
    spec = agent_spec(name)
    if spec.discrete != problem.discrete_actions:
        kinds = ("continuous", "discrete")
        fitting = [other.name for other in agent_specs() if other.discrete == problem.discrete_actions]
        raise ConfigurationError(
            f"agent={name!r} is for {kinds[spec.discrete]} actions, and those of env {problem.name!r} are "
            f"{kinds[problem.discrete_actions]}; take agent={' or '.join(fitting)}"
        )
    if spec.needs_success and problem.success is None and not acts_only:
        raise ConfigurationError(
            f"agent={name!r} is rewarded for reached goals, and the task of env {problem.name!r} does not define "
            "success; set its goal or success_distance, or take an agent without rewards such as crl"
        )
    return spec.agent.build(problem, config, networks)


def _listing() -> str:
    return f"there are {', '.join(agent_names())}"
