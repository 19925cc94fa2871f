"""Load a policy from wherever there is one. What is imported for it depends on what is found."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilolayer.policies import Policy


def load(path: str | os.PathLike, *, checkpoint: int | str | None = None) -> "Policy":
    """Load a policy from its own directory or from a run. No code from the files is run.

    Only a run whose checkpoints hold no policy by itself, such as one of kilolayer 0.1.0, needs the environment.

    Args:
        path: the directory of a policy, or of a run.
        checkpoint: which checkpoint of the run: its step, `latest` (as None) or `best`; or `untrained`, for the
            networks that it began with.

    Returns:
        The policy, to call with an observation and a desired goal.

    Raises:
        RunError: if there is no such policy or checkpoint, or its files are damaged.
        ConfigurationError: if `checkpoint` is given for a directory that is no run, or a setting is not valid.
    """
    from kilolayer.checkpoint_files import CHECKPOINTS, UNTRAINED, read_again_if_rotated
    from kilolayer.policies.load import find_artifact

    def read() -> "Policy":
        artifact = None if checkpoint == UNTRAINED else find_artifact(path, checkpoint)
        if artifact is None:
            from kilolayer.training import load_policy

            return load_policy(path, checkpoint=checkpoint)
        from kilolayer.policies.policy import Policy

        return Policy.read(artifact)

    return read_again_if_rotated(Path(path) / CHECKPOINTS, read)
