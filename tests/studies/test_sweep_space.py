"""The space of a sweep: what is read, and that every mistake is a line before anything is trained."""

import json

import pytest
from small_sweep import SETTINGS, settings_beside, small_space

from kilolayer.errors import ConfigurationError
from kilolayer.studies import SpaceError, Sweep
from kilolayer.studies.sweep.space import Choice, Range

YAML = """
depth: [0, 4]
crl.energy: [l2, dot]
crl.critic_learning_rate: {low: 1e-4, high: 3e-3, log: true}
batch_size: {low: 8, high: 15, step: 2}
optimizer.max_gradient_norm: [null, 1]
"""

READ = {
    "depth": Choice((0, 4)),
    "crl.energy": Choice(("l2", "dot")),
    "crl.critic_learning_rate": Range(1e-4, 3e-3, log=True),
    "batch_size": Range(8, 15, step=2, whole=True),
    "optimizer.max_gradient_norm": Choice((None, 1)),
}


@pytest.mark.parametrize("kind", ["yaml", "yml", "json"])
def test_a_space_is_read_from_yaml_and_json(tmp_path, kind):
    if kind != "json":
        yaml = pytest.importorskip("yaml")
    path = tmp_path / f"space.{kind}"
    path.write_text(YAML if kind != "json" else json.dumps(yaml_as_json()))
    sweep = Sweep.read("point_u_maze", path, settings_beside(READ))
    assert sweep.space.parameters == READ
    assert small_space(sweep.space.as_data()) == sweep.space
    if kind != "json":
        assert yaml.safe_load(YAML).keys() == READ.keys()


def yaml_as_json():
    return {
        "depth": [0, 4],
        "crl.energy": ["l2", "dot"],
        "crl.critic_learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
        "batch_size": {"low": 8, "high": 15, "step": 2},
        "optimizer.max_gradient_norm": [None, 1],
    }


def test_the_size_of_a_space_is_that_of_its_combinations():
    assert small_space({"depth": [0, 4], "width": {"low": 8, "high": 14, "step": 3}}).size == 6
    assert small_space({"depth": [0, 4], "width": {"low": 8, "high": 14}}).size == 14
    assert small_space().size is None


def test_numbers_are_whole_where_settings_are():
    whole = small_space({"width": {"low": 8, "high": 16}}).parameters["width"]
    rate = small_space({"crl.critic_learning_rate": {"low": 1, "high": 2}}).parameters["crl.critic_learning_rate"]
    forced = {"crl.critic_learning_rate": {"low": 1, "high": 2, "int": True}}
    assert {type(value) for value in whole.some()} == {int}
    assert {type(value) for value in rate.some()} == {float}
    assert {type(value) for value in small_space(forced).parameters["crl.critic_learning_rate"].some()} == {int}


@pytest.mark.parametrize(
    ("data", "mistake"),
    [
        ({"wdith": [8]}, "space: setting 'wdith' is unknown; did you mean width"),
        ({"crl": [8]}, "space: crl is a block of settings; name them, such as crl."),
        ({"seed": [0, 1]}, "space: seed is not swept: all trials have the same seeds"),
        ({"env": ["reacher"]}, "space: env is not swept: a sweep is on one environment"),
        ({"width": 8}, "space: width=8 must be a list of values, or low and high"),
        ({"width": []}, "space: width=[] has no value to choose"),
        ({"width": [8, 8]}, "space: width: 8 comes twice"),
        ({"width": [[8]]}, "space: width: [8] must be a number, a text, true, false or null"),
        ({"width": ["wide"]}, "space: width='wide': Input should be a valid integer"),
        ({"width": [8, True]}, "space: width=True must not be true or false"),
        ({"width": {"low": 16, "high": 8}}, "space: width: low=16 must be below high=8"),
        ({"width": {"low": 8}}, "space: width: high is missing"),
        ({"width": {"low": 8, "high": 16, "most": 3}}, "space: width: key 'most' is unknown; there are low, high, log"),
        ({"width": {"low": 8, "high": "16"}}, "space: width: high='16' must be a finite number"),
        ({"width": {"low": 8, "high": 16.5}}, "space: width: it is a whole number, and so must be low=8, high=16.5"),
        ({"width": {"low": 8, "high": 16, "log": 1}}, "space: width: log=1 must be true or false"),
        ({"width": {"low": 0, "high": 16, "log": True}}, "space: width: low=0 must be above 0 with log"),
        ({"width": {"low": 8, "high": 16, "step": 0}}, "space: width: step=0 must be above 0"),
        ({"width": {"low": 8, "high": 16, "log": True, "step": 2}}, "space: width: log and step=2 exclude each other"),
        ({"crl.energy": {"low": 0, "high": 1}}, "space: crl.energy is no number: give a list of values"),
        ({"width": {"low": -8, "high": 16}}, "space: width=-8 must be at least 1 (a trial may have width=-8)"),
        ({"depth": {"low": 4, "high": 16}}, "space: depth=5 is not a multiple of block_size=4"),
        ({"agent": ["crl", "sac"], "crl.energy": ["dot"]}, "space: crl.energy=dot has no effect with agent='sac'"),
        ({"grow": ["0@0,4@200"], "depth": [0, 4]}, "space: depth=0 is not the depth that grow='0@0,4@200' ends with"),
        ({}, "space: it must have a line such as"),
        ([], "space: it must have a line such as"),
    ],
)
def test_a_mistake_is_a_line(data, mistake, no_type_checks):
    with pytest.raises(SpaceError) as refused:
        small_space(data)
    (line,) = refused.value.mistakes
    assert line.startswith(mistake), line
    assert "\n" not in line


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SpaceError, match=r"'wdith' is unknown.* \(and 1 more\)") as refused:
        small_space({"wdith": [8], "width": {"low": 3, "high": 1}, "depth": [0]})
    assert len(refused.value.mistakes) == 2
    many = {"width": list(range(1, 60)), "batch_size": [*range(1, 60), 10**6], "agent": ["crl", "sac"]}
    with pytest.raises(SpaceError) as refused:  # of many combinations every value is tried
        small_space({**many, "crl.energy": ["dot"]})
    assert any("batch_size=1000000 is more than the replay buffer" in line for line in refused.value.mistakes)
    assert any("no effect with agent='sac'" in line for line in refused.value.mistakes)


def test_what_is_set_for_all_trials_is_not_swept():
    with pytest.raises(SpaceError, match=r"space: depth is set for all trials, too"):
        Sweep("point_u_maze", small_space({"depth": [0, 4]}), {"depth": 4})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("space.txt", "depth: [4]", "must be a file whose name ends with .yaml, .yml or .json"),
        ("space.json", "{", "space.json cannot be read: Expecting property name"),
        ("space.json", "[" * 100_000, "space.json cannot be read"),
        ("space.yaml", "a: [", "space.yaml cannot be read: while parsing a flow"),
        ("space.yaml", "a: !!python/object:os.system x", "space.yaml cannot be read"),
        ("missing.yaml", None, "missing.yaml cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_space_is_a_line(tmp_path, name, text, message):
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        Sweep.read("point_u_maze", path, SETTINGS)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
