"""Benchmarks: what something costs, beside what it must cost, measured in one run."""

from kilolayer.bench.env import Speed, bench_env
from kilolayer.bench.replay import ReplayCost, bench_replay
from kilolayer.bench.step import StepCost, bench_step

__all__ = ["ReplayCost", "Speed", "StepCost", "bench_env", "bench_replay", "bench_step"]
