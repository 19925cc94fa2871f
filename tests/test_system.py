"""What a result was made with: commit, processor, memory."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kilolayer import machine, memory, system


def test_it_names_processor_memory_commit_and_date():
    found = system.describe_system()
    assert found["cpu"] == machine.cpu_model() != ""
    assert found["memory_bytes"] == memory.host_memory()
    assert found["memory_bytes"] is None or found["memory_bytes"] > 2**28
    assert found["started"][:2] == "20"
    assert found["versions"]["jax"]
    json.dumps(found, allow_nan=False)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_work_tree_gives_its_commit_and_says_if_it_was_changed(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    (tmp_path / "__init__.py").write_text("one = 1\n")
    git("init")
    assert system._commit_of_work_tree(tmp_path) is None  # not in the repository yet
    git("add", ".")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert system._commit_of_work_tree(tmp_path) == commit
    (tmp_path / "__init__.py").write_text("two = 2\n")
    assert system._commit_of_work_tree(tmp_path) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system._git(Path(__file__).parent, "rev-parse", "HEAD") is None


def test_memory_is_given_back_where_the_c_library_can(monkeypatch):
    memory.return_unused_memory()
    monkeypatch.setattr(memory, "_process_library", lambda: None)
    memory.return_unused_memory()
