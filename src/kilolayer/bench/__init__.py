"""Benchmarks: what something costs, beside what it must cost, measured in one run."""

from kilolayer.bench.act import ActSpeed, bench_act
from kilolayer.bench.env import Speed, bench_env
from kilolayer.bench.flops import gradient_step_flops
from kilolayer.bench.replay import ReplayCost, bench_replay
from kilolayer.bench.step import StepCost, bench_step

__all__ = [
    "ActSpeed",
    "ReplayCost",
    "Speed",
    "StepCost",
    "bench_act",
    "bench_env",
    "bench_replay",
    "bench_step",
    "gradient_step_flops",
]
