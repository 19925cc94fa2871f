"""Agents: each is `init`, `act`, `value` and `update` on explicit state, in a file that reads like its paper."""

from kilolayer.agents.c_learning import CLearning, CLearningConfig
from kilolayer.agents.core.contrastive_critic import Critic
from kilolayer.agents.core.grow_agent import grow
from kilolayer.agents.core.interface import ActionMode, Agent, AgentState, Diagnostics, Metrics
from kilolayer.agents.core.registry import (
    AGENTS,
    BLOCKS,
    AgentName,
    AgentSpec,
    NetworkSettings,
    Problem,
    agent_spec,
    make_agent,
)
from kilolayer.agents.core.tandem import Onlooker, OnlookerState
from kilolayer.agents.core.twin_critic import HERConfig
from kilolayer.agents.crl import CRL, CRLConfig, CRLState
from kilolayer.agents.crl_discrete import CRLDiscrete, CRLDiscreteConfig
from kilolayer.agents.gcbc import GCBC, GCBCConfig
from kilolayer.agents.gcsl import GCSL, GCSLConfig
from kilolayer.agents.ppo import PPO, PPOConfig
from kilolayer.agents.qrl import QRL, QRLConfig
from kilolayer.agents.sac import SAC, SACConfig
from kilolayer.agents.td3 import TD3, TD3Config

__all__ = [
    "AGENTS",
    "BLOCKS",
    "CRL",
    "GCBC",
    "GCSL",
    "PPO",
    "QRL",
    "SAC",
    "TD3",
    "ActionMode",
    "Agent",
    "AgentName",
    "AgentSpec",
    "AgentState",
    "CLearning",
    "CLearningConfig",
    "CRLConfig",
    "CRLDiscrete",
    "CRLDiscreteConfig",
    "CRLState",
    "Critic",
    "Diagnostics",
    "GCBCConfig",
    "GCSLConfig",
    "HERConfig",
    "Metrics",
    "NetworkSettings",
    "Onlooker",
    "OnlookerState",
    "PPOConfig",
    "Problem",
    "QRLConfig",
    "SACConfig",
    "TD3Config",
    "agent_spec",
    "grow",
    "make_agent",
]
