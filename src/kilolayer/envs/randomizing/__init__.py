"""What makes a policy robust, as mixins that stand before a task: `class Robust(RandomPhysics, SensorNoise, Reach)`.

With `randomized = False` a task leaves all of it out.
"""

from kilolayer.envs.randomizing.noise import SensorNoise
from kilolayer.envs.randomizing.physics import RandomPhysics
from kilolayer.envs.randomizing.pushes import Pushes

__all__ = ["Pushes", "RandomPhysics", "SensorNoise"]
