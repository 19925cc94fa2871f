"""Recording: whole episodes of a policy, or of random actions, as a data set."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kilolayer.agents import ActionMode, Agent, AgentState
from kilolayer.agents.gcsl import reflect
from kilolayer.data.datasets import Dataset
from kilolayer.envs import Environment
from kilolayer.errors import ConfigurationError, TrainingError
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.defaults import default_config
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.settings import check_count, check_seed
from kilolayer.training.memory import check_episodes_fit
from kilolayer.training.policies import load_policy
from kilolayer.training.setup import Setup

Actions = Literal["policy", "random"]

TOGETHER = 128
"""Episodes that are recorded side by side."""


class Recorded(NamedTuple):
    """Episodes side by side, step by step. Steps after the end of an episode are not part of it."""

    observation: Float[Array, "length episodes observation"]
    achieved_goal: Float[Array, "length episodes goal"]
    desired_goal: Float[Array, "length episodes goal"]
    action: Float[Array, "length episodes action"]
    next_observation: Float[Array, "length episodes observation"]
    next_achieved_goal: Float[Array, "length episodes goal"]
    next_desired_goal: Float[Array, "length episodes goal"]
    failed: Bool[Array, "length episodes"]
    diverged: Bool[Array, "length episodes"]
    alive: Bool[Array, "length episodes"]
    """The step belongs to the episode."""


@dataclasses.dataclass(frozen=True)
class Exploring:
    """How the actions of a recording differ from those of the policy."""

    actions: Actions = "policy"
    """What acts: the run's policy, or random: uniform actions, whatever the goal."""
    mode: ActionMode = "deterministic"
    """How the policy chooses its actions."""
    noise: float = 0.0
    """Standard deviation of the noise on the policy's actions, which span -1 to 1."""
    hold: int = 1
    """Mean number of steps that a random action lasts."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: for an invalid value, or one that has no effect.
        """
        if self.actions not in get_args(Actions):
            raise ConfigurationError(
                f"actions={self.actions!r} is unknown; choose one of {', '.join(get_args(Actions))}"
            )
        if not 0.0 <= self.noise < float("inf"):
            raise ConfigurationError(f"noise={self.noise} must not be negative, and finite")
        check_count("hold", self.hold)
        if self.actions == "random" and self.noise > 0.0:
            raise ConfigurationError(f"noise={self.noise} has no effect with actions='random'; leave it out")
        if self.actions == "random" and self.mode != "deterministic":
            raise ConfigurationError(f"mode={self.mode!r} has no effect with actions='random'; leave it out")
        if self.actions == "policy" and self.hold != 1:
            raise ConfigurationError(f"hold={self.hold} has no effect with a policy; take actions='random'")


def record(
    run: str | os.PathLike,
    *,
    episodes: int,
    how: Exploring | None = None,
    env: str | None = None,
    engine: str | None = None,
    checkpoint: int | str | None = None,
    seed: int = 0,
) -> Dataset:
    """Record episodes in the environment of a run.

    Args:
        run: a run directory; with random actions also the name of an environment.
        episodes: how many; an episode whose robot diverges in its first step is left out.
        how: what acts; None for the policy of the run.
        env: environment in place of the run's.
        engine: physics engine in place of the run's.
        checkpoint: of the run: its step, `latest` (as None) or `best`.
        seed: of starts, goals and drawn actions.

    Returns:
        The data set. The same arguments give the same data on the same machine.

    Raises:
        ConfigurationError: for settings that are not valid.
        RunError: if the run cannot be read.
        TrainingError: if a number is not finite.
    """
    how = how or Exploring()
    check_count("episodes", episodes)
    check_seed(seed)
    is_run = Path(run, "config.json").is_file()
    if how.actions == "random" and not is_run:
        if checkpoint is not None:
            raise ConfigurationError(f"checkpoint={checkpoint} has no effect with actions='random'; leave it out")
        config = default_config(os.fspath(run))
        directory = None
    else:
        directory = RunDirectory.open(run)
        config = directory.config()
    agent, agent_state = None, None
    if how.actions == "policy":
        policy = load_policy(run, checkpoint=checkpoint)
        agent, agent_state = policy.agent, policy.agent_state
    environment, name = _environment(config, env, engine, directory)
    together = min(episodes, TOGETHER)
    check_episodes_fit(environment, together)
    hashable: Any = agent
    parts = []
    for batch in range(-(-episodes // together)):
        key = jax.random.fold_in(jax.random.key(seed), batch)
        recorded = _program(hashable, environment, together, how)(agent_state, key)
        wanted = min(together, episodes - batch * together)
        parts += _episodes(jax.device_get(recorded), wanted)
    if not parts:
        raise TrainingError(f"the robots of {environment.name} diverged in the first step of every episode")
    joined = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
    return Dataset(**joined, environment=name).checked(f"what was recorded in {environment.name}")


def _environment(
    config: TrainConfig, env: str | None, engine: str | None, directory: RunDirectory | None
) -> tuple[Environment, str]:
    """Return the environment to record in, and its name or its maze."""
    if env is not None:
        config = dataclasses.replace(config, env=default_config(env).env, eval_env=None)
    if engine is not None:
        config = dataclasses.replace(config, engine=engine)
    if directory is None:
        return Setup.build(config).environment, config.env
    with directory.explain_unknown_names():
        return dataclasses.replace(Setup.build(config).environment, fixed_goals=False), config.env


def _episodes(recorded: Recorded, wanted: int) -> list[dict[str, np.ndarray]]:
    """Return the rows of each episode, the last state included."""
    found = []
    for number in range(wanted):
        steps = int(recorded.alive[:, number].sum())
        # What a step leads to in which the robot diverges is unknown: the episode ends before it.
        steps -= int(recorded.diverged[steps - 1, number])
        if steps == 0:
            continue
        last = np.zeros(steps + 1, bool)
        last[-1] = True
        rows = {
            name: np.concatenate(
                [getattr(recorded, name)[:steps, number], getattr(recorded, f"next_{name}")[steps - 1 : steps, number]]
            )
            for name in ("observation", "achieved_goal", "desired_goal")
        }
        action = np.concatenate([recorded.action[:steps, number], np.zeros_like(recorded.action[:1, number])])
        failed = last & bool(recorded.failed[steps - 1, number])
        found.append({**rows, "action": np.clip(action, -1.0, 1.0), "last": last, "failed": failed})
    return found


@functools.lru_cache(maxsize=4)
def _program(agent: Any, environment: Environment, num_episodes: int, how: Exploring) -> jax.stages.Wrapped:
    """Return the compiled function that records episodes side by side."""
    return jax.jit(lambda state, key: _record(agent, state, environment, num_episodes, how, key))


def _record(
    agent: Agent | None,
    agent_state: AgentState,
    environment: Environment,
    num_episodes: int,
    how: Exploring,
    key: PRNGKeyArray,
) -> Recorded:
    reset_key, first_key, act_key = jax.random.split(key, 3)
    chunk = 1 if agent is None else agent.executed_actions
    start = environment.reset(reset_key, num_episodes, action_chunk=chunk)
    shape = (num_episodes, environment.action_size)

    def uniform(key: PRNGKeyArray) -> Float[Array, "episodes action"]:
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, Recorded]:
        state, alive, held = carry
        choose_key, noise_key = jax.random.split(key)
        change = jax.random.bernoulli(noise_key, 1.0 / how.hold, (num_episodes, 1))
        held = jnp.where(change, uniform(choose_key), held)

        def choose(observation: Array, desired_goal: Array) -> Array:
            if agent is None:
                return held
            actions = agent.act(agent_state, observation, desired_goal, choose_key, how.mode)
            if how.noise == 0.0:
                return actions
            return reflect(actions + how.noise * jax.random.normal(noise_key, actions.shape, actions.dtype))

        after, action, result = environment.advance(state, choose)
        found = Recorded(
            observation=state.observation,
            achieved_goal=state.achieved_goal,
            desired_goal=state.desired_goal,
            action=action,
            next_observation=result.observation,
            next_achieved_goal=result.achieved_goal,
            next_desired_goal=result.desired_goal,
            failed=result.terminated & ~result.diverged,
            diverged=result.diverged,
            alive=alive,
        )
        return (after, alive & ~result.done, held), found

    keys = jax.random.split(act_key, environment.episode_length)
    (last, *_), recorded = jax.lax.scan(step, (start, jnp.ones(num_episodes, bool), uniform(first_key)), keys)
    environment.release(last)
    return recorded
