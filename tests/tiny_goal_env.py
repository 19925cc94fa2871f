"""A goal environment of Gymnasium as small as can be, as a user's file registers it."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict


class TinyReach(gymnasium.Env):
    """Moves a point in the plane to a goal; `info` and `compute_reward` tell of success."""

    metadata: dict = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, render_mode=None, told=True, ends=False, falls=False):
        self.render_mode, self.told, self.ends, self.falls = render_mode, told, ends, falls
        vector = Box(-10.0, 10.0, (2,), np.float64)
        self.observation_space = Dict(observation=Box(-10.0, 10.0, (2, 2)), achieved_goal=vector, desired_goal=vector)
        self.action_space = Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2))
        return self._seen(), {}

    def step(self, action):
        move = np.asarray(action, float) - (0.0, 2.0)
        self.place = np.clip(self.place + 0.2 * move * (1.0, 0.5), -2.0, 2.0)
        reward = self.compute_reward(self.place, self.goal, {})
        success = reward == 0.0
        failed = self.falls and abs(self.place[0]) > 1.9
        info = {"is_success": success} if self.told else {}
        return self._seen(), reward, bool(failed or (self.ends and success)), False, info

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.5).astype(float)

    def render(self):
        picture = np.zeros((64, 65, 3), np.uint8)
        picture[:, int(32 + 10 * self.place[0])] = 255
        return picture

    def _seen(self):
        return {
            "observation": np.stack([self.place, self.goal]).astype(np.float32),
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
        }


def register(name, **kwargs):
    """Register it, or one with other ways."""
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=TinyReach, max_episode_steps=20, kwargs=kwargs)


register("TinyReach-v0")
register("TinyReachUntold-v0", told=False)
register("TinyReachEnds-v0", ends=True)
register("TinyReachFalls-v0", falls=True)
