"""Growth of an agent: all its networks and their optimisers at once, whatever the agent."""

import jax
from jaxtyping import PRNGKeyArray

from kilolayer.agents.core.interface import Agent, AgentState
from kilolayer.nn import Torso


def grow(agent: Agent, state: AgentState, key: PRNGKeyArray) -> AgentState:
    """Return a state of `agent` that acts and values as `state`, which is that of a shallower one.

    Every network in it, and every tree of the form of a network such as Adam's moments, gets the blocks that it lacks:
    new blocks start as the identity, their moments as those of a new agent. All else, counts of steps too, stays.

    Args:
        agent: the deeper agent; nothing but its depth differs from the agent of `state`.
        state: what the shallower agent has learnt.
        key: of the new blocks.

    Raises:
        ConfigurationError: if the networks cannot grow.
    """

    def grown(old: object, new: object) -> object:
        return new.graft(old) if isinstance(old, Torso) and isinstance(new, Torso) else old

    return jax.tree.map(grown, state, agent.init(key), is_leaf=lambda node: isinstance(node, Torso))
