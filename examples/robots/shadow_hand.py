"""The Shadow hand of gymnasium-robotics: bring all five fingertips to points that the hand can reach at once.

An action is a posture: targets of all servos, for half a second, in which the hand gets there. So the next step tells
what an action achieves, and it is enough to imitate random postures, each with what it achieved as its goal.

pip install --no-deps gymnasium-robotics
kilolayer --import examples/robots/shadow_hand.py envs check shadow_hand
kilolayer --import examples/robots/shadow_hand.py train shadow_hand --run-dir runs/shadow_hand
"""

from functools import cached_property

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.envs import EnvironmentSpec, RobotTask, installed_file, register
from kilolayer.runs import LAPTOP, register_preset


class ShadowHand(RobotTask):
    """Move the fingertips to 5 points, to within 5 cm in all."""

    mjcf = installed_file("gymnasium_robotics", "envs/assets/hand/reach.xml")
    engines, success_distance, servo_share, control_step = ("mujoco",), 0.05, None, 0.5
    sites = tuple(f"robot0:S_{finger}tip" for finger in ("ff", "mf", "rf", "lf", "th"))

    @cached_property
    def poses(self):
        """Fingertips of 200 random poses, after a second of physics each."""
        found, low, high = [], *self.model.actuator_ctrlrange.T
        for targets in np.random.default_rng(0).uniform(low, high, (200, len(low))):
            data = mujoco.MjData(self.model)
            data.ctrl[:] = targets
            mujoco.mj_step(self.model, data, 500)
            found.append(np.concatenate([data.site(name).xpos for name in self.sites]))
        return np.array(found, np.float32)

    def draw_goal(self, key):
        """Draw a pose."""
        return jax.random.choice(key, jnp.asarray(self.poses))

    def achieved_goal(self, state):
        """Return the fingertips."""
        return state.sites.position.reshape(-1)


register(EnvironmentSpec("shadow_hand", "Shadow hand moves its fingertips", ShadowHand, episode_length=10))
register_preset(
    "shadow_hand",
    {
        **LAPTOP,
        "agent": "gcbc",
        "gcbc": {"exploration": "random", "discount": 0.01, "likelihood": "constant_width"},
        "total_env_steps": 100_000,
        "batch_size": 512,
        "unroll_length": 10,
        "gradient_steps_per_unroll": 128,
        "min_replay": 20,
        "num_evals": 8,
    },
)
