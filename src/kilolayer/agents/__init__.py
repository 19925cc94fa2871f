"""Agents: each is `init`, `act`, `value` and `update` on explicit state, in a file that reads like its paper."""

from kilolayer.agents.agent import ActionMode, Agent, AgentState, Diagnostics, Metrics
from kilolayer.agents.catalog import (
    AGENTS,
    BLOCKS,
    AgentName,
    AgentSpec,
    NetworkSettings,
    Problem,
    agent_spec,
    make_agent,
)
from kilolayer.agents.contrastive_critic import Critic
from kilolayer.agents.crl import CRL, CRLConfig, CRLState
from kilolayer.agents.crl_discrete import CRLDiscrete, CRLDiscreteConfig
from kilolayer.agents.growth import grow
from kilolayer.agents.sac import SAC, SACConfig
from kilolayer.agents.twin_critic import HERConfig

__all__ = [
    "AGENTS",
    "BLOCKS",
    "CRL",
    "SAC",
    "ActionMode",
    "Agent",
    "AgentName",
    "AgentSpec",
    "AgentState",
    "CRLConfig",
    "CRLDiscrete",
    "CRLDiscreteConfig",
    "CRLState",
    "Critic",
    "Diagnostics",
    "HERConfig",
    "Metrics",
    "NetworkSettings",
    "Problem",
    "SACConfig",
    "agent_spec",
    "grow",
    "make_agent",
]
