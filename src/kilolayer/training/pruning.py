"""Pruning of policies: actors without the blocks that matter least, scored in their environment, and saved as runs."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kilolayer.agents import AgentState
from kilolayer.envs import Environment
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Torso, with_all_blocks
from kilolayer.policies import Policy
from kilolayer.policies.pruning import Order, PruningOrder, check_keep, order_blocks
from kilolayer.settings import check_count, check_seed
from kilolayer.training.distillation import distillation_config
from kilolayer.training.evaluation import run_episodes, summarize
from kilolayer.training.memory import check_episodes_fit
from kilolayer.training.policies import load_with_setup
from kilolayer.training.start import begin, train
from kilolayer.training.trainer import TrainResult

STATES = 256
"""States that actions are compared in."""

EPISODES = 128
"""Episodes that give the states, and that score an actor."""


@dataclasses.dataclass(frozen=True)
class Pruning:
    """A policy, the order in which the blocks of its actor are left out, and where it acts."""

    policy: Policy
    environment: Environment
    order: PruningOrder
    seed: int

    @property
    def actor(self) -> Torso:
        """The actor with all blocks."""
        return actor_of(self.policy)

    def score(self, keep: int, *, episodes: int = EPISODES) -> dict[str, float]:
        """Return the metrics of whole episodes with the blocks that stay if so many do; see `summarize`.

        All numbers of blocks have the same episodes and the same program.
        """
        masked = dataclasses.replace(with_all_blocks(self.actor), kept=jnp.asarray(self.order.mask(keep)))
        return summarize(_episodes(self.policy, self.environment, self.seed, episodes, actor=masked))


def rank(
    run: str | os.PathLike,
    *,
    checkpoint: int | str | None = None,
    order: Order = "auto",
    states: int = STATES,
    episodes: int = EPISODES,
    seed: int = 0,
    log: Callable[[int, int], object] = max,
) -> Pruning:
    """Rank the blocks of the actor of a run by what leaving each out does to its actions.

    The actions are compared in states of the policy's own episodes in its evaluation environment.

    Args:
        run: the run directory.
        checkpoint: its step, `latest` (as None) or `best`.
        order: how blocks are chosen; see `Order`.
        states: states that actions are compared in, drawn from the episodes.
        episodes: how many.
        seed: of the episodes and of the draw.
        log: called with the choices made so far, and with their number.

    Raises:
        RunError: if the run or its checkpoint cannot be read.
        ConfigurationError: if the policy has no actor of blocks, or a number is out of its range.
    """
    check_count("states", states)
    check_count("episodes", episodes)
    check_seed(seed)
    policy, setup = load_with_setup(run, checkpoint=checkpoint)
    with_all_blocks(actor_of(policy))
    check_episodes_fit(setup.eval_environment, episodes)
    inputs = _states(policy, setup.eval_environment, seed, episodes, states)
    chunk_size = policy.agent.executed_actions * policy.action_size
    found = order_blocks(actor_of(policy), inputs, chunk_size, order=order, log=log)
    return Pruning(policy, setup.eval_environment, found, seed)


def prune(
    run: str | os.PathLike,
    keep: int,
    *,
    run_dir: str | os.PathLike | None = None,
    checkpoint: int | str | None = None,
    fine_tune: int | None = None,
    progress: bool = True,
    settings: dict[str, Any] | None = None,
    **ranking: Any,
) -> TrainResult:
    """Write the policy of a run without some blocks of its actor as a run of its own.

    The new run is that of a student which begins with the blocks that stay and has the run's policy as its teacher: see
    `kilolayer.distill`. So it is evaluated, reported and rendered as any other, and resuming it fine-tunes it.

    Args:
        run: the run directory.
        keep: blocks that stay, at least one.
        run_dir: the directory of the new run; None takes a new directory under `runs/`.
        checkpoint: of the run: its step, `latest` (as None) or `best`.
        fine_tune: env steps of distillation after pruning; None stops before the first.
        progress: show progress on standard error.
        settings: other settings of the new run, as for `kilolayer.distill`.
        ranking: `order`, `states`, `episodes` and `seed`, as for `rank`.

    Returns:
        Where the new run is, and its evaluation.

    Raises:
        RunError: if the run cannot be read, or the directory cannot be written.
        ConfigurationError: if no block or more than there are would stay, or a setting is not valid.
    """
    policy, _ = load_with_setup(run, checkpoint=checkpoint)
    blocks = with_all_blocks(actor_of(policy)).num_blocks
    check_keep(keep, blocks)
    if keep == blocks:
        raise ConfigurationError(f"keep={keep} leaves all blocks of the actor; give fewer")
    pruning = rank(run, checkpoint=checkpoint, **ranking)
    config = pruned_config(run, pruning, keep, checkpoint=checkpoint, fine_tune=fine_tune, settings=settings or {})
    how: dict[str, Any] = {"config": config, "run_dir": run_dir, "progress": progress}
    return begin(**how) if fine_tune is None else train(**how)


def pruned_config(
    run: str | os.PathLike,
    pruning: Pruning,
    keep: int,
    *,
    checkpoint: int | str | None,
    fine_tune: int | None,
    settings: dict[str, Any],
) -> Any:
    """Return the settings of the run of a pruned policy; see `prune`."""
    contract, agent, actor = pruning.policy.contract, pruning.policy.agent, pruning.actor
    width_of = getattr(agent, "width_of", lambda part: contract.width)
    steps = {} if fine_tune is None else {"total_env_steps": fine_tune}
    own = {"kept_blocks": pruning.order.kept(keep)}
    return distillation_config(
        run,
        checkpoint=checkpoint,
        **settings | steps | {"distill": {**settings.get("distill", {}), **own}},
        depth=keep * (actor.depth // actor.num_blocks),
        width=width_of("actor"),
        architecture=contract.architecture().growing_to(actor.depth),
    )


def actor_of(policy: Policy) -> Torso:
    """Return the network of a policy.

    Raises:
        ConfigurationError: if it has none.
    """
    actor = policy.agent.actor(policy.agent_state)
    if actor is None:
        raise ConfigurationError(f"agent={policy.contract.agent.name!r} has no actor network to prune")
    return actor


def _episodes(
    policy: Policy, environment: Environment, seed: int, episodes: int, *, actor: Torso, keep_steps: bool = False
) -> Any:
    """Run episodes of a policy with another actor in place of its own."""
    agent: Any = policy.agent
    state: AgentState = eqx.tree_at(agent.actor, policy.agent_state, actor)
    return run_episodes(agent, state, environment, jax.random.key(seed), num_episodes=episodes, keep_steps=keep_steps)


def _states(
    policy: Policy, environment: Environment, seed: int, episodes: int, states: int
) -> Float[np.ndarray, "states in"]:
    """Draw states of a policy's own episodes: observations and desired goals, side by side."""
    found = _episodes(policy, environment, seed, episodes, actor=actor_of(policy), keep_steps=True)
    alive = np.asarray(found.alive).reshape(-1)
    pair = (found.steps.observation, found.steps.desired_goal)
    inputs = np.concatenate([np.asarray(each).reshape(len(alive), -1) for each in pair], axis=-1)[alive]
    chosen = np.random.default_rng(seed).choice(len(inputs), min(states, len(inputs)), replace=False)
    return inputs[np.sort(chosen)]


def points_of(blocks: int, most: int) -> Sequence[int]:
    """Return numbers of blocks to look at, from all down to one: every number if there are few, else spread evenly on a
    logarithmic scale.
    """
    if blocks <= most:
        return range(blocks, 0, -1)
    spread = np.unique(np.round(np.geomspace(1, blocks, most)).astype(int))
    return [int(each) for each in spread[::-1]]
