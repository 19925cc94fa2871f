"""A teacher: a trained policy that another agent learns from, and how its networks are built."""

import dataclasses
from typing import Any

from kilolayer.agents.core.interface import Agent
from kilolayer.agents.core.registry import NetworkSettings, Problem, agent_spec, make_agent
from kilolayer.nn import torso_spec
from kilolayer.settings import settings_from


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Where the policy of a teacher is, and how its networks are built, so that a state can hold them."""

    run: str
    """Its run directory, or the directory of the policy. It is read when the student's run begins, and never again."""
    checkpoint: int | None
    """The checkpoint of the run; None for the directory of a policy."""
    agent: str
    """The method that trained it."""
    agent_settings: Any
    """Settings of the method."""
    torso: str
    """The kind of its networks."""
    architecture: Any
    """Settings of its networks."""
    depth: int
    """Depth of its networks, unless the settings of the method say otherwise."""
    width: int
    """Width of its networks, unless the settings of the method say otherwise."""

    def __post_init__(self) -> None:
        """Build both blocks of settings, where they are plain data.

        Raises:
            ConfigurationError: if a setting is unknown or not valid, or a name is not registered.
        """
        blocks = {
            "agent_settings": agent_spec(self.agent).settings,
            "architecture": torso_spec(self.torso).settings,
        }
        for name, cls in blocks.items():
            object.__setattr__(self, name, settings_from(cls, getattr(self, name), f"teacher.{name}"))

    def build(self, problem: Problem, networks: NetworkSettings) -> Agent:
        """Return the agent of the teacher, which acts and values but does not learn.

        Args:
            problem: what the student is for.
            networks: settings of the student's networks.

        Raises:
            ConfigurationError: if the teacher is not for such a problem.
        """
        own = dataclasses.replace(networks, depth=self.depth, width=self.width, architecture=self.architecture)
        return make_agent(self.agent, problem, self.agent_settings, own, acts_only=True)
