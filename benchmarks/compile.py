"""Compile time and memory of the gradient step by depth: the scan over blocks against the same network unrolled.

    python benchmarks/compile.py [--depths 8,64,1024] [--naive-depths 8,32] [--json]

Every case runs in a process of its own, so that its peak memory is its own. The step is the whole update of CRL (actor,
alpha, critic, three Adams) at width 256 and batch 256 on observations of the ant's size, with block checkpointing. The
naive form walks the blocks in Python and keeps all activations.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.agents import CRL
from kilolayer.nn import Architecture, HiddenLayer, ResidualMLP
from kilolayer.replay import Batch

BATCH, WIDTH = 256, 256
OBSERVATION, GOAL, ACTION = 29, 2, 8
STEPS = 3


def unrolled_walk(self: ResidualMLP, x: jax.Array, blocks: HiddenLayer) -> jax.Array:
    """Walk the blocks in Python, one after the other."""
    for index in range(self.num_blocks):
        x = self._block(x, jax.tree.map(lambda p, i=index: p[i], blocks))
    return x


def measure(depth: int, form: str) -> dict[str, Any]:
    """Compile and run a few gradient steps in this process."""
    checkpoint = "block" if form == "scan" else "none"
    if form == "naive":
        ResidualMLP._walk = unrolled_walk  # type: ignore[method-assign]
    agent = CRL(OBSERVATION, GOAL, ACTION, BATCH, depth, WIDTH, Architecture(checkpoint=checkpoint))
    state = jax.jit(agent.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 3)
    sizes = (OBSERVATION, ACTION, GOAL)
    batch = Batch(*(jax.random.normal(key, (BATCH, size)) for key, size in zip(keys, sizes, strict=True)))
    step = jax.jit(agent.learn, donate_argnums=0)
    began = time.perf_counter()
    lowered = step.lower(state, batch, jax.random.key(2))
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    finite = True
    times = []
    for index in range(STEPS):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(compiled(state, batch, jax.random.key(index)))
        times.append(time.perf_counter() - start)
        finite &= all(bool(jnp.isfinite(value)) for value in metrics.values())
    return {
        "form": form,
        "depth": depth,
        "width": WIDTH,
        "batch_size": BATCH,
        "trace_seconds": traced - began,
        "compile_seconds": done - traced,
        "step_seconds": min(times),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "finite": finite,
    }


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--depths", default="8,64,1024")
    parser.add_argument("--naive-depths", default="8,32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        form, depth = options.case.split(":")
        print(json.dumps(measure(int(depth), form)))
        return
    cases = [f"scan:{d}" for d in options.depths.split(",")] + [
        f"naive:{d}" for d in options.naive_depths.split(",") if d
    ]
    rows = []
    for case in cases:
        output = subprocess.run([sys.executable, __file__, "--case", case], capture_output=True, text=True, check=True)
        rows.append(json.loads(output.stdout))
        if not options.json:
            if len(rows) == 1:
                print(f"{'form':6}{'depth':>7}{'trace s':>10}{'compile s':>11}{'step s':>9}{'peak GiB':>10}  finite")
            row = rows[-1]
            print(
                f"{row['form']:6}{row['depth']:7}{row['trace_seconds']:10.2f}{row['compile_seconds']:11.2f}"
                f"{row['step_seconds']:9.3f}{row['peak_bytes'] / 2**30:10.2f}  {row['finite']}",
                flush=True,
            )
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    scan = [row for row in rows if row["form"] == "scan"]
    for row in scan[1:]:
        total, base = (r["trace_seconds"] + r["compile_seconds"] for r in (row, scan[0]))
        print(f"trace + compile at depth {row['depth']}: {total / base:.2f} times that at depth {scan[0]['depth']}")
    for row in rows:
        same = [r for r in scan if r["depth"] == row["depth"]]
        if row["form"] == "naive" and same:
            total, base = (r["trace_seconds"] + r["compile_seconds"] for r in (row, same[0]))
            print(f"naive at depth {row['depth']}: {total / base:.2f} times the scan's trace + compile time")


if __name__ == "__main__":
    main()
