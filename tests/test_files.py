"""The small files of a run: rows are checked, links are refused, names are unique."""

import json
import os
import runpy
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kilolayer import files
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.files import append_line, read_rows, write_whole
from kilolayer.runs import RunDirectory
from kilolayer.runs.run_directory import new_directory
from kilolayer.runs.sinks import FileSink
from small_runs import small_config

ROWS = [{"env_steps": 40 * number, "gradient_steps": number, "eval/success_any": 0.5} for number in range(4)]


@pytest.fixture
def run(tmp_path):
    """A run with four rows of metrics."""
    run = RunDirectory.create(tmp_path / "run", small_config())
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return run


# ---- Rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   ",
        b"\xff\xfe{}",
        b"[1, 2]",
        b"null",
        b"3",
        b'{"env_steps": 40',
        b'{"gradient_steps": 1}',
        b'{"env_steps": -1}',
        b'{"env_steps": 1.5}',
        b'{"env_steps": true}',
        b'{"env_steps": "40"}',
        b'{"env_steps": 40, "gradient_steps": null}',
        b'{"env_steps": 40, "eval/success_any": "high"}',
        b'{"env_steps": 40, "eval/success_any": {}}',
        b'{"env_steps": 40, "eval/success_any": false}',
        b"[" * 100_000,
    ],
    ids=range(17),
)
def test_a_damaged_line_is_named_and_no_row_is_lost(run, line):
    lines = run.metrics_file.read_bytes().split(b"\n")
    damaged = b"\n".join([lines[0], line, *lines[2:]])
    run.metrics_file.write_bytes(damaged)
    for read in (run.metrics, lambda: FileSink(run, 1000)):
        with pytest.raises(
            RunError, match=r"metrics\.jsonl, line 2: not a row of metrics \(.*\); remove the line"
        ) as error:
            read()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000
    assert run.metrics_file.read_bytes() == damaged


def test_a_line_that_was_cut_short_is_left_out_and_kept_aside(run):
    with run.metrics_file.open("ab") as file:
        file.write(b'{"env_steps": 160, "gradi\xff')
    assert run.metrics() == ROWS
    FileSink(run, 1000).write({"env_steps": 160})
    assert run.metrics() == [*ROWS, {"env_steps": 160}]
    assert run.metrics_file.with_name("metrics.jsonl.cut").read_text() == '{"env_steps": 160, "gradi\\xff\n'


def test_without_a_file_there_are_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_numbers_that_are_not_finite_are_read(run):
    append_line(run.metrics_file, '{"env_steps": 160, "train/critic_loss": NaN, "eval/time_at_goal": null}\n')
    assert len(run.metrics()) == 5


# ---- Links -------------------------------------------------------------------------------------------------

NAMES = (
    ".lock",
    "config.json",
    "system.json",
    "metrics.jsonl",
    "metrics.csv",
    "diagnostics.jsonl",
    "report.html",
    "wandb-id",
    "figures",
    "figures/learning.png",
    "render",
    "checkpoints",
    "checkpoints/400",
    "checkpoints/400/agent",
    "tensorboard",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_a_run_directory_is_refused(run, tmp_path, name):
    outside = tmp_path / "outside"
    if "." in Path(name).name or name == "wandb-id":
        outside.write_text("mine")
    else:
        outside.mkdir()
        (outside / "mine").write_text("mine")
    place = run.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    text = place.read_text() if place.is_file() else None
    place.unlink(missing_ok=True)
    if name == "config.json":
        outside.write_text(text)
    place.symlink_to(outside)
    with pytest.raises(RunError, match=r"is a link to .*must not be links") as error:
        RunDirectory.open(run.path)
    assert "\n" not in str(error.value)
    assert (outside if outside.is_file() else outside / "mine").read_text() == (
        text if name == "config.json" else "mine"
    )


def test_a_new_run_is_not_made_among_links(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(RunError, match="is a link"):
        RunDirectory.create(tmp_path / "run", small_config())


def test_the_run_directory_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "latest").symlink_to(run.path)
    assert RunDirectory.open(tmp_path / "latest").metrics() == ROWS


def test_a_write_replaces_a_link_and_does_not_follow_it(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "file").symlink_to(outside)
    with pytest.raises(OSError, match=r"symbolic links"):
        append_line(tmp_path / "file", "theirs\n")
    write_whole(tmp_path / "file", "theirs")
    assert (outside.read_text(), (tmp_path / "file").read_text()) == ("mine", "theirs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "outside"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]


def test_a_config_that_names_a_file_as_its_maze_is_refused(run, tmp_path):
    maze = tmp_path / "maze.txt"
    maze.write_text("#####\n#R.G#\n#####\n")
    settings = json.loads(run.config_file.read_text()) | {"env": str(maze)}
    run.config_file.write_text(json.dumps(settings))
    with pytest.raises((RunError, ConfigurationError), match="is a path"):
        RunDirectory.open(run.path).config()


# ---- Names -------------------------------------------------------------------------------------------------


def test_runs_that_start_in_the_same_second_have_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small_config()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: new_directory(config), range(64)))
    assert len(set(found)) == 64
    assert all(path.is_dir() for path in found)


def test_on_windows_files_are_locked_without_fcntl(tmp_path, monkeypatch):
    calls = []
    windows = types.ModuleType("msvcrt")
    windows.LK_NBLCK = 2
    windows.locking = lambda *arguments: calls.append(arguments[1:])
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # an import of it fails
    there = runpy.run_path(files.__file__)
    with there["locked"](tmp_path / "lock") as free:
        assert free
    assert calls == [(2, 1)]
