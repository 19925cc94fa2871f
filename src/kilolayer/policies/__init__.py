"""Policies: a trained policy by itself."""

from kilolayer.policies.compiled import ActingPrecision, ActionError, CompiledPolicy, check_acting_precision

__all__ = [
    "ActingPrecision",
    "ActionError",
    "CompiledPolicy",
    "check_acting_precision",
]
