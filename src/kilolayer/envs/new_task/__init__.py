"""Task files for robots of a user's own, written from their models."""

from kilolayer.envs.new_task.write import write_task

__all__ = ["write_task"]
