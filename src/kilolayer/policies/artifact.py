"""A policy as two files: `policy.json`, its contract, and `policy.safetensors`, its weights.

Nothing in the files is trusted: they are read without running code from them, and everything in them is validated.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy

from kilolayer.agents import Agent, AgentState
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.files import sync, whole_directory
from kilolayer.machine import check_float32
from kilolayer.named_arrays import fill, to_arrays
from kilolayer.policies.contract import Contract

FORMAT = 1
"""Grows when this version's files would be misread by the version before."""

CONTRACT_FILE, WEIGHTS_FILE = "policy.json", "policy.safetensors"


class Artifact(NamedTuple):
    """A policy as read from its files."""

    contract: Contract
    agent: Agent
    agent_state: AgentState
    """The part of the agent's state that acts and values."""


def artifact_writer(contract: Contract, agent_state: AgentState) -> Callable[[Path], None]:
    """Return a function that writes both files into a directory. The arrays are copied now."""
    return functools.partial(_write_files, contract=contract, arrays=to_arrays(agent_state))


def save_artifact(directory: str | os.PathLike, contract: Contract, agent_state: AgentState) -> Path:
    """Write a policy into a new directory, which is whole or absent even if the power fails.

    Args:
        directory: must not exist yet.
        contract: of the policy.
        agent_state: what acts and values, as `Agent.acting` returns it.

    Returns:
        The directory.

    Raises:
        RunError: if the directory exists or cannot be written.
    """
    final = Path(directory)
    with whole_directory(final) as partial:
        artifact_writer(contract, agent_state)(partial)
    return final


def read_artifact(directory: str | os.PathLike) -> Artifact:
    """Read a policy.

    Raises:
        RunError: in one line, if the files are missing, damaged, of a newer format, or do not fit each other.
        ConfigurationError: if JAX computes in float64.
    """
    check_float32()
    folder = Path(directory)
    contract, digest = _read_contract(folder / CONTRACT_FILE)
    arrays = _read_weights(folder / WEIGHTS_FILE, digest)
    try:
        agent = contract.build_agent()
        # Shapes only: no parameters are drawn.
        agent, template = agent.acting(jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0))))
    except ConfigurationError as error:
        raise RunError(f"{folder / CONTRACT_FILE}: {error}") from error
    except Exception as error:  # settings that are valid each, but make no network
        raise RunError(f"{folder / CONTRACT_FILE} describes no policy ({_summary(error)})") from error
    if contract.action.chunk != agent.executed_actions:
        raise RunError(
            f"{folder / CONTRACT_FILE}: action.chunk={contract.action.chunk} must be {agent.executed_actions}, as many "
            "as agent.settings let be executed"
        )
    try:
        return Artifact(contract, agent, fill(template, arrays))
    except ValueError as error:
        raise RunError(f"{folder / WEIGHTS_FILE} does not fit {CONTRACT_FILE}: {error}") from error


def _write_files(directory: Path, contract: Contract, arrays: Mapping[str, np.ndarray]) -> None:
    weights = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    digest = hashlib.sha256(weights).hexdigest()
    data = {"format": FORMAT, **contract.to_dict(), "weights": {"file": WEIGHTS_FILE, "sha256": digest}}
    _write(directory / WEIGHTS_FILE, weights)
    _write(directory / CONTRACT_FILE, (json.dumps(data, indent=2) + "\n").encode())
    sync(directory)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_contract(path: Path) -> tuple[Contract, str]:
    """Return the contract, and the digest of the weights as the file gives it."""
    try:
        data = json.loads(_read(path).decode())
    except UnicodeDecodeError:
        raise RunError(f"{path} is damaged: it is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: it is not JSON ({_summary(error)})") from None
    if isinstance(data, dict) and "exported" in data:
        raise RunError(f"{path.parent} is an export, which other programs run; load the policy that it was made of")
    found = data.pop("format", None) if isinstance(data, dict) else None
    if type(found) is not int:
        raise RunError(f"{path} is not the contract of a policy: it has no format number")
    if found > FORMAT:
        raise RunError(
            f"{path} was written by a newer kilolayer (format {found}, this version reads up to {FORMAT}); "
            "update kilolayer"
        )
    if found < 1:
        raise RunError(f"{path}: format={found} must be from 1 to {FORMAT}")
    weights = data.pop("weights", None)
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise RunError(f"{path} has no SHA-256 digest of the weights")
    if weights != {"file": WEIGHTS_FILE, "sha256": digest}:
        raise RunError(f"{path}: weights={weights!r} must be the file {WEIGHTS_FILE!r} and its sha256")
    try:
        return Contract.from_dict(data), digest
    except ConfigurationError as error:
        raise RunError(f"{path}: {error}") from error


def _read_weights(path: Path, digest: str) -> dict[str, np.ndarray]:
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise RunError(f"{path} is damaged: its SHA-256 digest is not the one in {CONTRACT_FILE}")
    try:
        return safetensors.numpy.load(data)
    except Exception as error:  # safetensors raises several types for damaged files
        raise RunError(f"{path} is not a safetensors file ({_summary(error)})") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error


def _summary(error: BaseException) -> str:
    """Return the beginning of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
