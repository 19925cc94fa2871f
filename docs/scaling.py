"""The cost model of docs/scaling.md: what a round takes on several devices, held against data, and predictions."""

import dataclasses

from results import bench, data, rows, score
from tables import rounded

ROUND_ENV_STEPS, ROUND_GRADIENT_STEPS = 512 * 62, 800
"""A round of the paper's settings: 512 environments x 62 steps, then 800 gradient steps."""

WIDTH, BATCH, EMBEDDING = 256, 512, 64
"""The paper's networks and batch."""

EVALUATION_SHARE = 128 * 1000 / 1e6
"""Env steps of an evaluation for each step of training, in runs that evaluate 128 episodes each million steps."""


# What was measured once and is in no file -----------------------------------------------------------------------------

H200_STEP_MS = {4: 0.60, 16: 1.98, 64: 7.03, 1024: 107.0}
"""A gradient step by depth on one NVIDIA H200 (CRL, width 256, batch 512, commit 2b9ea3a), noted by hand."""

H200_TRAINING_STEP_MS = 0.97
"""The step of depth 4 inside training there, for which XLA chose slower kernels."""

H200_ANT_COLLECT_SECONDS, H200_ANT_ROUND_SECONDS = 0.065, 0.84
"""Collecting on Brax's spring, and the whole round, of the ant at depth 4 there."""

H200_ANT_STEPS = 130_000
"""Env steps a second of the ant on MuJoCo there, on 16 cores."""


# What is assumed ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Link:
    """What connects devices."""

    bandwidth: float
    """Bytes a second of a device, in a sum over all devices."""
    latency: float
    """Seconds of a collective operation at least."""


INSIDE, BETWEEN = Link(300e9, 20e-6), Link(50e9, 40e-6)
"""NVLink inside a node of eight, 400 Gbit/s for each GPU between nodes: assumed, not measured."""

TFLOPS = 400e12
"""Operations a second of the matrix products of one GPU, where they fill it: assumed."""


# The model ------------------------------------------------------------------------------------------------------------


def layer_parameters(width: int) -> int:
    """Return the parameters of a Dense layer with its LayerNorm, in phi, psi and the actor together."""
    return 3 * (width * width + 3 * width)


def layer_mib(width: int = WIDTH, batch: int = BATCH) -> float:
    """Return MiB (2^20 bytes) of a layer: parameters, gradients, Adam's moments, and inputs kept for backward passes.

    Four passes keep the input of each layer: phi, psi, the actor, and phi again for the actor's loss.
    """
    return (16 * layer_parameters(width) + 4 * 4 * batch * width) / 2**20


def step_ms(depth: int) -> float:
    """Return a gradient step on the H200, on the line through what depths 4 and 64 took."""
    slope = (H200_STEP_MS[64] - H200_STEP_MS[4]) / 60
    return H200_STEP_MS[4] + slope * (depth - 4)


def communication_ms(depth: int, devices: int, *, batch: int = BATCH) -> float:
    """Return the time of a step in which devices exchange: all embeddings, and the sum of all gradients.

    A ring sends nearly twice what it sums. None of it is hidden behind the backward pass: this is an upper bound.
    """
    if devices == 1:
        return 0.0
    link = INSIDE if devices <= 8 else BETWEEN
    around = (devices - 1) / devices
    gradients = 2 * around * 4 * layer_parameters(WIDTH) * depth
    embeddings = 2 * 2 * around * 4 * batch * EMBEDDING
    return 1e3 * ((gradients + embeddings) / link.bandwidth + 3 * link.latency)


def round_seconds(depth: int, devices: int) -> float:
    """Return the time of a round of the ant with one batch of 512 over all devices, each with 16 cores for physics."""
    physics = ROUND_ENV_STEPS / H200_ANT_STEPS / devices
    return physics + 1e-3 * ROUND_GRADIENT_STEPS * (step_ms(depth) + communication_ms(depth, devices))


def pipeline_slowdown(devices: int, micro_batches: int) -> float:
    """Return the time of a step over that on one device, where a layer takes as long for few rows as for many."""
    return (micro_batches + devices - 1) / devices


def bubble(devices: int, micro_batches: int) -> float:
    """Return the share of its time that a device of a pipeline waits."""
    return (devices - 1) / (micro_batches + devices - 1)


def gflop(depth: int) -> float:
    """Return 10^9 operations of a gradient step: 11 products of batch x width x width in each layer."""
    return 11 * 2 * BATCH * WIDTH * WIDTH * depth / 1e9


def filling_batch(depth: int) -> float:
    """Return the batch from which one GPU is short of arithmetic, and not of shorter chains."""
    return BATCH * step_ms(depth) * 1e-3 * TFLOPS / (gflop(depth) * 1e9)


# Tables ---------------------------------------------------------------------------------------------------------------


def check_rows() -> list[list[str]]:
    """Return the table of the model beside what was measured."""
    found = []

    def row(what: str, model: float, measured: float, unit: str, digits: int) -> None:
        found.append([what, f"{model:,.{digits}f} {unit}", f"{measured:,.{digits}f} {unit}", f"{model / measured:.2f}"])

    reacher = {depth: score("cost", "ms_per_gradient_step", depth=depth).mean for depth in (4, 8, 16, 32, 64)}
    for depth in (8, 16, 32):
        line = reacher[4] + (reacher[64] - reacher[4]) / 60 * (depth - 4)
        row(
            f"2 cores, reacher, five seeds, depth {depth}: ms a gradient step, from 4 and 64",
            line,
            reacher[depth],
            "ms",
            1,
        )
    for depth in (16, 1024):
        row(f"H200, depth {depth}: a gradient step, from 4 and 64", step_ms(depth), H200_STEP_MS[depth], "ms", 2)
    learning = 1e-3 * ROUND_GRADIENT_STEPS * H200_TRAINING_STEP_MS
    row("H200, ant on `spring`, depth 4: a round", H200_ANT_COLLECT_SECONDS + learning, H200_ANT_ROUND_SECONDS, "s", 2)
    for depth, step in ((4, H200_TRAINING_STEP_MS), (16, H200_STEP_MS[16])):
        row(
            f"H200 shared by two runs, `arm_push_easy`, depth {depth}: a round",
            arm_round(step),
            measured_arm_round(depth),
            "s",
            2,
        )
    small = (score("cost", "memory_mib", depth=64).mean - score("cost", "memory_mib", depth=4).mean) / 60
    row("memory of a layer, width 64, batch 256", layer_mib(64, 256), small, "MiB", 2)
    row("memory of a layer, width 256, batch 512, process and all", layer_mib(), peak_of_a_layer(), "MiB", 2)
    return found


def arm_round(step: float) -> float:
    """Return the round of `arm_push_easy` on the H200 by the model, for one of two runs that share 16 cores."""
    arm, ant = (
        next(
            row["env_steps_per_second"]
            for row in _env()
            if (row["task"], row["engine"], row["kind"]) == (task, "mujoco", "rollout")
        )
        for task in ("arm_push_easy", "ant")
    )
    speed = H200_ANT_STEPS * arm / ant / 2
    return ROUND_ENV_STEPS * (1 + EVALUATION_SHARE) / speed + 1e-3 * ROUND_GRADIENT_STEPS * step


def measured_arm_round(depth: int) -> float:
    """Return the round of `arm_push_easy` on the H200 as measured, from the second evaluation to the last."""
    own = [row for row in rows("arm_push_easy_h200/curves.csv") if row["depth"] == depth][1:]
    first, last = own[0], own[-1]
    seconds = last["perf/seconds"] - first["perf/seconds"]
    return seconds * ROUND_ENV_STEPS / (last["env_steps"] - first["env_steps"])


def peak_of_a_layer() -> float:
    """Return MiB that a layer adds to the peak of a process that steps, from depth 64 to 256 on 2 cores."""
    low, high = (bench("step", "peak_bytes", form="kilolayer", depth=depth, batch_size=512) for depth in (64, 256))
    return (high - low) / 192 / 2**20


def _env() -> list[dict]:
    found = data("bench/env-2cores.json")
    return found["rows"] if isinstance(found, dict) else found


def prediction_rows() -> list[list[str]]:
    """Return the table of predictions: rounds and env steps per second of one run, and of seeds."""
    found = []
    for depth in (4, 64, 1024):
        one = round_seconds(depth, 1)
        for devices in (1, 8, 64):
            seconds = round_seconds(depth, devices)
            found.append(
                [
                    str(depth),
                    str(devices),
                    f"{communication_ms(depth, devices):.2f}",
                    f"{seconds:.2f}",
                    f"{one / seconds:.2f}",
                    rounded(ROUND_ENV_STEPS / seconds, 3),
                    rounded(devices * ROUND_ENV_STEPS / one, 3),
                ]
            )
    return found


def memory_rows() -> list[list[str]]:
    """Return the table of memory by depth: of layers alone, replicated, and of a stage of eight."""
    found = []
    for depth in (4, 64, 256, 1024):
        own = layer_parameters(WIDTH) * depth
        whole = layer_mib() * depth / 1024
        found.append(
            [
                str(depth),
                f"{own / 1e6:.1f}",
                f"{4 * own / 2**20:,.0f}",
                f"{whole:.2f}",
                f"{whole / 8:.2f}",
                rounded(filling_batch(depth), 2),
            ]
        )
    return found


def pipeline_rows() -> list[list[str]]:
    """Return the table of pipelines over eight devices, by micro-batches."""
    return [
        [
            str(micro),
            str(BATCH // micro),
            f"{bubble(8, micro):.0%}",
            f"{pipeline_slowdown(8, micro):.2f}",
            f"{(micro + 7) / (8 * micro):.2f}",
        ]
        for micro in (1, 2, 4, 8, 32)
    ]
