"""`kilolayer bench`: measure speed. Each row is printed as soon as it is measured."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from kilolayer.bench import bench_act, bench_env, bench_replay, bench_seeds, bench_step
from kilolayer.bench.env import TASKS
from kilolayer.bench.seeds import CASES
from kilolayer.cli.options import parse
from kilolayer.cli.output import command_asked
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.files import json_text
from kilolayer.nn import ResidualArchitecture
from kilolayer.system import describe_system

Log = Callable[[str], object]
Columns = dict[str, Callable[[Any], str]]
"""For each heading the text of a row under it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of all benchmarks."""

    json: bool = False
    """Print one JSON object at the end: command, system and rows."""

    def __post_init__(self) -> None:
        """Validate numbers.

        Raises:
            ConfigurationError: for a number below 1.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and value < 1:
                raise ConfigurationError(f"{field.name}={value} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvBench(BenchOptions):
    """Measure env steps per second: rollouts with a policy, bare physics, and Brax's spring pipeline."""

    tasks: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Environments with a robot, one flag each; none takes ant, humanoid and arm_push_easy."""
    engines: tuple[str, ...] | None = None
    """Engines to compare; None takes mujoco, and spring where it can run the task."""
    num_envs: int = 512
    """Robots side by side."""
    num_steps: int = 50
    """Control steps of each robot in a round."""
    rounds: int = 5
    """Rounds to take the median of; all sides take turns in each."""
    depth: int = 4
    """Depth of the actor."""
    width: int = 256
    """Width of the actor."""

    def rows(self, log: Log) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("json", "tasks")}
        return bench_env(self.tasks or TASKS, **settings, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
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
    """Measure by depth the time to trace and to compile the gradient step, and the memory of that."""

    depths: str = "4,64,1024"
    """Depths of actor and critic."""
    width: int = 256
    """Width of all networks."""
    batch_size: int = 512
    """State-action pairs in a gradient step."""
    against: Literal["none", "naive"] = "none"
    """naive: measure a straightforward, unrolled implementation of the same step too."""
    naive_depths: str | None = None
    """Depths of the naive form; None takes those of --depths up to 64: beyond, it needs minutes and gigabytes."""
    architecture: ResidualArchitecture = ResidualArchitecture()

    def rows(self, log: Log, **settings: Any) -> Iterable[Any]:
        """Return an iterator over the measurements."""
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
            log=log,
        )

    def columns(self) -> Columns:
        """Return the columns of the table."""
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
    """Measure the gradient step by depth: time to compile and to run it, the floor of that time, and memory."""

    steps: int = 5
    """Gradient steps in a call, as a scan."""
    rounds: int = 5
    """Timed calls."""

    def rows(self, log: Log, **settings: Any) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return super().rows(log, compile_only=False, steps=self.steps, rounds=self.rounds)

    def columns(self) -> Columns:
        """Return the columns of the table."""
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
    """Measure the time to draw hindsight batches from a full replay buffer of the paper's size."""

    rounds: int = 5
    """Rounds to take the median of."""
    against: Literal["none", "naive"] = "none"
    """naive: measure relabelling one window per environment too, which takes about 8 GiB."""

    def rows(self, log: Log) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return bench_replay(rounds=self.rounds, against_naive=self.against == "naive", log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
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
    """Measure compiled policies on one CPU core by precision: time per action, and error against float32."""

    depths: str = "64,1024"
    """Depths of the actor."""
    width: int = 256
    """Width of the actor."""
    batch: int = 1
    """Observations in a call."""
    calls: int = 200
    """Timed calls."""

    def rows(self, log: Log) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        depths = numbers("depths", self.depths)
        return bench_act(depths, width=self.width, batch=self.batch, calls=self.calls, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedsBench(BenchOptions):
    """Measure several seeds trained side by side, by threads and by vmap, against one seed after another."""

    cases: str = ",".join(CASES)
    """Cases, by environment, depth and width."""
    seeds: int = 4
    """Seeds to train."""
    rounds: int = 3
    """Rounds to take the median of; all modes take turns in each."""

    def rows(self, log: Log) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return bench_seeds(self.cases.split(","), seeds=self.seeds, rounds=self.rounds, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "case": lambda row: row.case,
            "mode": lambda row: row.mode,
            "seeds": lambda row: str(row.seeds),
            "train s": lambda row: f"{row.train_seconds:.1f}",
            "train ratio": lambda row: f"{row.train_seconds_ratio:.2f}x",
            "step s": lambda row: f"{row.step_seconds:.3f}",
            "step ratio": lambda row: f"{row.step_seconds_ratio:.2f}x",
        }


LEFT = {
    "form": 16,
    "case": 12,
    "mode": 7,
    "task": 14,
    "variant": 7,
    "engine": 8,
    "kind": 7,
    "remat": 10,
    "precision": 9,
}
"""Columns of words with their least widths; all other columns hold numbers."""

NUMBER_WIDTH = 6

BENCHES: dict[str, type[Any]] = {
    "step": StepBench,
    "compile": CompileBench,
    "replay": ReplayBench,
    "env": EnvBench,
    "act": ActBench,
    "seeds": SeedsBench,
}


def numbers(name: str, text: str) -> tuple[int, ...]:
    """Parse integers with commas between them.

    Raises:
        ConfigurationError: for any other text.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(f"{name}={text!r} must be numbers with commas between them, such as 4,64") from None


def table_lines(columns: Columns, rows: Iterable[Any]) -> Iterator[str]:
    """Yield the headings with the first row, then each row as it comes, as aligned lines.

    A cell that is wider than the first row's moves the rest of its own line.
    """
    widths: dict[str, int] = {}

    def line(texts: Iterable[str]) -> str:
        cells = zip(widths.items(), texts, strict=True)
        return "  ".join(
            f"{text:<{width}}" if name in LEFT else f"{text:>{width}}" for (name, width), text in cells
        ).rstrip()

    for row in rows:
        texts = [cell(row) for cell in columns.values()]
        if not widths:
            widths |= {
                name: max(len(name), len(text), LEFT.get(name, NUMBER_WIDTH))
                for name, text in zip(columns, texts, strict=True)
            }
            yield line(columns)
        yield line(texts)


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: kilolayer bench {{{','.join(BENCHES)}}} [options]\n")
        for name, bench in BENCHES.items():
            print(f"  {name:8} {(bench.__doc__ or '').splitlines()[0]}")
        return 0
    if arguments[0] not in BENCHES:
        raise ConfigurationError(f"bench {arguments[0]!r} is unknown; {nearest_names(arguments[0], BENCHES)}")
    options = parse(BENCHES[arguments[0]], arguments[1:], command=f"bench {arguments[0]}")
    with Console(stderr=True).status("") as status:
        rows = options.rows(status.update)
        if options.json:
            found = [dataclasses.asdict(row) for row in rows]
        else:
            for line in table_lines(options.columns(), rows):
                status.stop()  # the status line is on the same terminal
                print(line, flush=True)
                status.start()
    if options.json:
        print(json_text({"command": command_asked("bench", *arguments), "system": describe_system(), "rows": found}))
    return 0
