"""Optax's own Adam, on the optimiser states of agents: those of networks count the age of each parameter."""

import jax
import optax

from kilolayer.agents.core.adam import AdamState


class ReferenceAdam:
    """Adam as optax has it, for parameters that all have the same age."""

    def __init__(self, learning_rate):
        self.adam = optax.adam(learning_rate)

    def update(self, gradient, state):
        own, *rest = state
        if not isinstance(own, AdamState):
            return self.adam.update(gradient, state)
        count = jax.tree.leaves(own.age)[0].reshape(-1)[0]
        scaled = optax.ScaleByAdamState(count, own.mu, own.nu)
        updates, (scaled, _) = self.adam.update(gradient, (scaled, optax.EmptyState()))
        return updates, (AdamState(jax.tree.map(lambda age: age + 1, own.age), scaled.mu, scaled.nu), *rest)
