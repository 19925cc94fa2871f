"""The dry run reports what the counters of bench find, for any agent."""

import dataclasses
import itertools

import jax
import pytest

from kilolayer.bench import gradient_step_flops, learn_memory
from kilolayer.bench import plan as dry_run
from kilolayer.bench.memory import Memory, program_memory
from kilolayer.bench.plan import plan
from kilolayer.errors import ConfigurationError
from kilolayer.memory import tree_bytes
from kilolayer.training import Setup, init_state
from small_runs import small_config


@pytest.mark.parametrize("agent", ["crl", pytest.param("td3", marks=pytest.mark.slow)])
def test_operations_and_memory_are_those_of_the_counters(agent):
    config = small_config(agent=agent)
    setup = Setup.build(config)
    found = plan(config)
    assert found["gradient_step_operations"] == int(gradient_step_flops(setup)) > 0
    assert found["step_peak_bytes"] >= int(learn_memory(setup).peak)
    assert found["state_bytes"] == tree_bytes(jax.eval_shape(lambda: init_state(setup, 0)))


@pytest.mark.slow
def test_what_a_short_chain_keeps_is_counted():
    def peak(chain):
        return plan(small_config(depth=32, batch_size=200, architecture={"chain": chain}))["step_peak_bytes"]

    kept = 3 * 4 * 32 * 200 * 16  # of actor, phi and psi: a float32 for each product
    assert peak("short") > peak("plain") + kept


def test_a_few_steps_say_how_long_the_run_takes(monkeypatch):
    """The time is that of all env steps, those of evaluations included, and of all gradient steps."""
    config = small_config()
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0, 4.0, 4.0, 4.6])  # two rounds of env steps, two of gradient steps
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: next(clock))
    found = dry_run._duration(config, Setup.build(config))
    seconds_of_env_step, seconds_of_gradient_step = 2.0 / 40, 0.6 / 3
    env_steps = config.total_env_steps + 3 * config.num_eval_envs * config.episode_length
    end = config.timetable.end
    assert found["env_steps_per_second"] == 20
    assert found["gradient_step_milliseconds"] == pytest.approx(200.0)
    assert found["training_minutes"] == pytest.approx(
        (env_steps * seconds_of_env_step + end.gradient_steps * seconds_of_gradient_step) / 60
    )


def test_each_depth_of_a_growing_run_counts_with_its_own_speed(monkeypatch):
    config = small_config(depth=8, grow="4@0,8@120", total_env_steps=240)
    monkeypatch.setattr(dry_run, "_speeds", lambda config, setup: (1.0, float(setup.depth)))
    clocks = config.timetable.clocks
    rounds = [clocks(number) for number in range(config.timetable.rounds + 1)]
    seconds = sum(
        (after.gradient_steps - before.gradient_steps) * config.depth_at(before)
        for before, after in itertools.pairwise(rounds)
    )
    found = dry_run._duration(config, Setup.build(config).at(config.timetable.end))
    assert 4 * rounds[-1].gradient_steps < seconds < 8 * rounds[-1].gradient_steps
    env_steps = rounds[-1].env_steps + 3 * config.num_eval_envs * config.episode_length
    assert found["training_minutes"] == pytest.approx((env_steps + seconds) / 60)


@pytest.mark.slow
def test_only_what_is_timed_has_a_duration():
    assert "training_minutes" not in plan(small_config())
    assert "training_minutes" not in plan(small_config(), seeds=2, timed=True)
    assert plan(small_config(), timed=True)["training_minutes"] > 0.0


@pytest.mark.slow
def test_idle_seeds_keep_their_states(monkeypatch):
    monkeypatch.setattr(dry_run, "cpu_cores", lambda: 1)
    config = small_config()
    one, three = plan(config), plan(config, seeds=3)
    assert three["step_peak_bytes"] == one["step_peak_bytes"] + 2 * one["state_bytes"]
    assert three["replay_bytes"] == 3 * one["replay_bytes"]


def test_an_agent_that_cannot_be_counted_has_a_plan(monkeypatch):
    def refuse(setup):
        raise ConfigurationError("a loop")

    monkeypatch.setattr(dry_run, "gradient_step_flops", refuse)
    assert plan(small_config())["gradient_step_operations"] is None


def test_a_compiler_without_analysis_is_unknown(monkeypatch):
    @dataclasses.dataclass
    class Silent:
        def memory_analysis(self):
            return None

    memory = program_memory(Silent())
    assert isinstance(memory, Memory)
    assert memory.peak != memory.peak
    monkeypatch.setattr(dry_run, "program_memory", lambda compiled: memory)
    assert plan(small_config())["step_peak_bytes"] is None
