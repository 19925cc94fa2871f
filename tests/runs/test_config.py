"""Configurations: checked before anything is compiled, complete, and read back as they were written."""

import dataclasses
import json

import pytest

import kilolayer as kl
from kilolayer import envs
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.runs import RunDirectory, TrainConfig, default_config, read_config
from kilolayer.runs.run_directory import RUN_FORMAT
from kilolayer.training import Setup
from small_runs import SMALL, small_config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 6}, ["depth=6", "block_size=4", "4 or 8"]),
        ({"depth": -4}, ["depth=-4"]),
        ({"width": 0}, ["width=0", "at least 1"]),
        ({"num_envs": 0}, ["num_envs=0"]),
        ({"total_env_steps": -5}, ["total_env_steps=-5"]),
        ({"seed": -1}, ["seed=-1", "at least 0"]),
        ({"batch_size": 241}, ["batch_size=241", "at most 240", "replay_capacity=60", "num_envs=4"]),
        ({"batch_size": 1}, ["batch_size=1", "negatives"]),
        ({"unroll_length": 61}, ["unroll_length=61", "replay_capacity=60"]),
        ({"min_replay": 61}, ["min_replay=61", "replay_capacity=60"]),
        ({"total_env_steps": 80}, ["total_env_steps=80", "min_replay=20"]),
        ({"checkpoint_minutes": 0.0}, ["checkpoint_minutes=0.0"]),
        ({"crl": {"actor_depth": 7}}, ["actor_depth", "7"]),
        ({"crl": {"discount": 1.5}}, ["discount=1.5"]),
        ({"crl": {"no_such": 1}}, ["crl.no_such"]),
        ({"architecture": {"remat": "sometimes"}}, ["remat='sometimes'"]),
        ({"depth": "deep"}, ["depth='deep'", "integer"]),
        ({"no_such": 1}, ["'no_such'"]),
        ({"eval_env": "point_u_mase"}, ["point_u_mase", "point_u_maze"]),
    ],
)
def test_an_invalid_setting_is_refused_with_its_field_and_valid_values(settings, words):
    with pytest.raises(ConfigurationError) as error:
        Setup.build(small_config(**settings))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_environment_names_the_nearest():
    with pytest.raises(ConfigurationError, match="point_u4_maze"):
        default_config("point_u4_mase")


def test_the_defaults_of_the_class_are_the_papers():
    config = TrainConfig()
    assert (config.num_envs, config.batch_size, config.unroll_length) == (512, 512, 62)
    assert (config.gradient_steps_per_unroll, config.replay_capacity, config.min_replay) == (800, 10_000, 1_000)
    assert (config.width, config.depth, config.episode_length) == (256, 4, 1000)
    crl = config.agent_settings
    assert (crl.energy, crl.loss, crl.logsumexp_penalty) == (
        "l2",
        "infonce_forward",
        0.1,
    )
    assert config.prefill_env_steps == 539_648


@pytest.mark.parametrize("name", envs.names())
def test_every_environment_has_defaults_that_build(name):
    config = default_config(name)
    setup = Setup.build(config)
    assert setup.environment.name == name
    assert setup.eval_environment.name == config.eval_env


def test_mazes_are_evaluated_on_far_goals_where_there_are_any():
    assert default_config("point_u_maze").eval_env == "point_u_maze_eval"
    assert default_config("point_hardest_maze").eval_env == "point_hardest_maze"


def test_nested_settings_are_laid_over_those_of_the_environment():
    assert default_config("point_u_maze", crl={"discount": 0.5}).agent_settings == dataclasses.replace(
        default_config("point_u_maze").agent_settings, discount=0.5
    )


def test_a_configuration_is_read_back_as_it_was_written(tmp_path):
    config = small_config(depth=8, crl={"energy": "dot"}, architecture={"activation": "relu"})
    run = RunDirectory.create(tmp_path / "run", config)
    assert RunDirectory.open(run.path).config() == config
    written = json.loads(run.config_file.read_text())
    names = {field.name for field in dataclasses.fields(TrainConfig)} - {"agent_settings"}
    assert set(written) == names | {"crl", "format"}


def test_the_maze_of_a_file_is_kept_in_the_configuration(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("#####\n#R.G#\n#####\n")
    config = default_config(str(file), **SMALL)
    run = RunDirectory.create(tmp_path / "run", config)
    file.unlink()
    again = Setup.build(run.config())
    assert again.environment.task.maze.walls.shape == (3, 5)
    assert again.eval_environment.task.maze.walls.shape == (3, 5)


@pytest.mark.slow
def test_settings_changed_before_the_first_checkpoint_are_kept(tmp_path):
    run = RunDirectory.create(tmp_path / "run", small_config())
    kl.train(resume=run.path, total_env_steps=200, progress=False)
    assert run.config().total_env_steps == 200


def test_a_configuration_of_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": 99, "what": "ever"}))
    with pytest.raises(RunError, match=r"newer kilolayer \(format 99, this one reads up to 2\); update it"):
        read_config(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "one"}', "null"])
def test_nonsense_is_no_configuration(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(RunError):
        read_config(path)


def test_a_configuration_with_a_wrong_value_names_file_and_field(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": RUN_FORMAT, **small_config().to_dict(), "width": "wide"}))
    with pytest.raises(ConfigurationError, match=r"config\.json: width='wide'"):
        read_config(path)
