"""A crane for a real machine: every crane is another, its sensors are noisy, and the wind pushes its load.

kilolayer --import examples/robust_crane.py envs check robust_crane
kilolayer --import examples/robust_crane.py train robust_crane --run-dir runs/robust_crane
kilolayer --import examples/robust_crane.py train crane --run-dir runs/crane

Then both policies, on the crane of the model, on cranes that differ as in training, and on five that differ in one
thing (heavy_crane, weak_crane, free_crane, windy_crane, noisy_crane):

kilolayer --import examples/robust_crane.py eval runs/crane --env heavy_crane --episodes 512
kilolayer --import examples/robust_crane.py eval runs/robust_crane --env heavy_crane --episodes 512

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
    """The load weighs three times as much."""

    def build(self):
        """Return the model with another load."""
        spec = super().build()
        for geom in spec.body("load").geoms:
            geom.mass *= 3.0
        return spec


class WeakCrane(Crane):
    """The drive has half its force."""

    def build(self):
        """Return the model with another drive."""
        spec = super().build()
        spec.actuator("drive").gear[0] *= 0.5
        return spec


class FreeCrane(Crane):
    """Nothing damps the joints but a fifth of what the model says."""

    def build(self):
        """Return the model with less damping."""
        spec = super().build()
        for joint in spec.joints:
            joint.damping[0] *= 0.2
        return spec


class WindyCrane(Pushes, Crane):
    """The wind pushes the load with up to 6 N."""

    push_body = "load"
    push_force = 6.0
    push_time = 0.2


class NoisyCrane(SensorNoise, Crane):
    """The sensors are three times as noisy as in training."""

    observation_noise = 0.03


TASKS = {
    "robust_crane": RobustCrane,
    "heavy_crane": HeavyCrane,
    "weak_crane": WeakCrane,
    "free_crane": FreeCrane,
    "windy_crane": WindyCrane,
    "noisy_crane": NoisyCrane,
}
for name, task in TASKS.items():
    register(EnvironmentSpec(name, "crane that differs from its model", task=task, episode_length=200, family="crane"))
register_preset("robust_crane", LAPTOP)
