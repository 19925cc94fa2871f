"""The default settings of an environment: those of the paper, with its preset, its agent's and its variant's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kilolayer.agents import agent_names, agent_spec
from kilolayer.envs import registry
from kilolayer.envs.engine_choice import choice_made
from kilolayer.envs.engines.registry import AUTO
from kilolayer.runs.config import TrainConfig, text_setting
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.runs.offline import NETWORKS, OFFLINE
from kilolayer.runs.presets import named_preset, preset
from kilolayer.runs.run_directory import RunDirectory


def default_config(env: str, **settings: Any) -> TrainConfig:
    """Return the default settings of an environment, with `settings` changed.

    With a GPU, the first call for a task may time engines, to choose one: see `kilolayer.envs.engine_choice`.

    Args:
        env: a registered name, the path of a maze file (`*.txt`), or a maze as text.
        settings: fields of `TrainConfig`; `preset`, the name of one of `named_presets`; and `robot`, which a maze file
            has in place of the one that it names. The blocks `architecture`, `optimizer` and that of the agent, under
            the agent's name, are dictionaries of the fields to change, or whole objects.

    Raises:
        ConfigurationError: for an unknown environment or setting, or a value that is not valid.
    """
    robot = text_setting(settings, "robot", "") or None
    settings.pop("robot", None)
    env = registry.resolve(text_setting({"env": env}, "env", ""), robot)
    spec = registry.spec(env)
    named = settings.pop("preset", None)
    asked = {} if named is None else named_preset(text_setting({"preset": named}, "preset", ""), env).settings
    variant = text_setting(settings, "variant", asked.get("variant", TrainConfig.variant))
    suited: dict[str, Any] = {}
    begun = _begun_with(text_setting(settings, "init_from", ""), offline=settings.get("dataset") is not None)
    for part in (preset(env, variant), asked, begun):
        deep_merge(part, into=suited)
    agent = agent_spec(text_setting(settings, "agent", suited.get("agent", TrainConfig.agent)))
    others = set(agent_names()) - {agent.name}
    merged: dict[str, Any] = {"env": env, "episode_length": spec.episode_length}
    deep_merge({name: value for name, value in suited.items() if name not in others}, into=merged)
    merged["agent"] = agent.name
    defaults = {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.default is not dataclasses.MISSING}
    deep_merge(agent.preset(defaults | merged | settings), into=merged)
    deep_merge({name: value for name, value in begun.items() if name not in others}, into=merged)
    if settings.get("dataset") is not None:
        deep_merge({**OFFLINE, agent.name: agent.offline}, into=merged)
        kept = others | (set(OFFLINE) - {"total_gradient_steps"})
        deep_merge({name: value for name, value in asked.items() if name not in kept}, into=merged)
    deep_merge(settings, into=merged)
    if isinstance(merged.get("grow"), str) and "depth" not in settings:
        merged["depth"] = GrowthSchedule.parse(merged["grow"]).final_depth
    eval_env = text_setting(merged, "eval_env", "")
    of_maze = robot if registry.is_maze_file(eval_env) else None
    merged["eval_env"] = registry.resolve(eval_env, of_maze) if eval_env else spec.eval_env or env
    engine = text_setting(merged, "engine", TrainConfig.engine)
    config = with_engine(TrainConfig.from_dict(merged | {"engine": engine}))
    merged["engine"] = config.engine
    return (
        config
        if variant != "paper" or config.dataset is not None
        else TrainConfig.from_dict(merged | _published(config, {**asked, **settings}))
    )


def with_engine(config: TrainConfig) -> TrainConfig:
    """Return settings that name the engine of a new run, where they say `auto`.

    A run keeps the engine that it began with: `auto` may choose another one on the next machine.
    """
    if config.engine != AUTO:
        return config
    spec = registry.spec(registry.resolve(config.env))
    return dataclasses.replace(config, engine=spec.engine_name(AUTO, config.variant, config.num_envs))


def describe_engine(config: TrainConfig) -> dict[str, Any]:
    """Return the engine of a run as plain data, with the speeds of all engines if this process chose among them."""
    spec = registry.spec(config.env)
    choice = choice_made(spec.make_task(config.variant), spec.name, config.num_envs)
    return {"name": config.engine, **({"env_steps_per_second": dict(choice.speeds)} if choice else {})}


def _begun_with(run: str, *, offline: bool) -> dict[str, Any]:
    """Return the settings of the networks and of the agent of the run that another one begins with.

    Args:
        run: its directory; nothing is returned for an empty text.
        offline: nothing is collected. Else settings of the agent that suit that are left out.
    """
    if not run:
        return {}
    base = RunDirectory.open(run).config().to_dict()
    found = {name: base[name] for name in NETWORKS}
    dropped = () if offline else agent_spec(base["agent"]).offline
    return found | {base["agent"]: {name: one for name, one in base[base["agent"]].items() if name not in dropped}}


def _published(config: TrainConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in which the published runs differ from ours, unless they are given: starts and goals are
    kept, and windows as long as an episode are drawn.
    """
    found: dict[str, Any] = {"fixed_goals": True, "replay": {}}
    if not agent_spec(config.agent).on_policy:
        found["replay"] = {"windows": min(config.episode_length, config.steps_before_learning)}
    deep_merge({name: settings[name] for name in found if name in settings}, into=found)
    return found


def deep_merge(settings: Mapping[str, Any], *, into: dict[str, Any]) -> None:
    """Write settings into others, in place; of a block, only the fields that are given."""
    for name, value in settings.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        before = into.get(name)
        if isinstance(value, Mapping):
            value = {**before, **value} if isinstance(before, Mapping) else dict(value)
        into[name] = value
