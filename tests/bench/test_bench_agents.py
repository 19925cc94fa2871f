"""The gradient steps of agents side by side."""

import pytest

from kilolayer.agents import agent_specs
from kilolayer.bench import agents, bench_agents
from kilolayer.errors import ConfigurationError

SIZES = {"depth": 4, "width": 8, "batch_size": 16, "rounds": 2}


def test_every_agent_with_continuous_actions_is_a_case_and_crl_is_the_first():
    names = [name for name, settings in agents.cases() if not settings]
    assert names[0] == "crl"
    assert sorted(names) == sorted(spec.name for spec in agent_specs() if not spec.discrete)


@pytest.mark.slow
def test_agents_learn_in_turn_from_one_buffer(monkeypatch):
    two: list = [("gcbc", {}), ("gcsl", {"random_action": 0.5})]
    monkeypatch.setattr(agents, "cases", lambda: two)
    monkeypatch.setattr(agents, "TASK", dict(agents.TASK) | {"env": "point_u_maze", "engine": "auto", "num_envs": 4})
    compiled = []
    compile_steps = agents.compile_steps
    monkeypatch.setattr(agents, "compile_steps", lambda setup: compiled.append(compile_steps(setup)) or compiled[-1])
    rows = agents.measure(**SIZES)
    assert [(row["agent"], row["settings"]) for row in rows] == two
    assert rows[0]["ratio"] == 1.0
    assert all(row["step_seconds"] > 0 for row in rows)
    assert [steps.learn._cache_size() for steps in compiled[1:]] == [1, 1]  # nothing is compiled while it is timed


@pytest.mark.parametrize("name", SIZES)
def test_a_size_below_one_is_refused_at_once(name):
    with pytest.raises(ConfigurationError, match=f"{name}=0 must be at least 1"):
        bench_agents(**SIZES | {name: 0})
