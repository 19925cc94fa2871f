"""Load a policy from its own directory or from a run. Needs no environment, no physics and no Orbax."""

import os
from pathlib import Path

from kilolayer.checkpoint_files import CHECKPOINTS, POLICY_ITEM, find_step
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.policies.artifact import CONTRACT_FILE
from kilolayer.policies.policy import Policy


def load(path: str | os.PathLike, *, checkpoint: int | str | None = None) -> Policy:
    """Load a policy.

    Args:
        path: the directory of a policy, or of a run.
        checkpoint: which checkpoint of the run: its step, `latest` (as None) or `best`.

    Raises:
        RunError: if there is no such policy, or its files are damaged.
        ConfigurationError: if `checkpoint` is given for a directory that is no run.
    """
    found = find_artifact(path, checkpoint)
    if found is None:
        raise RunError(f"{path} holds no policy: neither it nor the checkpoint has a {CONTRACT_FILE}")
    return Policy.read(found)


def find_artifact(path: str | os.PathLike, checkpoint: int | str | None = None) -> Path | None:
    """Return the directory of a policy; None if the checkpoint was saved without one, or there is no run.

    Raises:
        RunError: if the run has no such checkpoint.
        ConfigurationError: if `checkpoint` is given for a directory that is no run.
    """
    directory = Path(path)
    if (directory / CONTRACT_FILE).exists():
        if checkpoint is not None:
            raise ConfigurationError(f"checkpoint={checkpoint!r} has no effect: {directory} is a policy, not a run")
        return directory
    checkpoints = directory / CHECKPOINTS
    if not checkpoints.is_dir():
        return None
    policy = checkpoints / str(find_step(checkpoints, checkpoint)) / POLICY_ITEM
    return policy if policy.is_dir() else None
