"""What the sharded program costs on one device: a round of gradient steps by each form, in turn, in one process.

    python tests/device_overhead.py [ENV] [ROUNDS]

prints the time of a round by the plain program and, for each other form, the median of the ratios of the same turn. It
runs on whatever device there is.
"""

import json
import statistics
import sys
import time

import jax
import numpy as np
from jax.sharding import Mesh

from kilolayer.runs import default_config
from kilolayer.shards import AXIS
from kilolayer.training import Setup, compile_steps, init_state

SHARDS = 8


def main(env: str = "point_u_maze", rounds: str = "20") -> None:
    one = Mesh(np.array(jax.devices()[:1]), (AXIS,))
    forms = {"plain": (None, 1), "mesh of one device": (one, 1), f"{SHARDS} shards": (None, SHARDS)}
    forms[f"{SHARDS} shards on a mesh"] = (one, SHARDS)
    running = {}
    for name, (mesh, shards) in forms.items():
        config = default_config(env, shards=None if shards == 1 else shards)
        setup = Setup.build(config, mesh=mesh)
        steps, state = compile_steps(setup), init_state(setup, 0)
        for _ in range(config.timetable.prefill_rounds + 1):
            state, _ = steps.collect(state)
        state, _ = steps.learn(state)
        running[name] = steps, jax.block_until_ready(state)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(int(rounds)):
        for name, (steps, state) in running.items():
            began = time.perf_counter()
            state, _ = steps.learn(state)
            running[name] = steps, jax.block_until_ready(state)
            seconds[name].append(time.perf_counter() - began)
    plain = seconds.pop("plain")
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(times, plain, strict=True)), 4)
        for name, times in seconds.items()
    }
    device = jax.devices()[0].device_kind
    print(json.dumps({"env": env, "device": device, "plain_seconds": statistics.median(plain), "ratios": ratios}))


if __name__ == "__main__":
    main(*sys.argv[1:])
