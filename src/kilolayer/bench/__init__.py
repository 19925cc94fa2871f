"""Benchmarks: time, memory and operations, measured beside the floor below them or beside a simpler form."""

from kilolayer.bench.act import ActSpeed, bench_act
from kilolayer.bench.agents import AgentCost, bench_agents
from kilolayer.bench.env import Speed, bench_env
from kilolayer.bench.flops import gradient_step_flops
from kilolayer.bench.gpu import GpuRow, bench_gpu
from kilolayer.bench.gym import VectorSpeed, bench_gym
from kilolayer.bench.memory import Memory, learn_memory
from kilolayer.bench.replay import ReplayCost, bench_replay
from kilolayer.bench.seeds import SeedsCost, bench_seeds
from kilolayer.bench.step import StepCost, bench_step

__all__ = [
    "ActSpeed",
    "AgentCost",
    "GpuRow",
    "Memory",
    "ReplayCost",
    "SeedsCost",
    "Speed",
    "StepCost",
    "VectorSpeed",
    "bench_act",
    "bench_agents",
    "bench_env",
    "bench_gpu",
    "bench_gym",
    "bench_replay",
    "bench_seeds",
    "bench_step",
    "gradient_step_flops",
    "learn_memory",
]
