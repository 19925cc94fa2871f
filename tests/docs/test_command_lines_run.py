"""Pages that lead from a robot to its policy: their command lines run one after the other, with small networks."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_pages import DOCS, ROOT, blocks

from kilolayer.agents import unregister_agent
from kilolayer.cli import train_options
from kilolayer.cli.main import main
from kilolayer.envs import names, registry
from kilolayer.runs import unregister_preset
from small_runs import SMALL

PAGES = ("start/first_run.md", "start/own_robot.md", "your_robot.md")

ELSEWHERE = re.compile(r"examples/robots/|^kilolayer (play|demo)\b(?!.*--headless)|--resume|--urdf|my_robot\.xml|cmake")
"""Lines with tests of their own: robots of other packages, pages that are served, runs that are interrupted; and those
that speak of a file of the reader's."""


def lines_of(page: Path) -> list[str]:
    """Return the command lines of a page, in their order."""
    found = []
    for body in blocks(page, "sh", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.join(shlex.split(line, comments=True))
            if words.startswith(("kilolayer ", "python ")) and not ELSEWHERE.search(words):
                found.append(words)
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the examples and the files that pages let a reader write."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "my_robot.py").write_text(blocks(DOCS / "start" / "own_robot.md", "python")[0])
    maze = next(body for body in blocks(DOCS / "start" / "first_run.md", "text") if "#R" in body)
    (tmp_path / "my_maze.txt").write_text(maze)
    monkeypatch.chdir(tmp_path)
    known, files, folders = set(names()), set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(names()) - known:
        registry.unregister(name)
        unregister_preset(name)
    unregister_agent("my_agent")
    sys.path[:] = folders
    for module in set(sys.modules) - files:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_run(page, place, monkeypatch):
    settings = train_options.default_config
    monkeypatch.setattr(train_options, "default_config", lambda **given: settings(**(given | SMALL)))
    lines = lines_of(DOCS / page)
    assert len(lines) > 3
    for line in lines:
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=dict(os.environ))
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        else:
            assert main(words) == 0, line
