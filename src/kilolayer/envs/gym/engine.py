"""Steps environments in Python, called back from the compiled program.

JAX sees numbers alone: the environments themselves live on the host. A state names them by a number, so that several
seeds, and evaluations beside them, have environments of their own. Such a state cannot be saved: a run that resumes
begins new episodes.
"""

import functools
import itertools
import threading
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Bool, Float, Int

from kilolayer.envs.gym.task import GymTask
from kilolayer.user_code import imported


class GymPhysics(eqx.Module):
    """What the environments show between two steps."""

    observation: Float[Array, "*num_envs observation"]
    achieved_goal: Float[Array, "*num_envs goal"]
    desired_goal: Float[Array, "*num_envs goal"]
    terminated: Bool[Array, "*num_envs"]
    """False: an environment that terminated has begun again."""
    place: Int[Array, "*num_envs"]
    """The number of the environments on the host, the same for all."""
    steps: Int[Array, "*num_envs"]
    """Steps so far. Each step needs those of the one before, so that they happen in this order."""


class GymOutcome(eqx.Module):
    """Result of one step, before an environment begins again."""

    observation: Float[Array, "num_envs observation"]
    achieved_goal: Float[Array, "num_envs goal"]
    desired_goal: Float[Array, "num_envs goal"]
    reward: Float[Array, " num_envs"]
    success: Bool[Array, " num_envs"]
    terminated: Bool[Array, " num_envs"]
    truncated: Bool[Array, " num_envs"]


class GymEngine:
    """Environments of Gymnasium, one after another in this process or each in a process of its own."""

    runs_on_host = True
    resumes_exactly = False
    """The state of these environments cannot be saved."""

    def __init__(self, task: GymTask, *, processes: bool):
        """Prepare to make environments.

        Args:
            task: names them.
            processes: each is a process of its own.
        """
        self.task, self.processes = task, processes
        self.episode_length = task.episode_length
        self._numbers = itertools.count()
        self._used: dict[int, Any] = {}
        self._free: dict[int, list[Any]] = {}
        self._lock = threading.Lock()

    def init(self, start: Int[Array, " num_envs"]) -> GymPhysics:
        """Begin an episode in new environments, or such as were given back.

        Args:
            start: a seed for each.
        """
        num_envs = start.shape[0]
        shown = io_callback(self._begin, self._shapes(num_envs), start)
        return GymPhysics(
            **{name: shown[name] for name in ("observation", "achieved_goal", "desired_goal", "place")},
            terminated=jnp.zeros(num_envs, bool),
            steps=jnp.zeros(num_envs, jnp.int32),
        )

    def restart(self, physics: GymPhysics, start: Int[Array, " num_envs"], where: Bool[Array, " num_envs"]) -> Any:
        """Raise: these environments begin again by themselves.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("environments of Gymnasium begin again by themselves")

    def step(self, physics: GymPhysics, control: Float[Array, "num_envs action"]) -> tuple[GymPhysics, GymOutcome]:
        """Take a step in every environment; one whose episode ends begins the next.

        Returns:
            What the environments show next, and the result of the step.
        """
        found = io_callback(self._step, self._outcome(control.shape[0]), physics.place, physics.steps, control)
        shown = {name: found.pop(f"next_{name}") for name in ("observation", "achieved_goal", "desired_goal", "steps")}
        nothing = jnp.zeros_like(physics.terminated)
        return GymPhysics(place=physics.place, terminated=nothing, **shown), GymOutcome(**found)

    def release(self, physics: GymPhysics) -> None:
        """Give environments back for other episodes."""
        io_callback(self._give_back, None, physics.place, physics.steps)

    def close(self) -> None:
        """Close all environments."""
        with self._lock:
            for vector in [*self._used.values(), *itertools.chain(*self._free.values())]:
                vector.close()
            self._used.clear()
            self._free.clear()

    # Shapes of what comes back

    def _shapes(self, num_envs: int) -> dict[str, jax.ShapeDtypeStruct]:
        sizes = {
            "observation": self.task.observation_size,
            "achieved_goal": self.task.goal_size,
            "desired_goal": self.task.goal_size,
        }
        shapes = {name: jax.ShapeDtypeStruct((num_envs, size), jnp.float32) for name, size in sizes.items()}
        return shapes | {"place": jax.ShapeDtypeStruct((num_envs,), jnp.int32)}

    def _outcome(self, num_envs: int) -> dict[str, jax.ShapeDtypeStruct]:
        shapes = self._shapes(num_envs)
        number = shapes.pop("place")
        flags = {name: jax.ShapeDtypeStruct((num_envs,), bool) for name in ("success", "terminated", "truncated")}
        reward = jax.ShapeDtypeStruct((num_envs,), jnp.float32)
        after = {f"next_{name}": shape for name, shape in shapes.items()}
        return shapes | flags | after | {"reward": reward, "next_steps": number}

    # Functions on the host

    def _begin(self, seeds: Any) -> dict[str, np.ndarray]:
        seeds = np.asarray(seeds)
        with self._lock:
            free = self._free.get(len(seeds), [])
            vector = free.pop() if free else self._make(len(seeds))
            place = next(self._numbers)
            self._used[place] = vector
        shown, _ = vector.reset(seed=[int(seed) for seed in seeds])
        return _copies(shown) | {"place": np.full(len(seeds), place, np.int32)}

    def _step(self, place: Any, steps: Any, action: Any) -> dict[str, np.ndarray]:
        from kilolayer.envs.gym.adapter import SUCCESS

        vector = self._vector(place)
        shown, reward, terminated, truncated, info = vector.step(np.asarray(action))
        after = _copies(shown)
        last = {name: values.copy() for name, values in after.items()}
        done = np.flatnonzero(terminated | truncated)
        success = np.zeros(len(terminated), bool) | np.asarray(info.get(SUCCESS, False), bool)
        for env in done:
            for name, values in info["final_obs"][env].items():
                last[name][env] = values
        if len(done):
            success[done] = np.asarray(info["final_info"][SUCCESS], bool)[done]
        return {
            **last,
            **{f"next_{name}": values for name, values in after.items()},
            "reward": np.asarray(reward, np.float32),
            "success": success,
            "terminated": np.array(terminated, bool),
            "truncated": np.array(truncated, bool) & ~np.asarray(terminated, bool),
            "next_steps": np.asarray(steps) + np.int32(1),
        }

    def _give_back(self, place: Any, steps: Any) -> None:
        del steps
        with self._lock:
            vector = self._used.pop(int(np.asarray(place).flat[0]), None)
            if vector is not None:
                self._free.setdefault(vector.num_envs, []).append(vector)

    def _vector(self, place: Any) -> Any:
        number = int(np.asarray(place).flat[0])
        with self._lock:
            if number not in self._used:
                raise RuntimeError("the environments of this state are gone; a saved state of them cannot be used")
            return self._used[number]

    def _make(self, num_envs: int) -> Any:
        """Make environments that step side by side."""
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        from kilolayer.envs.gym.adapter import open_env

        files = imported() if self.processes else ()
        makers = [
            functools.partial(open_env, self.task.name, self.episode_length, index=index, imported=files)
            for index in range(num_envs)
        ]
        mode = AutoresetMode.SAME_STEP
        if not self.processes:
            return SyncVectorEnv(makers, autoreset_mode=mode, copy=False)
        return AsyncVectorEnv(makers, autoreset_mode=mode, context="spawn")


def _copies(shown: Any) -> dict[str, np.ndarray]:
    return {name: np.array(values, np.float32) for name, values in shown.items()}
