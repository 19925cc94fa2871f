"""Settings from plain data: values of another type are refused in one line, and never taken for something else."""

import json

import pytest

from kilolayer import envs
from kilolayer.cli.main import main
from kilolayer.cli.values import values
from kilolayer.errors import ConfigurationError, KilolayerError, RunError
from kilolayer.runs import default_config, read_config
from kilolayer.studies.core.compare import find_runs


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": True}, "width=True must not be true or false"),
        ({"width": "8 "}, "width='8 ' must not be text"),
        ({"width": {}}, "width={}"),
        ({"width": []}, r"width=\[\]"),
        ({"wandb": 1}, "wandb=1 must be true or false"),
        ({"wandb": "yes"}, "wandb='yes' must be true or false"),
        ({"total_gradient_steps": True}, "total_gradient_steps=True must not be"),
        ({"checkpoint_minutes": True}, "checkpoint_minutes=True must not be"),
        ({"checkpoint_minutes": float("inf")}, "checkpoint_minutes=inf must be above 0, and finite"),
        ({"checkpoint_minutes": float("nan")}, "checkpoint_minutes=nan must be above 0"),
        ({"crl": {"discount": True}}, "crl.discount=True must not be"),
        ({"crl": {"logsumexp_penalty": float("nan")}}, "logsumexp_penalty=nan must be"),
        ({"optimizer": {"max_gradient_norm": float("inf")}}, "must be"),
        ({"crl": 1}, "crl=1 must be settings"),
        ({"agent": {}}, "agent={} must be a name"),
        ({"torso": []}, r"torso=\[\] must be a name"),
        ({"eval_env": 1}, "eval_env=1 must be a name"),
        ({"eval_env": []}, r"eval_env=\[\] must be a name"),
        ({"variant": []}, r"variant=\[\] must be a name"),
        ({"engine": {}}, "engine={} must be a name"),
        ({"eval_env": "a\0.txt"}, "cannot be read"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        default_config("reacher", **settings)


def test_whole_numbers_may_be_written_as_floats():
    assert default_config("reacher", total_env_steps=2e6).total_env_steps == 2_000_000


@pytest.mark.parametrize("env", [1, [], {}])
def test_an_environment_is_named_by_text(env):
    with pytest.raises(ConfigurationError, match="must be a name"):
        default_config(env)


@pytest.mark.parametrize(
    "setting",
    ["width={}", "wandb=1", "width=8 ", " width=8", "width=true", "agent={}", "eval_env=1", "variant={}"],
)
def test_a_study_refuses_a_setting_of_another_type(setting, capsys):
    assert main(["study", "depth", "--dry-run", "--set", setting]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_values_nested_too_deep_are_refused():
    with pytest.raises(ConfigurationError, match="set: the value of width is nested too deep"):
        values(["width=" + "[" * 100_000], flag="set")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 2, "env": ' + "[" * 100_000, '{"format": 2, "env": {}}'])
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(KilolayerError) as error:
        read_config(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"crl": 5}, {"architecture": [1]}, {"crl": None}])
def test_a_damaged_configuration_of_format_1_is_one_line(tmp_path, settings):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"format": 1, "env": "reacher", "agent": "crl"} | settings))
    with pytest.raises(ConfigurationError, match="must be settings by name"):
        read_config(file)


@pytest.mark.parametrize("name", [f"point_u_maze_gen_{'9' * 5000}f", "point_u_maze_gen_٣f", "a\0b"], ids=len)
def test_a_name_that_is_no_environment_is_unknown(name):
    with pytest.raises(ConfigurationError, match="is unknown"):
        envs.spec(name)


def test_a_number_of_too_many_digits_is_refused(capsys):
    assert main(["train", "reacher", "--width", "9" * 5000]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_argument_with_a_nul_character_is_refused(capsys):
    for arguments in (["compare", "a\0b"], ["report", "a\0b"], ["train", "reacher", "--run-dir", "a\0b", "--dry-run"]):
        assert main(arguments) == 2
        assert "NUL character" in capsys.readouterr().err
    with pytest.raises(RunError, match="cannot be compared"):
        find_runs(["a\0b"])
