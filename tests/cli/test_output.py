"""What the command line prints, to any terminal, closed pipe or full disk."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import kilolayer as kl
from kilolayer.checkpoint_files import steps_in
from kilolayer.cli.imports import import_whole
from kilolayer.cli.main import main
from kilolayer.cli.output import READER_GONE, finish_output, output_failed, set_up_output
from kilolayer.files import json_text
from small_runs import flags, small_config

COMMAND = [sys.executable, "-m", "kilolayer"]
FULL = "/dev/full"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_takes_every_text(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    set_up_output()
    print("1 ± 2 → 3 ≥ 2, 鹿")
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert text.startswith(
        {"ascii": "1 +/- 2 -> 3 >= 2, ?", "latin-1": "1 ± 2 -> 3 >= 2, ?"}.get(encoding, "1 ± 2 → 3")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["envs"],
        *(pytest.param([*words, "--help"], marks=pytest.mark.slow) for words in ([], ["train"])),
        ["envs", "show", "reacher"],
    ],
)
def test_listings_print_on_an_ascii_terminal(arguments):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii()


@pytest.mark.parametrize("how", [">&-", "| true", "| head -c 1"])
@pytest.mark.parametrize("arguments", [pytest.param("--help", marks=pytest.mark.slow), "envs"])
def test_a_reader_of_a_listing_may_close_the_pipe(arguments, how):
    command = f"set -o pipefail; {sys.executable} -m kilolayer {arguments} {how}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists(FULL), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_one_line():
    with open(FULL, "w") as full:
        result = subprocess.run([*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "kilolayer: error: standard output cannot be written: No space left on device"
    ]


@pytest.mark.parametrize(
    ("code", "listing", "expected"), [(0, True, 0), (0, False, READER_GONE), (130, False, 130), (130, True, 130)]
)
def test_a_closed_pipe_is_success_for_listings_only(monkeypatch, code, listing, expected):
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert finish_output(code, listing=listing) == expected
    assert output_failed(BrokenPipeError(), code, listing=listing) == expected


def test_json_has_null_for_numbers_that_are_not_finite():
    data = json.loads(json_text({"a": float("nan"), "b": [float("inf"), 1.5], "c": (True, None, "x")}))
    assert data == {"a": None, "b": [None, 1.5], "c": [True, None, "x"]}


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["2>&1 | (trap '' INT; head -c 20)", "> /dev/full 2>&1", "2> /dev/full"])
def test_training_ends_well_when_nobody_can_read_its_progress(tmp_path, streams):
    path = tmp_path / "run"
    command = f"{sys.executable} -m kilolayer train point_u_maze --run-dir={path} {' '.join(flags())} {streams}"
    subprocess.run(["bash", "-c", command], capture_output=True, timeout=300)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["env_steps"] == json.loads((path / "config.json").read_text())["total_env_steps"]
    assert (path / "checkpoints" / str(rows[-1]["env_steps"])).is_dir()


CATCHING = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command that catches signals, even if the tests run in the background or under nohup, which ignore them."""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_with_a_closed_pipe_saves_and_has_its_exit_code(tmp_path, number):
    path = tmp_path / "run"
    reads, writes = os.pipe()
    arguments = ["train", "point_u_maze", f"--run-dir={path}", *flags(total_env_steps=40_000_000, num_evals=10_000)]
    process = subprocess.Popen([sys.executable, "-c", CATCHING, *COMMAND, *arguments], stdout=writes, stderr=writes)
    os.close(writes)
    os.close(reads)
    try:
        _wait_for(lambda: (path / "checkpoints").is_dir() and steps_in(path / "checkpoints"), process)
        saved = steps_in(path / "checkpoints")
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(timeout=120) == 128 + number
    finally:
        process.kill()
        process.wait()
    assert steps_in(path / "checkpoints")[-1] > saved[-1]


@pytest.mark.slow
def test_nohup_keeps_a_run_alive_when_its_terminal_is_lost(tmp_path):
    path = tmp_path / "run"
    arguments = ["train", "point_u_maze", f"--run-dir={path}", "--quiet", *flags()]
    command = ["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *COMMAND, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(lambda: (path / "metrics.jsonl").is_file(), process)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.startswith("finished")


def test_the_last_lines_of_training_say_what_a_mean_hides(tmp_path, capsys):
    path = tmp_path / "run"
    kl.train(config=small_config(total_env_steps=200, num_evals=1), run_dir=path, progress=False)
    file = path / "metrics.jsonl"
    *rows, last = file.read_text().splitlines()
    easy = json.loads(last) | {"eval/begins_at_goal": 0.25, "eval/success_any_elsewhere": 0.5}
    file.write_text("\n".join([*rows, json.dumps(easy)]) + "\n")
    assert main(["train", "--resume", str(path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert f"{path}: 25.0% of the episodes begin at their goal; of the others success_any is 0.500" in out


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["envs"], ["train", "reacher", "--dry-run"], ["eval", "none"], ["study"]])
def test_ctrl_c_in_the_first_seconds_is_one_line(arguments):
    number = random.Random(len(arguments[0]))
    for _ in range(12):
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        time.sleep(number.uniform(0.15, 2.0))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode == 130:
            assert err.splitlines() == ["kilolayer: interrupted"]
        else:  # it had ended
            assert "Traceback" not in err


def test_an_interrupt_inside_an_import_is_an_interrupt(monkeypatch, capsys):
    def interrupted(arguments):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("a module stopped halfway") from error

    monkeypatch.setattr("kilolayer.cli.main._run", interrupted)
    assert main(["envs"]) == 130
    assert capsys.readouterr().err == "kilolayer: interrupted\n"


def test_ctrl_c_waits_for_the_end_of_an_import_and_a_second_one_does_not(monkeypatch, tmp_path):
    """Libraries in C print a traceback of their own, or raise another error, when they are interrupted."""
    monkeypatch.syspath_prepend(tmp_path)
    once = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "interrupted_once.py").write_text(f"{once}ended = True\n")
    (tmp_path / "interrupted_twice.py").write_text(f"{once}{once}ended = True\n")
    handler = signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)  # a process in the background may ignore Ctrl-C
    try:
        for name in ("interrupted_once", "interrupted_twice"):
            with pytest.raises(KeyboardInterrupt):
                import_whole(name)
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert sys.modules.pop("interrupted_once").ended
    assert "interrupted_twice" not in sys.modules


def _wait_for(condition, process, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < end
        time.sleep(0.05)
