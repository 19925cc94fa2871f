"""Ask the registry of agents which ones suit a study."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from kilolayer.agents import Agent, agent_names, agent_specs
from kilolayer.errors import ConfigurationError
from kilolayer.runs import TrainConfig, default_config
from kilolayer.studies.core.study import Case
from kilolayer.training import Setup


def fitting_agents(config: TrainConfig, fits: Callable[[Agent], bool]) -> list[str]:
    """Return the names of the registered agents that can be built for the task of a configuration and that fit.

    Args:
        config: whose task, engine and variant to build the agents for.
        fits: returns whether an agent is suitable.
    """
    found = []
    for name in agent_names():
        with suppress(ConfigurationError):
            own = default_config(config.env, agent=name, engine=config.engine, variant=config.variant)
            if fits(Setup.build(own).agent):
                found.append(name)
    return found


def require_networks(cases: Sequence[Case], networks: Collection[str]) -> None:
    """Validate that the agents of some cases have some networks.

    Raises:
        ConfigurationError: if one lacks one; the line names agents that have them all.
    """
    # The cases of a study have the same settings of the agent, and building one for every task takes long.
    for config in {case.config.agent: case.config for case in cases}.values():
        names = Setup.build(config).agent.parameter_counts()
        if missing := [name for name in networks if name not in names]:
            fitting = fitting_agents(config, lambda agent: set(networks) <= set(agent.parameter_counts()))
            raise ConfigurationError(
                f"agent={config.agent!r} has the networks {', '.join(names)} and no {', '.join(missing)}; take "
                f"agent={' or '.join(fitting)}"
            )


def require_settings(case: Case, names: Collection[str]) -> None:
    """Validate that the agent of a case has some settings.

    Raises:
        ConfigurationError: if it lacks one; the line names agents that have them all.
    """
    settings = {spec.name: {field.name for field in dataclasses.fields(spec.settings)} for spec in agent_specs()}
    agent = case.config.agent
    if missing := [name for name in names if name not in settings[agent]]:
        fitting = [name for name, own in settings.items() if set(names) <= own]
        raise ConfigurationError(
            f"agent={agent!r} has no setting {' and no '.join(missing)}; take agent={' or '.join(fitting)}"
        )
