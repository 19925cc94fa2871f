"""Agents: each is `init`, `act`, `value` and `update` on explicit state."""

from kilolayer.agents.agent import ActionMode, Agent, AgentState, Diagnostics, Metrics
from kilolayer.agents.crl import CRL, Critic, CRLConfig, CRLState
from kilolayer.agents.growth import grow

__all__ = [
    "CRL",
    "ActionMode",
    "Agent",
    "AgentState",
    "CRLConfig",
    "CRLState",
    "Critic",
    "Diagnostics",
    "Metrics",
    "grow",
]
