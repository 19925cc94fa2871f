"""Films of environments in Python, which draw themselves."""

import importlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kilolayer.agents import ActionMode
from kilolayer.envs.gym import GymEnvironment
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.render.canvas import PLATFORM
from kilolayer.render.film import encode

RGB = "rgb_array"
"""Gymnasium's name of pictures as arrays."""


def write_python_film(
    policy: Policy,
    environment: GymEnvironment,
    path: Path,
    *,
    num_episodes: int,
    seed: int = 0,
    mode: ActionMode = "deterministic",
    speed: float = 1.0,
    advance: Callable[[int], None] = lambda frames: None,
) -> int:
    """Run episodes one after another, and write what the environment draws as an MP4 file.

    Args:
        policy: the policy.
        environment: that fits the policy.
        path: the file.
        num_episodes: number of episodes.
        seed: of starts and goals.
        mode: how actions are chosen.
        speed: playback speed relative to real time.
        advance: called after every frame.

    Returns:
        How many episodes reach their goal.

    Raises:
        ConfigurationError: if the environment draws no pictures.
    """
    envs = [_open(environment, index) for index in range(num_episodes)]
    reached: list[bool] = []
    try:
        pictures = _episodes(policy, environment, envs, seed, mode, reached)
        first = next(pictures)
        height, width = first.shape[:2]
        size = (width - width % 2, height - height % 2)
        step = environment.control_step or 0.05
        fps = Fraction(speed / step).limit_denominator(1000)
        encode(_even(first, pictures), path, size=size, fps=fps, advance=advance)
    finally:
        for env in envs:
            env.close()
    return sum(reached)


def _open(environment: GymEnvironment, index: int) -> Any:
    from kilolayer.envs.gym.adapter import open_env

    if PLATFORM in os.environ:  # as found for the library's own pictures
        os.environ.setdefault("MUJOCO_GL", os.environ[PLATFORM])
    env = open_env(environment.name, environment.episode_length, index=index, render_mode=RGB)
    if RGB not in env.metadata.get("render_modes", ()):
        raise ConfigurationError(f"{environment.name} draws no pictures: it has no render mode {RGB!r}")
    return env


def _episodes(
    policy: Policy, environment: GymEnvironment, envs: list[Any], seed: int, mode: ActionMode, reached: list[bool]
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Yield the pictures of all episodes, and note which reach their goal."""
    success = importlib.import_module("kilolayer.envs.gym.adapter").SUCCESS
    task: Any = environment.task
    low, high = np.array(task.about.low), np.array(task.about.high)
    for number, env in enumerate(envs):
        seen, _ = env.reset(seed=seed + number)
        policy.reset()
        reached.append(False)
        done = False
        while not done:
            yield _picture(env, environment.name)
            action = np.clip(policy(seen["observation"], seen["desired_goal"], mode=mode), -1.0, 1.0)
            seen, _, terminated, truncated, info = env.step(0.5 * (high + low) + 0.5 * (high - low) * action)
            reached[-1] |= bool(info[success])
            done = terminated or truncated
        yield _picture(env, environment.name)


def _picture(env: Any, name: str) -> np.ndarray:
    picture = np.asarray(env.render())
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ConfigurationError(
            f"{name} draws pictures of shape {picture.shape} and type {picture.dtype}; they must be height x width x 3 "
            "of uint8"
        )
    return picture


def _even(first: np.ndarray, others: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield pictures without the last column and row of odd sizes, which films cannot have."""
    height, width = (size - size % 2 for size in first.shape[:2])
    yield np.ascontiguousarray(first[:height, :width])
    for picture in others:
        yield np.ascontiguousarray(picture[:height, :width])
