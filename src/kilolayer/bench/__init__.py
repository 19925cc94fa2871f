"""Benchmarks: what something costs, beside what it must cost, measured in one run."""

from kilolayer.bench.act import ActSpeed, bench_act
from kilolayer.bench.env import Speed, bench_env

__all__ = ["ActSpeed", "Speed", "bench_act", "bench_env"]
