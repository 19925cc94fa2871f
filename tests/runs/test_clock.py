"""The two clocks: counts as they are written, and the timetable that says when a run is where."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.runs import Clocks, Count
from kilolayer.runs.timetable import Timetable
from small_runs import small_config

ENV, GRADIENT = "env_steps", "gradient_steps"


@pytest.mark.parametrize(
    ("text", "number", "clock"),
    [
        ("2M", 2_000_000, ENV),
        ("2m env_steps", 2_000_000, ENV),
        (" 50K  gradient_steps ", 50_000, GRADIENT),
        ("1_000", 1_000, ENV),
        ("2.5K", 2_500, ENV),
        ("0", 0, ENV),
        ("1.000000001G gradient_steps", 1_000_000_001, GRADIENT),
    ],
)
def test_a_count_is_a_number_and_a_clock(text, number, clock):
    assert Count.parse(text) == Count(number, clock)


@settings(deadline=None, derandomize=True)
@given(text=st.one_of(st.text(max_size=30), st.text(alphabet="0123456789.kM_-+ envstpgradi", max_size=30)))
def test_other_text_is_refused_in_one_line(text):
    message = None
    try:
        assert Count.parse(text).number >= 0
    except ConfigurationError as error:
        message = str(error)
    if message is None:
        assert text.strip()[0].isdigit()
    else:
        assert repr(text.strip()) in message
        assert "\n" not in message


def test_a_count_is_reached_on_its_own_clock():
    assert Count(10, ENV).reached(Clocks(10, 0))
    assert not Count(10, ENV).reached(Clocks(9, 100))
    assert Count(10, GRADIENT).reached(Clocks(0, 10))
    assert not Count(10, GRADIENT).reached(Clocks(100, 9))


def test_a_moment_is_named_by_env_steps_or_by_gradient_steps_if_there_are_no_env_steps():
    assert [Clocks(80, 6).step, Clocks(0, 6).step, Clocks().step] == [80, 6, 0]
    assert [str(Clocks(8000, 6)), str(Clocks(0, 6000)), str(Clocks())] == [
        "8,000 env steps",
        "6,000 gradient steps",
        "0 env steps",
    ]
    assert (Clocks(80, 6).moment, Clocks(0, 6).moment) == ("env step 80", "gradient step 6")


timetables = st.builds(
    Timetable,
    env_steps_per_round=st.integers(1, 50),
    gradient_steps_per_round=st.integers(1, 9),
    prefill_rounds=st.integers(0, 5),
    total_env_steps=st.integers(1, 2000),
    total_gradient_steps=st.none() | st.integers(1, 200),
)


@settings(deadline=None, derandomize=True)
@given(timetable=timetables, number=st.integers(1, 300), clock=st.sampled_from([ENV, GRADIENT]))
def test_the_timetable_agrees_with_taking_the_rounds_one_by_one(timetable, number, clock):
    count = Count(number, clock)
    clocks = Clocks()
    passed, reached = [], None
    for rounds in itertools.count(1):
        learns = rounds > timetable.prefill_rounds
        after = Clocks(
            clocks.env_steps + timetable.env_steps_per_round,
            clocks.gradient_steps + (timetable.gradient_steps_per_round if learns else 0),
        )
        assert timetable.clocks(rounds) == after
        assert timetable.rounds_at(after) == rounds
        before, clocks = clocks, after
        multiples = range(number, count.of(clocks) + 1, number)
        passed.append(any(count.of(before) < multiple for multiple in multiples))
        assert timetable.passes_multiple(count, rounds) == passed[-1]
        if reached is None and count.reached(clocks):
            reached = rounds
        ended = clocks.env_steps >= timetable.total_env_steps or (
            timetable.total_gradient_steps is not None and clocks.gradient_steps >= timetable.total_gradient_steps
        )
        if ended:
            break
    assert (timetable.rounds, timetable.end) == (rounds, clocks)
    if reached is not None:
        assert timetable.rounds_until(count) == reached
    else:
        assert timetable.rounds_until(count) > rounds


def test_a_run_that_collects_nothing_has_one_clock():
    timetable = small_config(total_env_steps=0, total_gradient_steps=10).timetable
    assert timetable.rounds == 4
    assert timetable.end == Clocks(0, 12)
    assert timetable.rounds_at(Clocks(0, 9)) == 3
    assert timetable.rounds_until(Count(0, ENV)) == 0
    with pytest.raises(ConfigurationError, match="collects nothing; count gradient_steps"):
        timetable.rounds_until(Count(1, ENV))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"total_gradient_steps": 0}, ["total_gradient_steps=0 must be at least 1"]),
        ({"total_gradient_steps": "many"}, ["total_gradient_steps='many'"]),
        ({"eval_every": "often"}, ["eval_every='often'", "write 2M, 2M env_steps or 50K gradient_steps"]),
        ({"eval_every": "0"}, ["eval_every='0'", "at least 1 step"]),
        ({"eval_every": "10 rounds"}, ["unknown clock 'rounds'"]),
        ({"checkpoint_every": "401"}, ["checkpoint_every='401'", "never reached", "ends at 400 env_steps"]),
        ({"checkpoint_every": "25 gradient_steps"}, ["never reached", "ends at 24 gradient_steps"]),
        ({"eval_every": "200", "total_gradient_steps": 3}, ["eval_every='200'", "ends at 120 env_steps"]),
        ({"total_env_steps": 0}, ["total_env_steps=0 collects nothing", "total_gradient_steps"]),
        (
            {"total_env_steps": 0, "total_gradient_steps": 9, "eval_every": "100"},
            ["eval_every='100'", "count gradient_steps"],
        ),
        (
            {"total_env_steps": 0, "total_gradient_steps": 9, "grow": "4@0,8@100"},
            ["grow: 8@100", "count gradient_steps"],
        ),
        (
            {"total_env_steps": 0, "total_gradient_steps": 9, "agent": "ppo"},
            ["agent='ppo' learns only from what its own policy collects", "use agent=c_learning or crl or"],
        ),
        ({"total_env_steps": 0, "total_gradient_steps": 9, "collector_depth": 4}, ["collector_depth=4 has no effect"]),
    ],
)
def test_impossible_clocks_are_refused_in_one_line(setting, words):
    with pytest.raises(ConfigurationError) as error:
        small_config(**{"depth": 8} | setting)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
