"""The study `offline`: its grid, and the data that its runs learn from."""

import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.studies import STUDIES, offline
from kilolayer.studies.offline import AGENTS
from small_runs import SMALL


@pytest.fixture
def small_data(monkeypatch):
    """Make little data, anew for each test."""
    monkeypatch.setattr(offline, "EPISODES", 3)
    small = {name: SMALL[name] for name in SMALL if name not in ("depth", "width", "num_evals")}
    monkeypatch.setattr(offline, "TEACHER", {**small, "width": 16, "depth": 4, "num_evals": 1, "seed": 0})
    monkeypatch.setattr(offline, "RINGS", {"total_env_steps": 0, "num_envs": 4, "replay_capacity": 40})
    for make in (offline.wandering, offline.replay_of_a_run):
        make.cache_clear()
    yield
    for make in (offline.wandering, offline.replay_of_a_run):
        make.cache_clear()


def test_the_grid_has_every_agent_at_both_depths_with_what_suits_given_data():
    cases = STUDIES["offline"].grid("cpu")
    assert len({case.directory for case in cases}) == 16
    assert {(case.labels["agent"], case.labels["depth"]) for case in cases} == {(a, d) for a in AGENTS for d in (4, 16)}
    of = {case.labels["agent"]: case.config.agent_settings for case in cases}
    assert (of["crl"].behaviour_cloning, of["gcbc"].likelihood) == (0.1, "constant_width")
    assert of["survival"].censoring == "observed"
    with pytest.raises(ConfigurationError, match="agent=sac: this study sets agent itself"):
        STUDIES["offline"].grid("cpu", changes={"agent": "sac"})


def test_all_cases_of_a_maze_have_the_same_wanderings(small_data):
    first, *_, last = STUDIES["offline"].grid("cpu", tasks=("point_u_maze",), changes={"batch_size": 16})
    data, again = (STUDIES["offline"].data(case.config) for case in (first, last))
    np.testing.assert_array_equal(data.action, again.action)
    assert (int(data.num_steps), data.num_envs) == (40, 4)
    ends = np.asarray(data.episode[1:] != data.episode[:-1])
    held = np.asarray((data.action[1:] == data.action[:-1]).all(axis=-1))[~ends]
    assert held.mean() > 0.8


@pytest.mark.slow
def test_elsewhere_the_data_are_the_replay_of_a_run(small_data):
    case = STUDIES["offline"].grid("cpu", tasks=("reacher",), changes={"batch_size": 16})[0]
    data = STUDIES["offline"].data(case.config)
    assert (int(data.num_steps), data.observation.shape[-1]) == (40, 10)
