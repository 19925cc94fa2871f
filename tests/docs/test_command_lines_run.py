"""The command lines of pages run one after the other, as a reader would type them, with small networks."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_pages import DOCS, ROOT, blocks

from kilolayer.cli import train_options
from kilolayer.cli.main import main
from own_process import own_process
from small_runs import SMALL

REACHER = "kilolayer train reacher --run-dir runs/reacher"
MAZE = "kilolayer train point_u_maze --run-dir runs/first"
DEEP = "kilolayer train reacher --depth 16 --run-dir runs/deep"

PAGES: dict[str, tuple[str, ...]] = {
    "agents.md": (),
    "concepts/survival.md": (),
    "datasets.md": (REACHER,),
    "deploy.md": (REACHER, "python save.py runs/reacher policies/mine"),
    "distil.md": (DEEP,),
    "guides/clusters.md": (),
    "guides/look_at_a_robot.md": (MAZE,),
    "guides/own_agent.md": (),
    "guides/reading_a_report.md": (MAZE,),
    "guides/robot_tasks.md": (),
    "guides/sweeps.md": (),
    "guides/when_depth_pays.md": (),
    "gymnasium.md": ("kilolayer train reacher --run-dir runs/mine",),
    "index.md": (),
    "overview.md": (
        *(
            f"kilolayer train point_u_maze --seed {ord(name[0])} --run-dir runs/{name}"
            for name in ("a", "b", "A", "B", "NAME")
        ),
        *(REACHER, DEEP, "kilolayer record runs/reacher --format npz --output reacher.npz"),
    ),
    "performance.md": (),
    "start/first_run.md": (),
    "start/own_robot.md": (),
    "start/paper_task.md": (),
    "torsos.md": (),
    "your_robot.md": (),
} | {f"studies/{page.name}": () for page in (DOCS / "studies").glob("*.md")}
"""Pages, and what a reader has done before."""

ELSEWHERE = re.compile(
    r"examples/robots/|(gym|ogbench|minari):|format minari| (play|demo)\b(?!.*--headless)|--resume|runs/b runs/studies|"
    r"--urdf|my_robot\.xml|cmake|reacher_grown|--grow|--realtime|my_envs\.py|bench gpu|--against torch|--camera NAME|"
    r"--depth 1024 --diag"
)
"""Lines with tests of their own: robots and environments of other packages, pages that are served, runs that are
interrupted, networks that take minutes to compile; and those that speak of a file of the reader's."""

SHORT = {
    "study": "--dry-run",
    "sweep": "--dry-run",
    "bench step": "--depths 4 --width 16 --batch-size 8 --rounds 2 --gradient-steps 2",
    "bench compile": "--depths 4 --width 16 --batch-size 8",
    "bench replay": "--rounds 1",
    "bench env": "--envs reacher --num-envs 2 --num-steps 2 --rounds 1 --width 16",
    "bench gym": "--envs point_u_maze --num-envs 3 --num-steps 4 --rounds 2",
    "bench act": "--depths 4 --width 16 --calls 3",
    "bench seeds": "--cases point-4x64 --rounds 2",
    "bench agents": "--width 16 --batch-size 8 --rounds 2",
}
"""Flags with which a long command takes seconds: it lists its cases, or measures little. They replace its own."""


def shortened(line: str) -> str:
    """Return a command line that takes seconds."""
    for command, flags in SHORT.items():
        if re.search(rf" {command}\b", line) and line != "kilolayer study":  # which lists the studies
            own = re.sub(rf" ({'|'.join(re.findall('--[a-z-]+', flags))})( [^-]\S*)?", "", line)
            return f"{own} {flags}"
    return line


def lines_of(page: Path) -> list[str]:
    """Return the command lines of a page, in their order."""
    found = []
    for body in blocks(page, "sh", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.join(shlex.split(line, comments=True))
            if words.startswith(("kilolayer ", "python ")) and not ELSEWHERE.search(words):
                found.append(shortened(words))
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the examples and the files that pages let a reader write."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "my_robot.py").write_text(blocks(DOCS / "start" / "own_robot.md", "python")[0])
    maze = next(body for body in blocks(DOCS / "start" / "first_run.md", "text") if "#R" in body)
    (tmp_path / "my_maze.txt").write_text(maze)
    (tmp_path / "space.yaml").write_text(blocks(DOCS / "guides" / "sweeps.md", "yaml")[0])
    (tmp_path / "save.py").write_text("import sys, kilolayer\nkilolayer.load(sys.argv[1]).save(sys.argv[2])\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shrunk(given):
    """Return settings of a run, those that it was given among them, that take seconds."""
    small = {name: value for name, value in SMALL.items() if name != "depth"}
    small |= {"replay_capacity": 200, "total_env_steps": 800}  # room for the batches that pages ask for
    if given.get("dataset") is not None:
        collecting = ("num_envs", "episode_length", "unroll_length", "replay_capacity", "min_replay", "total_env_steps")
        small = {name: value for name, value in small.items() if name not in collecting} | {"total_gradient_steps": 6}
    return given | small


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Brax
@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_run(page, place, monkeypatch):
    settings = train_options.default_config
    monkeypatch.setattr(train_options, "default_config", lambda *env, **given: settings(*env, **shrunk(given)))
    lines = lines_of(DOCS / page)
    assert lines
    for line in (*PAGES[page], *lines):
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=dict(os.environ))
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        else:
            with own_process():
                assert main(words) == 0, line
