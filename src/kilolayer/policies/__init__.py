"""Policies: a trained policy by itself."""

from kilolayer.policies.artifact import read_artifact, save_artifact
from kilolayer.policies.compiled import ActingPrecision, ActionError, CompiledPolicy, check_acting_precision
from kilolayer.policies.contract import (
    ActionContract,
    Component,
    Contract,
    EnvironmentContract,
    GoalContract,
    VectorContract,
)
from kilolayer.policies.load import load
from kilolayer.policies.policy import Policy

__all__ = [
    "ActingPrecision",
    "ActionContract",
    "ActionError",
    "CompiledPolicy",
    "Component",
    "Contract",
    "EnvironmentContract",
    "GoalContract",
    "Policy",
    "VectorContract",
    "check_acting_precision",
    "load",
    "read_artifact",
    "save_artifact",
]
