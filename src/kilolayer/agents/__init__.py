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
from kilolayer.agents.crl import CRL, Critic, CRLConfig, CRLState
from kilolayer.agents.gcbc import GCBC, GCBCConfig
from kilolayer.agents.gcsl import GCSL, GCSLConfig
from kilolayer.agents.growth import grow
from kilolayer.agents.ppo import PPO, PPOConfig
from kilolayer.agents.sac import SAC, SACConfig
from kilolayer.agents.twin_critic import HERConfig

__all__ = [
    "AGENTS",
    "BLOCKS",
    "CRL",
    "GCBC",
    "GCSL",
    "PPO",
    "SAC",
    "ActionMode",
    "Agent",
    "AgentName",
    "AgentSpec",
    "AgentState",
    "CRLConfig",
    "CRLState",
    "Critic",
    "Diagnostics",
    "GCBCConfig",
    "GCSLConfig",
    "HERConfig",
    "Metrics",
    "NetworkSettings",
    "PPOConfig",
    "Problem",
    "SACConfig",
    "agent_spec",
    "grow",
    "make_agent",
]
