"""Grids: what a study is sized for, what a user may change, and which cases share their runs."""

import dataclasses

import pytest

from kilolayer.agents import agent_specs
from kilolayer.errors import ConfigurationError
from kilolayer.studies import STUDIES, Scope
from kilolayer.training import Setup
from small_study import SIZES, STUDY, grid, small_case


def test_settings_come_from_the_size_then_the_user_then_the_study():
    scope = Scope("cpu", ("reacher",), {"width": 24, "depth": 8, "crl": {"energy": "dot"}}, changes={"width": 40})
    config = scope.case({"what": "one"}, "reacher", depth=4, crl={"loss": "infonce_symmetric"}).config
    assert (config.env, config.width, config.depth) == ("reacher", 40, 4)
    assert (config.agent_settings.energy, config.agent_settings.loss) == ("dot", "infonce_symmetric")
    changed = dataclasses.replace(scope, changes={"depth": 12, "crl": {"energy": "l2"}})
    config = changed.case({"what": "one"}, "reacher", crl={"loss": "infonce_symmetric"}).config
    assert (config.depth, config.width) == (12, 24)
    assert (config.agent_settings.energy, config.agent_settings.loss) == ("l2", "infonce_symmetric")


def test_tasks_take_the_place_of_the_study_s_own():
    cases = STUDY.grid("cpu", tasks=("reacher", "point_big_maze"), changes={"num_envs": 6})
    assert [case.name for case in cases] == ["reacher-0", "reacher-4", "point_big_maze-0", "point_big_maze-4"]
    assert {case.config.num_envs for case in cases} == {6}
    with pytest.raises(ConfigurationError, match="env 'reecher' is unknown; did you mean reacher"):
        STUDY.grid("cpu", tasks=("reecher",))


def test_limits_reach_the_study():
    deepest = [max(case.config.depth for case in STUDIES["depth"].grid("cpu", limits=limits)) for limits in (0, 1)]
    assert deepest == [64, 1024]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 4}, "depth=4: this study sets depth itself; leave it out"),
        ({"depth": 8, "width": 12}, "depth=8: this study sets depth itself; leave it out"),
        ({"env": "reacher"}, "env cannot be changed as a setting; choose tasks instead"),
        ({"seed": 3}, "seed cannot be changed as a setting; choose seeds instead"),
        ({"wdith": 3}, "setting 'wdith' is unknown"),
        ({"crl": {"engery": "dot"}}, "setting 'crl.engery' is unknown"),
        ({"width": "wide"}, "width='wide'"),
    ],
)
def test_invalid_changes_are_refused(changes, words):
    with pytest.raises(ConfigurationError) as refused:
        STUDY.grid("cpu", changes=changes)
    assert str(refused.value).startswith(words)


def test_of_a_block_the_fields_that_a_study_sets_are_refused():
    """Also where no label bears the name of the setting, and whatever the value; the value that it has is no change."""

    def energies(scope):
        return [scope.case({"energy": name}, "reacher", crl={"energy": name}) for name in ("l2", "dot")]

    study = dataclasses.replace(STUDY, cases=energies)
    changed = study.grid("cpu", changes={"crl": {"loss": "infonce_symmetric"}})
    assert [(case.config.agent_settings.energy, case.config.agent_settings.loss) for case in changed] == [
        ("l2", "infonce_symmetric"),
        ("dot", "infonce_symmetric"),
    ]
    for energy in ("l2", "dot", "cosine"):
        with pytest.raises(ConfigurationError, match=f"^crl.energy={energy}: this study sets crl.energy itself"):
            study.grid("cpu", changes={"crl": {"energy": energy}})
    one = dataclasses.replace(STUDY, cases=lambda scope: [scope.case({}, "reacher", crl={"energy": "dot"})])
    assert one.grid("cpu", changes={"crl": {"energy": "dot"}})[0].config.agent_settings.energy == "dot"


def test_a_case_shares_its_runs_with_those_of_equal_settings_alone():
    case = small_case(depth=4)
    assert case.directory.startswith("point_u_maze-crl-d4-")
    assert dataclasses.replace(case, labels={"task": "another label"}).directory == case.directory
    assert small_case(depth=4, seed=3).directory == case.directory
    kept_otherwise = small_case(depth=4, checkpoint_minutes=1.0, checkpoints_to_keep=9, tensorboard=True)
    assert kept_otherwise.directory == case.directory
    assert small_case(depth=4, diagnostics=True).directory != case.directory
    others = [small_case(depth=4, **one) for one in ({"width": 8}, {"agent": "sac"}, {"crl": {"energy": "dot"}})]
    assert len({one.directory for one in (case, *others)}) == 4
    maze = small_case(env="#####\n#R G#\n#####\n")
    assert maze.directory.startswith("maze-crl-d4-")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STUDIES)
def test_the_cases_of_a_study_have_names_of_their_own(name, size):
    cases = STUDIES[name].grid(size)
    assert len(cases) > 1
    assert len({case.name for case in cases}) == len(cases)
    assert len({tuple(case.labels.items()) for case in cases}) == len(cases)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_the_comparison_has_every_agent_on_every_task_and_builds(size):
    cases = STUDIES["baselines"].grid(size)
    agents = {case.labels["agent"] for case in cases}
    assert {"crl", "sac_her", "td3", "gcbc", "ppo", "qrl", "survival", "gciql"} < agents
    assert agents == {spec.name for spec in agent_specs() if not spec.discrete}
    for case in cases:
        if case.labels["depth"] == 4:
            Setup.build(case.config)


def test_the_name_of_a_size_sets_no_case_apart():
    assert grid(Scope("cpu", ("reacher",), {}))[0].directory == grid(Scope("gpu", ("reacher",), {}))[0].directory
