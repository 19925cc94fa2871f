"""What tasks remember from step to step, as mixins that stand before a task: `class Slow(ActionDelay, Reach)`.

Each keeps its part of the memory, a dict, under a name of its own, and passes on to the classes below it the action as
it changed it.
"""

from kilolayer.envs.remembering.actions import ActionDelay, LastAction, LowPass
from kilolayer.envs.remembering.observations import ObservationDelay
from kilolayer.envs.remembering.part import memory_below

__all__ = ["ActionDelay", "LastAction", "LowPass", "ObservationDelay", "memory_below"]
