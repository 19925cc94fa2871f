"""What is measured to judge training on a GPU, in parts, the most valuable first."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kilolayer.bench import env
from kilolayer.bench.act import bench_act
from kilolayer.bench.first_step import TrainCommand, time_to_first_step, until_first_step
from kilolayer.bench.jobs import GpuRow, Job
from kilolayer.bench.process import run_apart
from kilolayer.bench.round import bench_round
from kilolayer.bench.step import Turns, has_torch
from kilolayer.envs.engines import engine_names
from kilolayer.envs.engines.registry import AUTO, engine_spec


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured: by default, the ant and the networks that the paper trains it with."""

    task: str = "ant"
    depths: tuple[int, ...] = (4, 64, 16, 1024)
    """Of the gradient step, the most important first."""
    deepest_peer: int = 64
    """Greatest depth of the naive step and of PyTorch's."""
    depth: int = 4
    """Of everything else."""
    width: int = 256
    batch_size: int = 512
    steps: int = 50
    """Gradient steps in a call at most; of deep networks, fewer."""
    rounds: int = 5
    """Timed calls of a gradient step."""
    num_envs: int = 512
    unroll_length: int = 62
    gradient_steps: int = 800
    """Of a round of training."""
    rounds_of_training: int = 3
    physics_steps: int = 50
    act_depths: tuple[int, ...] = (4, 64, 1024)
    calls: int = 200
    """Timed actions."""
    processes: int = 5
    """Fresh processes of the same gradient step."""
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Other settings of runs."""

    @property
    def run_settings(self) -> dict[str, Any]:
        """Return the settings of runs."""
        return {
            "env": self.task,
            "depth": self.depth,
            "width": self.width,
            "batch_size": self.batch_size,
            "num_envs": self.num_envs,
            "unroll_length": self.unroll_length,
            "gradient_steps_per_unroll": self.gradient_steps,
            **self.run,
        }

    def steps_at(self, depth: int) -> int:
        """Return the gradient steps in a call at a depth."""
        return max(min(self.steps, 16 * self.steps // max(depth, 1)), min(self.steps, 5))


OWN_FORMS = (("short", "fused"), ("short", "xla"), ("plain", "xla"))
"""Chains and kernels of the library's own step."""


class Plan:
    """The jobs of each part."""

    def __init__(
        self, sizes: Sizes, train_command: TrainCommand, log: Callable[[str], object], *, on_gpu: bool = False
    ):
        """Plan with these sizes."""
        self.sizes, self.train_command, self.log, self.on_gpu = sizes, train_command, log, on_gpu
        self._in_force: dict[int, tuple[str, str]] = {}
        """By depth: chain and kernels of the step as it is."""

    def step(self) -> Iterator[Job]:
        """Yield at each depth the step as it is, the naive one, and PyTorch's."""
        peers = [
            "naive",
            *(["torch"] if has_torch() else []),
            *(["torch graph"] if has_torch() and self.on_gpu else []),
        ]
        for depth in self.sizes.depths:
            turns = Turns(self.sizes.rounds)
            for form in ["kilolayer", *(peers if 0 < depth <= self.sizes.deepest_peer else [])]:
                yield self._step_job("step", form, depth, turns)

    def forms(self) -> Iterator[Job]:
        """Yield at each depth the other forms of the library's own step: chains and kernels."""
        for depth in self.sizes.depths:
            turns = Turns(self.sizes.rounds)
            for chain, kernels in OWN_FORMS:
                if (chain, kernels) != self._in_force.get(depth):
                    settings = {"chain": chain, "kernels": kernels}
                    yield self._step_job("forms", "kilolayer", depth, turns, settings)

    def spread(self) -> Iterator[Job]:
        """Yield the same step in fresh processes."""
        seconds: list[float] = []
        for number in range(self.sizes.processes):
            job = self._step_job("spread", "kilolayer", self.sizes.depth, Turns(self.sizes.rounds))
            what = f"process {number + 1} of {self.sizes.processes}"
            job = job._replace(row=dataclasses.replace(job.row, what=what))

            def run(left: float, job: Job = job) -> Iterator[Mapping[str, Any]]:
                for fields in job.run(left):
                    seconds.append(fields["seconds"])
                    yield {**fields, "what": job.row.what, "ratio": max(seconds) / min(seconds)}

            yield job._replace(run=run)

    def round(self) -> Iterator[Job]:
        """Yield a round of training on each engine; on those of the host also with collecting beside learning."""
        for engine, variant in self._engines():
            yield self._round_job(engine, variant, overlap=False)
            if engine_spec(engine).runs_on == "host":
                yield self._round_job(engine, variant, overlap=True)

    def _round_job(self, engine: str, variant: str, *, overlap: bool) -> Job:
        what = f"{engine}, overlap" if overlap else engine

        def run(left: float) -> Iterator[Mapping[str, Any]]:
            self.log(f"a round of training on {what}: starting")
            cost = bench_round(
                self.sizes.run_settings | {"engine": engine, "variant": variant, "overlap": overlap},
                rounds=self.sizes.rounds_of_training,
                seconds=left,
                log=lambda doing: self.log(f"a round of training on {what}: {doing}"),
            )
            yield {
                "seconds": cost.seconds,
                "per_second": cost.env_steps_per_second,
                "compile_seconds": cost.compile_seconds,
                "peak_bytes": cost.peak_bytes,
                "details": dataclasses.asdict(cost),
            }

        return Job(self._row("round", what), "round", run)

    def physics(self) -> Iterator[Job]:
        """Yield bare physics and a rollout on each engine."""
        for engine, _ in self._engines():

            def run(left: float, engine: str = engine) -> Iterator[Mapping[str, Any]]:
                self.log(f"physics on {engine}")
                arguments = {
                    "task": self.sizes.task,
                    "engine": engine,
                    "num_envs": self.sizes.num_envs,
                    "num_steps": self.sizes.physics_steps,
                    "depth": self.sizes.depth,
                    "width": self.sizes.width,
                }
                for found in run_apart(f"{env.__name__}:measure", arguments, seconds=left):
                    yield {
                        "what": f"{engine} {found['kind']}",
                        "seconds": found["step_seconds"],
                        "per_second": found["env_steps_per_second"],
                        "compile_seconds": found["compile_seconds"],
                        "details": found,
                    }

            yield Job(dataclasses.replace(self._row("physics", engine), batch_size=None), "physics", run)

    def act(self) -> Iterator[Job]:
        """Yield actions of compiled policies on one CPU core."""
        for depth in self.sizes.act_depths:

            def run(left: float, depth: int = depth) -> Iterator[Mapping[str, Any]]:
                for found in bench_act(
                    [depth], width=self.sizes.width, calls=self.sizes.calls, seconds=left, log=self.log
                ):
                    yield {
                        "what": f"one core, {found.precision}",
                        "seconds": found.step_seconds,
                        "per_second": found.batch_size / found.step_seconds,
                        "compile_seconds": found.compile_seconds,
                        "details": dataclasses.asdict(found),
                    }

            row = GpuRow("act", "one core", depth=depth, batch_size=1, width=self.sizes.width)
            yield Job(row, "act", run)

    def start(self) -> Iterator[Job]:
        """Yield the time until the first gradient steps: without compiled programs on the disk, and with them."""
        with tempfile.TemporaryDirectory() as place:
            for what in ("nothing compiled", "compiled before"):

                def run(left: float, what: str = what) -> Iterator[Mapping[str, Any]]:
                    self.log(f"until the first gradient step, {what}")
                    settings = until_first_step(self.sizes.run_settings, self._engines()[0][0])
                    found = time_to_first_step(settings, self.train_command, Path(place), seconds=left)
                    yield {"seconds": found.seconds, "details": found._asdict()}

                yield Job(self._row("start", what), "start", run)

    def _row(self, part: str, what: str) -> GpuRow:
        sizes = self.sizes
        return GpuRow(part, what, sizes.task, sizes.depth, sizes.batch_size, sizes.width)

    def _engines(self) -> list[tuple[str, str]]:
        """Return the engines that move the task, with its variant there: those first that are compared elsewhere."""
        names = [name for name in engine_names() if name != AUTO]
        names = list(dict.fromkeys((*env.ENGINES_TO_COMPARE, *names)))
        found = [(name, env.variant_on(self.sizes.task, name)) for name in names]
        return [(name, variant) for name, variant in found if variant is not None]

    def _step_job(
        self, part: str, form: str, depth: int, turns: Turns, architecture: Mapping[str, Any] | None = None
    ) -> Job:
        sizes = self.sizes

        def run(left: float) -> Iterator[Mapping[str, Any]]:
            cost = turns.measure(
                form,
                depth=depth,
                width=sizes.width,
                batch_size=sizes.batch_size,
                architecture=dict(architecture or {}),
                steps=sizes.steps_at(depth),
                seconds=left,
                log=lambda doing: self.log(f"{part}: {doing}"),
            )
            if part == "step" and form == "kilolayer":
                self._in_force[depth] = (cost.chain, cost.kernels)
            assert cost.step_seconds is not None
            yield {
                "what": " ".join(filter(None, (form, cost.chain, cost.kernels))),
                "seconds": cost.step_seconds,
                "per_second": 1.0 / cost.step_seconds,
                "ratio": cost.ratio,
                "compile_seconds": cost.trace_seconds + cost.compile_seconds,
                "peak_bytes": cost.peak_bytes,
                "details": dataclasses.asdict(cost),
            }

        what = " ".join((form, *(architecture or {}).values()))
        kind = f"step: {form}"
        return Job(GpuRow(part, what, None, depth, sizes.batch_size, sizes.width), kind, run, turns)


PARTS: dict[str, Callable[[Plan], Iterator[Job]]] = {
    "step": Plan.step,
    "round": Plan.round,
    "forms": Plan.forms,
    "physics": Plan.physics,
    "act": Plan.act,
    "start": Plan.start,
    "spread": Plan.spread,
}
"""What is measured, the most valuable first."""
