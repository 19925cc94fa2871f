"""Programs on one, two, four and eight devices, which a CPU can be told to have before JAX starts.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/many_devices.py DEVICES,... CASE...

prints a line of JSON for each case: how far what is learnt on each number of devices is from what one device learns.
With `quick` in place of the devices, it prints one for each of some checks; with `runs`, one about whole runs.
"""

import dataclasses
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import kilolayer as kl
from kilolayer.data import Trajectory, empty_buffer, insert
from kilolayer.named_arrays import to_arrays
from kilolayer.runs import RunDirectory, TrainConfig
from kilolayer.shards import AXIS, Shards, mesh_of
from kilolayer.training import Setup, TrainState, compile_steps, init_state
from kilolayer.training.memory import run_bytes
from small_runs import final_state, small_config

SHARDS = 8
UPDATES = 20
HISTORIES = 10
SIZES = {"num_envs": 16, "batch_size": 32, "num_eval_envs": 8, "replay_capacity": 40, "width": 8, "depth": 2}
SIZES |= {
    "gradient_steps_per_unroll": UPDATES,
    "unroll_length": 10,
    "min_replay": 20,
    "architecture": {"block_size": 2},
}

CASES = {
    **{f"crl {loss}": {"crl": {"loss": loss}} for loss in ("infonce_forward", "infonce_backward", "binary_nce")},
    "crl infonce_symmetric": {"crl": {"loss": "infonce_symmetric", "actor_goals": "resampled", "action_chunk": 2}},
    "crl local": {"crl": {"negatives": "local"}},
    "crl windows": {"replay": {"windows": 15}},
    "survival": {"agent": "survival", "survival": {"horizon": 8, "bins": 4, "representation_size": 8}},
    "sac_her": {"agent": "sac_her"},
    "gcbc": {"agent": "gcbc"},
    "ppo": {"agent": "ppo", "replay_capacity": 10, "min_replay": 0, "batch_size": 80},
}
"""Settings of runs."""


def configured(case: str, devices: int) -> TrainConfig:
    settings = SIZES | CASES[case]
    shards = None if settings.get("agent") == "ppo" else SHARDS
    return small_config(**settings, shards=shards, devices=devices)


def built(case: str, devices: int) -> Setup:
    return Setup.build(configured(case, devices), mesh=mesh_of(devices))


def filled(setup: Setup, state: TrainState) -> TrainState:
    """Return a state whose buffer holds calm random numbers, of episodes of ten steps."""
    rng = np.random.default_rng(0)
    length, num_envs = setup.replay_capacity, setup.collector.num_envs

    def normal(size: int) -> jax.Array:
        return jnp.asarray(0.3 * rng.standard_normal((length, num_envs, size)), jnp.float32)

    done = np.arange(length)[:, None] % 10 == 9
    trajectory = Trajectory(
        observation=normal(setup.collector.observation_size),
        achieved_goal=normal(setup.collector.goal_size),
        desired_goal=normal(setup.collector.goal_size),
        action=jnp.tanh(normal(setup.collector.action_size)),
        terminated=jnp.asarray(np.broadcast_to(done, (length, num_envs)) & (np.arange(num_envs) % 3 == 0)),
        done=jnp.asarray(np.broadcast_to(done, (length, num_envs))),
        diverged=jnp.zeros((length, num_envs), bool),
    )
    return dataclasses.replace(state, buffer=jax.jit(insert)(state.buffer, trajectory))


def learnt(case: str, devices: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return all parameters after some updates, and the means of the metrics."""
    setup = built(case, devices)
    state, (metrics, _) = compile_steps(setup).learn(filled(setup, init_state(setup, 0)))
    networks = setup.agent.networks(state.agent)
    paths = jax.tree_util.tree_flatten_with_path(networks)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}, {
        name: float(value) for name, value in metrics.items()
    }


def distance(a: dict, b: dict) -> float:
    """Return the largest relative distance of arrays by the same name."""
    return max(float(np.linalg.norm(a[name] - b[name]) / max(np.linalg.norm(a[name]), 1e-6)) for name in a)


def compared(case: str, devices: list[int]) -> dict:
    parameters, metrics = learnt(case, 1)
    result = {"case": case, "parameters": {}, "metrics": {}}
    for count in devices:
        others = learnt(case, count)
        result["parameters"][count] = distance(parameters, others[0])
        result["metrics"][count] = distance(metrics, others[1])
    return result


def off_labels() -> dict:
    """Return how far the loss is from that with positives one shard further, as a wrong offset of labels gives it."""
    setup = built("crl infonce_symmetric", 8)
    rows = jnp.asarray(np.random.default_rng(1).standard_normal((2, 32, 64)), jnp.float32)
    phi, psi = jax.device_put(rows, setup.shards.sharding(PartitionSpec(None, AXIS)))
    right, wrong = (
        float(jax.jit(setup.agent.critic_loss)(phi, jnp.roll(psi, shift, axis=0))[0]) for shift in (0, 32 // SHARDS)
    )
    expected = float(built("crl infonce_symmetric", 1).agent.critic_loss(*rows)[0])
    assert abs(right - expected) < 1e-5 * abs(expected)
    return {"case": "labels", "off": abs(wrong - expected) / abs(expected)}


def parts() -> dict:
    """Return what each device holds, and how often the compiled updates gather something as long as the buffer."""
    config, setup = configured("crl infonce_forward", 8), built("crl infonce_forward", 8)
    state = filled(setup, init_state(setup, 0))
    program = compile_steps(setup).learn.lower(state).compile().as_text()
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        own = run_bytes(setup, config)["the replay buffer"]
    whole = run_bytes(setup, config)["the replay buffer"]  # devices of a CPU share the memory of the process
    gathers = [line for line in program.splitlines() if re.search(r"= \S+ all-gather(-start)?\(", line)]
    shapes = [[int(n) for n in re.findall(r"\d+", re.search(r"\[([\d,]*)\]", line)[1])] for line in gathers]
    return {
        "case": "parts",
        "environments on a device": state.buffer.observation.addressable_shards[0].data.shape[1],
        "copies of a parameter": len(jax.tree.leaves(state.agent)[0].addressable_shards),
        "gathers": bool(gathers),
        "replay of a GPU": round(whole / own, 1),
        "gathers of the buffer": sum(setup.replay_capacity in shape for shape in shapes),
    }


def replays() -> dict:
    """Return which arrays of the replay buffer differ after some rounds on one device and on eight."""
    found = []
    for devices in (1, 8):
        setup = built("crl infonce_forward", devices)
        state = init_state(setup, 0)
        steps = compile_steps(setup)
        for _ in range(6):  # the ring wraps
            state, _ = steps.collect(state)
        found.append(to_arrays(state.buffer))
    one, eight = found
    exact = [name for name in one if one[name].dtype.kind != "f" and not np.array_equal(one[name], eight[name])]
    close = [name for name in one if not np.allclose(one[name], eight[name], rtol=1e-3, atol=1e-3)]
    return {
        "case": "replay",
        "different": sorted({*exact, *close}),
        "sizes": list(one["episode"].shape),
        "histories": sum(held_as_on_one_device(seed) for seed in range(HISTORIES)),
    }


def held_as_on_one_device(seed: int) -> bool:
    """Return whether eight devices hold, of a random history, the last steps of every environment, each once."""
    rng = np.random.default_rng(seed)
    num_envs, capacity, length = SHARDS * int(rng.integers(1, 4)), int(rng.integers(6, 12)), int(rng.integers(1, 6))
    rounds, ends = int(rng.integers(1, 8)), rng.random()
    buffers = [empty_buffer(capacity, num_envs, 2, 1, 1, shards) for shards in (Shards(), Shards(8, mesh_of(8)))]
    for round_ in range(rounds):
        times = np.arange(round_ * length, (round_ + 1) * length)
        told = np.stack(np.broadcast_arrays(times[:, None], np.arange(num_envs)), axis=-1).astype(np.float32)
        done = rng.random((length, num_envs)) < ends
        fields = {name: jnp.asarray(told[..., :1]) for name in ("achieved_goal", "desired_goal", "action")}
        flags = {name: jnp.asarray(done) for name in ("terminated", "done")}
        steps = Trajectory(observation=jnp.asarray(told), diverged=jnp.zeros(done.shape, bool), **fields, **flags)
        buffers = [jax.jit(insert)(buffer, steps) for buffer in buffers]
    one, eight = map(to_arrays, buffers)
    size = min(rounds * length, capacity)
    held = sorted(map(tuple, eight["observation"][:size].reshape(-1, 2).tolist()))
    last = np.arange(rounds * length - size, rounds * length)
    expected = sorted((float(time), float(env)) for time in last for env in range(num_envs))
    return held == expected and all(np.array_equal(one[name], eight[name]) for name in one)


def runs() -> dict:
    """Return how far runs are from the one that one device trains from beginning to end."""
    settings = {"num_envs": 4, "num_eval_envs": 4, "width": 8, "gradient_steps_per_unroll": 2, "replay_capacity": 30}
    config = small_config(**settings, shards=4, num_evals=5)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)

        def learnt(run: str) -> dict[str, np.ndarray]:
            return to_arrays(final_state(path / run).agent)

        def train(run: str, **own: Any) -> None:
            kl.train(config=dataclasses.replace(config, **own), run_dir=path / run, progress=False)

        train("one")
        train("two", devices=2, total_env_steps=200)
        kl.train(resume=path / "two", devices=4, total_env_steps=400, progress=False)
        changed = RunDirectory.open(path / "two").config()
        resumed = distance(learnt("one"), learnt("two"))
        kl.train(resume=path / "two", devices=2, shards=2, total_env_steps=440, progress=False)
        alone = dataclasses.replace(config, shards=None, seed=1)
        kl.train(config=alone, run_dir=path / "alone", progress=False)
        together = dataclasses.replace(config, shards=None, devices=2)
        kl.train_seeds(config=together, seeds=(0, 1), run_dir=path / "seeds", progress=False)
        return {
            "case": "runs",
            "resumed": resumed,
            "seeds": distance(learnt("alone"), learnt("seeds/seed-1")),
            "settings": [changed.devices, changed.shards],
            "cut again": RunDirectory.open(path / "two").config().num_shards,
            "mujoco": collected_by_mujoco(),
            "seed": RunDirectory.open(path / "seeds/seed-1").config() == alone,
        }


def collected_by_mujoco() -> float:
    """Return how far what eight devices collect, each with calls of the host of its own, is from that of one."""
    found = []
    for devices in (1, 8):
        settings = {"engine": "mujoco", "num_envs": 8, "num_eval_envs": 8, "shards": 8, "devices": devices}
        setup = Setup.build(small_config(env="reacher", **settings), mesh=mesh_of(devices))
        steps, state = compile_steps(setup), init_state(setup, 0)
        for _ in range(3):
            state, _ = steps.collect(state)
        found.append({name: array.astype(float) for name, array in to_arrays(state.buffer).items()})
    return distance(*found)


def show(result: dict) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "runs":
        show(runs())
    elif sys.argv[1] == "quick":
        show(compared("crl infonce_symmetric", [4, 8]))
        for check in (off_labels, parts, replays):
            show(check())
    else:
        for name in sys.argv[2:] or CASES:
            show(compared(name, [int(count) for count in sys.argv[1].split(",")]))
