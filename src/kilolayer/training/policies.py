"""From runs to policies, and from policies to the environments that they were trained in."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax

from kilolayer.agents import AgentState, Tandem, Teacher, agent_spec
from kilolayer.checkpoint_files import UNTRAINED, find_step, read_again_if_rotated
from kilolayer.envs.names import PARTS, entry_names, told
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.named_arrays import fill
from kilolayer.policies.contract import (
    ActionContract,
    Component,
    Contract,
    EnvironmentContract,
    GoalContract,
    VectorContract,
)
from kilolayer.policies.load import find_artifact
from kilolayer.policies.policy import Policy
from kilolayer.runs.checkpoints import Checkpoints
from kilolayer.runs.clock import Clocks
from kilolayer.runs.config import TrainConfig
from kilolayer.runs.run_directory import RunDirectory
from kilolayer.system import versions as installed_versions
from kilolayer.training.setup import Setup, architecture_of
from kilolayer.training.step import untrained_agent

TANDEM_LEARNERS = ("passive.", "learner.")
"""What the names of the arrays of a tandem's learner begin with: now, and in format 1."""


def policy_of(config: TrainConfig, setup: Setup, agent_state: AgentState, *, clocks: Clocks) -> Policy:
    """Return the policy of an agent in training. It shares the arrays of `agent_state`.

    Args:
        config: settings of the run.
        setup: as it is at this point of the run.
        agent_state: everything that the agent has learnt.
        clocks: how far the run is.
    """
    agent, acting_state = setup.agent.acting(agent_state)
    contract = contract_of(config, setup, env_steps=clocks.env_steps, gradient_steps=clocks.gradient_steps)
    return Policy(contract, agent, acting_state)


def contract_of(
    config: TrainConfig,
    setup: Setup,
    *,
    env_steps: int,
    gradient_steps: int | None,
    versions: Mapping[str, str] | None = None,
) -> Contract:
    """Return the contract of the policy of a run; see `policy_of`.

    Args:
        config: settings of the run.
        setup: as it is at this point of the run.
        env_steps: steps taken in all environments together.
        gradient_steps: gradient steps taken; None if it is not known.
        versions: of the packages that trained the policy; None takes those of this process.
    """
    environment = setup.environment
    names = {part: entry_names(environment.task, part) for part in PARTS}
    return Contract(
        observation=VectorContract(environment.observation_size, names["observation"]),
        goal=GoalContract(environment.goal_size, names["goal"], told(environment.task, "success_text", "success")),
        action=ActionContract(
            environment.action_size,
            names["action"],
            discrete=environment.discrete_actions,
            chunk=setup.agent.executed_actions,
        ),
        environment=EnvironmentContract(
            name=environment.name,
            maze=config.env if "\n" in config.env else None,
            variant=config.variant,
            engine=config.engine,
            episode_length=environment.episode_length,
            control_step=environment.control_step,
        ),
        agent=Component(config.agent, dataclasses.asdict(config.agent_settings)),
        torso=Component(config.torso, dataclasses.asdict(architecture_of(config))),
        depth=setup.depth,
        width=config.width,
        batch_size=config.batch_size,
        unroll_length=config.unroll_length,
        env_steps=env_steps,
        gradient_steps=gradient_steps,
        seed=config.seed,
        versions=dict(installed_versions() if versions is None else versions),
    )


def load_policy(run: str | os.PathLike, *, checkpoint: int | str | None = None) -> Policy:
    """Load the policy of a run, also of one whose checkpoints hold no policy by itself.

    Args:
        run: the run directory.
        checkpoint: the step of the checkpoint, `latest` (as None), `best`, or `untrained`: the networks that the run
            began with, which its settings and seed give.

    Raises:
        RunError: if the directory is not a run, has no such checkpoint, or the checkpoint is damaged.
        ConfigurationError: if a setting of the run is not valid.
    """
    directory = RunDirectory.open(run)
    if checkpoint == UNTRAINED:
        with directory.explain_unknown_names():
            return _untrained_policy(directory.config())

    def read() -> Policy:
        artifact = find_artifact(run, checkpoint)
        if artifact is not None:
            return Policy.read(artifact)
        step = find_step(directory.checkpoints, checkpoint)
        return _read_training_state(directory.config(), directory, step)

    return read_again_if_rotated(directory.checkpoints, read)


def load_anywhere(path: str | os.PathLike, *, checkpoint: int | str | None = None) -> Policy:
    """Load a policy from its own directory, or that of a run; see `load_policy`."""
    artifact = find_artifact(path, checkpoint) if checkpoint != UNTRAINED else None
    return load_policy(path, checkpoint=checkpoint) if artifact is None else Policy.read(artifact)


def describe_teacher(path: str | os.PathLike, checkpoint: int | None, contract: Contract) -> Teacher:
    """Return a policy as the teacher of another run.

    Args:
        path: the directory of a run or of a policy.
        checkpoint: the step of the checkpoint; None for the directory of a policy.
        contract: of the policy.
    """
    return Teacher(
        run=os.fspath(path),
        checkpoint=checkpoint,
        agent=contract.agent.name,
        agent_settings=contract.agent.settings,
        torso=contract.torso.name,
        architecture=contract.torso.settings,
        depth=contract.depth,
        width=contract.width,
    )


def load_teacher(config: TrainConfig) -> Policy | None:
    """Load the policy that a run learns from; None if its agent learns by itself.

    Raises:
        RunError: if it cannot be read.
        ConfigurationError: if it is not the one that the settings describe, or they name none.
    """
    if not agent_spec(config.agent).needs_teacher:
        return None
    teacher = config.agent_settings.teacher
    if teacher is None:
        raise ConfigurationError(
            f"agent={config.agent!r} learns from a trained policy, and {config.agent}.teacher is not set; begin with "
            "`kilolayer distill RUN`, or kilolayer.distill"
        )
    policy = load_anywhere(teacher.run, checkpoint=teacher.checkpoint)
    if describe_teacher(teacher.run, teacher.checkpoint, policy.contract) != teacher:
        raise ConfigurationError(
            f"{config.agent}.teacher: {teacher.run} has other networks than this run was begun with; distil it anew"
        )
    return policy


def taught(config: TrainConfig, setup: Setup, state: AgentState, policy: Policy | None) -> AgentState:
    """Return the state of a new agent with the networks that it learns from, or begins with.

    Args:
        config: settings of the run.
        setup: the parts of the run.
        state: of an agent as `init` returns it.
        policy: what `load_teacher` returned.
    """
    agent: Any = setup.agent
    return state if policy is None else agent.taught_by(state, policy.agent_state)


def load_with_setup(run: str | os.PathLike, *, checkpoint: int | str | None = None) -> tuple[Policy, Setup]:
    """Load the policy of a run, and build what it was trained with, as it was at the checkpoint; see `load_policy`."""
    policy = load_policy(run, checkpoint=checkpoint)
    clocks = Clocks(policy.contract.env_steps, policy.contract.gradient_steps or 0)
    directory = RunDirectory.open(run)
    with directory.explain_unknown_names():
        return policy, Setup.build(directory.config()).at(clocks)


def _untrained_policy(config: TrainConfig) -> Policy:
    setup = Setup.build(config)
    state = taught(config, setup, untrained_agent(setup, config.seed), load_teacher(config))
    return policy_of(config, setup, state, clocks=Clocks(0))


def _read_training_state(config: TrainConfig, directory: RunDirectory, step: int) -> Policy:
    """Take the arrays of the policy from those that training continues from."""
    checkpoints = Checkpoints(directory.checkpoints)
    try:
        clocks = checkpoints.clocks(step) if checkpoints.has_clocks(step) else _clocks_of_row(directory, step)
        arrays = checkpoints.agent_arrays(step)
    finally:
        checkpoints.close()
    with directory.explain_unknown_names():
        setup = Setup.build(config).at(clocks or Clocks(step))
    if isinstance(setup.agent, Tandem):
        learner = next((prefix for prefix in TANDEM_LEARNERS if any(name.startswith(prefix) for name in arrays)), "")
        arrays = {name.removeprefix(learner): value for name, value in arrays.items() if name.startswith(learner)}
    state = jax.eval_shape(setup.agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    agent, template = setup.agent.acting(state)
    try:
        acting_state = fill(template, arrays, others=True)
    except ValueError as error:
        raise RunError(f"checkpoint {directory.checkpoints / str(step)} is damaged ({error})") from error
    contract = contract_of(
        config,
        setup,
        env_steps=clocks.env_steps if clocks else step,
        gradient_steps=clocks.gradient_steps if clocks else None,
        versions=directory.versions(),
    )
    return Policy(contract, agent, acting_state)


def _clocks_of_row(directory: RunDirectory, step: int) -> Clocks | None:
    """Return the clocks of a checkpoint of format 1, from the evaluation that was made with it; None without one."""
    return next((Clocks.of_row(row) for row in directory.metrics() if row.get("env_steps") == step), None)
