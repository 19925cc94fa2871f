"""Checks of an environment before training: sizes, names, starts, goals, stability, speed."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from kilolayer.envs.coverage import coverage_of
from kilolayer.envs.divergence import MOST_DIVERGED, Divergence, suspects
from kilolayer.envs.engines.features import dropped
from kilolayer.envs.environment import Environment, EnvironmentState
from kilolayer.envs.methods import in_full
from kilolayer.envs.names import PARTS, actuator_names, entry_names, told
from kilolayer.envs.robot_task import RobotTask
from kilolayer.envs.servos import position_servos
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import ConfigurationError

Verdict = Literal["ok", "warning", "failed"]

LARGE = 100.0
"""Larger observations give a warning: they are hard to learn from, because the networks' inputs are not normalised."""

ENDS_AT_ONCE = "every episode ends in its first step: check `failed` of the task"

MOST_AT_GOAL = 0.2
"""Share of episodes that may begin at their goal: a policy that does nothing has this success."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of one check."""

    name: str
    verdict: Verdict
    text: str
    """The measured numbers, and for a warning or failure what to change."""


@dataclasses.dataclass(frozen=True)
class Roll:
    """Steps of all environments with one kind of action; the first axis is time."""

    observation: np.ndarray
    achieved_goal: np.ndarray
    desired_goal: np.ndarray
    success: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    diverged: np.ndarray
    speed: np.ndarray
    """Of each degree of freedom, before a robot diverged; see `Divergence`."""


def check(
    environment: Environment,
    *,
    num_envs: int = 64,
    num_steps: int = 1000,
    seed: int = 0,
    on_progress: Callable[[str], object] = lambda text: None,
) -> Iterator[Finding]:
    """Check an environment.

    Args:
        environment: the environment.
        num_envs: number of parallel environments.
        num_steps: steps of each environment with each kind of action (none, random).
        seed: seed of starts, goals and random actions.
        on_progress: called with the name of each part before it runs.

    Yields:
        The result of each check.
    """
    on_progress("sizes and starts")
    sizes = _sizes(environment)
    yield sizes
    if sizes.verdict == "failed":
        return
    key = jax.random.key(seed)
    reset = jax.jit(environment.reset, static_argnums=1)
    begun = reset(key, num_envs)
    yield _names(environment)
    yield from _left_out(environment)
    yield from _actuators(environment)
    yield from _starts(environment, begun, reset(key, num_envs), reset(jax.random.key(seed + 1), num_envs))

    run = jax.jit(functools.partial(_steps, environment, num_envs, num_steps, key))
    idle = "the first action" if environment.discrete_actions else "zero actions"
    on_progress(f"{num_steps:,} steps of {idle}")
    still = _roll(run, moving=False)
    yield (finite := _finite(environment, idle, still))
    if finite.verdict == "failed":
        return  # what else would be found follows from it
    yield _holds(environment, idle, still)

    on_progress(f"{num_steps:,} random steps")
    began = time.perf_counter()
    roll = _roll(run, moving=True)
    first = time.perf_counter() - began
    yield (finite := _finite(environment, "random actions", roll))
    if finite.verdict == "failed":
        return
    yield _bounded(roll)
    yield _moves(idle, still, roll)
    yield _coverage(environment, roll)
    yield _episodes(environment, roll)
    if environment.has_success:
        yield _goals(environment, roll)

    on_progress("speed")
    again = _roll(run, moving=True)
    same = np.array_equal(roll.observation, again.observation, equal_nan=True)
    yield Finding(
        "same seed",
        "ok" if same else "warning",
        "the same seed gives the same bits"
        if same
        else "the same seed gives different numbers; runs are not reproducible",
    )
    began = time.perf_counter()
    _roll(run, moving=True)
    seconds = time.perf_counter() - began
    yield Finding(
        "speed",
        "ok",
        f"{num_envs * num_steps / seconds:,.0f} env steps/s with {num_envs} environments; "
        f"compiled in {max(first - seconds, 0.0):.1f} s",
    )


def _sizes(environment: Environment) -> Finding:
    """Check what every method of the task returns; nothing else can be checked where one returns another shape."""
    try:
        check_methods(environment)
    except ConfigurationError as error:
        return Finding("sizes", "failed", str(error))
    sizes = {name: getattr(environment, f"{name}_size") for name in ("observation", "goal", "action")}
    text = ", ".join(f"{name} {size}" for name, size in sizes.items())
    empty = [name for name, size in sizes.items() if size < 1]
    return Finding("sizes", "failed" if empty else "ok", f"{text}{'; sizes must be at least 1' if empty else ''}")


def _names(environment: Environment) -> Finding:
    """Compare the names of entries, if the task gives them, with the sizes."""
    named, unnamed = [], []
    for part in PARTS:
        names = entry_names(environment.task, part)
        if names is None:
            unnamed.append(part)
            continue
        named.append(part)
        size = getattr(environment, f"{part}_size")
        if len(names) != size:
            return Finding("names", "failed", f"{part}_names has {len(names)} entries, but {part}_size is {size}")
        for name in names:
            if names.count(name) > 1:
                return Finding("names", "failed", f"{part}_names has {name!r} twice; names must differ")
    parts = [f"{', '.join(named)} named"] if named else []
    parts += [f"{', '.join(unnamed)} without names"] if unnamed else []
    return Finding("names", "ok", "; ".join(parts))


def _left_out(environment: Environment) -> Iterator[Finding]:
    """Say what of the model an engine may leave out because the task allows it."""
    task = environment.task
    if isinstance(task, RobotTask) and (found := dropped(task, task.leave_out)):
        parts = ", ".join(f"{name} ({', '.join(elements[:3])})" for name, elements in found.items())
        yield Finding("physics", "ok", f"leave_out allows an engine not to move {parts}")


def _actuators(environment: Environment) -> Iterator[Finding]:
    """Say what actions do, and check that the default controls reach what a servo may be told."""
    if (text := told(environment.task, "control_text", "control")) is not None:
        yield Finding("control", "ok", text)
    task = environment.task
    if not isinstance(task, RobotTask) or type(task).control is not RobotTask.control:
        return
    model, limited = task.model, np.asarray(task.model.actuator_ctrllimited, bool)
    servo = position_servos(model)
    names = actuator_names(model)
    open_ended = [names[number] for number in np.flatnonzero(servo & ~limited)]
    if open_ended:
        text = f"position servos without a ctrlrange: {', '.join(open_ended)}; they are told -1 to 1; give them ranges"
        yield Finding("actuators", "warning", text)
    if task.rest_control is not None:
        low, high = model.actuator_ctrlrange.T
        away = (task.rest_control < low) | (task.rest_control > high)
        far = [names[number] for number in np.flatnonzero(servo & limited & away)]
        if far:
            yield Finding("actuators", "warning", f"the keyframe's controls are out of range: {', '.join(far)}")


def _starts(
    environment: Environment, begun: EnvironmentState, same: EnvironmentState, other: EnvironmentState
) -> Iterator[Finding]:
    repeated = all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in ((begun.observation, same.observation), (begun.desired_goal, same.desired_goal))
    )
    if not repeated:
        yield Finding(
            "starts", "failed", "the same key gives different starts or goals; `reset` must draw from its key only"
        )
    for name, one, two in (
        ("starts", begun.observation, other.observation),
        ("goals", begun.desired_goal, other.desired_goal),
    ):
        distinct = len(np.unique(np.concatenate([one, two]), axis=0))
        yield Finding(
            name,
            "ok" if distinct > 1 else "warning",
            f"{distinct} different among {2 * len(one)}{'' if distinct > 1 else '; all are the same'}",
        )
    if environment.has_success:
        yield from _success(environment, begun)
    failed = float(np.mean(jax.vmap(in_full("failed", environment.task.failed))(begun.physics, begun.memory)))
    yield Finding(
        "failed at the start",
        "ok" if failed == 0.0 else "failed",
        f"{failed:.0%} of the starts count as failed{'' if failed == 0.0 else '; check `failed` and the starts'}",
    )


def _success(environment: Environment, begun: EnvironmentState) -> Iterator[Finding]:
    success = jax.vmap(environment.task.success)
    reached = float(np.mean(success(begun.achieved_goal, begun.desired_goal)))
    yield Finding(
        "success at the start",
        "ok" if reached < MOST_AT_GOAL else "warning",
        f"{reached:.0%} of the episodes begin at their goal"
        + ("" if reached < MOST_AT_GOAL else "; `eval` counts their success apart"),
    )
    perfect = bool(np.all(success(begun.desired_goal, begun.desired_goal)))
    yield Finding(
        "success at the goal",
        "ok" if perfect else "failed",
        "an achieved goal equal to the desired one is a success"
        if perfect
        else "an achieved goal equal to the desired one is not a success; check `success`",
    )


def _finite(environment: Environment, name: str, roll: Roll) -> Finding:
    """Check that no robot diverges and that observations are finite. What else would be found follows from it."""
    bad = ~np.isfinite(roll.observation).all(axis=-1)
    if bad.any():
        step, number = np.argwhere(bad)[0]
        entries = np.flatnonzero(~np.isfinite(roll.observation[step, number]))
        text = f"not finite at step {step} of environment {number}, observation entries {_list(entries)}"
        names = entry_names(environment.task, "observation")
        if names is not None:
            text += f" ({', '.join(names[entry] for entry in entries[:3])}{', ...' if len(entries) > 3 else ''})"
        return Finding(name, "failed", f"{text}, though the robot's state is finite; check `observe`")
    if not roll.diverged.any():
        return Finding(name, "ok", f"{roll.success.size:,} env steps, all numbers finite")
    step, number = np.argwhere(roll.diverged)[0]
    diverged = int(roll.diverged.sum())
    episodes = int((roll.terminated | roll.truncated).sum())
    text = (
        f"the robot diverged in {diverged} of {episodes} episodes, first at step {step} of environment {number}"
        f"{suspects(environment.task, roll.speed)}; try a smaller time step of the model, or weaker actuators"
    )
    return Finding(name, "failed" if diverged > MOST_DIVERGED * episodes else "warning", text)


def _holds(environment: Environment, idle: str, still: Roll) -> Finding:
    """Compute how far the achieved goal moves in the first episode without actions; servos should hold it."""
    ended = np.cumsum(still.terminated | still.truncated, axis=0) > 0
    away = np.linalg.norm(still.achieved_goal - still.achieved_goal[0], axis=-1)
    farthest = float(np.max(np.where(ended, 0.0, away)))
    text = f"{idle} move the achieved goal by up to {farthest:.2g} in an episode"
    if not environment.has_success or not _is_held_by_servos(environment):
        return Finding("start", "ok", text)
    achieved = jnp.asarray(still.achieved_goal)
    at_start = np.asarray(jax.vmap(jax.vmap(environment.task.success), in_axes=(0, None))(achieved, achieved[0]))
    if np.all(at_start | ended):
        return Finding("start", "ok", text)
    return Finding("start", "warning", f"{text}, which is out of success: its servos are told to leave the start")


def _is_held_by_servos(environment: Environment) -> bool:
    """Return whether every actuator is a position servo, which stays where it is told."""
    task = environment.task
    return isinstance(task, RobotTask) and task.model.nu > 0 and bool(position_servos(task.model).all())


def _bounded(roll: Roll) -> Finding:
    largest = np.nanmax(np.abs(roll.observation), axis=(0, 1))
    wide = np.flatnonzero(largest > LARGE)
    text = f"largest {largest.max():.3g} (entry {largest.argmax()})"
    if not wide.size:
        return Finding("observations", "ok", text)
    return Finding(
        "observations", "warning", f"{text}; entries {_list(wide)} exceed {LARGE:g}; scale them in `observe`"
    )


def _moves(idle: str, still: Roll, roll: Roll) -> Finding:
    same = np.array_equal(still.observation, roll.observation)
    if same:
        return Finding("actions", "failed", f"random actions have the same effect as {idle}; check `control`")
    spread = np.nanstd(roll.achieved_goal, axis=(0, 1))
    if not (spread > 0).any():
        return Finding("actions", "failed", "the achieved goal never changes; check `achieved_goal`")
    text = f"standard deviation of the achieved goal under random actions: {', '.join(f'{v:.2g}' for v in spread[:6])}"
    return Finding("actions", "ok", text)


def _coverage(environment: Environment, roll: Roll) -> Finding:
    """Say how far random actions get from where an episode begins."""
    ends = roll.terminated | roll.truncated
    coverage = coverage_of(environment.task, roll.achieved_goal[0], roll.achieved_goal, ends)
    return Finding("coverage", "ok", f"under random actions {coverage}")


def _episodes(environment: Environment, roll: Roll) -> Finding:
    """Check that episodes do not end too early, and never both by termination and truncation."""
    ends = roll.terminated | roll.truncated
    both = roll.terminated & roll.truncated
    in_whole_episodes = np.max(ends * np.arange(1, len(ends) + 1)[:, None], axis=0).sum()
    lengths = in_whole_episodes / max(int(ends.sum()), 1)
    failures = float(roll.terminated.mean())
    text = f"under random actions {failures:.2%} of the steps terminate the episode"
    if ends.any():
        text += f"; mean episode length {lengths:.0f} of {environment.episode_length} steps"
    if both.any():
        return Finding("episodes", "failed", f"{int(both.sum())} steps are both terminated and truncated")
    if roll.terminated.all():
        return Finding("episodes", "failed", ENDS_AT_ONCE)
    if failures > 0.2:
        return Finding("episodes", "warning", f"{text}; such short episodes teach little; check `failed`")
    return Finding("episodes", "ok", text)


def _goals(environment: Environment, roll: Roll) -> Finding:
    """Compute how many goals are within reach of some state that random actions lead to."""
    rng = np.random.default_rng(0)
    seen = roll.achieved_goal.reshape(-1, roll.achieved_goal.shape[-1])
    wanted = roll.desired_goal.reshape(-1, roll.desired_goal.shape[-1])
    wanted = np.unique(wanted, axis=0)
    seen, wanted = (array[rng.permutation(len(array))[:count]] for array, count in ((seen, 4000), (wanted, 200)))
    near = jax.jit(lambda goal: jnp.any(jax.vmap(lambda place: environment.task.success(place, goal))(seen)))
    share = float(np.mean(jax.lax.map(near, jnp.asarray(wanted))))
    text = (
        f"success in {roll.success.mean():.2%} of the steps with random actions; "
        f"{share:.0%} of the goals are reached by some state of them"
    )
    if share == 0.0:
        return Finding(
            "reach", "warning", f"{text}; goals may be out of reach, or `achieved_goal` may have other units"
        )
    return Finding("reach", "ok", text)


def _steps(environment: Environment, num_envs: int, num_steps: int, key: PRNGKeyArray, moving: Array) -> tuple:
    reset_key, act_key = jax.random.split(key)

    def step(state: EnvironmentState, key: PRNGKeyArray) -> tuple[EnvironmentState, tuple]:
        action = _random_action(environment, num_envs, key, moving)
        after, result = environment.step(state, action)
        ends = (result.success, result.terminated, result.truncated, result.diverged)
        speed = Divergence.of_step(result.diverged, state.physics).speed
        return after, (result.observation, result.achieved_goal, state.desired_goal, *ends, speed)

    *steps, speed = jax.lax.scan(step, environment.reset(reset_key, num_envs), jax.random.split(act_key, num_steps))[1]
    return *steps, jnp.max(speed, axis=0)


def _random_action(environment: Environment, num_envs: int, key: PRNGKeyArray, moving: Array) -> Array:
    """Draw an action for each environment. If not `moving`, return zeros or the first discrete action."""
    if environment.discrete_actions:
        choice = jax.random.randint(key, (num_envs,), 0, environment.action_size)
        return jax.nn.one_hot(jnp.where(moving, choice, 0), environment.action_size)
    uniform = jax.random.uniform(key, (num_envs, environment.action_size), minval=-1.0, maxval=1.0)
    return jnp.where(moving, uniform, 0.0)


def _roll(run: Callable[[Array], tuple], *, moving: bool) -> Roll:
    return Roll(*(np.asarray(array) for array in run(jnp.asarray(moving))))


def _list(entries: np.ndarray) -> str:
    """Return at most eight numbers as text."""
    shown = ", ".join(map(str, entries[:8]))
    return f"{shown}, ..." if len(entries) > 8 else shown
