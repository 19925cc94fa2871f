"""The dry run: sizes, parameters, operations, memory, compile time and duration of a run before it starts."""

import dataclasses
import itertools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.bench.flops import gradient_step_flops
from kilolayer.bench.memory import program_memory
from kilolayer.bench.timing import compile_program
from kilolayer.errors import ConfigurationError
from kilolayer.machine import cpu_cores
from kilolayer.memory import tree_bytes
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.seed_group import SeedsMode
from kilolayer.training.overlap import compile_parts
from kilolayer.training.setup import Setup, host_device
from kilolayer.training.step import compile_steps, init_state, state_shape

TIMED_STEPS = 10
"""Gradient steps that are timed, at most those of a round."""


def plan(config: TrainConfig, *, seeds: int = 1, mode: SeedsMode = "threads", timed: bool = False) -> dict[str, Any]:
    """Compile the training step of a configuration and return what a run of it needs. Nothing is kept of any training.

    Args:
        config: the settings; sizes, memory and speeds are those of the final depth of networks that grow.
        seeds: how many to train side by side.
        mode: how several seeds are trained.
        timed: take a round of env steps and a few gradient steps, to say how long the run takes on this machine.

    Returns:
        Sizes as numbers, memory in bytes, times in seconds. Env steps, gradient steps, parameters and operations are
        those of one seed; memory is that of all seeds together. None where the compiler gives no analysis. The
        duration is left out for runs of several seeds, with overlap, or without collecting.
    """
    setup = Setup.build(config, seeds=seeds).at(config.timetable.end)  # at its deepest
    state = state_shape(setup)
    stacked = seeds > 1 and mode == "vmap"
    stepped = (
        jax.eval_shape(lambda one: jax.tree.map(lambda x: jnp.stack([x] * seeds), one), state) if stacked else state
    )
    at_once = 1 if stacked else min(seeds, cpu_cores())
    idle_bytes = 0 if stacked else (seeds - at_once) * tree_bytes(state)
    steps = compile_steps(setup, stacked=stacked)
    programs = [compile_program(steps.learn, stepped)]
    beside = 0.0
    if config.overlap:
        collect = compile_parts(setup, stacked=stacked).collect
        with jax.default_device(host_device()):
            programs.append(compile_program(collect, stepped.agent, stepped.collector, stepped.key))
        if host_device() in jax.devices():  # both are in the same memory at the same time
            beside = program_memory(programs[1].compiled).peak
    elif config.collects:
        programs.append(compile_program(steps.collect, stepped))
    peaks = [at_once * program_memory(program.compiled).peak + idle_bytes for program in programs]
    peaks[0] += beside
    end = config.timetable.end
    return {
        "env": setup.environment.name,
        "eval_env": setup.eval_environment.name,
        "observation_size": setup.environment.observation_size,
        "goal_size": setup.environment.goal_size,
        "action_size": setup.environment.action_size,
        "env_steps": end.env_steps,
        "gradient_steps": end.gradient_steps,
        **{f"{name}_parameters": count for name, count in setup.agent.parameter_counts().items()},
        "gradient_step_operations": _operations(setup),
        **({"seeds": seeds, "seeds_mode": mode} if seeds > 1 else {}),
        "replay_bytes": seeds * tree_bytes(state.buffer),
        "state_bytes": seeds * tree_bytes(state),
        "step_peak_bytes": max((int(peak) for peak in peaks if not math.isnan(peak)), default=None),
        "trace_seconds": sum(program.trace_seconds for program in programs),
        "compile_seconds": sum(program.compile_seconds for program in programs),
        **(_duration(config, setup) if timed and seeds == 1 and config.collects and not config.overlap else {}),
    }


def _duration(config: TrainConfig, setup: Setup) -> dict[str, Any]:
    """Take a round of env steps and a few gradient steps at each depth, and return how long the whole run would take.

    The seconds of evaluations are those of as many env steps in collecting.
    """
    clocks = [config.timetable.clocks(rounds) for rounds in range(config.timetable.rounds + 1)]
    seconds = 0.0
    for depth, rounds in itertools.groupby(itertools.pairwise(clocks), lambda pair: config.depth_at(pair[0])):
        first, *_, last = itertools.chain.from_iterable(rounds)
        per_env_step, per_gradient_step = _speeds(config, setup if depth == setup.depth else setup.at(first))
        seconds += (last.env_steps - first.env_steps) * per_env_step
        seconds += (last.gradient_steps - first.gradient_steps) * per_gradient_step
    evaluated = (config.num_evals + 1) * config.num_eval_envs * setup.eval_environment.episode_length
    return {
        "env_steps_per_second": round(1.0 / per_env_step),
        "gradient_step_milliseconds": 1e3 * per_gradient_step,
        "training_minutes": (seconds + evaluated * per_env_step) / 60.0,
    }


def _speeds(config: TrainConfig, setup: Setup) -> tuple[float, float]:
    """Return the seconds of an env step and of a gradient step."""
    timed_steps = min(TIMED_STEPS, setup.gradient_steps_per_round)
    steps = compile_steps(dataclasses.replace(setup, gradient_steps_per_round=timed_steps))
    state = init_state(setup, config.seed)
    # Robots move once they have begun: the second round costs what all others do.
    for _ in range(2):
        state, seconds_of_round = _timed(steps.collect, state)
    for _ in range(2):
        state, seconds_of_steps = _timed(steps.learn, state)
    return seconds_of_round / setup.collector.env_steps_per_round, seconds_of_steps / timed_steps


def _timed(step: Any, state: Any) -> tuple[Any, float]:
    """Take a step, and return the next state and the seconds that it took."""
    began = time.perf_counter()
    state, _ = jax.block_until_ready(step(state))
    return state, time.perf_counter() - began


def _operations(setup: Setup) -> int | None:
    """Return the operations of a gradient step; None for an agent whose step cannot be counted."""
    try:
        return int(gradient_step_flops(setup))
    except ConfigurationError:
        return None
