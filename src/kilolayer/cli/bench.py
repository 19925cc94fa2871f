"""`kilolayer bench`: measure speed."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.bench import Speed, bench_env
from kilolayer.bench.env import TASKS
from kilolayer.cli.options import parse
from kilolayer.errors import ConfigurationError, nearest_names

BENCHES = ("env",)


@dataclasses.dataclass(frozen=True)
class EnvBenchOptions:
    """Measure env steps per second: rollouts with a policy, beside bare physics and beside Brax's spring pipeline."""

    tasks: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Environments of robots, one flag each; none takes ant, humanoid and arm_push_easy."""
    engines: tuple[str, ...] = ("mujoco", "spring")
    """Engines to time beside each other."""
    num_envs: int = 512
    """Robots side by side."""
    num_steps: int = 50
    """Control steps of each robot in a round."""
    rounds: int = 5
    """Rounds to take the median of; all sides run in turn within each."""
    depth: int = 4
    """Depth of the actor."""
    width: int = 256
    """Width of the actor."""
    json: bool = False
    """Print a JSON list of objects."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: kilolayer bench {{{','.join(BENCHES)}}} [options]")
        return 0
    if arguments[0] not in BENCHES:
        raise ConfigurationError(f"bench {arguments[0]!r} is unknown; {nearest_names(arguments[0], BENCHES)}")
    options = parse(EnvBenchOptions, arguments[1:], command="bench env")
    for name in ("num_envs", "num_steps", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"{name}={getattr(options, name)} must be at least 1")
    with Console(stderr=True).status("") as status:
        rows = list(
            bench_env(
                options.tasks or TASKS,
                engines=options.engines,
                num_envs=options.num_envs,
                num_steps=options.num_steps,
                rounds=options.rounds,
                depth=options.depth,
                width=options.width,
                tell=status.update,
            )
        )
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    Console().print(_table(rows))
    return 0


def _table(rows: list[Speed]) -> Table:
    table = Table("task", "variant", "engine", "kind", box=None, header_style="bold")
    for column in ("env steps/s", "of bare MuJoCo", "MuJoCo rollout is", "compile s"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.task,
            row.variant,
            row.engine,
            row.kind,
            f"{row.env_steps_per_second:,.0f}",
            "" if row.ratio_to_bare is None else f"{row.ratio_to_bare:.0%}",
            "" if row.rollout_ratio is None else f"{row.rollout_ratio:.2f}x",
            f"{row.compile_seconds:.1f}",
        )
    return table
