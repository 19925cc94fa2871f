"""Options and columns of each benchmark of `kilolayer bench`."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kilolayer.bench import (
    bench_act,
    bench_agents,
    bench_env,
    bench_gpu,
    bench_gym,
    bench_replay,
    bench_seeds,
    bench_step,
)
from kilolayer.bench.env import TASKS
from kilolayer.bench.gym import ENVS
from kilolayer.bench.seeds import CASES
from kilolayer.cli.lists import Numbers, OptionalNumbers, OptionalWords, Seeds, Words
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.progress import Activity

Columns = dict[str, Callable[[Any], str]]
"""For each heading the text of a row under it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of all benchmarks."""

    json: bool = False
    """Print JSON: one object at the end, with command, system and rows."""

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

    envs: Words = TASKS
    """Environments, such as reacher,ant, with a robot."""
    engines: OptionalWords = None
    """Physics engines, such as mujoco,mjx, to compare; None takes mujoco, and spring where it can run the task."""
    num_envs: int = 512
    """Environments in parallel."""
    num_steps: int = 50
    """Steps of each environment in a round."""
    rounds: int = 5
    """Rounds to take the median of; all sides take turns in each."""
    depth: int = 4
    """Dense layers inside the residual blocks of the actor."""
    width: int = 256
    """Units of a layer of the actor."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("json", "envs")}
        return bench_env(self.envs, **settings, log=log)

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
class GymBench(BenchOptions):
    """Measure env steps per second of gymnasium.make_vec against the library's own rollout."""

    envs: Words = ENVS
    """Environments, such as reacher,ant."""
    num_envs: int = 256
    """Environments in parallel."""
    num_steps: int = 200
    """Steps of each environment in a round."""
    rounds: int = 5
    """Rounds to take the median of; both sides take turns in each."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        sizes = {"num_envs": self.num_envs, "num_steps": self.num_steps, "rounds": self.rounds}
        return bench_gym(self.envs, **sizes, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "task": lambda row: row.env,
            "envs": lambda row: str(row.num_envs),
            "own steps/s": lambda row: f"{row.own_steps_per_second:,.0f}",
            "make_vec steps/s": lambda row: f"{row.gym_steps_per_second:,.0f}",
            "of own": lambda row: f"{row.ratio:.0%}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSizes(BenchOptions):
    """Options of the benchmarks of a gradient step."""

    depths: Numbers = (4, 64, 1024)
    """Depths, such as 4,16,64, of actor and critic."""
    width: int = 256
    """Units of a layer."""
    batch_size: int = 512
    """State-action pairs of a gradient step."""
    naive_depths: OptionalNumbers = None
    """Depths of the naive form; None takes those of --depths up to 64: beyond, it needs minutes and gigabytes."""
    architecture: ResidualArchitecture = ResidualArchitecture()

    def measured(self, log: Activity, *, naive: bool, torch: bool = False, **settings: Any) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        shallow = tuple(depth for depth in self.depths if depth <= 64)
        naive_depths = shallow if self.naive_depths is None else self.naive_depths
        return bench_step(
            self.depths,
            width=self.width,
            batch_size=self.batch_size,
            architecture=self.architecture,
            naive_depths=naive_depths if naive else (),
            torch_depths=shallow if torch else (),
            **settings,
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
            "chain": lambda row: row.chain,
            "trace s": lambda row: f"{row.trace_seconds:.2f}",
            "compile s": lambda row: f"{row.compile_seconds:.2f}",
            "peak GiB": lambda row: f"{row.peak_bytes / 2**30:.2f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileBench(StepSizes):
    """Measure by depth the time to trace and to compile the gradient step, and the memory of that."""

    against: Literal["none", "naive"] = "none"
    """Measured beside it: naive, a straightforward, unrolled implementation of the same step."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return self.measured(log, naive=self.against == "naive", compile_only=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepBench(StepSizes):
    """Measure the gradient step by depth: time to compile and to run it, the floor of that time, and memory."""

    against: Literal["none", "naive", "torch", "both"] = "none"
    """Measured beside it, in turn, up to depth 64: naive, a straightforward, unrolled implementation of the same step;
    torch, the same in PyTorch, on a GPU also as one CUDA graph; or both."""
    gradient_steps: int = 5
    """Gradient steps in a call, as a scan."""
    rounds: int = 5
    """Rounds, of a timed call each."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        naive, torch = (self.against in (name, "both") for name in ("naive", "torch"))
        return self.measured(log, naive=naive, torch=torch, steps=self.gradient_steps, rounds=self.rounds)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            **super().columns(),
            "step ms": lambda row: f"{1e3 * row.step_seconds:.2f}",
            "median ms": lambda row: f"{1e3 * row.median_seconds:.2f}",
            "times first": lambda row: "" if row.ratio is None else f"{row.ratio:.2f}x",
            "floor ms": lambda row: f"{1e3 * row.floor_seconds:.2f}",
            "of floor": lambda row: f"{row.step_seconds / row.floor_seconds:.2f}x",
            "GFLOP/s": lambda row: f"{row.matrix_gflops:,.0f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayBench(BenchOptions):
    """Measure the time to draw hindsight batches and survival labels from a replay buffer of the paper's size."""

    rounds: int = 5
    """Rounds to take the median of."""
    against: Literal["none", "naive"] = "none"
    """Measured beside it: naive, relabelling one window per environment, which takes about 8 GiB."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return bench_replay(rounds=self.rounds, against_naive=self.against == "naive", log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "form": lambda row: row.form,
            "batches": lambda row: f"{row.num_batches} x {row.batch_size}",
            "all batches s": lambda row: f"{row.step_seconds * row.num_batches:.3f}",
            "a batch us": lambda row: f"{1e6 * row.step_seconds:,.1f}",
            "times contrastive": lambda row: "" if row.contrastive_ratio is None else f"{row.contrastive_ratio:.1f}x",
            "floor us": lambda row: f"{1e6 * row.floor_seconds:.1f}",
            "compile s": lambda row: f"{row.compile_seconds:.2f}",
            "scratch GiB": lambda row: "" if row.scratch_bytes is None else f"{row.scratch_bytes / 2**30:.2f}",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActBench(BenchOptions):
    """Measure policies on one CPU core, of the library and in ONNX Runtime: time per action, and error of float32."""

    depths: Numbers = (64, 1024)
    """Depths, such as 4,16,64, of the actor."""
    width: int = 256
    """Units of a layer of the actor."""
    observations: int = 1
    """Observations in a call."""
    calls: int = 1000
    """Timed calls."""
    runtimes: OptionalWords = None
    """What runs the policy, such as library,onnxruntime; None takes both, if the extra `export` is installed."""
    load: bool = False
    """Measure beside a busy neighbour on the same core."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        settings: dict[str, Any] = {"runtimes": self.runtimes, "load": self.load, "calls": self.calls}
        return bench_act(self.depths, width=self.width, batch=self.observations, **settings, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "depth": lambda row: str(row.depth),
            "width": lambda row: str(row.width),
            "batch": lambda row: str(row.batch_size),
            "runtime": lambda row: row.runtime,
            "precision": lambda row: row.precision,
            "ms": lambda row: f"{1e3 * row.step_seconds:.2f}",
            "99 % ms": lambda row: f"{1e3 * row.slowest:.2f}",
            "99.9 % ms": lambda row: f"{1e3 * row.slowest_of_thousand:.2f}",
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

    cases: Words = tuple(CASES)
    """Cases, by environment, depth and width."""
    seeds: Seeds = (0, 1, 2, 3)
    """Seeds, such as 0..7 or 0,3,5, to train."""
    rounds: int = 3
    """Rounds to take the median of; all modes take turns in each."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return bench_seeds(self.cases, seeds=self.seeds, rounds=self.rounds, log=log)

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentsBench(BenchOptions):
    """Measure the gradient step of every agent against that of CRL, at equal depth, width and batch."""

    depth: int = 4
    """Dense layers inside the residual blocks of every network."""
    width: int = 256
    """Units of a layer."""
    batch_size: int = 512
    """State-action pairs of a gradient step."""
    rounds: int = 5
    """Rounds to take the median of; all agents take turns in each."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        sizes = {"depth": self.depth, "width": self.width, "batch_size": self.batch_size}
        return bench_agents(**sizes, rounds=self.rounds, log=log)

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "agent": lambda row: row.agent,
            "settings": lambda row: ", ".join(f"{name}={value}" for name, value in row.settings.items()),
            "depth": lambda row: str(row.depth),
            "batch": lambda row: str(row.batch_size),
            "step ms": lambda row: f"{1e3 * row.step_seconds:.2f}",
            "to crl": lambda row: f"{row.ratio:.2f}x",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuBench(BenchOptions):
    """Measure what decides about training on a GPU, the most valuable first, within a budget of time."""

    budget: float = 400.0
    """Seconds. What does not fit is left out, and named."""
    parts: Words = ()
    """What to measure, such as step,act, in this order; none takes all: step (a gradient step by depth, beside the
    naive one, and beside PyTorch if it is installed), round (a round of training by engine), forms (other chains and
    kernels of the step), physics (by engine), act, start (seconds until the first gradient step), spread (one step in
    five processes)."""
    results: Path = Path("runs") / "bench"
    """Directory for results: gpu.jsonl, to which each row is appended as soon as it is measured."""

    def rows(self, log: Activity) -> Iterable[Any]:
        """Return an iterator over the measurements."""
        return bench_gpu(
            self.budget, train_command=train_command, parts=self.parts, results=self.results, log=log, note=log.note
        )

    def columns(self) -> Columns:
        """Return the columns of the table."""
        return {
            "part": lambda row: row.part,
            "what": lambda row: row.what,
            "depth": lambda row: _text(row.depth, "d"),
            "batch": lambda row: _text(row.batch_size, "d"),
            "width": lambda row: _text(row.width, "d"),
            "ms": lambda row: _text(row.seconds, ".2f", 1e3),
            "per second": lambda row: _text(row.per_second, ",.0f"),
            "ratio": lambda row: _text(row.ratio, ".2f"),
            "compile s": lambda row: _text(row.compile_seconds, ".1f"),
            "peak GiB": lambda row: _text(row.peak_bytes, ".2f", 2.0**-30),
            "took s": lambda row: _text(row.took_seconds, ".0f"),
            "left out": lambda row: row.left_out,
        }


def train_command(settings: Mapping[str, Any], run_dir: Path) -> Sequence[str]:
    """Return the command that trains with settings."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "env"]
    return [sys.executable, "-m", "kilolayer", "train", settings["env"], f"--run-dir={run_dir}", "--quiet", *flags]


def _text(value: float | None, form: str, factor: float = 1) -> str:
    """Return a number as text; nothing for None."""
    return "" if value is None else format(value * factor, form)
