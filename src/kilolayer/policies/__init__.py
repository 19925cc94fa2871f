"""Policies: a trained policy by itself."""

from kilolayer.policies.compiled import ActionError, CompiledPolicy

__all__ = [
    "ActionError",
    "CompiledPolicy",
]
