"""The policy of a checkpoint as an item of Orbax: the same commit makes it whole or absent with all other items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

PolicyWriter = Callable[[Path], None]
"""Writes the files of a policy into an existing directory."""


class PolicyHandler(ocp.AsyncCheckpointHandler):
    """Saves a policy by calling a function with the directory of the item, beside training."""

    def save(self, directory: Any, args: "SavePolicy") -> None:
        """Write the policy and return when it is written."""
        if jax.process_index() == 0:
            args.write(Path(directory))

    async def async_save(self, directory: Any, args: "SavePolicy") -> list[ocp.future.Future]:
        """Begin to write the policy, once Orbax has made the directory.

        Returns:
            What Orbax waits for before it commits the checkpoint.
        """

        async def write() -> None:
            self.save(directory, args)

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="policy")]

    def restore(self, directory: Any, args: Any = None) -> Any:
        """Raise: policies are read without Orbax."""
        raise NotImplementedError("kilolayer.policies reads the policy of a checkpoint")


@ocp.args.register_with_handler(PolicyHandler, for_save=True, for_restore=True)  # Orbax asks for both
class SavePolicy(ocp.args.CheckpointArgs):
    """What Orbax calls `PolicyHandler` with."""

    def __init__(self, write: PolicyWriter):
        """Take the function that writes the policy."""
        self.write = write
