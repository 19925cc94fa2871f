"""Benchmarks: what something costs, beside what it must cost, measured in one run."""

from kilolayer.bench.env import Speed, bench_env

__all__ = ["Speed", "bench_env"]
