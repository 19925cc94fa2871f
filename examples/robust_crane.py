"""A crane for a real machine: every crane is another, its sensors are noisy, and the wind pushes its load.

kilolayer --import examples/robust_crane.py envs check robust_crane
kilolayer --import examples/robust_crane.py train robust_crane --run-dir runs/robust_crane
kilolayer --import examples/robust_crane.py train crane --run-dir runs/crane

Then both policies, on the crane of the model, on cranes that differ, and on one that neither has seen:

for run in crane robust_crane; do for env in crane robust_crane heavy_crane; do
kilolayer --import examples/robust_crane.py eval runs/$run --env $env; done; done

`eval runs/robust_crane --randomize off` is the same as `--env crane`.
"""

from crane import Crane

from kilolayer.envs import EnvironmentSpec, register
from kilolayer.envs.randomizing import Pushes, RandomPhysics, SensorNoise
from kilolayer.runs import LAPTOP, register_preset


class RobustCrane(RandomPhysics, SensorNoise, Pushes, Crane):
    """Bring a load of unknown weight to a point."""

    mass_scale = (0.5, 3.0)
    damping_scale = (0.5, 2.0)
    strength_scale = (0.6, 1.3)
    observation_noise = 0.01
    push_body = "load"
    push_force = 3.0
    push_time = 0.2


class HeavyCrane(Crane):
    """A crane with a heavy load and a weak drive."""

    def build(self):
        """Return the model with another load and another drive."""
        spec = super().build()
        spec.body("load").geoms[1].mass *= 2.5
        spec.actuator("drive").gear[0] *= 0.7
        return spec


for name, task in {"robust_crane": RobustCrane, "heavy_crane": HeavyCrane}.items():
    register(EnvironmentSpec(name, "crane that differs from its model", task=task, episode_length=200, family="crane"))
register_preset("robust_crane", LAPTOP)
