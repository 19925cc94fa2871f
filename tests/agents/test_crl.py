import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kilolayer.agents import CRL, CRLConfig
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture, Energy, tanh_gaussian
from kilolayer.replay import Batch, Trajectory, empty_buffer, insert, sample_hindsight

OBSERVATION, GOAL, ACTION, BATCH = 4, 2, 3, 8


def agent_with(batch_size=BATCH, depth=2, width=8, **config):
    return CRL(
        observation_size=OBSERVATION,
        goal_size=GOAL,
        action_size=ACTION,
        batch_size=batch_size,
        depth=depth,
        width=width,
        architecture=Architecture(block_size=2),
        config=CRLConfig(**config),
    )


AGENT = agent_with()
init = jax.jit(CRL.init, static_argnums=0)
act = jax.jit(CRL.act, static_argnums=0, static_argnames="mode")
learn = jax.jit(CRL.learn, static_argnums=0)
update = jax.jit(CRL.update, static_argnums=0)


@functools.cache
def first_state(agent=AGENT):
    return init(agent, jax.random.key(0))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_batch(size=BATCH, seed=0):
    return Batch(
        observation=normal(size, OBSERVATION, seed=seed),
        action=jnp.tanh(normal(size, ACTION, seed=seed + 1)),
        desired_goal=normal(size, GOAL, seed=seed + 2),
    )


@functools.cache
def small_buffer():
    length, num_envs = 24, 3
    trajectory = Trajectory(
        observation=normal(length, num_envs, OBSERVATION),
        achieved_goal=normal(length, num_envs, GOAL, seed=1),
        action=jnp.tanh(normal(length, num_envs, ACTION, seed=2)),
        done=jnp.zeros((length, num_envs), bool).at[11].set(True),
    )
    return insert(empty_buffer(length, num_envs, OBSERVATION, GOAL, ACTION), trajectory)


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
    again, other = AGENT.init(jax.random.key(0)), init(AGENT, jax.random.key(1))
    assert_trees_close(again, first_state(), rtol=1e-6)
    assert np.all(other.actor.head.weight != first_state().actor.head.weight)
    assert np.exp(first_state().log_alpha) == 1.0
    heads = [first_state().critic.phi.head.weight, first_state().critic.psi.head.weight]
    assert np.all(heads[0] != heads[1])


# ---- Acting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["deterministic", "stochastic", "best_of"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_actions_lie_within_one_whatever_the_leading_axes(mode, shape):
    observation, goal = 100.0 * normal(*shape, OBSERVATION), 100.0 * normal(*shape, GOAL, seed=1)
    actions = act(AGENT, first_state(), observation, goal, jax.random.key(0), mode=mode)
    assert actions.shape == (*shape, ACTION)
    assert np.all(np.abs(actions) <= 1.0)
    assert len(np.unique(actions)) > 1


def test_only_the_deterministic_mode_ignores_the_key():
    batch = random_batch()

    def actions(mode, seed):
        key = jax.random.key(seed)
        return np.asarray(act(AGENT, first_state(), batch.observation, batch.desired_goal, key, mode=mode))

    for mode in ("deterministic", "stochastic", "best_of"):
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
    value = AGENT.value(state, batch.observation, batch.desired_goal)
    np.testing.assert_allclose(value, -np.linalg.norm(phi - psi, axis=-1), rtol=1e-5)


def test_a_stochastic_action_is_a_draw_with_the_actors_mean_and_deviation():
    state, key = first_state(), jax.random.key(3)
    observation, goal = normal(OBSERVATION), normal(GOAL, seed=1)
    mean, raw = np.split(np.asarray(state.actor(jnp.concatenate([observation, goal]))), 2)
    std = np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0))
    expected = np.tanh(mean + std * np.asarray(jax.random.normal(key, (ACTION,))))
    action = act(AGENT, state, observation, goal, key, mode="stochastic")
    np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("energy", ["l2", "dot"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_best_of_takes_the_candidate_of_highest_energy(energy, shape):
    agent = agent_with(energy=energy, candidates=5)
    state, key = first_state(agent), jax.random.key(4)
    observation, goal = normal(*shape, OBSERVATION), normal(*shape, GOAL, seed=1)
    mean, log_std = agent.policy(state.actor, observation, goal)
    noise = jax.random.normal(key, (5, *mean.shape))
    candidates = [jnp.tanh(mean + jnp.exp(log_std) * n) for n in noise]
    psi = state.critic.encode_goal(goal)
    energies = [
        Energy(energy).pairs(state.critic.encode_state_action(observation, candidate), psi) for candidate in candidates
    ]
    winner = np.argmax(np.array(energies), axis=0)
    expected = np.take_along_axis(np.array(candidates), winner[None, ..., None], axis=0)[0]
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


def written_out_step(agent, state, batch, key, *, critic_first=False):
    """Take the three Adam steps of method 1.2 and 1.3 with losses written out for the paper's settings."""
    adam = optax.adam(3e-4)
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
    updates, critic_optimizer = adam.update(gradient, state.critic_optimizer)
    critic = optax.apply_updates(state.critic, updates)

    judge = critic if critic_first else state.critic
    (_, entropy), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor, judge)
    updates, actor_optimizer = adam.update(gradient, state.actor_optimizer)
    actor = optax.apply_updates(state.actor, updates)

    gradient = jax.grad(lambda log_alpha: jnp.exp(log_alpha) * (entropy + 0.5 * ACTION))(state.log_alpha)
    updates, alpha_optimizer = adam.update(gradient, state.alpha_optimizer)
    log_alpha = optax.apply_updates(state.log_alpha, updates)

    return dataclasses.replace(
        state,
        actor=actor,
        critic=critic,
        log_alpha=log_alpha,
        actor_optimizer=actor_optimizer,
        critic_optimizer=critic_optimizer,
        alpha_optimizer=alpha_optimizer,
    )


@pytest.fixture
def later_state(x64):
    """A state whose moments are warm: the very first Adam step shows little but the gradient's sign."""
    state = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        first_state(),
    )
    for step in range(2):
        batch = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), random_batch(seed=10 * step))
        state, _ = learn(AGENT, state, batch, jax.random.key(step))
    return state


def test_a_step_moves_actor_and_alpha_by_the_old_critic_then_the_critic_on_the_same_batch(later_state):
    batch = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), random_batch(seed=30))
    key = jax.random.key(7)
    state, _ = learn(AGENT, later_state, batch, key)
    step = jax.jit(written_out_step, static_argnums=0, static_argnames="critic_first")
    assert_trees_close(state, step(AGENT, later_state, batch, key), rtol=1e-9, atol=1e-12)
    by_new_critic = step(AGENT, later_state, batch, key, critic_first=True)
    assert not np.allclose(by_new_critic.actor.head.weight, state.actor.head.weight, rtol=1e-6, atol=1e-9)


def test_every_parameter_moves_and_every_metric_is_finite():
    state, metrics = learn(AGENT, first_state(), random_batch(), jax.random.key(0))
    before = (first_state().actor, first_state().critic, first_state().log_alpha)
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves((state.actor, state.critic, state.log_alpha)), strict=True
    ):
        assert np.any(old != new)
    assert all(np.isfinite(value) for value in metrics.values())
    assert set(metrics) >= {
        "actor_loss",
        "critic_loss",
        "alpha_loss",
        "alpha",
        "entropy",
        "categorical_accuracy",
    }
    assert float(metrics["alpha"]) == 1.0


def test_metrics_of_a_step_are_those_before_it():
    batch, key = random_batch(), jax.random.key(0)
    state = first_state()
    _, metrics = learn(AGENT, state, batch, key)
    critic_loss, _ = AGENT.critic_loss(state.critic, batch)
    actor_loss, actor_metrics = AGENT.actor_loss(state.actor, state.critic, jnp.ones(()), batch, key)
    assert float(metrics["critic_loss"]) == pytest.approx(float(critic_loss), rel=1e-5)
    assert float(metrics["actor_loss"]) == pytest.approx(float(actor_loss), rel=1e-5)
    assert float(metrics["alpha_loss"]) == pytest.approx(float(actor_metrics["entropy"]) + 0.5 * ACTION, rel=1e-4)


@pytest.mark.parametrize(("target_entropy", "sign"), [(50.0, 1.0), (-50.0, -1.0)])
def test_alpha_rises_where_entropy_is_below_its_target_and_falls_above(target_entropy, sign):
    agent = agent_with(target_entropy=target_entropy)
    state, metrics = learn(agent, first_state(), random_batch(), jax.random.key(0))
    assert np.sign(target_entropy * ACTION - metrics["entropy"]) == sign
    assert sign * float(state.log_alpha) == pytest.approx(3e-4, rel=1e-3)


def test_alpha_stands_still_at_its_target():
    gradient = jax.grad(AGENT.alpha_loss)
    assert float(gradient(jnp.ones(()), jnp.array(-0.5 * ACTION))) == 0.0
    assert float(gradient(jnp.ones(()), jnp.array(1.0 - 0.5 * ACTION))) == pytest.approx(np.e, rel=1e-6)


def test_the_actor_loss_leaves_the_critic_alone_and_weighs_density_by_alpha():
    state, batch, key = first_state(), random_batch(), jax.random.key(0)

    def loss(alpha):
        return AGENT.actor_loss(state.actor, state.critic, jnp.array(alpha), batch, key)

    (at_zero, metrics), (at_two, _) = loss(0.0), loss(2.0)
    assert float(at_zero) == pytest.approx(-float(metrics["actor_value"]), rel=1e-5)
    assert float(at_two - at_zero) == pytest.approx(-2.0 * float(metrics["entropy"]), rel=1e-4)


@pytest.mark.parametrize("batch_size", [BATCH, 11])
def test_update_learns_from_a_batch_drawn_in_hindsight(batch_size):
    agent = agent_with(batch_size=batch_size, discount=0.9)
    key = jax.random.key(8)
    state, metrics = update(agent, first_state(), small_buffer(), key)
    sample_key, learn_key = jax.random.split(key)
    batch = sample_hindsight(small_buffer(), (batch_size,), 0.9, sample_key)
    assert batch.action.shape == (batch_size, ACTION)
    expected, expected_metrics = learn(agent, first_state(), batch, learn_key)
    assert_trees_close(state, expected, rtol=1e-5, atol=1e-6)
    assert float(metrics["critic_loss"]) == pytest.approx(float(expected_metrics["critic_loss"]), rel=1e-5)


@pytest.mark.parametrize("loss", ["infonce_forward", "infonce_symmetric", "binary_nce"])
def test_the_critic_learns_a_small_fixed_batch(loss):
    agent = agent_with(loss=loss, critic_learning_rate=3e-3)
    batch = random_batch(size=16)

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda state, key: agent.learn(state, batch, key), state, jax.random.split(keys, 50))

    keys = jax.random.key(9)
    _, metrics = train(first_state())
    critic_loss, accuracy = metrics["critic_loss"], metrics["categorical_accuracy"]
    assert critic_loss[-1] < 0.8 * critic_loss[0]
    assert accuracy[-1] > accuracy[0] + 0.2


# ---- Options -----------------------------------------------------------------------------------------------


def outcome(agent):
    """Summarise a first update and a best_of choice in numbers that do not depend on the sizes of the networks."""
    state = first_state(agent)
    new, metrics = update(agent, state, small_buffer(), jax.random.key(0))

    def length(part):
        steps = jax.tree.map(lambda after, before: after - before, part(new), part(state))
        return float(optax.tree.norm(steps))

    batch = random_batch()
    best = act(agent, state, batch.observation, batch.desired_goal, jax.random.key(1), mode="best_of")
    return {
        **{name: float(metrics[name]) for name in ("actor_loss", "critic_loss", "alpha_loss")},
        "actor_step": length(lambda state: state.actor),
        "critic_step": length(lambda state: state.critic),
        "alpha_step": length(lambda state: state.log_alpha),
        "best_of": np.asarray(best),
    }


DEFAULTS = {"batch_size": 16}
ALL_LOSSES = {"actor_loss", "critic_loss", "alpha_loss"}
OPTIONS = {
    "energy": ("dot", {"actor_loss", "critic_loss", "best_of"}),
    "temperature": (0.5, {"actor_loss", "critic_loss"}),
    "loss": ("binary_nce", {"critic_loss"}),
    "logsumexp_penalty": (0.5, {"critic_loss"}),
    "discount": (0.2, ALL_LOSSES),
    "representation_size": (16, {"actor_loss", "critic_loss", "critic_step", "best_of"}),
    "actor_depth": (4, {"actor_loss", "alpha_loss", "actor_step", "best_of"}),
    "critic_depth": (0, {"actor_loss", "critic_loss", "critic_step", "best_of"}),
    "actor_width": (16, {"actor_loss", "alpha_loss", "actor_step", "best_of"}),
    "critic_width": (16, {"actor_loss", "critic_loss", "critic_step", "best_of"}),
    "actor_learning_rate": (1e-3, {"actor_step"}),
    "critic_learning_rate": (1e-3, {"critic_step"}),
    "alpha_learning_rate": (1e-3, {"alpha_step"}),
    "target_entropy": (0.5, {"alpha_loss"}),
    "candidates": (2, {"best_of"}),
}


def test_every_option_is_listed_here():
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(CRLConfig)}


@functools.cache
def default_outcome():
    return outcome(agent_with(**DEFAULTS))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_what_it_says_and_nothing_else(option):
    value, expected = OPTIONS[option]
    assert getattr(CRLConfig(), option) != value
    changed = outcome(agent_with(**DEFAULTS, **{option: value}))
    # Adam's first step has the same length whatever the gradient, to about one part in a thousand.
    assert {
        name for name, before in default_outcome().items() if not np.allclose(changed[name], before, rtol=2e-3)
    } == expected


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("energy", "l1", "energy='l1' is unknown"),
        ("loss", "triplet", "loss='triplet' is unknown"),
        ("temperature", 0.0, "temperature=0.0 must be above 0"),
        ("discount", 0.0, "discount=0.0 must be above 0 and at most 1"),
        ("discount", 1.01, "discount=1.01 must be above 0 and at most 1"),
        ("discount", float("nan"), "discount=nan must be"),
        ("logsumexp_penalty", -0.1, "logsumexp_penalty=-0.1 must not be negative"),
        ("logsumexp_penalty", float("nan"), "logsumexp_penalty=nan must not be negative"),
        ("actor_learning_rate", 0.0, "actor_learning_rate=0.0 must be above 0"),
        ("critic_learning_rate", -1.0, "critic_learning_rate=-1.0 must be above 0"),
        ("alpha_learning_rate", float("nan"), "alpha_learning_rate=nan must be above 0"),
        ("representation_size", 0, "representation_size=0 must be at least 1"),
        ("candidates", 0, "candidates=0 must be at least 1"),
        ("actor_width", 0, "actor_width=0 must be at least 1"),
        ("critic_width", -8, "critic_width=-8 must be at least 1"),
        ("actor_depth", 3, "actor_depth: depth=3 is not a multiple of block_size=2; try 2 or 4"),
        ("critic_depth", -2, "critic_depth: depth=-2 must be 0 or a multiple"),
        ("depth", 5, "depth=5 is not a multiple of block_size=2; try 4 or 6"),
        ("width", 0, "width=0 must be at least 1"),
        ("batch_size", 0, "batch_size=0 must be at least 1"),
        ("batch_size", 1, "batch_size=1 leaves contrastive RL no negatives"),
    ],
)
def test_impossible_settings_are_refused_by_name(no_type_checks, option, value, message):
    with pytest.raises(ConfigurationError) as error:
        agent_with(**{option: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_defaults_are_the_papers():
    assert dataclasses.asdict(CRLConfig()) == {
        "energy": "l2",
        "temperature": None,
        "loss": "infonce_forward",
        "logsumexp_penalty": 0.1,
        "discount": 0.99,
        "representation_size": 64,
        "actor_depth": None,
        "critic_depth": None,
        "actor_width": None,
        "critic_width": None,
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "alpha_learning_rate": 3e-4,
        "target_entropy": -0.5,
        "candidates": 16,
    }


def test_the_policy_distribution_stays_within_its_bounds():
    state = first_state()
    _, log_std = AGENT.policy(state.actor, 1e3 * normal(20, OBSERVATION), 1e3 * normal(20, GOAL, seed=1))
    assert np.all(log_std >= tanh_gaussian.LOG_STD_MIN)
    assert np.all(log_std <= tanh_gaussian.LOG_STD_MAX)
