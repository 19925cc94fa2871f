"""Growth of an agent: all its networks and their optimisers at once, whatever the agent."""

import jax
from jaxtyping import PRNGKeyArray

from kilolayer.agents.core.interface import Agent, AgentState
from kilolayer.nn import Torso


def grow_agent(agent: Agent, state: AgentState, key: PRNGKeyArray) -> AgentState:
    """Return a state of a deeper agent that acts and values as the given state of a shallower one.

    Every network in it, and every tree of the form of a network such as Adam's moments, gets the blocks that it lacks:
    new blocks start as the identity, and their moments as those of a new agent, with a bias correction of their own
    (`kilolayer.agents.core.adam`). All else, such as counts of steps, stays.

    Args:
        agent: the deeper agent; nothing but its depth differs from the agent of `state`.
        state: of the shallower agent.
        key: randomness of the new blocks.

    Raises:
        ConfigurationError: if the networks cannot grow.
    """

    def grow(old: object, new: object) -> object:
        return new.graft(old) if isinstance(old, Torso) and isinstance(new, Torso) else old

    return jax.tree.map(grow, state, agent.init(key), is_leaf=lambda node: isinstance(node, Torso))
