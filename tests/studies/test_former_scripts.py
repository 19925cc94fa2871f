"""The studies of residual scaling, growth, engines and random exploration: each runs once at a tiny size."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.runs import Checkpoints, RunDirectory
from kilolayer.studies import STUDIES, Work, run_study, write_results
from kilolayer.studies import random_exploration as exploration
from kilolayer.studies.core.mazes import maze_text
from kilolayer.studies.growth import GROWING
from kilolayer.training import Setup, load_policy
from small_runs import SMALL

pytestmark = pytest.mark.usefixtures("quick_compilation")

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
    pushing = STUDIES["engines"].grid("cpu", tasks=("arm_push_easy",))
    assert [case.config.engine for case in pushing] == ["mujoco", "mjx"]
    refused("engines", "task 'point_u_maze' runs on none of mujoco, mjx, spring", tasks=("point_u_maze",))


def test_an_agent_learns_on_an_engine(tmp_path):
    cases = [case for case in STUDIES["engines"].grid("cpu", changes=TINY) if case.labels["engine"] == "mujoco"]
    (found,) = run("engines", tmp_path, cases)
    assert found.run.config().engine == "mujoco"
    assert 0.0 <= found.score("eval/success_any") <= 1.0


# ---- random_exploration ------------------------------------------------------------------------------------

BRIEF = {"width": 16, "batch_size": 16, "gradient_steps_per_unroll": 6, "num_evals": 2, "num_eval_envs": 4}


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A tiny run of two seeds, its case, and the directory."""
    directory = tmp_path_factory.mktemp("explored")
    case, _ = STUDIES["random_exploration"].grid("cpu", tasks=("u",), changes=BRIEF)
    return run("random_exploration", directory, [case], seeds=(0, 3)), case, directory


def test_agents_learn_from_one_recording(explored):
    found, _, _ = explored
    for one in found:
        assert [row["gradient_steps"] for row in one.rows] == [3, 6]
        assert {row["env_steps"] for row in one.rows} == {exploration.NUM_ENVS * exploration.NUM_STEPS}
        assert -1.0 <= one.score(exploration.RANK) <= 1.0
        assert one.score(exploration.RANK) == one.rows[-1][exploration.RANK]
        assert len(one.measured.rows) == 2
    assert found[0].rows[-1][exploration.RANK] != found[1].rows[-1][exploration.RANK]


def test_the_run_directory_is_an_ordinary_one(explored):
    found, case, _ = explored
    policy = load_policy(found[1].run.path)
    assert policy.env_steps == exploration.NUM_ENVS * exploration.NUM_STEPS
    setup = Setup.build(case.config)
    (rank,) = exploration.ranker(setup)(jax.tree.map(lambda leaf: leaf[None], policy.agent_state))
    assert rank == pytest.approx(found[1].rows[-1][exploration.RANK], abs=1e-3)


def test_finished_runs_are_read_and_others_start_again(explored, monkeypatch):
    found, case, directory = explored
    study, calls = STUDIES["random_exploration"], []

    def training(config, seeds, run_dir, *, progress):
        calls.append(list(seeds))
        return exploration.train_from_recording(config, seeds, run_dir, progress=progress)

    training.__name__ = exploration.train_from_recording.__name__
    counted = dataclasses.replace(study, train=training)
    (again,) = run_study(counted, [case], (0, 3), directory)
    assert calls == []
    assert [one.rows for one in again] == [one.rows for one in found]

    checkpoints = Checkpoints(found[1].run.checkpoints, keep=1)
    checkpoints.drop_after(0)  # as if it was killed before its only checkpoint
    checkpoints.close()
    work = Work(case, (0, 3), directory, training)
    assert not work.is_finished
    work.train(progress=False)
    assert calls == [[0, 3]]
    for one in found:
        rows = RunDirectory(one.run.path).metrics()
        assert [row[exploration.RANK] for row in rows] == [row[exploration.RANK] for row in one.rows]


def test_the_runs_are_apart_from_those_of_ordinary_training(explored):
    _, case, directory = explored
    own = Work(case, (0,), directory, exploration.train_from_recording)
    assert own.path != Work(case, (0,), directory).path
    assert not Work(case, (0,), directory).is_finished


def test_random_forces_last_a_while():
    case, _ = STUDIES["random_exploration"].grid("cpu", tasks=("u",), changes=BRIEF)
    buffer = exploration.record(Setup.build(case.config))
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
        ({"changes": {"agent": "ppo"}}, "agent='ppo' learns from its own actions only"),
        ({"changes": {"gradient_steps_per_unroll": 100}}, "must be a multiple of num_evals=6"),
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
