"""Where environments in Python come from: what stands before the colon of a name such as `gym:FetchReach-v4`.

Packages are optional. They are imported when a name asks for them, and what fails is one line.
"""

import contextlib
import dataclasses
import importlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

from kilolayer.errors import ConfigurationError, nearest_names


@dataclasses.dataclass(frozen=True)
class Source:
    """Environments that share a way to be made."""

    prefix: str
    """Stands before the colon of a name."""
    packages: tuple[str, ...]
    """Packages that register environments, in the order in which they are asked. The first must be installed."""
    needs: str
    """What to install, such as `pip install 'kilolayer[gym]'`."""
    wrap: Callable[[Any, int], Any] = lambda env, index: env
    """Makes an environment with observation, achieved_goal and desired_goal of a registered one, given its place among
    those that step side by side."""


_SOURCES: dict[str, Source] = {}


def register_source(source: Source) -> None:
    """Add a source under its prefix.

    Raises:
        ConfigurationError: if the prefix is taken.
    """
    if source.prefix in _SOURCES:
        raise ConfigurationError(f"a source of environments named {source.prefix!r} is already registered")
    _SOURCES[source.prefix] = source


def source_of(name: str) -> Source | None:
    """Return the source of an environment by its name; None if the name has none."""
    prefix, colon, _ = name.partition(":")
    return _SOURCES.get(prefix) if colon and "\n" not in name else None


def spec_of(name: str) -> Any:
    """Return Gymnasium's entry of an environment.

    Args:
        name: with its prefix.

    Raises:
        ConfigurationError: in one line, if a package is missing or no environment has this name.
    """
    source = source_of(name)
    assert source is not None, name
    gymnasium = _package(name, "gymnasium", source)
    module, colon, identity = name.partition(":")[2].rpartition(":")
    try:
        if colon:
            importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"env {name!r}: module {module!r} cannot be imported: {error}") from None
    for package in source.packages:
        if identity in gymnasium.registry:
            break
        _package(name, package, source, optional=package != source.packages[0])
    try:
        return gymnasium.spec(identity)
    except gymnasium.error.Error:
        near = nearest_names(identity, gymnasium.registry, listing="gymnasium.pprint_registry() lists them")
        raise ConfigurationError(f"env {name!r} is unknown to Gymnasium; {near}") from None


def make_env(name: str, episode_length: int, *, index: int = 0, render_mode: str | None = None) -> Any:
    """Make an environment.

    Args:
        name: with its prefix.
        episode_length: steps after which an episode is truncated.
        index: its place among those that step side by side.
        render_mode: of Gymnasium.

    Raises:
        ConfigurationError: in one line, if it cannot be made.
    """
    source, spec = source_of(name), spec_of(name)
    assert source is not None, name
    gymnasium = importlib.import_module("gymnasium")
    if "gymnasium_robotics" in sys.modules:
        _mend_robotics()
    more = {} if render_mode is None else {"render_mode": render_mode}
    try:
        made = gymnasium.make(spec, max_episode_steps=episode_length, disable_env_checker=True, **more)
    except Exception as error:  # whatever an environment raises while it is built
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"env {name!r} cannot be made: {type(error).__name__}: {reason[:300]}") from error
    return source.wrap(made, index)


def _package(name: str, package: str, source: Source, *, optional: bool = False) -> Any:
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # gymnasium-robotics prints news
            module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if optional and error.name == package:
            return None
        raise ConfigurationError(f"env {name!r} needs {error.name}, which is not installed: {source.needs}") from None
    return module


def _mend_robotics() -> None:
    """Let gymnasium-robotics 1.4 run on MuJoCo 4, whose enumerations do not equal numbers of numpy on their right."""
    import mujoco
    import numpy as np
    from gymnasium_robotics.utils import mujoco_utils

    hinge: Any = mujoco.mjtJoint.mjJNT_HINGE
    if hinge == np.int32(int(hinge)) or isinstance(mujoco_utils.mujoco, _MujocoWithPlainJoints):
        return
    mujoco_utils.mujoco = _MujocoWithPlainJoints(mujoco)


class _MujocoWithPlainJoints(types.SimpleNamespace):
    """The package mujoco, with the kinds of joints as plain numbers."""

    def __init__(self, package: Any):
        kinds = {name: int(kind) for name, kind in package.mjtJoint.__members__.items()}
        super().__init__(package=package, mjtJoint=types.SimpleNamespace(**kinds))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.package, name)


def _ogbench_goals(env: Any, index: int) -> Any:
    from kilolayer.envs.gym.ogbench import OgbenchGoals

    return OgbenchGoals(env, index)


register_source(Source("gym", ("gymnasium", "gymnasium_robotics"), "pip install 'kilolayer[gym]'"))
register_source(Source("ogbench", ("ogbench",), "pip install 'kilolayer[ogbench]'", wrap=_ogbench_goals))
