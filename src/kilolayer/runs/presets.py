"""Training presets: settings that differ from the paper's for an environment, or for a family of environments.

    register_preset("crane", {**LAPTOP, "crl": {"loss": "infonce_symmetric"}})

`default_config` starts from the preset of its environment. An environment without one is trained with the paper's
settings. A preset with a name is taken when it is asked for:

    register_named_preset("laptop", "crane", {"total_env_steps": 200_000}, "lifts in ten minutes")
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kilolayer.envs import registry
from kilolayer.envs.robot_task import check_variant
from kilolayer.errors import ConfigurationError
from kilolayer.user_code import is_rerun

PAPER = "paper"
"""The variant, and the preset that takes it."""

_PRESETS: dict[tuple[str, str], Mapping[str, Any]] = {}


@dataclasses.dataclass(frozen=True)
class NamedPreset:
    """Settings that are asked for by name."""

    settings: Mapping[str, Any]
    """Values by setting; the variant of the task and the agent may be among them."""
    promise: str
    """One line: what a run reaches, how long it takes, and on what machine."""


_NAMED: dict[tuple[str, str], NamedPreset] = {}


def register_preset(env: str, settings: Mapping[str, Any], *, variant: str = "default") -> None:
    """Add the training settings of an environment or of a family.

    Args:
        env: name of an environment, or a family (`EnvironmentSpec.family`), whose members share the settings.
        settings: values by setting, as for `default_config`. Settings of an agent are a dictionary under the agent's
            name; there may be several, and a run uses its own agent's.
        variant: form of the task that the settings are for. The preset of `default` is used for every variant without
            one of its own.

    Raises:
        ConfigurationError: if there is a preset for this name and variant already, or no such variant.
    """
    check_variant(variant)
    if not is_rerun("preset", f"{env} {variant}") and (env, variant) in _PRESETS:
        raise ConfigurationError(f"a preset of {env!r}, variant {variant!r}, is already registered")
    _PRESETS[env, variant] = MappingProxyType(dict(settings))


def unregister_preset(env: str, *, variant: str = "default") -> None:
    """Remove a preset, if it is there."""
    _PRESETS.pop((env, variant), None)


def preset(env: str, variant: str = "default") -> Mapping[str, Any]:
    """Return the training settings that differ from the paper's.

    A preset of the environment itself comes before one of its family, and a preset of the variant before the default.

    Args:
        env: a registered name, or a maze as text.
        variant: form of the task.

    Returns:
        The settings, not to be changed; empty if the environment is trained with the paper's.

    Raises:
        ConfigurationError: if the environment is unknown.
    """
    spec = registry.spec(env)
    for name in filter(None, (spec.name, spec.family)):
        for key in ((name, variant), (name, "default")):
            if key in _PRESETS:
                return _PRESETS[key]
    return MappingProxyType({})


def register_named_preset(name: str, env: str, settings: Mapping[str, Any], promise: str) -> None:
    """Add settings of an environment that are taken when they are asked for by name.

    Args:
        name: what `preset` takes, such as `laptop`.
        env: name of an environment.
        settings: as for `register_preset`; the variant of the task may be among them.
        promise: one line: what a run reaches, how long it takes, and on what machine.

    Raises:
        ConfigurationError: if the environment has a preset of this name already, or the name is not a valid one.
    """
    if not name.isidentifier():
        raise ConfigurationError(f"preset name {name!r} must be made of letters, digits and underscores")
    if not is_rerun("named preset", f"{env} {name}") and (env, name) in _NAMED:
        raise ConfigurationError(f"a preset {name!r} of {env!r} is already registered")
    _NAMED[env, name] = NamedPreset(MappingProxyType(dict(settings)), promise)


def unregister_named_preset(name: str, env: str) -> None:
    """Remove a preset, if it is there."""
    _NAMED.pop((env, name), None)


def named_presets(env: str) -> dict[str, NamedPreset]:
    """Return the presets of an environment by name.

    The preset `paper` is there for every environment with a variant of the paper: it takes that variant.

    Raises:
        ConfigurationError: if the environment is unknown.
    """
    spec = registry.spec(env)
    found = {name: one for (of, name), one in _NAMED.items() if of == spec.name}
    if spec.paper_engine is not None:
        found.setdefault(PAPER, NamedPreset({"variant": PAPER}, "settings, physics and length of the published run"))
    return found


def named_preset(name: str, env: str) -> NamedPreset:
    """Return a preset of an environment by its name.

    Raises:
        ConfigurationError: if the environment is unknown or has no such preset; the line lists those that it has.
    """
    found = named_presets(env)
    if name not in found:
        others = f"it has {', '.join(sorted(found))}" if found else "it has none"
        raise ConfigurationError(f"preset={name!r} does not exist for env {registry.spec(env).name!r}; {others}")
    return found[name]


LAPTOP: Mapping[str, Any] = MappingProxyType(
    {
        "total_env_steps": 1_000_000,
        "num_envs": 128,
        "batch_size": 256,
        "unroll_length": 50,
        "gradient_steps_per_unroll": 64,
        "replay_capacity": 2000,
        "min_replay": 200,
        "num_evals": 10,
    }
)
"""Settings to start from for a task of your own on two CPU cores: what `reacher` and `arm_reach` are trained with."""

HIGH_UTD: Mapping[str, Any] = MappingProxyType(
    {**LAPTOP, "total_env_steps": 200_000, "gradient_steps_per_unroll": 512, "num_evals": 5}
)
"""`LAPTOP` with a high update-to-data ratio: eight times the gradient steps for each env step, and a fifth of the env
steps. To start from where `LAPTOP` is slow to lower its entropy, as with arms of many joints."""

GPU: Mapping[str, Any] = MappingProxyType({"total_env_steps": 10_000_000, "num_evals": 20})
"""Settings to start from on a GPU: the paper's sizes with a tenth of its env steps, as studies of the size gpu take."""

_POINT_MAZE: Mapping[str, Any] = {
    **LAPTOP,
    "total_env_steps": 1_600_000,
    "width": 128,
    "num_evals": 16,
    "crl": {"loss": "infonce_symmetric"},
    "crl_discrete": {"loss": "infonce_symmetric"},
}
register_preset("point_maze", _POINT_MAZE)
register_preset("point_maze_discrete", {**_POINT_MAZE, "agent": "crl_discrete"})

for _env in ("arm_reach", "reacher"):
    register_preset(_env, LAPTOP)
    register_preset(_env, {"episode_length": 1000}, variant="paper")

register_preset(
    "gymnasium",
    {
        **LAPTOP,
        "num_envs": 16,
        "replay_capacity": 10_000,
        "min_replay": 100,
        "total_env_steps": 200_000,
        "num_eval_envs": 20,
    },
)

# Runs that were measured: `results/` has their curves.

register_named_preset(
    "laptop",
    "arm_push_easy",
    {"batch_size": 512, "total_env_steps": 3_000_000, "num_evals": 15},
    "the cube reaches 0.6 of its goals, for 190 of 1,000 steps; half an hour on two quiet CPU cores, by the dry run",
)
register_named_preset(
    "gpu",
    "arm_push_easy",
    {"engine": "mujoco", "total_env_steps": 6_000_000, "num_evals": 10},
    "the cube at its goal for 220 of 1,000 steps, success_any 0.65; ten minutes on an H200 with 16 CPU cores, shared",
)

# The paper's runs that do not take 100 million env steps (Figure 1).

for _env, _env_steps in {
    "ant_hardest_maze": 200_000_000,
    "ant_u5_maze": 400_000_000,
    "humanoid_u_maze": 400_000_000,
    "humanoid_big_maze": 400_000_000,
}.items():
    register_preset(_env, {"total_env_steps": _env_steps})
