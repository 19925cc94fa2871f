"""A robot that gets harder with every link: a chain in the plane brings its tip to a point without observing the tip.

kilolayer --import examples/chain.py train chain_4
kilolayer --import examples/chain.py study depth --envs chain_6 --only depth=4,depth=16 --seeds 0..4 \
    --set total_env_steps=1600000

The second command is the study of docs/studies/laptop.md. The position of the tip follows from the observation by a
product of as many rotations as there are links.
"""

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, register
from kilolayer.runs import preset, register_preset


class Chain(RobotTask):
    """Move the tip to within 5 cm of a point in the plane.

    The chain is 1 m long for any number of links, its first joint is at the origin, and it may cross itself.
    The observation is cosines, sines and velocities (radians per second) of the joints; the goal is x, y of the tip in
    metres; the action is the torque of each joint, as a fraction of 0.6 N m. An episode begins at rest. Its goal is the
    position of the tip in another random posture.
    """

    control_step = 0.05
    success_distance = 0.05
    bend = 1.5
    """Largest joint angle at the start and in the posture of the goal, in radians."""

    def __init__(self, links: int) -> None:
        self.links = links

    def build(self) -> mujoco.MjSpec:
        """Return the model: links connected by hinges, with a motor in each hinge."""
        model = mujoco.MjSpec()
        model.option.timestep = 0.01
        model.option.gravity = (0.0, 0.0, 0.0)
        model.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        body, length = model.worldbody, 1.0 / self.links
        for number in range(self.links):
            body = body.add_body(name=f"link{number}", pos=(length if number else 0.0, 0.0, 0.0))
            body.add_joint(
                name=f"joint{number}", axis=(0, 0, 1), limited=True, range=(-150, 150), damping=0.2, armature=0.02
            )
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=(0.0, 0.0, 0.0, length, 0.0, 0.0),
                size=(0.01, 0.0, 0.0),
                mass=0.02,
                contype=0,
                conaffinity=0,
            )
            motor = model.add_actuator(target=f"joint{number}", trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrlrange=(-1, 1))
            motor.set_to_motor()
            motor.gear[0] = 0.6
        return model

    def draw_start(self, key):
        """Draw a posture at rest."""
        return Start(qpos=self._posture(key), qvel=jnp.zeros(self.links))

    def draw_goal(self, key):
        """Draw a posture and return its tip."""
        return self._tip(self._posture(key))

    @property
    def observation_names(self):
        """Name each entry of an observation."""
        joints = [f"joint{number}" for number in range(self.links)]
        angles = [f"{function} of {joint} angle" for function in ("cosine", "sine") for joint in joints]
        return (*angles, *(f"{joint} velocity (rad/s)" for joint in joints))

    goal_names = ("tip x (m)", "tip y (m)")

    def observe(self, state):
        """Return cosines, sines and velocities of the joints."""
        return jnp.concatenate([jnp.cos(state.qpos), jnp.sin(state.qpos), state.qvel])

    def achieved_goal(self, state):
        """Return x, y of the tip."""
        return self._tip(state.qpos)

    def _posture(self, key):
        return jax.random.uniform(key, (self.links,), minval=-self.bend, maxval=self.bend)

    def _tip(self, angles):
        directions = jnp.cumsum(angles)
        return jnp.stack([jnp.cos(directions).mean(), jnp.sin(directions).mean()])


for links in (2, 4, 6, 8):
    register(
        EnvironmentSpec(
            name=f"chain_{links}",
            summary=f"a chain of {links} links brings its tip to a point",
            task=lambda links=links: Chain(links),
            episode_length=100,
            family="chain",
        )
    )
register_preset("chain", {**preset("reacher"), "total_env_steps": 1_600_000})
