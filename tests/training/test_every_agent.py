"""What holds for every agent: its preset trains, goes on bit for bit, is looked into, and acts when it is loaded."""

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import agent_names, agent_spec, agent_specs
from kilolayer.errors import ConfigurationError
from kilolayer.report.diagnostics import draw_diagnostics
from kilolayer.runs import RunDirectory, default_config
from kilolayer.training import Setup, collect_step, init_state, learn_step
from kilolayer.training.step import state_shape
from small_runs import assert_same_state, final_state, small_config

SIZES = {"width": 8, "num_envs": 4, "num_eval_envs": 4, "episode_length": 20, "total_env_steps": 1600}
"""Small; all else is the preset's."""


def env_of(agent):
    return "point_u_maze_discrete" if agent_spec(agent).discrete else "point_u_maze"


IN_EVERY_RUN = ("crl",)
"""Of the agents; the others share most of their code with these."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.slow]) for name in agent_names()],
)
def run(request, tmp_path_factory):
    """The name of an agent, and a short run of it."""
    path = tmp_path_factory.mktemp(request.param) / "run"
    settings = SIZES | {"num_evals": 8, "checkpoints_to_keep": 9, "diagnostics": True}
    kl.train(env_of(request.param), agent=request.param, run_dir=path, progress=False, **settings)
    return request.param, path


def test_it_learns_something_finite(run):
    _, path = run
    metrics = RunDirectory.open(path).metrics()[-1]
    learnt = {name: value for name, value in metrics.items() if name.startswith("train/")}
    assert any(name.endswith("_loss") for name in learnt)
    assert all(np.isfinite(value) for value in learnt.values())
    first, last = init_state(Setup.build(RunDirectory.open(path).config()), 0), final_state(path)
    assert int(last.gradient_steps) > int(first.gradient_steps)
    changed = [np.any(a != b) for a, b in zip(*(jax.tree.leaves(s.agent) for s in (first, last)), strict=True)]
    assert np.mean(changed) > 0.8


def test_it_resumes_bit_for_bit(run):
    _, path = run
    expected, rows = final_state(path), RunDirectory.open(path).metrics()
    kl.train(resume=path, checkpoint=1200, progress=False)
    assert_same_state(expected, final_state(path))
    again = RunDirectory.open(path).metrics()
    for row, other in zip(rows, again, strict=True):
        assert {k: v for k, v in row.items() if not k.startswith("perf/")} == {
            k: v for k, v in other.items() if not k.startswith("perf/")
        }


def test_its_networks_are_looked_into(run):
    _, path = run
    rows = RunDirectory.open(path).diagnostics()
    setup = Setup.build(RunDirectory.open(path).config())
    for network in setup.agent.parameter_counts():
        assert np.all(np.asarray(rows[-1][f"{network}/residual_norm"]) > 0.0)
        assert np.all(np.isfinite(rows[-1][f"{network}/gradient_norm"]))
    assert draw_diagnostics(rows).axes


def test_it_acts_and_values_when_it_is_loaded(run):
    name, path = run
    policy = kl.load(path)
    rng = np.random.default_rng(0)
    observation, goal = (
        rng.standard_normal((3, size)).astype(np.float32) for size in (policy.observation_size, policy.goal_size)
    )
    for mode in ("deterministic", "stochastic"):
        action = policy(observation, goal, mode=mode)
        assert action.shape == (3, policy.action_size)
        assert np.all(np.abs(action) <= 1.0)
        if agent_spec(name).discrete:
            np.testing.assert_array_equal(np.sort(action), np.eye(policy.action_size)[[-1] * 3])
    if policy.agent.has_value:
        assert np.all(np.isfinite(policy.value(observation, goal)))
    else:
        with pytest.raises(ConfigurationError, match="value"):
            policy.value(observation, goal)
    if policy.agent.actor(policy.agent_state) is None:
        with pytest.raises(ConfigurationError, match="has no actor network to compile"):
            policy.compile()
    else:
        fast = policy.compile(batch=3)
        np.testing.assert_allclose(fast(observation, goal), policy(observation, goal), atol=1e-5)


@pytest.mark.parametrize("agent", [spec.name for spec in agent_specs() if not spec.discrete])
@pytest.mark.parametrize("env", ["reacher", "ant_big_maze"])
def test_its_preset_builds_for_robots(env, agent):
    setup = Setup.build(default_config(env, agent=agent))
    state = jax.eval_shape(setup.agent.init, jax.random.key(0))
    assert set(setup.agent.networks(state)) == set(setup.agent.parameter_counts())


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        (
            "point_u_maze",
            {"agent": "crl_discrete"},
            "agent='crl_discrete' is for discrete.*take agent=c_learning or crl",
        ),
        ("point_u_maze_discrete", {"agent": "sac"}, "agent='sac' is for continuous actions.*take agent=crl_discrete$"),
        ("point_u_maze", {"crl": {"action_chunk": 201}}, "action_chunk=201 is longer than an episode.*=200$"),
        (
            "point_u_maze",
            {"agent": "sac", "crl": {"energy": "dot"}},
            "crl.energy=dot has no effect with agent='sac'",
        ),
        ("point_u_maze", {"agent": "dqn"}, "agent='dqn' is unknown"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(env, settings, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        Setup.build(default_config(env, **settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("agent", [spec.name for spec in agent_specs() if spec.needs_success])
def test_a_task_that_never_says_success_is_refused_by_agents_that_need_it(agent, monkeypatch):
    config = default_config("reacher", agent=agent)
    monkeypatch.setattr("kilolayer.envs.tasks.Reacher.success_distance", None)
    with pytest.raises(ConfigurationError, match=f"agent='{agent}' is rewarded.* set its goal or success_distance"):
        Setup.build(config)
    assert Setup.build(default_config("reacher")).environment.has_success is False


@pytest.mark.parametrize("agent", [spec.name for spec in agent_specs()])
def test_a_training_step_changes_no_type(agent):
    """A state whose types differ from those of the first one would compile the step again."""
    setup = Setup.build(small_config(env=env_of(agent), agent=agent))
    before = state_shape(setup)
    for half in (collect_step, learn_step):
        after = jax.eval_shape(lambda state, half=half: half(setup, state)[0], before)
        assert types_of(after) == types_of(before)


def types_of(tree):
    return {
        jax.tree_util.keystr(path): (leaf.shape, leaf.dtype, leaf.weak_type)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
