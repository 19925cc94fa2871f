"""A run whose every episode ends in its first step has learnt nothing: it says so."""

import jax.numpy as jnp
import pytest

from kilolayer.cli.main import main
from small_runs import flags

WORDS = "every episode ends in its first step: check `failed` of the task"


@pytest.mark.slow
@pytest.mark.parametrize("fails", [True, False])
def test_it_is_said_at_the_end_and_in_the_progress_line(tmp_path, monkeypatch, capsys, fails):
    """The length of the task that fails is its own, so that it shares no program with another."""
    if fails:
        monkeypatch.setattr(
            "kilolayer.envs.tasks.Reacher.failed", lambda self, state: jnp.ones((), bool), raising=False
        )
    length = {"episode_length": 26} if fails else {}
    assert main(["train", "reacher", f"--run-dir={tmp_path / 'run'}", *flags(**length)]) == 0
    found = capsys.readouterr()
    assert (f"warning: {tmp_path / 'run'}: {WORDS}" in found.err) == fails
    assert "finished" in found.out
