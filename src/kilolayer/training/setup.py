"""What the settings of a run amount to, for all its seeds: environments, agent and collector, which fit each other."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from kilolayer.agents import Agent, NetworkSettings, Problem, Tandem, make_agent
from kilolayer.envs import Environment, make
from kilolayer.envs.engines import engines_of
from kilolayer.envs.engines.spread import SpreadEngine
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import ConfigurationError
from kilolayer.machine import check_float32
from kilolayer.nn import Architecture
from kilolayer.runs.clock import Clocks
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.spread import check_shards
from kilolayer.shards import Shards
from kilolayer.training.collector import Collector, EnvironmentCollector, NoCollector


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts of a run that do not change while it trains, the same for every seed.

    With `grow`, agent, collector and depth hold until the networks grow; `at` returns the setup of another moment.
    """

    environment: Environment
    eval_environment: Environment
    agent: Agent
    collector: Collector
    depth: int
    """Of the agent's networks."""
    replay_capacity: int
    """Steps of each environment that the replay buffer holds."""
    gradient_steps_per_round: int
    windows: int | None
    """Steps of each environment that a round of gradient steps draws from; None draws from the whole buffer."""
    overlap: bool
    """The host collects while the device learns."""
    shards: Shards
    """Parts of environments, replay buffer and batch, and the devices that hold them."""
    depth_at: Callable[[Clocks], int] = dataclasses.field(compare=False, repr=False)
    """Returns the depth of the networks at a point of the run."""
    parts_of_depth: Callable[[int], tuple[Agent, Collector]] = dataclasses.field(compare=False, repr=False)
    """Builds agent and collector with networks of a depth."""

    @classmethod
    def build(cls, config: TrainConfig, *, seeds: int = 1, mesh: Mesh | None = None) -> "Setup":
        """Build environments, agent and collector, as they are at the beginning of a run. The seed is not used.

        Args:
            config: the settings.
            seeds: how many are trained in the same memory.
            mesh: the devices to train on; None computes on the default device, whatever the settings say.

        Raises:
            ConfigurationError: if an environment is unknown, both do not fit each other, the agent cannot be built, JAX
                computes in float64, or a method of the task returns what it must not.
        """
        check_float32()
        check_shards(config)
        shards = Shards(config.num_shards, mesh)
        environment, eval_environment = (
            make(name, episode_length=config.episode_length, engine=config.engine, variant=config.variant)
            for name in (config.env, config.eval_env or config.env)
        )
        environment = dataclasses.replace(environment, fixed_goals=config.fixed_goals)
        if mesh is not None:
            environment, eval_environment = (
                dataclasses.replace(each, engine=SpreadEngine(each.engine, mesh))
                for each in (environment, eval_environment)
            )
        if config.overlap:
            _check_overlap(config, environment)
        for each in {id(one.task): one for one in (environment, eval_environment)}.values():
            check_methods(each)
        for size in ("observation_size", "goal_size", "action_size", "discrete_actions"):
            if getattr(environment, size) != getattr(eval_environment, size):
                raise ConfigurationError(
                    f"eval_env {eval_environment.name!r} does not fit env {environment.name!r}: its {size} is "
                    f"{getattr(eval_environment, size)}, not {getattr(environment, size)}"
                )

        def parts_of_depth(depth: int) -> tuple[Agent, Collector]:
            agent = _agent(config, environment, depth, seeds, spread=mesh is not None)
            return agent, _collector(config, environment, agent)

        depth = config.depth_at(Clocks())
        agent, collector = parts_of_depth(depth)
        return cls(
            environment=environment,
            eval_environment=eval_environment,
            agent=agent,
            collector=collector,
            depth=depth,
            replay_capacity=config.replay_capacity,
            gradient_steps_per_round=config.gradient_steps_per_unroll,
            windows=config.replay.windows,
            overlap=config.overlap,
            shards=shards,
            depth_at=config.depth_at,
            parts_of_depth=parts_of_depth,
        )

    def at(self, clocks: Clocks) -> "Setup":
        """Return the setup at a point of the run: this one, unless the networks have another depth there."""
        depth = self.depth_at(clocks)
        if depth == self.depth:
            return self
        agent, collector = self.parts_of_depth(depth)
        return dataclasses.replace(self, agent=agent, collector=collector, depth=depth)


def host_device() -> jax.Device:
    """Return the host as a device of JAX.

    Raises:
        ConfigurationError: if JAX was told to leave it out.
    """
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        raise ConfigurationError(
            f"overlap=True acts on the CPU, which JAX_PLATFORMS={jax.config.values['jax_platforms']} leaves out; "
            "add cpu to it"
        ) from None


def _check_overlap(config: TrainConfig, environment: Environment) -> None:
    """Check that the host steps the environment, so that the device is free to learn."""
    host_device()
    if environment.runs_on_host:
        return
    others = (spec.name for spec in engines_of(environment.task) if spec.runs_on == "host")
    other = next(others, None)
    raise ConfigurationError(
        f"overlap=True has no effect with engine={config.engine!r} of env {environment.name!r}: the device steps it, "
        f"not the host; leave overlap out{f', or take engine={other!r}' if other else ''}"
    )


def architecture_of(config: TrainConfig) -> Architecture:
    """Return the settings of the networks as they are built, at any depth that they grow through."""
    return config.architecture if config.grow is None else config.architecture.growing_to(config.depth)


def _agent(config: TrainConfig, environment: Environment, depth: int, seeds: int, *, spread: bool) -> Agent:
    architecture = architecture_of(config).spread() if spread else architecture_of(config)
    task = environment.task
    problem = Problem(
        name=environment.name,
        observation_size=environment.observation_size,
        goal_size=environment.goal_size,
        action_size=environment.action_size,
        episode_length=environment.episode_length,
        unroll_length=config.unroll_length,
        discrete_actions=environment.discrete_actions,
        success=task.success if environment.has_success else None,
    )

    copies = seeds if config.collector_depth is None else 2 * seeds

    def of_depth(depth: int) -> Agent:
        sizes = (config.batch_size, depth, config.width)
        networks = NetworkSettings(*sizes, architecture, config.optimizer, copies, config.num_shards)
        return make_agent(config.agent, problem, config.agent_settings, networks)

    learner = of_depth(depth)
    return learner if config.collector_depth is None else Tandem(learner, of_depth(config.collector_depth))


def _collector(config: TrainConfig, environment: Environment, agent: Agent) -> Collector:
    if config.collects:
        return EnvironmentCollector(environment, agent, config.num_envs, config.unroll_length)
    return NoCollector(config.num_envs, environment.observation_size, environment.goal_size, environment.action_size)
