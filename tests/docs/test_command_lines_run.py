"""Pages that lead from a robot to its policy: their command lines run one after the other, with small networks."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_pages import DOCS, ROOT, blocks

from kilolayer.cli import train_options
from kilolayer.cli.main import main
from kilolayer.envs import names, registry
from kilolayer.runs import unregister_preset
from small_runs import SMALL

PAGES = ("start/first_run.md", "start/own_robot.md", "your_robot.md")

ELSEWHERE = re.compile(r"examples/robots/| (play|demo)\b(?!.*--headless)|--resume|--urdf|my_robot\.xml|cmake")
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
    return tmp_path


@contextmanager
def own_process(place):
    """Forget what a command imports, as the end of its process would."""
    known, folders = set(names()), list(sys.path)
    try:
        yield
    finally:
        for name in set(names()) - known:
            registry.unregister(name)
            unregister_preset(name)
        sys.path[:] = folders
        for name, module in list(sys.modules.items()):
            if str(place) in str(getattr(module, "__file__", "")):
                del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_run(page, place, monkeypatch):
    settings, small = train_options.default_config, {name: value for name, value in SMALL.items() if name != "depth"}
    monkeypatch.setattr(train_options, "default_config", lambda *env, **given: settings(*env, **(given | small)))
    lines = lines_of(DOCS / page)
    assert len(lines) > 3
    for line in lines:
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=dict(os.environ))
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        else:
            with own_process(place):
                assert main(words) == 0, line
