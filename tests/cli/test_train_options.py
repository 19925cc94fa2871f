"""The command line and Python build the same configuration, for every task, variant and agent."""

import json

import pytest

from kilolayer.agents import agent_names
from kilolayer.cli.train_options import parse_train
from kilolayer.envs import names, spec
from kilolayer.errors import ConfigurationError
from kilolayer.runs import TrainConfig, default_config
from kilolayer.runs.run_directory import RUN_FORMAT


def variants(env: str) -> list[str]:
    return ["default"] if spec(env).paper_engine is None else ["default", "paper"]


def by_command_line(*arguments: str) -> TrainConfig | str:
    try:
        return parse_train(arguments)[0].settings
    except ConfigurationError as error:
        return str(error)


def by_python(env: str, **settings) -> TrainConfig | str:
    try:
        return default_config(env, **settings)
    except ConfigurationError as error:
        return str(error)


@pytest.mark.parametrize(("env", "engine"), [("reacher", "spring"), ("arm_reach", "mjx")])
def test_variant_paper_selects_the_engine_and_the_preset_of_the_paper(env, engine):
    config = by_command_line(env, "--variant", "paper")
    assert (config.variant, config.engine) == ("paper", engine)
    assert (config.num_envs, config.episode_length) == (512, 1000)


@pytest.mark.parametrize("env", ["reacher", "humanoid"])
def test_both_ways_agree_for_every_variant_and_agent(env):
    for variant in variants(env):
        for agent in agent_names():
            expected = by_python(env, variant=variant, agent=agent)
            assert by_command_line(env, f"--variant={variant}", f"--agent={agent}") == expected


@pytest.mark.slow
@pytest.mark.parametrize("env", names())
def test_both_ways_agree_for_every_task_variant_and_agent(env):
    for variant in variants(env):
        assert by_command_line(env, f"--variant={variant}") == by_python(env, variant=variant)
        for agent in agent_names():
            expected = by_python(env, variant=variant, agent=agent)
            assert by_command_line(env, f"--variant={variant}", f"--agent={agent}") == expected


@pytest.mark.parametrize(("arguments", "engine"), [([], "spring"), (["--engine=mujoco"], "mujoco")])
def test_another_variant_than_that_of_a_file_takes_its_own_engine(tmp_path, arguments, engine):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"format": RUN_FORMAT} | default_config("reacher", engine="mujoco").to_dict()))
    config = by_command_line(f"--config={file}", "--variant=paper", *arguments)
    assert (config.variant, config.engine) == ("paper", engine)
    assert by_command_line(f"--config={file}").engine == "mujoco"
