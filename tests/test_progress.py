"""The progress display: how far, how fast, how long still."""

import io

import pytest
from rich.console import Console

from kilolayer import progress
from kilolayer.progress import Activity, Bar, Lines, Pace, counted


@pytest.fixture
def now(monkeypatch):
    """A clock that only the test moves."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_speed_and_remaining_time_are_those_of_the_last_steps(now):
    pace = Pace(total=100_000, start=0)
    assert pace.eta == "--:--"
    now[0] += 60.0  # compiling
    pace.mark(100)
    slow = pace.speed
    for step in range(2, 40):
        now[0] += 0.5
        pace.mark(100 * step)
    assert slow < 2.0
    assert pace.speed == pytest.approx(200.0)
    assert pace.eta == "08:00"  # 96,100 steps at 200 a second
    assert pace.share == pytest.approx(0.039)
    assert Pace(total=10**9, start=0).share == 0.0


def test_long_times_have_hours(now):
    pace = Pace(total=7_200_100, start=0)
    now[0] += 0.1
    pace.mark(100)
    assert pace.eta == "2:00:00"


def test_lines_come_once_in_a_while(now, capsys):
    lines = Lines("training", Pace(total=1000, start=0), unit="env steps", seconds=10.0)
    for step in range(1, 31):
        now[0] += 1.0
        lines.update(10 * step, "success 0.25" if step > 15 else "")
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert "100 env steps" in printed[0]
    assert printed[0].startswith("training  10%")
    assert "ETA" in printed[1]
    assert "success 0.25" in printed[2]


def test_the_bar_is_one_line_with_eta_speed_and_success():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar = Bar("training", Pace(total=1000, start=0), console)
    bar.update(500, "success 0.50")
    bar._progress.refresh()
    bar.close()
    text = console.file.getvalue()
    assert "50%" in text
    assert "ETA" in text
    assert "success 0.50" in text


def test_counted_work_shows_lines_only_if_it_is_shown(now, capsys):
    for shown, lines in ((True, 1), (False, 0)):
        with counted("drawing", 100, shown=shown) as advance:
            for _ in range(3):
                now[0] += 4.0
                advance(25)
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == lines
    assert Pace(total=0).share == 0.0


def test_an_activity_has_a_line_when_it_begins_and_while_it_lasts(capsys):
    with Activity(seconds=0.01) as show:
        show("compiling")
        printed = ""
        while printed.count("\n") < 2:
            printed += capsys.readouterr().err
        show("measuring")
    first, second, *_ = printed.splitlines()
    assert first == "   0 s  compiling"
    assert second == "   0 s  compiling, for 0 s"
    assert "   0 s  measuring\n" in printed + capsys.readouterr().err


def test_an_activity_moves_on_a_terminal_and_makes_room_for_a_table(capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with Activity(console) as show:
        show("compiling [64]")
        show._moving.refresh()
        with show.aside():
            print("a row")
            assert not show._moving.live.is_started
        assert show._moving.live.is_started
    assert not show._moving.live.is_started
    text = console.file.getvalue()
    assert "compiling [64]" in text
    assert "0:00:00" in text
    assert capsys.readouterr().out == "a row\n"
