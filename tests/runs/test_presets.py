"""Training presets: by name or family and by variant; those of the library are what they were."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import pytest

from kilolayer.agents import agent_names
from kilolayer.envs import EnvironmentSpec, register, registry, spec
from kilolayer.errors import ConfigurationError
from kilolayer.runs import (
    TrainConfig,
    default_config,
    named_presets,
    preset,
    register_named_preset,
    register_preset,
    unregister_named_preset,
    unregister_preset,
)

BEFORE = json.loads((Path(__file__).parent / "presets_before.json").read_text())
"""What `default_config` gave when presets were a part of `EnvironmentSpec`: by environment and variant, what differs
from the defaults of `TrainConfig`, settings of agents without their block. Later environments are not there."""


def differences(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults, but for those that say what is trained."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), getattr(TrainConfig(), field.name)
        if dataclasses.is_dataclass(value):
            parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
            found |= {name: part for name, part in parts.items() if part != getattr(type(value)(), name)}
        elif value != default and field.name not in ("env", "variant"):
            found[field.name] = value
    return found


def test_all_environments_from_before_are_still_there():
    assert {name for name in BEFORE if "\n" not in name and "_gen_" not in name} <= set(registry.names())
    assert all(len(BEFORE[env]) == (2 if spec(env).paper_engine else 1) for env in BEFORE)


@pytest.mark.parametrize("env", BEFORE)
def test_the_defaults_are_those_from_before(env):
    for variant, expected in BEFORE[env].items():
        found = differences(default_config(env, variant=variant))
        if variant == "paper":  # since then, the variant also keeps goals and draws windows, as published
            assert found.pop("fixed_goals")
            assert found.pop("windows") == 1000
        if jax.default_backend() != "cpu":
            found.pop("engine"), expected.pop("engine")
        assert found == expected


@pytest.mark.parametrize("env", registry.names())
@pytest.mark.parametrize("variant", ["default", "paper"])
def test_presets_name_real_settings(env, variant):
    fields = {field.name for field in dataclasses.fields(TrainConfig)} | set(agent_names())
    assert set(preset(env, variant)) <= fields
    blocks = {name for name, value in preset(env, variant).items() if isinstance(value, dict)}
    assert blocks <= set(agent_names())


@pytest.fixture
def crane():
    task = spec("point_u_maze").task
    register(EnvironmentSpec("crane", "a crane", task=task, family="cranes"))
    yield
    registry.unregister("crane")
    for env, variant in (("crane", "default"), ("crane", "paper"), ("cranes", "default"), ("cranes", "paper")):
        unregister_preset(env, variant=variant)


def test_without_a_preset_the_settings_are_the_papers(crane):
    assert preset("crane") == {}
    assert default_config("crane").num_envs == TrainConfig().num_envs


def test_a_named_preset_is_taken_when_it_is_asked_for_and_settings_change_it(crane):
    register_preset("crane", {"num_envs": 3, "crl": {"energy": "dot"}})
    register_named_preset("laptop", "crane", {"depth": 8, "crl": {"loss": "binary_nce"}}, "lifts")
    try:
        plain, named = default_config("crane"), default_config("crane", preset="laptop")
        assert (plain.depth, named.depth, named.num_envs) == (4, 8, 3)
        assert (named.agent_settings.energy, named.agent_settings.loss) == ("dot", "binary_nce")
        assert default_config("crane", preset="laptop", depth=16).depth == 16
        assert {name: one.promise for name, one in named_presets("crane").items()} == {"laptop": "lifts"}
        with pytest.raises(ConfigurationError, match="a preset 'laptop' of 'crane' is already registered"):
            register_named_preset("laptop", "crane", {}, "again")
        with pytest.raises(ConfigurationError, match=r"preset='gpu' does not exist for env 'crane'; it has laptop$"):
            default_config("crane", preset="gpu")
    finally:
        unregister_named_preset("laptop", "crane")
    with pytest.raises(ConfigurationError, match=r"preset='laptop' does not exist for env 'crane'; it has none$"):
        default_config("crane", preset="laptop")
    with pytest.raises(ConfigurationError, match="preset name 'my laptop' must be made of letters"):
        register_named_preset("my laptop", "crane", {}, "")


def test_the_preset_paper_takes_the_variant():
    assert default_config("ant", preset="paper") == default_config("ant", variant="paper")
    assert "paper" not in named_presets("point_u_maze")


@pytest.mark.parametrize(("env", "name"), [(env, name) for env in registry.names() for name in named_presets(env)])
def test_named_presets_are_valid(env, name):
    config = default_config(env, preset=name)
    for field, value in named_presets(env)[name].settings.items():
        if not isinstance(value, dict):
            assert getattr(config, field) == value


def test_a_preset_of_the_name_comes_before_one_of_the_family_and_the_variant_before_the_default(crane):
    register_preset("cranes", {"num_envs": 1})
    assert preset("crane") == preset("crane", "paper") == {"num_envs": 1}
    register_preset("cranes", {"num_envs": 2}, variant="paper")
    assert preset("crane", "paper") == {"num_envs": 2}
    register_preset("crane", {"num_envs": 3})
    assert preset("crane") == preset("crane", "paper") == {"num_envs": 3}
    register_preset("crane", {"num_envs": 4}, variant="paper")
    assert (preset("crane")["num_envs"], preset("crane", "paper")["num_envs"]) == (3, 4)


def test_a_preset_is_used_and_settings_replace_it(crane):
    register_preset("crane", {"num_envs": 7, "agent": "sac", "sac": {"discount": 0.5}, "td3": {"discount": 0.6}})
    config = default_config("crane")
    assert (config.num_envs, config.agent, config.agent_settings.discount) == (7, "sac", 0.5)
    assert default_config("crane", agent="td3").agent_settings.discount == 0.6
    assert default_config("crane", num_envs=9).num_envs == 9


def test_a_preset_is_not_registered_twice_nor_changed(crane):
    settings = {"num_envs": 7}
    register_preset("crane", settings)
    with pytest.raises(ConfigurationError, match="'crane', variant 'default', is already registered"):
        register_preset("crane", {"num_envs": 8})
    settings["num_envs"] = 9
    assert preset("crane") == {"num_envs": 7}
    with pytest.raises(TypeError):
        preset("crane")["num_envs"] = 8  # type: ignore[index]


def test_an_unknown_variant_or_environment_is_refused():
    with pytest.raises(ConfigurationError, match="variant='papers'"):
        register_preset("crane", {}, variant="papers")
    with pytest.raises(ConfigurationError, match="env 'krane' is unknown"):
        preset("krane")


def test_a_setting_that_does_not_exist_is_named(crane):
    register_preset("crane", {"num_env": 7})
    with pytest.raises(ConfigurationError, match="'num_env' is unknown"):
        default_config("crane")
