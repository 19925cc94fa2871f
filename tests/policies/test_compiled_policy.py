"""`Policy.compile`: the policy's own deterministic actions, from networks of fewer bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents import CRL
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualMLP, Torso
from kilolayer.objectives import tanh_gaussian
from kilolayer.policies import CompiledPolicy
from kilolayer.runs import Clocks
from kilolayer.training import Setup, init_state, policy_of
from small_runs import small_config


@pytest.fixture(scope="module")
def policy():
    config = small_config(depth=8)
    setup = Setup.build(config)
    return policy_of(config, setup, init_state(setup, 0).agent, clocks=Clocks())


@pytest.fixture(scope="module")
def pairs(policy):
    """Seven observations and goals."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((7, size)) for size in (policy.observation_size, policy.goal_size))


def test_float32_acts_as_the_policy_does(policy, pairs):
    fast = policy.compile()
    expected = policy(*pairs)
    for observation, goal, action in zip(*pairs, expected, strict=True):
        np.testing.assert_allclose(fast(observation, goal), action, atol=1e-5)
        np.testing.assert_allclose(fast(observation[None], goal[None]), action[None], atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3


def test_a_batch_is_compiled_for_its_size(policy, pairs):
    observation, goal = pairs[0][:3], pairs[1][:3]
    fast = policy.compile(batch=3)
    action = fast(observation, goal)
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, policy(observation, goal), atol=1e-5)
    action *= 0.5  # the caller's own


def test_fewer_bytes_cost_exactness_and_the_error_says_how_much(policy, pairs):
    expected = policy(*pairs)
    largest = {}
    for precision in ("float32", "int8"):
        fast = policy.compile(batch=2, precision=precision)
        calls = [fast(pairs[0][i : i + 2], pairs[1][i : i + 2]) for i in (0, 2, 4, 5)]
        difference = np.abs(np.concatenate([*calls[:3], calls[3][1:]]) - expected)
        error = fast.error(*pairs)
        np.testing.assert_allclose([error.largest, error.mean], [difference.max(), difference.mean()], atol=1e-5)
        assert error.largest >= error.mean
        largest[precision] = error.largest
    assert largest["float32"] < 1e-5
    assert 1e-4 < largest["int8"] < 0.1
    assert policy.compile(precision="int8").weight_bytes < policy.compile().weight_bytes


@pytest.mark.parametrize("outputs", [3, 6], ids=["mean", "mean_and_log_std"])
def test_any_actor_whose_first_outputs_are_the_action_before_the_tanh(outputs):
    actor = ResidualMLP(7, outputs, depth=4, width=8, key=jax.random.key(0))
    fast = CompiledPolicy(actor, observation_size=5, goal_size=2, action_size=3)
    x = np.random.default_rng(0).standard_normal(7).astype(np.float32)
    expected = tanh_gaussian.mode(actor(jnp.asarray(x)))[:3]
    np.testing.assert_allclose(fast(x[:5], x[5:]), expected, atol=1e-5)


def test_the_actor_is_the_policys_network(policy, pairs):
    agent, state = policy.agent, policy.agent_state
    assert isinstance(agent, CRL)
    mean = agent.actor(state)(jnp.concatenate(pairs, axis=-1))[:, : agent.action_size]
    np.testing.assert_allclose(np.tanh(mean), policy(*pairs), atol=1e-5)


def test_wrong_sizes_are_refused(policy, pairs):
    observation, goal = pairs
    with pytest.raises(ConfigurationError, match=r"^batch=0 must be at least 1$"):
        policy.compile(batch=0)
    with pytest.raises(ConfigurationError, match="precision='int4' is unknown"):
        policy.compile(precision="int4")
    one, three = policy.compile(), policy.compile(batch=3)
    size = observation.shape[1]
    with pytest.raises(ConfigurationError, match=rf"observation has shape \({size - 1},\); its last axis"):
        one(observation[0, 1:], goal[0])
    with pytest.raises(ConfigurationError, match=r"desired_goal has shape \(\); its last axis must be"):
        one(observation[0], 0.0)
    with pytest.raises(ConfigurationError, match="must agree in their leading axes"):
        three(observation[:3], goal[:2])
    with pytest.raises(ConfigurationError, match=rf"observation has shape \(2, {size}\); .*must be \(3, {size}\)"):
        three(observation[:2], goal[:2])
    with pytest.raises(ConfigurationError, match=rf"observation has shape \({size},\)"):
        three(observation[0], goal[0])
    with pytest.raises(ConfigurationError, match="observations are empty"):
        one.error(observation[:0], goal[:0])


def test_a_network_without_an_int8_form_is_refused_in_one_line():
    class Linear(Torso):
        weight: jax.Array
        num_blocks = depth = 0

        def __call__(self, x):
            return x @ self.weight

        def observe_blocks(self, x, observe):
            raise NotImplementedError

        def block_parameters(self):
            return None

    sizes = {"observation_size": 5, "goal_size": 2, "action_size": 3}
    actor = Linear(jnp.eye(7))
    action = CompiledPolicy(actor, **sizes)(np.ones(5), np.ones(2))
    np.testing.assert_allclose(action, np.tanh(np.ones(3)), rtol=1e-5)
    with pytest.raises(ConfigurationError) as error:
        CompiledPolicy(actor, **sizes, precision="int8")
    assert str(error.value) == "Linear has no int8 form; choose precision='float32'"


def test_a_jax_without_the_cpu_is_reported_in_one_line(policy, monkeypatch):
    def no_cpu(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    with pytest.raises(ConfigurationError, match=r"runs on the CPU.* JAX_PLATFORMS, as in cuda,cpu$"):
        policy.compile()
