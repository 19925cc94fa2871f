"""The schedule of growth: what it reads, what it refuses, and the depth that it gives."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.errors import ConfigurationError
from kilolayer.runs import Clocks, default_config
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.training import Setup
from small_runs import SMALL, small_config

ENV, GRADIENT = "env_steps", "gradient_steps"


def growing(**settings):
    """Return a small configuration whose depth is left to the schedule, unless it is given."""
    others = {name: value for name, value in SMALL.items() if name != "depth"}
    return default_config("point_u_maze", **(others | settings))


def numbers(text):
    return [(stage.depth, stage.begins.number, stage.begins.clock) for stage in GrowthSchedule.parse(text).stages]


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("4@0,16@2M,64@10M", [(4, 0, ENV), (16, 2_000_000, ENV), (64, 10_000_000, ENV)]),
        ("4@0,16@250k", [(4, 0, ENV), (16, 250_000, ENV)]),
        (" 0@0 , 8 @ 2.5K ", [(0, 0, ENV), (8, 2500, ENV)]),
        ("4@0K,1_024@1_000_000,2048@1.000001G", [(4, 0, ENV), (1024, 1_000_000, ENV), (2048, 1_000_001_000, ENV)]),
        ("4@0,8@2M env_steps,16@50K  gradient_steps ", [(4, 0, ENV), (8, 2_000_000, ENV), (16, 50_000, GRADIENT)]),
        ("4@0 gradient_steps,8@3 gradient_steps", [(4, 0, GRADIENT), (8, 3, GRADIENT)]),
    ],
)
def test_stages_are_depths_at_counts_of_a_clock(text, stages):
    assert numbers(text) == stages


rising = st.lists(st.integers(1, 10**12), min_size=1, max_size=5, unique=True).map(sorted)


@settings(deadline=None, derandomize=True)
@given(data=st.data(), env_steps=rising, start=st.integers(0, 100))
def test_the_depth_is_that_of_the_last_stage_that_began(data, env_steps, start):
    env_steps = [0, *env_steps]
    steps = data.draw(st.lists(st.integers(1, 100), min_size=len(env_steps), max_size=len(env_steps)))
    depths = [start + sum(steps[:index]) for index in range(len(steps))]
    units = st.sampled_from([("", 1), ("k", 10**3), ("M", 10**6), ("G", 10**9)])

    def written(number):
        name, unit = data.draw(units)
        return f"{number // unit}{name}" if number % unit == 0 else f"{number:_}"

    schedule = GrowthSchedule.parse(",".join(f"{d}@{written(n)}" for d, n in zip(depths, env_steps, strict=True)))
    assert [stage.begins.number for stage in schedule.stages] == env_steps
    assert schedule.final_depth == depths[-1] == schedule.depth_at(Clocks(10**13))
    for index, begins in enumerate(env_steps):
        assert schedule.depth_at(Clocks(begins)) == depths[index]
        if index:
            assert schedule.depth_at(Clocks(begins - 1, 10**13)) == depths[index - 1]


@settings(deadline=None, derandomize=True)
@given(text=st.one_of(st.text(max_size=30), st.text(alphabet="0123456789@,.kM_-+ e", max_size=30)))
def test_any_other_text_is_refused_in_one_line(text):
    stages, message = [], None
    try:
        stages = numbers(text)
    except ConfigurationError as error:
        message = str(error)
    if message is not None:
        assert repr(text) in message
        assert "\n" not in message
    else:
        assert len(stages) >= 2
        assert stages[0][1] == 0
        assert all(a < c and (b < d or x != y) for (a, b, x), (c, d, y) in itertools.pairwise(stages))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grow": ""}, ["grow=''", "such as 4@0,16@2M,64@50K gradient_steps"]),
        ({"grow": "4@0;8@200"}, ["'0;8@200' is not a count of steps; write 2M, 2M env_steps or 50K gradient_steps"]),
        ({"grow": "4;0"}, ["'4;0' is not a stage DEPTH@STEPS"]),
        ({"grow": "4@0,8"}, ["'8' is not a stage"]),
        ({"grow": "4@0,8@-5"}, ["'-5' is not a count"]),
        ({"grow": "4@0,8@1e2"}, ["'1e2' is not a count"]),
        ({"grow": "4@0,8@" + "9" * 5000}, ["is not a count"]),
        ({"grow": "4@0,8@1.5"}, ["'1.5' is not a whole number"]),
        ({"grow": "4@0,8@200 steps"}, ["unknown clock 'steps'; choose env_steps or gradient_steps"]),
        ({"grow": "4@200,8@300"}, ["must begin with a depth at step 0, as 4@0"]),
        ({"grow": "4@0,8@200,16@0 gradient_steps"}, ["both rise"]),
        ({"grow": "8@0"}, ["grow='8@0' has one stage and never grows", "depth=8"]),
        ({"grow": "8@0,4@200"}, ["both rise", "from 8@0 to 4@200"]),
        ({"grow": "4@0,8@200,16@200"}, ["both rise", "from 8@200 to 16@200"]),
        ({"grow": "4@0,6@200"}, ["grow: depth=6", "try 4 or 8"]),
        ({"grow": "4@0,8@361"}, ["8@361", "must begin by env_steps 360, where the last round begins"]),
        ({"grow": "4@0,8@161,12@200"}, ["8@161 and 12@200 begin in the same round", "after env_steps 200"]),
        # Rounds collect 40 steps; from the third one on, each takes 3 gradient steps; the run has 24 of them.
        ({"grow": "4@0,8@22 gradient_steps"}, ["leaves nothing to train", "must begin by gradient_steps 21"]),
        (
            {"grow": "4@0,8@3 gradient_steps,16@120"},
            ["8@3 gradient_steps and 16@120 begin in the same round", "let 16@120 begin after env_steps 120"],
        ),
        (
            {"grow": "4@0,8@200,16@3 gradient_steps"},
            ["begin in the wrong order", "let 16@3 gradient_steps begin after gradient_steps 9"],
        ),
        ({"grow": "4@0,8@200", "depth": 16}, ["depth=16", "ends with", "make it 8"]),
        ({"grow": "4@0,8@200", "depth": 4}, ["depth=4", "ends with", "make it 8"]),
        ({"grow": "4@0,8@200", "crl": {"actor_depth": 8}}, ["crl.actor_depth=8", "leave one of them out"]),
        ({"grow": "4@0,8@200", "crl": {"critic_depth": 4}}, ["crl.critic_depth=4", "leave one of them out"]),
        ({"grow": "4@0,8@200", "architecture": {"activation": "relu"}}, ["activation='relu'", "swish, gelu"]),
        ({"grow": "4@0,8@200", "architecture": {"residual": False}}, ["residual=False"]),
    ],
)
def test_what_cannot_grow_is_refused_with_what_would_be_valid(settings, words):
    with pytest.raises(ConfigurationError) as error:
        growing(**settings)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_the_last_possible_stage_is_taken():
    assert growing(grow="4@0,8@360").depth_at(Clocks(360)) == 8
    assert growing(grow="4@0,8@160,12@161").depth == 12
    assert growing(grow="4@0,8@21 gradient_steps").depth_at(Clocks(360, 21)) == 8


def test_the_depth_of_a_configuration_is_that_of_the_last_stage():
    config = growing(grow="4@0,8@200")
    assert [config.depth, *(config.depth_at(Clocks(step)) for step in (0, 199, 200))] == [8, 4, 4, 8]
    assert small_config(depth=8).depth_at(Clocks()) == 8
    # Settings of the environment do not stand against the schedule; those asked for do, and may agree.
    assert default_config("point_u_maze", grow="4@0,64@1M").depth == 64
    assert growing(grow="4@0,8@200", depth=8) == config


def test_the_setup_at_an_env_step_has_the_depth_of_its_stage():
    setup = Setup.build(growing(grow="4@0,8@200"))
    assert (setup.depth, setup.agent.depth) == (4, 4)
    assert setup.at(Clocks(199)) is setup
    later = setup.at(Clocks(200))
    assert (later.depth, later.agent.depth) == (8, 8)
    assert later.environment is setup.environment
    assert later.at(Clocks()).agent == setup.agent
    assert (setup.collector.agent, later.collector.agent) == (setup.agent, later.agent)


def test_the_branch_factor_is_that_of_the_depth_in_the_end():
    scaled = {"residual_scaling": "inverse_sqrt"}
    setup = Setup.build(growing(grow="4@0,64@200", architecture=scaled))
    assert [each.agent.architecture.branch_factor(1) for each in (setup, setup.at(Clocks(200)))] == [0.25, 0.25]
    fixed = Setup.build(growing(grow="4@0,64@200", architecture=scaled | {"scaled_for_depth": 16}))
    assert fixed.agent.architecture.branch_factor(1) == 0.5
    assert Setup.build(small_config(architecture=scaled)).agent.architecture.scaled_for_depth is None
