"""`kilolayer bench`: measure speed."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.bench import bench_act, bench_env, bench_replay, bench_step
from kilolayer.bench.env import TASKS
from kilolayer.cli.options import parse
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.nn import ResidualArchitecture

Tell = Callable[[str], object]
Columns = dict[str, Callable[[Any], str]]
"""Headings, and what a row has under each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What all benchmarks share."""

    json: bool = False
    """Print a JSON list of objects."""

    def __post_init__(self) -> None:
        """Refuse numbers below one.

        Raises:
            ConfigurationError: naming the field and its value.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise ConfigurationError(f"{field.name}={value} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvBench(BenchOptions):
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

    def rows(self, tell: Tell) -> Iterable[Any]:
        """Measure."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("json", "tasks")}
        return bench_env(self.tasks or TASKS, **settings, tell=tell)

    def columns(self) -> Columns:
        """Lay out the table."""
        return {
            "task": lambda row: row.task,
            "variant": lambda row: row.variant,
            "engine": lambda row: row.engine,
            "kind": lambda row: row.kind,
            "env steps/s": lambda row: f"{row.env_steps_per_second:,.0f}",
            "of bare MuJoCo": lambda row: "" if row.ratio_to_bare is None else f"{row.ratio_to_bare:.0%}",
            "MuJoCo rollout is": lambda row: "" if row.rollout_ratio is None else f"{row.rollout_ratio:.2f}x",
            "compile s": lambda row: f"{row.compile_seconds:.1f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileBench(BenchOptions):
    """Measure by depth what the gradient step takes to trace and to compile, and how much memory that needs."""

    depths: str = "4,64,1024"
    """Depths of actor and critic."""
    width: int = 256
    """Width of all networks."""
    batch_size: int = 512
    """State-actions in a gradient step."""
    against: Literal["none", "naive"] = "none"
    """naive: measure a straightforward, unrolled implementation of the same step too."""
    naive_depths: str | None = None
    """Depths of the naive form; None takes those of --depths up to 64: beyond, it needs minutes and gigabytes."""
    architecture: ResidualArchitecture = ResidualArchitecture()

    def rows(self, tell: Tell, **settings: Any) -> Iterable[Any]:
        """Measure."""
        depths = numbers("depths", self.depths)
        naive_depths = tuple(depth for depth in depths if depth <= 64)
        if self.naive_depths is not None:
            naive_depths = numbers("naive_depths", self.naive_depths)
        return bench_step(
            depths,
            width=self.width,
            batch_size=self.batch_size,
            architecture=self.architecture,
            naive_depths=naive_depths if self.against == "naive" else (),
            **{"compile_only": True, **settings},
            tell=tell,
        )

    def columns(self) -> Columns:
        """Lay out the table."""
        return {
            "form": lambda row: row.form,
            "depth": lambda row: str(row.depth),
            "width": lambda row: str(row.width),
            "batch": lambda row: str(row.batch_size),
            "remat": lambda row: row.remat,
            "trace s": lambda row: f"{row.trace_seconds:.2f}",
            "compile s": lambda row: f"{row.compile_seconds:.2f}",
            "peak GiB": lambda row: f"{row.peak_bytes / 2**30:.2f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepBench(CompileBench):
    """Measure the gradient step by depth: compiling it, running it, the floor below its time, and its memory."""

    steps: int = 5
    """Gradient steps in a call, as a scan."""
    rounds: int = 5
    """Calls to time."""

    def rows(self, tell: Tell, **settings: Any) -> Iterable[Any]:
        """Measure."""
        return super().rows(tell, compile_only=False, steps=self.steps, rounds=self.rounds)

    def columns(self) -> Columns:
        """Lay out the table."""
        return {
            **super().columns(),
            "step ms": lambda row: f"{1e3 * row.step_seconds:.1f}",
            "median ms": lambda row: f"{1e3 * row.median_seconds:.1f}",
            "floor ms": lambda row: f"{1e3 * row.floor_seconds:.1f}",
            "of floor": lambda row: f"{row.step_seconds / row.floor_seconds:.2f}x",
            "GFLOP/s": lambda row: f"{row.matrix_gflops:,.0f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayBench(BenchOptions):
    """Measure drawing hindsight batches from a full replay buffer of the paper's size."""

    rounds: int = 5
    """Rounds to take the median of."""
    against: Literal["none", "naive"] = "none"
    """naive: measure relabelling one window per environment too, which takes about 8 GiB."""

    def rows(self, tell: Tell) -> Iterable[Any]:
        """Measure."""
        return bench_replay(rounds=self.rounds, against_naive=self.against == "naive", tell=tell)

    def columns(self) -> Columns:
        """Lay out the table."""
        return {
            "form": lambda row: row.form,
            "batches": lambda row: f"{row.num_batches} x {row.batch_size}",
            "all batches s": lambda row: f"{row.step_seconds * row.num_batches:.3f}",
            "a batch us": lambda row: f"{1e6 * row.step_seconds:,.1f}",
            "floor us": lambda row: f"{1e6 * row.floor_seconds:.1f}",
            "compile s": lambda row: f"{row.compile_seconds:.2f}",
            "scratch GiB": lambda row: "" if row.scratch_bytes is None else f"{row.scratch_bytes / 2**30:.2f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActBench(BenchOptions):
    """Measure compiled policies on one CPU core: time per action and its error against float32, by precision."""

    depths: str = "64,1024"
    """Depths of the actor."""
    width: int = 256
    """Width of the actor."""
    batch: int = 1
    """Observations in a call."""
    calls: int = 200
    """Calls to time."""

    def rows(self, tell: Tell) -> Iterable[Any]:
        """Measure."""
        depths = numbers("depths", self.depths)
        return bench_act(depths, width=self.width, batch=self.batch, calls=self.calls, tell=tell)

    def columns(self) -> Columns:
        """Lay out the table."""
        return {
            "depth": lambda row: str(row.depth),
            "width": lambda row: str(row.width),
            "batch": lambda row: str(row.batch_size),
            "precision": lambda row: row.precision,
            "ms": lambda row: f"{1e3 * row.step_seconds:.2f}",
            "99 % ms": lambda row: f"{1e3 * row.slowest:.2f}",
            "actions/s": lambda row: f"{row.batch_size / row.step_seconds:,.0f}",
            "floor ms": lambda row: f"{1e3 * row.floor_seconds:.2f}",
            "MiB read": lambda row: f"{row.weight_bytes / 2**20:.1f}",
            "largest error": lambda row: f"{row.largest_action_error:.1e}",
            "float32 takes": lambda row: "" if row.float32_ratio is None else f"{row.float32_ratio:.2f}x",
            "compile s": lambda row: f"{row.compile_seconds:.1f}",
        }


TABLE_WIDTH = 130

LEFT = ("form", "task", "variant", "engine", "kind", "remat", "precision")
"""Columns of words."""

BENCHES: dict[str, type[EnvBench] | type[CompileBench] | type[ReplayBench] | type[ActBench]] = {
    "step": StepBench,
    "compile": CompileBench,
    "replay": ReplayBench,
    "env": EnvBench,
    "act": ActBench,
}


def numbers(name: str, text: str) -> tuple[int, ...]:
    """Read depths as the command line has them.

    Raises:
        ConfigurationError: if the text is not numbers with commas between them.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(f"{name}={text!r} must be numbers with commas between them, such as 4,64") from None


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: kilolayer bench {{{','.join(BENCHES)}}} [options]\n")
        for name, bench in BENCHES.items():
            print(f"  {name:8} {(bench.__doc__ or '').splitlines()[0]}")
        return 0
    if arguments[0] not in BENCHES:
        raise ConfigurationError(f"bench {arguments[0]!r} is unknown; {nearest_names(arguments[0], BENCHES)}")
    options = parse(BENCHES[arguments[0]], arguments[1:], command=f"bench {arguments[0]}")
    with Console(stderr=True).status("") as status:
        rows = list(options.rows(status.update))
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    table = Table(box=None, header_style="bold")
    for heading in options.columns():
        table.add_column(heading, justify="left" if heading in LEFT else "right")
    for row in rows:
        table.add_row(*(cell(row) for cell in options.columns().values()))
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a line that is too long is better than figures cut short
    console.print(table)
    return 0
