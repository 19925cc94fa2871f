"""All agents by name: what each needs, which settings it reads, and how it is built."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from kilolayer.agents.c_learning import CLearning
from kilolayer.agents.core.interface import Agent
from kilolayer.agents.crl import CRL
from kilolayer.agents.crl_discrete import CRLDiscrete
from kilolayer.agents.gcbc import GCBC
from kilolayer.agents.gcsl import GCSL
from kilolayer.agents.ppo import EPOCHS as PPO_EPOCHS
from kilolayer.agents.ppo import PPO
from kilolayer.agents.qrl import QRL
from kilolayer.agents.sac import SAC
from kilolayer.agents.td3 import TD3
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.nn import Architecture, ResidualArchitecture
from kilolayer.objectives.sparse_reward import Success

AgentName = Literal[
    "crl", "crl_discrete", "sac", "sac_her", "td3", "td3_her", "gcbc", "gcsl", "ppo", "c_learning", "qrl"
]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What an agent must know of the environment and of how data are collected."""

    name: str
    """Of the environment, for messages."""
    observation_size: int
    goal_size: int
    action_size: int
    """Numbers in an action; with discrete actions, how many actions there are."""
    episode_length: int
    unroll_length: int
    discrete_actions: bool = False
    success: Success | None = None
    """None if the task does not say when a goal is reached."""


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Settings of the networks and of the batch, which every agent has."""

    batch_size: int = 512
    depth: int = 4
    width: int = 256
    architecture: Architecture = ResidualArchitecture()


Settings = Mapping[str, Any]
"""Blocks of settings by their names in `TrainConfig`."""


def _no_changes(_: Settings) -> Settings:
    return {}


@dataclasses.dataclass(frozen=True)
class AgentSpec:
    """An entry of the catalog."""

    summary: str
    """One line for lists."""
    reads: tuple[str, ...]
    """Blocks of settings that the agent reads."""
    build: Callable[[Problem, Settings, dict[str, Any]], Agent]
    """Builds the agent from the problem, its blocks, and sizes as keyword arguments."""
    discrete: bool = False
    """It chooses among discrete actions; all others need continuous ones."""
    needs_success: bool = False
    """It learns from a reward for goals that are reached."""
    on_policy: bool = False
    """It learns from the newest unroll alone, which its own policy must have collected."""
    training: Callable[[Settings], Settings] = _no_changes
    """Returns what training settings suit the agent better than those so far: the environment's, and what was asked
    for, which goes before what this returns. They are not checked yet."""


def _crl(problem: Problem, settings: Settings, sizes: dict[str, Any]) -> Agent:
    config = settings["crl"]
    if config.action_chunk > problem.episode_length:
        raise ConfigurationError(
            f"crl.action_chunk={config.action_chunk} is longer than an episode of env {problem.name!r}; it must be at "
            f"most episode_length={problem.episode_length}"
        )
    return CRL(**sizes, config=config)


def _sac(problem: Problem, settings: Settings, sizes: dict[str, Any]) -> Agent:
    return SAC(**sizes, config=settings["sac"], success=_success(problem), relabeled=_relabeled(settings))


def _td3(problem: Problem, settings: Settings, sizes: dict[str, Any]) -> Agent:
    return TD3(**sizes, config=settings["td3"], success=_success(problem), relabeled=_relabeled(settings))


def _ppo(problem: Problem, settings: Settings, sizes: dict[str, Any]) -> Agent:
    return PPO(**sizes, config=settings["ppo"], success=_success(problem), unroll_length=problem.unroll_length)


def _ppo_training(settings: Settings) -> Settings:
    """Keep one unroll, learn from every unroll right after it, and see each of its steps `PPO_EPOCHS` times."""
    unroll_length, num_envs, batch_size = (settings[name] for name in ("unroll_length", "num_envs", "batch_size"))
    if not all(isinstance(size, int) and size > 0 for size in (unroll_length, num_envs, batch_size)):
        return {}  # the configuration refuses them, by name
    steps = unroll_length * num_envs
    batch_size = min(batch_size, steps)
    return {
        "replay_capacity": unroll_length,
        "min_replay": 0,
        "batch_size": batch_size,
        "gradient_steps_per_unroll": PPO_EPOCHS * (steps // batch_size),
    }


def _success(problem: Problem) -> Success:
    assert problem.success is not None  # `make_agent` has refused
    return problem.success


def _relabeled(settings: Settings) -> float:
    return settings["her"].ratio if "her" in settings else 0.0


AGENTS: Mapping[str, AgentSpec] = {
    "crl": AgentSpec(
        "contrastive RL, the paper's method",
        reads=("crl",),
        build=_crl,
    ),
    "crl_discrete": AgentSpec(
        "contrastive RL for discrete actions: the policy is the critic's softmax",
        reads=("crl", "crl_discrete"),
        build=lambda _, settings, sizes: CRLDiscrete(**sizes, config=settings["crl"], policy=settings["crl_discrete"]),
        discrete=True,
    ),
    "sac": AgentSpec("soft actor-critic with a sparse reward", reads=("sac",), build=_sac, needs_success=True),
    "sac_her": AgentSpec(
        "soft actor-critic with hindsight experience replay", reads=("sac", "her"), build=_sac, needs_success=True
    ),
    "td3": AgentSpec("TD3 with a sparse reward", reads=("td3",), build=_td3, needs_success=True),
    "td3_her": AgentSpec("TD3 with hindsight experience replay", reads=("td3", "her"), build=_td3, needs_success=True),
    "gcbc": AgentSpec(
        "goal-conditioned behavioural cloning",
        reads=("gcbc",),
        build=lambda problem, settings, sizes: GCBC(**sizes, config=settings["gcbc"]),
    ),
    "gcsl": AgentSpec(
        "goal-conditioned supervised learning, iterated with exploration",
        reads=("gcsl",),
        build=lambda problem, settings, sizes: GCSL(**sizes, config=settings["gcsl"]),
    ),
    "ppo": AgentSpec(
        "proximal policy optimisation with a sparse reward",
        reads=("ppo",),
        build=_ppo,
        needs_success=True,
        on_policy=True,
        training=_ppo_training,
    ),
    "c_learning": AgentSpec(
        "C-learning: classify future states, by temporal differences",
        reads=("c_learning",),
        build=lambda problem, settings, sizes: CLearning(**sizes, config=settings["c_learning"]),
    ),
    "qrl": AgentSpec(
        "quasimetric RL: the shortest way as the largest quasimetric, for worlds with hardly any chance in them",
        reads=("qrl",),
        build=lambda problem, settings, sizes: QRL(**sizes, config=settings["qrl"]),
    ),
}
assert tuple(AGENTS) == get_args(AgentName)

BLOCKS: tuple[str, ...] = tuple(dict.fromkeys(block for spec in AGENTS.values() for block in spec.reads))
"""Names of all blocks of settings."""


def agent_spec(name: str) -> AgentSpec:
    """Return the entry called `name`.

    Raises:
        ConfigurationError: if there is none; the line names the nearest.
    """
    if name not in AGENTS:
        raise ConfigurationError(f"agent={name!r} is unknown; {nearest_names(name, AGENTS)}")
    return AGENTS[name]


def make_agent(name: str, problem: Problem, settings: Settings, networks: NetworkSettings) -> Agent:
    """Build an agent.

    Args:
        name: in the catalog.
        problem: what it is for.
        settings: at least the blocks that the agent reads.
        networks: sizes of networks and batch.

    Raises:
        ConfigurationError: if the agent is not for such a problem, or its settings cannot be.
    """
    spec = agent_spec(name)
    if spec.discrete != problem.discrete_actions:
        kinds = ("continuous", "discrete")
        fitting = [other for other, entry in AGENTS.items() if entry.discrete == problem.discrete_actions]
        raise ConfigurationError(
            f"agent={name!r} is for {kinds[spec.discrete]} actions, and those of env {problem.name!r} are "
            f"{kinds[problem.discrete_actions]}; take agent={' or '.join(fitting)}"
        )
    if spec.needs_success and problem.success is None:
        raise ConfigurationError(
            f"agent={name!r} is rewarded for goals that are reached, and the task of env {problem.name!r} does not say "
            "when they are; set its success_distance, or take an agent without rewards such as crl"
        )
    sizes = {
        "observation_size": problem.observation_size,
        "goal_size": problem.goal_size,
        "action_size": problem.action_size,
        "batch_size": networks.batch_size,
        "depth": networks.depth,
        "width": networks.width,
        "architecture": networks.architecture,
    }
    return spec.build(problem, {block: settings[block] for block in spec.reads}, sizes)
