"""A run of an environment of one's own: what is printed next works, and what does not says which file is missing."""

import contextlib
import io
import shlex

import pytest

from kilolayer import user_code
from kilolayer.cli.main import main
from kilolayer.envs import registry
from small_runs import flags

FILE = """
from kilolayer.envs import EnvironmentSpec, register, spec

register(EnvironmentSpec("my maze", "mine", task=spec("point_u_maze").task, engine=spec("point_u_maze").engine))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The file, the run, and what was printed."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "my maze.py"
    file.write_text(FILE)
    return file, folder / "run"


@pytest.fixture(scope="module")
def printed(trained):
    file, run = trained
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_code, "_imported", [])
        assert main(["--import", str(file), "train", "my maze", f"--run-dir={run}", "--quiet", *flags()]) == 0
    return out.getvalue()


@pytest.fixture
def forgotten(printed, monkeypatch):
    """Another process, which has not imported the file."""
    monkeypatch.setattr(user_code, "_imported", [])
    registry.unregister("my maze")
    yield
    registry.unregister("my maze")


@pytest.mark.slow
def test_the_command_that_is_printed_next_works(trained, printed, forgotten, capsys):
    file, run = trained
    words = shlex.split(printed.partition("next: ")[2])
    assert words == ["kilolayer", "--import", str(file), "report", str(run)]
    assert main(words[1:]) == 0
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("command", [["report"], ["eval"], ["play"], ["render"], ["train", "--resume"]], ids=" ".join)
def test_without_the_file_the_line_names_it(command, trained, forgotten, capsys):
    file, run = trained
    assert main([*command, str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "env 'my maze' is unknown" in line
    assert line.endswith(f"; {run} was trained with {file}; add --import {shlex.quote(str(file))}")


def test_a_file_that_has_changed_or_is_gone_says_so(trained, forgotten, capsys):
    file, run = trained
    file.write_text(FILE + "\n")
    assert main(["eval", str(run)]) == 2
    assert f"was trained with {file} (it has changed since)" in capsys.readouterr().err
    file.unlink()
    assert main(["eval", str(run)]) == 2
    assert f"was trained with {file} (it is gone)" in capsys.readouterr().err
    file.write_text(FILE)


def test_an_unknown_name_mentions_the_flag_until_something_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(user_code, "_imported", [])
    assert main(["train", "my crane"]) == 2
    assert "names of a file of your own need --import FILE" in capsys.readouterr().err
    monkeypatch.setattr(user_code, "_imported", ["/a/file.py"])
    assert main(["train", "my crane"]) == 2
    assert "--import" not in capsys.readouterr().err
