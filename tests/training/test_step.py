"""The training step: one pure function that unrolls, inserts, samples and learns, and sees what is not finite."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer as kl
from kilolayer import envs
from kilolayer.runs import RunDirectory
from kilolayer.training import Setup, collect_step, compile_steps, init_state, learn_step
from small_runs import SMALL, assert_same_state, small_config


@pytest.fixture(scope="module")
def trained():
    """A setup, its state once the buffer is filled (two unrolls), and after the first round of gradient steps."""
    setup = Setup.build(small_config())
    steps = compile_steps(setup)
    state = steps.collect(init_state(setup, 0))[0]
    state = steps.collect(state)[0]
    before = jax.tree.map(jnp.copy, state)
    after, (metrics, _) = steps.learn(steps.collect(state)[0])
    return setup, before, after, metrics


def test_a_step_advances_everything(trained):
    _, before, after, metrics = trained
    assert (before.env_steps, after.env_steps) == (80, 120)
    assert (int(before.gradient_steps), int(after.gradient_steps)) == (0, 3)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), eqx.filter(before.agent, eqx.is_array), after.agent)
    assert all(jax.tree.leaves(changed.actor.head))
    assert all(jax.tree.leaves(changed.critic))
    assert set(metrics) >= {"critic_loss", "actor_loss", "alpha", "entropy", "categorical_accuracy"}
    assert all(np.isfinite(value) for value in metrics.values())


def test_collecting_learns_nothing(trained):
    setup, before, _, _ = trained
    fresh = init_state(setup, 0).agent
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), before.agent, fresh)))


def test_the_buffer_holds_what_the_environments_did(trained):
    _, before, after, _ = trained
    new = slice(20, 30)
    np.testing.assert_array_equal(after.buffer.observation[20], before.collector.observation)
    np.testing.assert_array_equal(after.buffer.observation[new, :, :2], after.buffer.achieved_goal[new])
    assert float(jnp.abs(after.buffer.action[new]).max()) <= 1.0
    assert float(jnp.std(after.buffer.action[new])) > 0.1


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trained):
    setup, before, after, _ = trained
    steps = compile_steps(setup)
    again, _ = steps.learn(steps.collect(jax.tree.map(jnp.copy, before))[0])
    assert_same_state(after, again)
    other = init_state(setup, 1)
    with pytest.raises(AssertionError):
        assert_same_state(init_state(setup, 0), other)


@pytest.mark.parametrize("half", [collect_step, learn_step])
def test_each_half_is_a_pure_function_of_one_state(trained, half):
    setup, before, after, _ = trained
    shape = jax.eval_shape(lambda state: half(setup, state)[0], before)
    assert jax.tree.structure(shape) == jax.tree.structure(after)


@dataclasses.dataclass(frozen=True, eq=False)
class Breaking(envs.tasks.PointMaze):
    """A point maze whose observation breaks in environment 2 once it has been stepped often enough."""

    after: float = 24.5

    def observe(self, physics):
        observation = super().observe(physics)
        return jnp.where(physics.velocity[0] > self.after, jnp.nan, observation)


@dataclasses.dataclass(frozen=True, eq=False)
class Ageing(envs.engines.PointEngine):
    """Counts steps in the velocity of disc 2 alone."""

    def step(self, physics, control):
        moved = super().step(physics, control)
        count = jnp.where(jnp.arange(control.shape[0]) == 2, physics.velocity[:, 0] + 1.0, 0.0)
        return eqx.tree_at(lambda p: p.velocity, moved, moved.velocity.at[:, 0].set(count))


@pytest.fixture
def breaking_env():
    maze = envs.Maze(envs.LAYOUTS["u"])

    entry = envs.EnvironmentSpec(
        "breaking",
        "breaks",
        task=lambda: Breaking(maze),
        engine=lambda name, task: Ageing(maze),
        eval_env="point_u_maze",
    )
    envs.register(entry)
    yield
    envs.registry.unregister("breaking")


def test_an_observation_that_is_not_finite_stops_the_run_and_says_where(breaking_env, tmp_path):
    settings = SMALL | {"episode_length": 100, "num_evals": 10}
    with pytest.raises(kl.TrainingError) as error:
        kl.train("breaking", run_dir=tmp_path / "run", progress=False, **settings)
    message = str(error.value)
    # The count passes 24.5 in the fifth step of the third unroll: after 4 x 24 steps.
    assert message.startswith("the observation of breaking in environment 2 is not finite at env step 96;")
    assert f"last good checkpoint is {tmp_path / 'run' / 'checkpoints' / '80'}" in message
    assert "\n" not in message
    assert kl.load(tmp_path / "run").env_steps == 80


@pytest.mark.parametrize("rate", ["critic_learning_rate", pytest.param("actor_learning_rate", marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_stops_the_run_and_says_in_which_step(tmp_path, rate):
    with pytest.raises(kl.TrainingError) as error:
        kl.train(config=small_config(num_evals=10, crl={rate: 1e38}), run_dir=tmp_path / "run", progress=False)
    message = str(error.value)
    assert "is not finite at gradient step" in message
    assert "env step 80" in message
    policy = kl.load(tmp_path / "run")
    assert policy.env_steps == 80
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy.agent_state))
    assert RunDirectory.open(tmp_path / "run").metrics()[-1]["env_steps"] == 80


def weights_after_training(**settings):
    config = small_config(**settings)
    setup = Setup.build(config)
    steps = compile_steps(setup)
    state = init_state(setup, config.seed)
    while state.env_steps < 160:
        enough = state.buffer.num_steps >= config.min_replay
        state, _ = steps.collect(state)
        if enough:
            state, _ = steps.learn(state)
    return state.agent.actor.head.weight


@pytest.fixture(scope="module")
def plain_weights():
    return weights_after_training()


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"unroll_length": 5},
        {"gradient_steps_per_unroll": 4},
        {"batch_size": 8},
        {"episode_length": 8},
        {"seed": 3},
        {"replay_capacity": 20},
        {"min_replay": 10},
        {"depth": 8},
        {"width": 8},
        {"env": "point_big_maze", "eval_env": "point_big_maze"},
        {"crl": {"discount": 0.5}},
        {"architecture": {"activation": "relu"}},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_every_setting_of_the_step_changes_the_agent(plain_weights, setting):
    changed = weights_after_training(**setting)
    assert plain_weights.shape != changed.shape or bool(jnp.any(plain_weights != changed))


def test_float64_is_refused_in_one_line(tmp_path):
    kl.train("point_u_maze", run_dir=tmp_path / "run", progress=False, **SMALL)
    with jax.enable_x64(True):
        for call in (lambda: Setup.build(small_config()), lambda: kl.load(tmp_path / "run")):
            with pytest.raises(
                kl.ConfigurationError, match="JAX_ENABLE_X64 is on, and runs and policies are in float32"
            ):
                call()
    kl.load(tmp_path / "run")
