"""What a configuration amounts to: environments and agent, built and fitting each other."""

import dataclasses

from kilolayer.agents import Agent, NetworkSettings, Problem, Tandem, make_agent
from kilolayer.envs import Environment, make
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture
from kilolayer.runs.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts of a run that do not change while it trains; with `grow`, until the networks grow."""

    config: TrainConfig
    environment: Environment
    eval_environment: Environment
    agent: Agent
    depth: int
    """Of the agent's networks."""

    @classmethod
    def build(cls, config: TrainConfig) -> "Setup":
        """Build environments and agent; the agent as it is at env step 0.

        Raises:
            ConfigurationError: if an environment is unknown, both do not fit each other, or the agent cannot be built.
        """
        environment, eval_environment = (
            make(name, episode_length=config.episode_length, engine=config.engine, variant=config.variant)
            for name in (config.env, config.eval_env or config.env)
        )
        for size in ("observation_size", "goal_size", "action_size", "discrete_actions"):
            if getattr(environment, size) != getattr(eval_environment, size):
                raise ConfigurationError(
                    f"eval_env {eval_environment.name!r} does not fit env {environment.name!r}: its {size} is "
                    f"{getattr(eval_environment, size)}, not {getattr(environment, size)}"
                )
        depth = config.depth_at(0)
        return cls(config, environment, eval_environment, _agent(config, environment, depth), depth)

    def at(self, env_steps: int) -> "Setup":
        """Return the setup after so many env steps: this one, but where the networks have another depth by then."""
        depth = self.config.depth_at(env_steps)
        if depth == self.depth:
            return self
        return dataclasses.replace(self, agent=_agent(self.config, self.environment, depth), depth=depth)


def architecture_of(config: TrainConfig) -> Architecture:
    """Return the settings of the networks as they are built, at any depth that they grow through."""
    return config.architecture if config.grow is None else config.architecture.growing_to(config.depth)


def _agent(config: TrainConfig, environment: Environment, depth: int) -> Agent:
    architecture = architecture_of(config)
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

    def of_depth(depth: int) -> Agent:
        networks = NetworkSettings(config.batch_size, depth, config.width, architecture, config.optimizer)
        return make_agent(config.agent, problem, config.agent_settings, networks)

    learner = of_depth(depth)
    return learner if config.collector_depth is None else Tandem(learner, of_depth(config.collector_depth))
