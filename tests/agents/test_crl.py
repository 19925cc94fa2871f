import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from crl_cases import (
    ACTION,
    AGENT,
    BATCH,
    GOAL,
    OBSERVATION,
    agent_with,
    first_state,
    loss_of_actor,
    normal,
    random_batch,
    small_buffer,
)
from reference_adam import ReferenceAdam

from kilolayer.agents import CRL, CRLState
from kilolayer.agents.core import gaussian_policy
from kilolayer.data import sample_hindsight
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import Energy, tanh_gaussian

LEARNER = agent_with(
    discount=0.5,
    target_entropy=50.0,
    actor_learning_rate=1e-3,
    critic_learning_rate=2e-3,
    alpha_learning_rate=5e-3,
)
act = jax.jit(CRL.act, static_argnums=0, static_argnames="mode")
learn = jax.jit(CRL.learn, static_argnums=0)
draw_batch = jax.jit(sample_hindsight, static_argnums=(1, 2))


MODES = ["deterministic", "stochastic", "best_of"]


def hindsight_batch(size, discount, key):
    return draw_batch(small_buffer(), (size,), discount, key)


def assert_trees_close(tree, expected, **tolerances):
    for ours, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerances)


# ---- Networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "millions"), [(4, 0.98), (8, 1.78), (16, 3.37), (32, 6.55), (64, 12.92), (1024, 203.9)]
)
def test_parameter_counts_of_humanoid_are_the_papers(depth, millions):
    counts = CRL(observation_size=268, goal_size=3, action_size=17, depth=depth).parameter_counts()

    def network(in_size, out_size):
        return in_size * 256 + 3 * 256 + depth * (256 * 256 + 3 * 256) + 256 * out_size + out_size

    assert counts == {"actor": network(271, 34), "phi": network(285, 64), "psi": network(3, 64)}
    assert sum(counts.values()) / 1e6 == pytest.approx(millions, abs=0.006 if millions < 100 else 0.06)


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ({"actor_depth": 4}, {"actor"}),
        ({"actor_width": 16}, {"actor"}),
        ({"critic_depth": 0}, {"phi", "psi"}),
        ({"critic_width": 16}, {"phi", "psi"}),
        ({"goal_encoder_depth": 4}, {"psi"}),
        ({"critic_depth": 4, "goal_encoder_depth": 2}, {"phi"}),
        ({"action_chunk": 2}, {"actor", "phi"}),
        ({"representation_size": 5}, {"phi", "psi"}),
        ({"depth": 4}, {"actor", "phi", "psi"}),
        ({"width": 16}, {"actor", "phi", "psi"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_depths_and_widths_set_the_networks_apart(option, changed):
    plain, counts = AGENT.parameter_counts(), agent_with(**option).parameter_counts()
    assert {name for name in counts if counts[name] != plain[name]} == changed


def test_networks_have_the_depths_and_widths_asked_for():
    agent = agent_with(actor_depth=0, actor_width=4, critic_depth=6, critic_width=16, representation_size=5)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    networks = (state.actor, state.critic.phi, state.critic.psi)
    assert [network.depth for network in networks] == [0, 6, 6]
    assert [network.input_layer.dense.weight.shape for network in networks] == [
        (OBSERVATION + GOAL, 4),
        (OBSERVATION + ACTION, 16),
        (GOAL, 16),
    ]
    assert [network.head.bias.shape for network in networks] == [(2 * ACTION,), (5,), (5,)]


def test_a_new_agent_follows_its_key_and_has_alpha_one():
    init = jax.jit(AGENT.init)
    state, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert_trees_close(again, state, rtol=0.0)
    assert np.all(other.actor.head.weight != state.actor.head.weight)
    assert np.exp(state.log_alpha) == 1.0
    heads = [state.critic.phi.head.weight, state.critic.psi.head.weight]
    assert np.all(heads[0] != heads[1])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((state.optimizers["actor"], state.optimizers["critic"])))


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_actions_lie_within_one_whatever_the_leading_axes(shape):
    @jax.jit
    def all_modes(state, observation, goal, key):
        return [AGENT.act(state, observation, goal, key, mode) for mode in MODES]

    observation, goal = 100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL, seed=1)
    for actions in all_modes(first_state(), observation, goal, jax.random.key(0)):
        assert actions.shape == (*shape, ACTION)
        assert np.all(np.abs(actions) <= 1.0)
        assert len(np.unique(actions)) > 1


def test_only_the_deterministic_mode_ignores_the_key():
    batch = random_batch()

    def actions(mode, seed):
        key = jax.random.key(seed)
        return np.asarray(act(AGENT, first_state(), batch.observation, batch.desired_goal, key, mode=mode))

    for mode in MODES:
        np.testing.assert_array_equal(actions(mode, 0), actions(mode, 0))
    np.testing.assert_array_equal(actions("deterministic", 0), actions("deterministic", 1))
    assert np.all(actions("stochastic", 0) != actions("stochastic", 1))
    assert np.all(actions("best_of", 0) != actions("best_of", 1))


def test_the_deterministic_action_is_the_mode_and_value_is_its_energy():
    state, batch = first_state(), random_batch()
    output = state.actor(jnp.concatenate([batch.observation, batch.desired_goal], axis=-1))
    action = act(AGENT, state, batch.observation, batch.desired_goal, jax.random.key(0))
    np.testing.assert_allclose(action, np.tanh(output[:, :ACTION]), rtol=1e-5, atol=1e-6)
    phi = np.asarray(state.critic.phi(jnp.concatenate([batch.observation, action], axis=-1)))
    psi = np.asarray(state.critic.psi(batch.desired_goal))
    value = jax.jit(AGENT.value)(state, batch.observation, batch.desired_goal)
    np.testing.assert_allclose(value, -np.linalg.norm(phi - psi, axis=-1), rtol=1e-5)


def test_a_stochastic_action_is_a_draw_with_the_actors_mean_and_deviation():
    state, key = first_state(), jax.random.key(3)
    observation, goal = normal(OBSERVATION), normal(GOAL, seed=1)
    mean, raw = np.split(np.asarray(state.actor(jnp.concatenate([observation, goal]))), 2)
    std = np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0))
    expected = np.tanh(mean + std * np.asarray(jax.random.normal(key, (ACTION,))))
    action = act(AGENT, state, observation, goal, key, mode="stochastic")
    np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("energy", "shape"), [("l2", ()), ("l2", (2, 3)), ("dot", (7,))])
def test_best_of_takes_the_candidate_of_highest_energy(energy, shape):
    agent = agent_with(energy=energy, candidates=5)
    state, key = first_state(), jax.random.key(4)
    observation, goal = normal(*shape, OBSERVATION), normal(*shape, GOAL, seed=1)

    @jax.jit
    def all_candidates(state, observation, goal):
        mean, log_std = gaussian_policy.policy(state.actor, observation, goal)
        noise = jax.random.normal(key, (5, *mean.shape))
        candidates = [jnp.tanh(mean + jnp.exp(log_std) * n) for n in noise]
        psi = state.critic.encode_goal(goal)
        phis = [state.critic.encode_state_action(observation, candidate) for candidate in candidates]
        return jnp.stack(candidates), jnp.stack([Energy(energy).pairs(phi, psi) for phi in phis])

    candidates, energies = map(np.asarray, all_candidates(state, observation, goal))
    winner = np.argmax(energies, axis=0)
    expected = np.take_along_axis(candidates, winner[None, ..., None], axis=0)[0]
    action = act(agent, state, observation, goal, key, mode="best_of")
    np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
    assert shape == () or len(np.unique(winner)) > 1


def test_best_of_one_candidate_is_a_stochastic_draw():
    agent, batch, key = agent_with(candidates=1), random_batch(), jax.random.key(5)
    best, draw = (
        act(agent, first_state(), batch.observation, batch.desired_goal, key, mode=mode)
        for mode in ("best_of", "stochastic")
    )
    np.testing.assert_allclose(best, draw, rtol=1e-6)


def test_an_unknown_mode_is_refused(no_type_checks):
    batch = random_batch()
    with pytest.raises(ConfigurationError, match="action mode 'greedy' is unknown; choose one of deterministic"):
        AGENT.act(first_state(), batch.observation, batch.desired_goal, jax.random.key(0), "greedy")


# ---- Learning ----------------------------------------------------------------------------------------------


def written_out_step(state, batch, key):
    """Take the three Adam steps of methods 1.2 and 1.3, with losses written out for the paper's settings.

    Returns:
        the new state, and the actor as it would be had the critic's step come first.
    """
    adam = ReferenceAdam(3e-4)
    alpha = jnp.exp(state.log_alpha)

    def encode(critic, action):
        phi = critic.phi(jnp.concatenate([batch.observation, action], axis=-1))
        return phi, critic.psi(batch.desired_goal)

    def critic_loss(critic):
        phi, psi = encode(critic, batch.action)
        logits = -jnp.sqrt(jnp.sum((phi[:, None] - psi[None]) ** 2, axis=-1))
        normaliser = jnp.log(jnp.sum(jnp.exp(logits), axis=1))
        return -jnp.mean(jnp.diagonal(logits) - normaliser) + 0.1 * jnp.mean(normaliser**2)

    def actor_loss(actor, critic):
        output = actor(jnp.concatenate([batch.observation, batch.desired_goal], axis=-1))
        mean, raw = output[:, :ACTION], output[:, ACTION:]
        log_std = -5.0 + 3.5 * (jnp.tanh(raw) + 1.0)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        action = jnp.tanh(mean + jnp.exp(log_std) * noise)
        log_density = jnp.sum(jax.scipy.stats.norm.logpdf(noise) - log_std - jnp.log(1.0 - action**2 + 1e-6), axis=-1)
        phi, psi = encode(critic, action)
        value = -jnp.sqrt(jnp.sum((phi - psi) ** 2, axis=-1))
        return jnp.mean(alpha * log_density - value), -jnp.mean(log_density)

    gradient = jax.grad(critic_loss)(state.critic)
    updates, critic_optimizer = adam.update(gradient, state.optimizers["critic"])
    critic = optax.apply_updates(state.critic, updates)

    (_, entropy), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor, state.critic)
    updates, actor_optimizer = adam.update(gradient, state.optimizers["actor"])
    actor = optax.apply_updates(state.actor, updates)

    gradient, _ = jax.grad(actor_loss, has_aux=True)(state.actor, critic)
    updates, _ = adam.update(gradient, state.optimizers["actor"])
    late_actor = optax.apply_updates(state.actor, updates)

    gradient = jax.grad(lambda log_alpha: jnp.exp(log_alpha) * (entropy + 0.5 * ACTION))(state.log_alpha)
    updates, alpha_optimizer = adam.update(gradient, state.optimizers["alpha"])
    log_alpha = optax.apply_updates(state.log_alpha, updates)

    new_state = CRLState(
        actor=actor,
        critic=critic,
        log_alpha=log_alpha,
        optimizers={"actor": actor_optimizer, "critic": critic_optimizer, "alpha": alpha_optimizer},
    )
    return new_state, late_actor


def in_float64(tree):
    def widen(leaf):
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(widen, tree)


def test_a_step_moves_actor_and_alpha_by_the_old_critic_then_the_critic_on_the_same_batch(x64):
    state, batch = in_float64(first_state()), in_float64(random_batch())
    # Warm moments: the very first Adam step shows little but the sign of the gradient.
    for step in range(2):
        state, _ = learn(AGENT, state, in_float64(random_batch(seed=10 * step + 10)), jax.random.key(step))
    key = jax.random.key(7)
    ours, _ = learn(AGENT, state, batch, key)
    expected, late_actor = jax.jit(written_out_step)(state, batch, key)
    assert_trees_close(ours, expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(late_actor.head.weight, ours.actor.head.weight, rtol=1e-6, atol=1e-9)


def test_a_step_moves_every_parameter_by_its_own_learning_rate():
    state = first_state()
    new, _ = learn(LEARNER, state, random_batch(), jax.random.key(0))
    for part, learning_rate in (("actor", 1e-3), ("critic", 2e-3), ("log_alpha", 5e-3)):
        old_leaves, new_leaves = (jax.tree.leaves(getattr(s, part)) for s in (state, new))
        for old_leaf, new_leaf in zip(old_leaves, new_leaves, strict=True):
            # Adam's first step is the learning rate, whatever the gradient.
            assert np.abs(new_leaf - old_leaf).max() == pytest.approx(learning_rate, rel=1e-2)


def test_metrics_of_a_step_are_those_before_it():
    state, batch, key = first_state(), random_batch(), jax.random.key(0)
    _, metrics = learn(LEARNER, state, batch, key)
    assert all(np.isfinite(value) for value in metrics.values())
    critic_loss, critic_metrics = jax.jit(LEARNER.loss_of_critic)(state.critic, batch)
    actor_loss, actor_metrics = jax.jit(lambda state: loss_of_actor(LEARNER, state, jnp.ones(()), batch, key))(state)
    expected = {**critic_metrics, **actor_metrics, "critic_loss": critic_loss, "actor_loss": actor_loss}
    expected |= {"alpha": 1.0, "alpha_loss": actor_metrics["entropy"] - 50.0 * ACTION}
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4), name


def test_alpha_rises_where_entropy_is_below_its_target():
    state, metrics = learn(LEARNER, first_state(), random_batch(), jax.random.key(0))
    assert metrics["entropy"] < 50.0 * ACTION
    assert state.log_alpha > first_state().log_alpha


def test_alpha_falls_where_entropy_is_above_its_target(x64):
    state, metrics = learn(AGENT, in_float64(first_state()), in_float64(random_batch()), jax.random.key(0))
    assert metrics["entropy"] > -0.5 * ACTION
    assert state.log_alpha < first_state().log_alpha


def test_alpha_stands_still_at_its_target():
    gradient = jax.grad(gaussian_policy.alpha_loss)
    assert float(gradient(jnp.ones(()), jnp.array(-0.5 * ACTION), -0.5 * ACTION)) == 0.0
    assert float(gradient(jnp.ones(()), jnp.array(1.0 - 0.5 * ACTION), -0.5 * ACTION)) == pytest.approx(np.e, rel=1e-6)


def test_the_actor_loss_weighs_density_by_alpha():
    state, batch, key = first_state(), random_batch(), jax.random.key(0)

    @jax.jit
    def loss(alpha):
        return loss_of_actor(AGENT, state, jnp.asarray(alpha), batch, key)

    (at_zero, metrics), (at_two, _) = loss(0.0), loss(2.0)
    assert float(at_zero) == pytest.approx(-float(metrics["actor_value"]), rel=1e-5)
    assert float(at_two - at_zero) == pytest.approx(-2.0 * float(metrics["entropy"]), rel=1e-4)


def test_update_learns_from_a_batch_drawn_in_hindsight_at_the_discount():
    key = jax.random.key(8)
    state, metrics = jax.jit(LEARNER.update)(first_state(), small_buffer(), key)
    sample_key, learn_key = jax.random.split(key)
    batch, other = (hindsight_batch(BATCH, discount, sample_key) for discount in (0.5, 0.99))
    assert np.any(batch.desired_goal != other.desired_goal)
    expected, expected_metrics = learn(LEARNER, first_state(), batch, learn_key)
    # A gradient near zero may round to either side, and Adam's first step with it.
    assert_trees_close(state.optimizers["critic"], expected.optimizers["critic"], rtol=1e-4, atol=1e-6)
    assert_trees_close(state.optimizers["actor"], expected.optimizers["actor"], rtol=1e-4, atol=1e-6)
    assert float(metrics["critic_loss"]) == pytest.approx(float(expected_metrics["critic_loss"]), rel=1e-5)


def test_the_critic_learns_a_small_fixed_batch():
    agent = agent_with(critic_learning_rate=3e-3)
    batch = random_batch(size=16)

    @jax.jit
    def train(state, keys):
        return jax.lax.scan(lambda state, key: agent.learn(state, batch, key), state, keys)

    _, metrics = train(first_state(), jax.random.split(jax.random.key(9), 50))
    critic_loss, accuracy = metrics["critic_loss"], metrics["categorical_accuracy"]
    assert critic_loss[-1] < 0.8 * critic_loss[0]
    assert accuracy[-1] > accuracy[0] + 0.2


def test_the_policy_distribution_stays_within_its_bounds():
    state = first_state()
    _, log_std = jax.jit(gaussian_policy.policy)(
        state.actor, 1e3 * normal(20, OBSERVATION), 1e3 * normal(20, GOAL, seed=1)
    )
    assert np.all(log_std >= tanh_gaussian.LOG_STD_MIN)
    assert np.all(log_std <= tanh_gaussian.LOG_STD_MAX)
