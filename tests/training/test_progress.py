"""The progress display: how far, how fast, how long still."""

import io

import pytest
from rich.console import Console

from kilolayer.training import progress
from kilolayer.training.progress import Bar, Clock, Lines


@pytest.fixture
def now(monkeypatch):
    """A clock that only the test moves."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_speed_and_remaining_time_are_those_of_the_last_steps(now):
    clock = Clock(total=100_000, start=0)
    assert clock.eta == "--:--"
    now[0] += 60.0  # compiling
    clock.mark(100)
    slow = clock.speed
    for step in range(2, 40):
        now[0] += 0.5
        clock.mark(100 * step)
    assert slow < 2.0
    assert clock.speed == pytest.approx(200.0)
    assert clock.eta == "08:00"  # 96,100 steps at 200 a second
    assert clock.share == pytest.approx(0.039)
    assert Clock(total=10**9, start=0).share == 0.0


def test_long_times_have_hours(now):
    clock = Clock(total=7_200_100, start=0)
    now[0] += 0.1
    clock.mark(100)
    assert clock.eta == "2:00:00"


def test_lines_come_once_in_a_while(now, capsys):
    lines = Lines(Clock(total=1000, start=0), seconds=10.0)
    for step in range(1, 31):
        now[0] += 1.0
        lines.update(10 * step, 0.25 if step > 15 else None)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert "100 env steps" in printed[0]
    assert "success --" in printed[0]
    assert "ETA" in printed[1]
    assert "success 0.25" in printed[2]


def test_the_bar_is_one_line_with_eta_speed_and_success():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar = Bar(Clock(total=1000, start=0), console)
    bar.update(500, 0.5)
    bar._progress.refresh()
    bar.close()
    text = console.file.getvalue()
    assert "50%" in text
    assert "ETA" in text
    assert "success 0.50" in text
