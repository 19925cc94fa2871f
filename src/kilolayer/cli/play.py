"""`kilolayer play`: look at a robot live, before and after training; or let it run unseen and print what it does."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from kilolayer.agents import ActionMode
from kilolayer.cli.episodes import EpisodeOptions
from kilolayer.cli.options import parse
from kilolayer.cli.output import complain
from kilolayer.envs import Environment, make, registry
from kilolayer.envs.gym import GymEnvironment
from kilolayer.envs.registry import Variant
from kilolayer.errors import ConfigurationError
from kilolayer.files import json_text
from kilolayer.policies import Policy
from kilolayer.render.play import (
    LOOPBACK,
    PORT,
    Actions,
    Played,
    PlayServer,
    Session,
    check_address,
    is_loopback,
    play_headless,
)
from kilolayer.report.floor import value_floor
from kilolayer.runs import RunDirectory
from kilolayer.runs.option_types import OptionalEngineOption
from kilolayer.settings import check_count, check_seed
from kilolayer.training.evaluation import remarks
from kilolayer.training.memory import check_episodes_fit

SHOWN = ("time_at_goal", "success_any", "distance_moved", "episode_length")
"""Metrics that are printed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlayOptions:
    """Look at a robot live: a page on this machine, in which its goal can be dragged and its actions are those of the
    policy, zero or random. An environment alone shows the robot before it is trained.

    With --headless there is no page: episodes are run, and the command prints what they came to.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV|RUN")]
    """Environment, path of a maze file, or run directory."""

    actions: Actions | None = None
    """What chooses the actions; None takes the policy of a run, and random ones of an environment alone."""
    headless: int | None = None
    """Run so many episodes without a page, and print the means."""
    speed: float = 1.0
    """Times as fast as it happens, at first: 0.25, 0.5, 1, 2, 4 or 8."""
    seed: int = 0
    """Seed of all randomness: starts, goals and actions."""
    env: str | None = None
    """Environment to see it in, with a run; None takes the run's evaluation environment."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps; or untrained. With a run; None takes the latest."""
    mode: ActionMode | None = None
    """How actions are chosen by the policy of a run; None takes deterministic."""
    engine: OptionalEngineOption = None
    """Physics engine; None takes the run's, or the one that suits the machine."""
    variant: Variant | None = None
    """Variant of the task, of an environment alone; None takes default."""
    robot: str | None = None
    """With a maze file as ENV: the robot in the maze."""
    host: str = LOOPBACK
    """Name or address of this machine to listen on; any but 127.0.0.1 lets others reach the page."""
    port: int = PORT
    """Port of the page; 0 takes any free one."""
    json: bool = False
    """Print JSON, with --headless: one object."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    options = parse(PlayOptions, arguments, command="play")
    check_seed(options.seed)
    if options.headless is not None:
        check_count("headless", options.headless)
        _without_a_page(options)
    elif options.json:
        raise ConfigurationError("--json has no effect on a page; add --headless EPISODES")
    else:
        check_address(options.host, options.port)
    policy, environment = _load(options)
    if options.headless is not None:
        return _headless(options, policy, environment, options.headless)
    return _page(options, policy, environment)


def _load(options: PlayOptions) -> tuple[Policy | None, Environment]:
    """Return the policy, if there is one, and the environment."""
    if _is_run(options.target):
        _only_for(options, "an environment", "variant", "robot")
        return EpisodeOptions(
            run=Path(options.target),
            env=options.env,
            engine=options.engine,
            mode=options.mode or "deterministic",
            checkpoint=options.checkpoint or "latest",
            seed=options.seed,
            episodes=options.headless or 1,
        ).load()
    _only_for(options, "a run", "env", "checkpoint", "mode")
    environment = make(
        options.target, engine=options.engine or "auto", variant=options.variant or "default", robot=options.robot
    )
    check_episodes_fit(environment, options.headless or 1)
    return None, environment


def _is_run(target: str) -> bool:
    """Return whether something is the path of a run, and no environment."""
    if "\n" in target or registry.is_maze_file(target) or target in registry.names():
        return False
    path = Path(target)
    if path.is_dir():
        return True
    if len(path.parts) > 1 and not target.startswith(("gym:", "ogbench:")):
        RunDirectory.open(path)  # says what is missing
    return False


def _only_for(options: PlayOptions, what: str, *fields: str) -> None:
    for field in fields:
        if getattr(options, field) is not None:
            raise ConfigurationError(
                f"--{field} {getattr(options, field)} is for {what}, and {options.target} is none; leave it out"
            )


def _without_a_page(options: PlayOptions) -> None:
    """Refuse options that change nothing without a page."""
    for field in dataclasses.fields(options):
        given = getattr(options, field.name)
        if field.name in ("speed", "host", "port") and given != field.default:
            raise ConfigurationError(f"--{field.name} {given} is for the page, which --headless leaves out")
    if options.mode is not None and options.actions not in (None, "policy"):
        raise ConfigurationError(f"--mode {options.mode} is for --actions policy; leave it out")


def _headless(options: PlayOptions, policy: Policy | None, environment: Environment, episodes: int) -> int:
    played = play_headless(
        environment,
        policy,
        actions=options.actions,
        num_episodes=episodes,
        mode=options.mode or "deterministic",
        seed=options.seed,
    )
    if options.json:
        about: dict[str, Any] = {"env": environment.name, "episodes": episodes, "actions": played.actions}
        about |= {} if policy is None else {"env_steps": policy.env_steps}
        print(json_text(about | {"distance_unit": played.unit} | played.metrics))
        return 0
    print(f"{environment.name}, {episodes} episodes, {_who(played, policy)}")
    for name in SHOWN:
        error = played.metrics[f"eval/{name}_stderr"]
        unit = f" {played.unit}" if name == "distance_moved" and played.unit else ""
        print(f"  {name:15} {played.metrics[f'eval/{name}']:9.3f}{'' if episodes == 1 else f' ± {error:.3f}'}{unit}")
    for remark in remarks(played.metrics):
        print(remark)
    return 0


def _who(played: Played, policy: Policy | None) -> str:
    if played.actions == "policy":
        assert policy is not None
        return f"policy at checkpoint {policy.env_steps:,}"
    return f"{played.actions} actions"


def _page(options: PlayOptions, policy: Policy | None, environment: Environment) -> int:
    if isinstance(environment, GymEnvironment):
        raise ConfigurationError(
            f"{environment.name} draws itself, and has no 3-D page; take --headless EPISODES, or `kilolayer render` "
            "for a film of a run in it"
        )
    session = Session(
        environment,
        policy,
        actions=options.actions,
        mode=options.mode or "deterministic",
        speed=options.speed,
        seed=options.seed,
        floor=None if policy is None else value_floor(policy, environment),
    )
    with PlayServer(session, host=options.host, port=options.port) as server, session:
        if not is_loopback(options.host):
            complain(
                f"kilolayer: warning: host {options.host}: whoever can reach this machine and knows the address below "
                "can drive the robot; the connection is not encrypted"
            )
        elsewhere = f", or {server.address_elsewhere} on another one" if server.address_elsewhere else ""
        complain(f"Open this address in a browser on this machine{elsewhere}. Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):  # from the moment on at which the address is known
            print(f"{environment.name}: {server.address}", flush=True)
            session.join()
    return 0
