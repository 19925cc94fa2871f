"""The studies of residual scaling, growth, engines and random exploration: each runs once at a tiny size."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.studies import STUDIES, Work, run_study, write_results
from kilolayer.studies import random_exploration as exploration
from kilolayer.studies.core.mazes import maze_text
from kilolayer.studies.growth import GROWING
from kilolayer.training import Setup, load_with_setup
from small_runs import SMALL

NEW = ("residual_scaling", "growth", "engines", "random_exploration")
TINY = {name: value for name, value in SMALL.items() if name != "depth"}


def run(name, directory, cases, seeds=(0,)):
    found = [one for own in run_study(STUDIES[name], cases, seeds, directory) for one in own]
    figure = write_results(STUDIES[name], found, directory / "results")
    assert figure.stat().st_size > 10_000
    return found


def refused(name, message, **arguments):
    with pytest.raises(ConfigurationError, match=message) as error:
        STUDIES[name].grid("cpu", **arguments)
    assert "\n" not in str(error.value)


# ---- residual_scaling --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_scaling_shortens_the_stream(tmp_path):
    grid = STUDIES["residual_scaling"].grid("cpu", changes={**TINY, "total_env_steps": 160})
    cases = [case for case in grid if case.labels["depth"] == 64]
    assert [case.labels["residual_scaling"] for case in cases] == ["none", "inverse_sqrt"]
    plain, scaled = run("residual_scaling", tmp_path, cases)
    assert scaled.score("first_stream_norm") < 0.6 * plain.score("first_stream_norm")
    rows = plain.measured.rows
    assert {row["network"] for row in rows} == {"phi", "actor"}
    assert {row["block"] for row in rows} == set(range(1, 17))
    seen = plain.run.diagnostics()
    assert {row["gradient_steps"] for row in rows} == {row["gradient_steps"] for row in seen}
    assert plain.score("last_stream_norm") == max(seen[-1]["phi/stream_norm"])


def test_other_networks_have_no_residual_scaling():
    refused("residual_scaling", "agent='td3' has the networks .* and no phi; take agent=crl", changes={"agent": "td3"})
    refused("residual_scaling", "this study sets depth itself", changes={"depth": 64})


# ---- growth ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_growing_changes_no_action_and_no_value(tmp_path):
    changes = {**TINY, "grow": "4@0,8@200", "num_evals": 4}
    grid = STUDIES["growth"].grid("cpu", changes=changes)
    assert [(case.labels["networks"], case.config.depth, case.config.grow) for case in grid] == [
        (GROWING, 8, "4@0,8@200"),
        ("shallow", 4, None),
        ("deep", 8, None),
    ]
    growing, shallow, deep = run("growth", tmp_path, grid)
    (row,) = growing.measured.rows
    assert (row["env_steps"], row["depth_before"], row["depth_after"]) == (200, 4, 8)
    assert row["observations"] == 60 * 4
    assert growing.score("largest_action_change") < 1e-5
    assert growing.score("largest_value_change") < 1e-4
    assert row["success_before"] == row["success_after"]
    assert row["least_value"] < row["greatest_value"]
    for other in (shallow, deep):
        assert not other.measured.rows
        assert np.isnan(other.score("largest_action_change"))


@pytest.mark.slow
def test_without_a_checkpoint_before_growth_nothing_is_measured(tmp_path):
    case, *_ = STUDIES["growth"].grid("cpu", changes={**TINY, "grow": "4@0,8@40", "num_evals": 2})
    (found,) = run("growth", tmp_path, [case])
    assert not found.measured.rows


def test_the_schedule_is_validated():
    refused("growth", "never grows", changes={"grow": "4@0"})
    refused("growth", "this study sets depth itself", changes={"depth": 8})


# ---- engines -----------------------------------------------------------------------------------------------


def test_every_engine_moves_the_variant_that_it_can():
    labels = [(case.labels["engine"], case.config.variant) for case in STUDIES["engines"].grid("cpu")]
    assert labels == [("mujoco", "default"), ("mjx", "default"), ("spring", "paper")]
    for name in ("total_env_steps", "episode_length", "batch_size", "num_envs", "num_evals"):
        assert len({getattr(case.config, name) for case in STUDIES["engines"].grid("cpu")}) == 1, name
    pushing = STUDIES["engines"].grid("cpu", tasks=("arm_push_easy",))
    assert [case.config.engine for case in pushing] == ["mujoco", "mjx"]
    refused("engines", "task 'point_u_maze' runs on none of mujoco, mjx, spring", tasks=("point_u_maze",))


@pytest.mark.slow
def test_an_agent_learns_on_an_engine(tmp_path):
    cases = [case for case in STUDIES["engines"].grid("cpu", changes=TINY) if case.labels["engine"] == "mujoco"]
    (found,) = run("engines", tmp_path, cases)
    assert found.run.config().engine == "mujoco"
    assert 0.0 <= found.score("eval/success_any") <= 1.0


# ---- random_exploration ------------------------------------------------------------------------------------

BRIEF = {
    "width": 16,
    "batch_size": 16,
    "gradient_steps_per_unroll": 3,
    "total_gradient_steps": 6,
    "num_evals": 2,
    "num_eval_envs": 4,
}


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A tiny run of two seeds, its case, and the directory."""
    directory = tmp_path_factory.mktemp("explored")
    case, _ = STUDIES["random_exploration"].grid("cpu", tasks=("u",), changes=BRIEF)
    return run("random_exploration", directory, [case], seeds=(0, 3)), case, directory


@pytest.mark.slow
def test_agents_learn_from_one_recording(explored):
    found, _, _ = explored
    for one in found:
        assert [row["gradient_steps"] for row in one.rows] == [0, 3, 6]
        assert {row["env_steps"] for row in one.rows} == {0}
        assert [row["gradient_steps"] for row in one.measured.rows] == [0, 3, 6]
        assert -1.0 <= one.score(exploration.RANK) <= 1.0
        assert one.score(exploration.RANK) == one.measured.rows[-1][exploration.RANK]
        assert one.score("eval/success_any") == one.rows[-1]["eval/success_any"]
    assert found[0].score(exploration.RANK) != found[1].score(exploration.RANK)
    panels = exploration.draw(found).axes
    levels = [[line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"] for axes in panels]
    assert levels[0] == [np.mean([one.measured.rows[0][exploration.RANK] for one in found])]
    assert [len(level) for level in levels] == [1, 1, 1, 0]  # no loss is known before training


@pytest.mark.slow
def test_the_run_is_an_ordinary_one(explored):
    found, _, _ = explored
    policy, setup = load_with_setup(found[1].run.path)
    assert policy.contract.gradient_steps == 6
    assert exploration.rank_correlation(policy, setup.environment.task) == found[1].score(exploration.RANK)


@pytest.mark.slow
def test_finished_runs_are_read_and_stopped_ones_resume(explored, monkeypatch):
    found, case, directory = explored
    recorded = []

    def record(config):
        recorded.append(config)
        return exploration.record(config)

    study = dataclasses.replace(STUDIES["random_exploration"], data=record)
    (again,) = run_study(study, [case], (0, 3), directory)
    assert [one.rows for one in again] == [one.rows for one in found]
    for one in found:
        shutil.rmtree(one.run.checkpoints / "6")  # as if it was killed before its last checkpoint
    work = Work(case, (0, 3), directory, record)
    assert not work.is_finished
    assert work.share == 1.0
    work.train(progress=False)
    assert work.is_finished
    assert recorded == []
    assert [scores(one) for one in work.outcomes()] == [scores(one) for one in found]


def scores(outcome):
    """Everything in a run's rows but the times."""
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in outcome.rows]


@pytest.mark.slow
def test_the_runs_are_apart_from_those_that_collect(explored):
    _, case, directory = explored
    own = Work(case, (0,), directory, exploration.record)
    assert own.path != Work(case, (0,), directory).path
    assert not Work(case, (0,), directory).is_finished


def test_random_forces_last_a_while():
    case, _ = STUDIES["random_exploration"].grid("cpu", tasks=("u",), changes=BRIEF)
    buffer = exploration.record(case.config)
    action = np.asarray(buffer.action)
    assert action.shape[:2] == (exploration.NUM_STEPS, exploration.NUM_ENVS)
    changes = (action[1:] != action[:-1]).any(axis=-1).mean()
    assert changes == pytest.approx(1.0 / exploration.HOLD, rel=0.05)
    assert np.abs(action).max() <= 1.0


def test_mazes_have_starts_and_goals_everywhere():
    rows = maze_text("drawn_3").split()
    assert len(rows) == len(rows[0]) == 7
    assert set("".join(rows)) == {"#", "R", "G"}
    assert set(rows[0]) == set(rows[-1]) == {"#"}
    for above, below in itertools.pairwise(rows):
        assert not any(a == b != "#" for a, b in zip(above, below, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ("reacher",)}, "task 'reacher' is not a maze of this study; take drawn_10"),
        ({"changes": {"agent": "gcbc"}}, "agent='gcbc' has no value"),
        ({"changes": {"agent": "ppo"}}, "agent='ppo' learns only from what its own policy collects"),
        ({"changes": {"checkpoints_to_keep": 1}}, "this study sets checkpoints_to_keep itself"),
        ({"changes": {"num_envs": 4}}, "num_envs=4: this study sets num_envs itself"),
    ],
)
def test_what_the_recording_does_not_allow_is_refused(arguments, message):
    refused("random_exploration", message, **arguments)


# ---- All ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_every_case_can_be_built(name):
    for size in ("cpu", "gpu", "paper"):
        case = STUDIES[name].grid(size)[0]
        Setup.build(case.config)
        json.dumps(case.settings)
