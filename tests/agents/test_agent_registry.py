"""The registry of agents: one function registers the library's methods and a user's."""

import dataclasses

import pytest

from kilolayer.agents import (
    GCBC,
    AgentSpec,
    GCBCConfig,
    NetworkSettings,
    Problem,
    agent_names,
    agent_spec,
    make_agent,
    register_agent,
    unregister_agent,
)
from kilolayer.errors import ConfigurationError
from kilolayer.runs import default_config

PROBLEM = Problem("line", 4, 2, 1, episode_length=8, unroll_length=4)


@dataclasses.dataclass(frozen=True)
class ClonesConfig(GCBCConfig):
    """Settings of an agent of a user's."""

    strength: float = 0.5
    """A setting of its own."""


@pytest.fixture
def clones():
    register_agent(AgentSpec("clones", "a test", ClonesConfig, GCBC))
    yield "clones"
    unregister_agent("clones")


def test_a_registered_agent_is_one_of_them_until_it_is_removed(clones):
    assert clones in agent_names()
    agent = make_agent(clones, PROBLEM, ClonesConfig(strength=0.25), NetworkSettings(depth=8, width=16))
    assert type(agent) is GCBC
    assert (agent.config.strength, agent.depth, agent.width, agent.goal_size) == (0.25, 8, 16, 2)
    config = default_config("point_u_maze", agent=clones, clones={"strength": 0.75})
    assert config.agent_settings.strength == 0.75
    assert type(config).from_dict(config.to_dict()) == config
    assert config.to_dict()["clones"]["strength"] == 0.75
    unregister_agent(clones)
    with pytest.raises(ConfigurationError, match="agent='clones' is unknown"):
        agent_spec(clones)


def test_names_are_taken_once(clones):
    with pytest.raises(ConfigurationError, match="'clones' is registered already"):
        register_agent(AgentSpec("clones", "again", ClonesConfig, GCBC))
    with pytest.raises(ConfigurationError, match="'my agent' must be made of letters, digits and underscores"):
        register_agent(AgentSpec("my agent", "a name with a blank", ClonesConfig, GCBC))


def test_every_setting_needs_a_default():
    @dataclasses.dataclass(frozen=True)
    class Bare:
        strength: float

    with pytest.raises(ConfigurationError, match="setting 'strength' of agent 'bare' needs a default"):
        register_agent(AgentSpec("bare", "a test", Bare, GCBC))
    assert "bare" not in agent_names()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clones": {"strenght": 1.0}}, "'clones.strenght' is unknown; there are discount"),
        ({"clones": {"strength": "very"}}, "clones.strength='very': "),
        ({"clones": 3}, "clones=3 must be settings of ClonesConfig by name"),
        ({"crl": {"energy": "dot"}}, "crl.energy=dot has no effect with agent='clones'; leave it out"),
        ({"torso": "mlp"}, "torso='mlp' is unknown"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name='sgd': "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(clones, settings, message):
    with pytest.raises(ConfigurationError) as error:
        default_config("point_u_maze", agent=clones, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
