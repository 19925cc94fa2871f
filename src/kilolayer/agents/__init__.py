"""Agents: each is `init`, `act`, `value` and `update` on explicit state, in a file that reads like its paper.

Importing this room registers the methods that come with the library.
"""

from kilolayer.agents.c_learning import CLearning, CLearningConfig
from kilolayer.agents.core.base import DeepAgent, Optimizers, Probe
from kilolayer.agents.core.contrastive_critic import Critic
from kilolayer.agents.core.grow_agent import grow_agent
from kilolayer.agents.core.interface import ActionMode, Agent, AgentState, Diagnostics, Metrics, check_action_mode
from kilolayer.agents.core.optimizers import OptimizerSettings
from kilolayer.agents.core.registry import (
    AgentSpec,
    NetworkSettings,
    Problem,
    agent_names,
    agent_spec,
    agent_specs,
    make_agent,
    register_agent,
    unregister_agent,
)
from kilolayer.agents.core.tandem import Tandem, TandemState
from kilolayer.agents.core.teacher import Teacher
from kilolayer.agents.crl import CRL, CRLConfig, CRLState, Judge
from kilolayer.agents.crl_discrete import CRLDiscrete, CRLDiscreteConfig
from kilolayer.agents.distill import Distill, DistillConfig, DistillState
from kilolayer.agents.gcbc import GCBC, GCBCConfig
from kilolayer.agents.gciql import GCIQL, GCIQLConfig
from kilolayer.agents.gcivl import GCIVL, GCIVLConfig
from kilolayer.agents.gcsl import GCSL, GCSLConfig
from kilolayer.agents.ppo import PPO, PPOConfig
from kilolayer.agents.qrl import QRL, QRLConfig
from kilolayer.agents.sac import SAC, SACConfig, SACHERConfig
from kilolayer.agents.survival import SRLConfig, Survival, SurvivalConfig
from kilolayer.agents.td3 import TD3, TD3Config, TD3HERConfig

__all__ = [
    "CRL",
    "GCBC",
    "GCIQL",
    "GCIVL",
    "GCSL",
    "PPO",
    "QRL",
    "SAC",
    "TD3",
    "ActionMode",
    "Agent",
    "AgentSpec",
    "AgentState",
    "CLearning",
    "CLearningConfig",
    "CRLConfig",
    "CRLDiscrete",
    "CRLDiscreteConfig",
    "CRLState",
    "Critic",
    "DeepAgent",
    "Diagnostics",
    "Distill",
    "DistillConfig",
    "DistillState",
    "GCBCConfig",
    "GCIQLConfig",
    "GCIVLConfig",
    "GCSLConfig",
    "Judge",
    "Metrics",
    "NetworkSettings",
    "OptimizerSettings",
    "Optimizers",
    "PPOConfig",
    "Probe",
    "Problem",
    "QRLConfig",
    "SACConfig",
    "SACHERConfig",
    "SRLConfig",
    "Survival",
    "SurvivalConfig",
    "TD3Config",
    "TD3HERConfig",
    "Tandem",
    "TandemState",
    "Teacher",
    "agent_names",
    "agent_spec",
    "agent_specs",
    "check_action_mode",
    "grow_agent",
    "make_agent",
    "register_agent",
    "unregister_agent",
]
