"""Export: write a policy and its contract into a directory, and check that it acts as the library's does."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kilolayer.errors import ConfigurationError
from kilolayer.files import json_text, whole_directory
from kilolayer.objectives import tanh_gaussian
from kilolayer.policies.artifact import CONTRACT_FILE, FORMAT
from kilolayer.policies.compiled import ActingPrecision, check_acting_precision, cpu_device
from kilolayer.policies.export.exporter import Acting, Exportable, Written, exporter_of
from kilolayer.policies.policy import Policy
from kilolayer.version import __version__

CHECK_FILE = "check.csv"
"""Observations, desired goals, and the actions that the library takes: to check the export on another machine."""

TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "bfloat16": 0.02, "int8": 0.1}
"""Largest difference of any number of an action, by the numbers that the products are computed with; actions are in
[-1, 1]."""

BATCHES = (1, 3, 5)
"""Batches that an export is checked with."""

RANDOM_ROWS, RECORDED_ROWS = 30, 60
"""Observations that an export is checked on: normal draws, and recorded ones at most."""

Pair = tuple[Float[np.ndarray, "rows observation"], Float[np.ndarray, "rows goal"]]


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export that agrees with the library."""

    directory: Path
    files: tuple[str, ...]
    """Names of the files in it."""
    tolerance: float
    """Largest difference of any number of an action that is allowed."""
    largest_difference: float
    """Largest difference that was found."""


def export_policy(
    policy: Policy,
    directory: str | os.PathLike,
    *,
    format: str = "onnx",
    precision: ActingPrecision = "float32",
    recorded: Pair | None = None,
    add: Callable[[Path], Mapping[str, Any]] = lambda directory: {},
) -> Exported:
    """Write a policy, its contract and its check into a new directory.

    The policy takes `observation` and `desired_goal`, float32 with any batch, and gives `action`, or `action_chunk`,
    `(batch, chunk, action)`, if it chooses several actions at once.

    Args:
        policy: to write.
        directory: must not exist yet.
        format: name of the exporter.
        precision: numbers that hold the weights of the blocks.
        recorded: observations and desired goals of episodes to check it on, beside random ones.
        add: writes more files into the directory, and returns what the contract says about them.

    Raises:
        ConfigurationError: in one line, if the policy has no such form, or acts otherwise than the library's.
        RunError: if the directory exists or cannot be written. In any case nothing is left behind.
    """
    exporter = exporter_of(format)
    check_acting_precision(precision)
    exportable = _exportable(policy, precision)
    pair = _rows(policy, recorded)
    with whole_directory(Path(directory)) as partial:
        written = exporter.write(exportable, partial)
        expected = _library_actions(policy, pair)
        tolerance = _tolerance(policy, precision)
        difference = largest_difference(written.run, pair, expected)
        if not difference <= tolerance:  # also if it is NaN
            raise ConfigurationError(
                f"format={format!r} with precision={precision!r} acts otherwise than the library: numbers of actions "
                f"differ by up to {difference:.2g}, and {tolerance:g} is allowed; nothing was written"
            )
        parts = {"observation": pair[0], "desired_goal": pair[1], exportable.output: expected}
        write_table(partial / CHECK_FILE, parts)
        more = add(partial)
        digests = {each.name: _digest(each) for each in sorted(partial.iterdir())}
        about = {
            "format": exporter.name,
            "precision": precision,
            "inputs": {name: {"shape": ["batch", size], "type": "float32"} for name, size in exportable.sizes.items()},
            "outputs": {exportable.output: {"shape": ["batch", *expected.shape[1:]], "type": "float32"}},
            "scaling": "none: inputs are in the units of their names; actions are within action.low and action.high",
            "tolerance": tolerance,
            "largest_difference": difference,
            "checked": {"batches": list(BATCHES), "rows": len(expected), "file": CHECK_FILE},
            **written.about,
            "sha256": digests,
            "versions": _versions(written),
        }
        data = {"format": FORMAT, **policy.contract.to_dict(), "exported": about, **more}
        (partial / CONTRACT_FILE).write_text(json_text(json.loads(json.dumps(data))) + "\n")
        names = tuple(sorted(each.name for each in partial.iterdir()))
    return Exported(Path(directory), names, tolerance, difference)


def largest_difference(
    run: Callable[[np.ndarray, np.ndarray], np.ndarray], pair: Pair, expected: Float[np.ndarray, "rows *action"]
) -> float:
    """Return the largest difference of any number of an action, over all batches; NaN if one is not finite.

    Args:
        run: what is to be checked.
        pair: observations and desired goals.
        expected: the actions of the library.
    """
    worst = 0.0
    for batch in BATCHES:
        for first in range(0, len(expected) - batch + 1, batch):
            rows = slice(first, first + batch)
            found = run(pair[0][rows], pair[1][rows])
            if found.shape != expected[rows].shape:
                raise ConfigurationError(f"the export gives actions of shape {found.shape}, not {expected[rows].shape}")
            worst = float(np.maximum(worst, np.abs(found - expected[rows]).max()))  # keeps NaN
    return worst


def write_table(path: Path, parts: Mapping[str, np.ndarray]) -> None:
    """Write float32 arrays side by side as CSV, a row of each in a line, to the last bit; any language reads that.

    Args:
        path: of the file.
        parts: arrays with equally many rows; the columns of `goal` are `goal_0`, `goal_1` and so on.
    """
    flat = {name: np.asarray(part, np.float32).reshape(len(part), -1) for name, part in parts.items()}
    header = [f"{name}_{column}" for name, part in flat.items() for column in range(part.shape[1])]
    rows = np.concatenate(list(flat.values()), axis=1)
    path.write_text("\n".join([",".join(header), *(",".join(f"{each:.9g}" for each in row) for row in rows)]) + "\n")


def _exportable(policy: Policy, precision: ActingPrecision) -> Exportable:
    actor: Any = policy.agent.actor(policy.agent_state)
    if actor is None:
        raise ConfigurationError(f"agent={policy.contract.agent.name!r} has no actor network to export")
    actor = jax.device_put(actor, cpu_device())
    chunk, action_size = policy.agent.executed_actions, policy.action_size
    quantized = actor.quantize() if precision == "int8" else actor
    return Exportable(
        function=acting(quantized, chunk, action_size),
        function_float32=acting(actor, chunk, action_size),
        sizes={"observation": policy.observation_size, "desired_goal": policy.goal_size},
        output="action" if chunk == 1 else "action_chunk",
        precision=precision,
    )


def acting(network: Any, chunk: int, action_size: int) -> Acting:
    """Return the function of a deterministic policy.

    Args:
        network: as `Agent.actor` returns it.
        chunk: actions that are chosen at once.
        action_size: numbers of an action.
    """

    def act(observation: Any, desired_goal: Any) -> jax.Array:
        outputs = network.infer(jnp.concatenate([observation, desired_goal], axis=-1))
        actions = tanh_gaussian.mode(jax.lax.slice_in_dim(outputs, 0, chunk * action_size, axis=-1))
        return actions if chunk == 1 else actions.reshape(-1, chunk, action_size)

    return act


def _rows(policy: Policy, recorded: Pair | None) -> Pair:
    rng = np.random.default_rng(0)
    sizes = policy.observation_size, policy.goal_size
    random = tuple(rng.standard_normal((RANDOM_ROWS, size)).astype(np.float32) for size in sizes)
    if recorded is None:
        return random[0], random[1]
    kept = np.linspace(0, len(recorded[0]) - 1, min(RECORDED_ROWS, len(recorded[0]))).astype(int)
    both = [np.concatenate([np.asarray(one, np.float32)[kept], two]) for one, two in zip(recorded, random, strict=True)]
    return both[0], both[1]


def _library_actions(policy: Policy, pair: Pair) -> np.ndarray:
    """Return the actions of the policy on the CPU, where products are in float32."""
    cpu = cpu_device()
    with jax.default_device(cpu):
        state = jax.device_put(policy.agent_state, cpu)
        actions = np.asarray(jax.jit(policy.agent.act)(state, *pair, jax.random.key(0)))
    chunk = policy.agent.executed_actions
    return actions if chunk == 1 else actions.reshape(len(actions), chunk, policy.action_size)


def _tolerance(policy: Policy, precision: ActingPrecision) -> float:
    rounded = policy.contract.torso.settings.get("precision") == "bfloat16"
    return TOLERANCES["bfloat16" if precision == "float32" and rounded else precision]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions(written: Written) -> dict[str, str]:
    return {"kilolayer": __version__} | {name: importlib.metadata.version(name) for name in ("jax", *written.packages)}
