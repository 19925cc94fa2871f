"""The studies of width, of actor and critic, of the batch and of ablations: their grids, and what they draw."""

import dataclasses
import itertools

import numpy as np
import pytest
from fabricated import outcomes

from kilolayer.bench.flops import gradient_step_flops
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.objectives import tanh_gaussian
from kilolayer.studies import STUDIES
from kilolayer.studies.ablation import changes_of
from kilolayer.studies.actor_critic import paper_cells
from kilolayer.studies.frontier import METHODS
from kilolayer.studies.width import TOLERANCE
from kilolayer.training import Setup

SIZES = ("cpu", "gpu", "paper")
GRIDS = ("width", "actor_critic", "batch", "ablation")
TASK = "reacher"


def at(study, size="cpu", **arguments):
    """Return the cases of a grid by their labels, without the task."""
    return {tuple(case.labels.values())[1:]: case for case in STUDIES[study].grid(size, **arguments)}


def flat(settings, prefix=""):
    nested = {name: value for name, value in settings.items() if isinstance(value, dict)}
    found = {prefix + name: value for name, value in settings.items() if name not in nested}
    for name, value in nested.items():
        found |= flat(value, f"{prefix}{name}.")
    return found


def difference(case, other):
    """Return the settings that two cases do not share, with those of the first."""
    theirs = flat(other.settings)
    return {name: value for name, value in flat(case.settings).items() if value != theirs[name]}


def agent_of(case):
    return Setup.build(case.config).agent


def positions(axes):
    """Return the points that error bars were drawn at, for each of its lines."""
    return [container.lines[0].get_xydata() for container in axes.containers]


@pytest.mark.parametrize(("study", "size"), list(itertools.product((*GRIDS, "frontier", "updates"), SIZES)))
def test_no_two_cases_of_a_grid_are_the_same(study, size):
    cases = STUDIES[study].grid(size)
    assert len({case.name for case in cases}) == len({case.directory for case in cases}) == len(cases)
    assert {case.labels["task"] for case in cases} == set(STUDIES[study].tasks[size])


def test_baselines_draw_every_agent_in_a_colour_of_its_own(tmp_path):
    """There are more agents than colours in the palette."""
    cases = [case for case in STUDIES["baselines"].grid("cpu") if case.labels["depth"] == 4]
    figure = STUDIES["baselines"].draw(outcomes(tmp_path, cases, {case.name: [0.5] for case in cases}))
    lines = {line.get_label(): line.get_color() for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert set(lines) == {case.labels["agent"] for case in cases}
    assert len(set(lines.values())) == len(lines)


@pytest.mark.parametrize("study", GRIDS)
def test_every_case_for_a_cpu_can_be_built(study):
    for case in STUDIES[study].grid("cpu"):
        counts = agent_of(case).parameter_counts()
        assert set(counts) == {"actor", "phi", "psi"}


@pytest.mark.parametrize("size", SIZES)
def test_runs_are_shared_with_the_study_of_depth(size):
    depth = {(case.labels["task"], case.labels["depth"]): case.directory for case in STUDIES["depth"].grid(size)}
    shared = {
        "width": [one for one in STUDIES["width"].grid(size) if one.config.width == {"cpu": 64}.get(size, 256)],
        "actor_critic": [
            one for one in STUDIES["actor_critic"].grid(size) if one.labels["actor_depth"] == one.labels["critic_depth"]
        ],
        "batch": [one for one in STUDIES["batch"].grid(size) if one.config.batch_size == {"cpu": 256}.get(size, 512)],
        "ablation": [one for one in STUDIES["ablation"].grid(size) if one.labels["changed"] in ("base", "depth")],
    }
    for study, cases in shared.items():
        assert len(cases) >= 2, study
        for case in cases:
            assert case.directory == depth[case.labels["task"], case.config.depth], (study, case.name)


@pytest.mark.parametrize("size", SIZES)
def test_deep_and_wide_networks_have_the_same_parameters(size):
    """By the tolerance that is stated; the paper's widths, powers of two, are among the wide."""
    grid = at("width", size, tasks=STUDIES["width"].tasks[size][:1])
    base = grid[4, 64 if size == "cpu" else 256]
    first = agent_of(base)
    deep = [case for key, case in grid.items() if key[0] > 4]
    wide = [case for key, case in grid.items() if key[1] > base.config.width]
    assert not set(map(id, deep)) & set(map(id, wide))
    for case, other in zip(deep, wide, strict=False):
        assert set(difference(case, base)) == {"depth"}
        assert set(difference(other, base)) == {"width"}
        a, b = (
            sum(dataclasses.replace(first, depth=one.config.depth, width=one.config.width).parameter_counts().values())
            for one in (case, other)
        )
        assert abs(b / a - 1.0) <= TOLERANCE
    assert len(wide) == len(deep) + (size == "paper")
    if size == "paper":
        assert {512, 1024, 2048} < {key[1] for key in grid}


def test_a_width_that_is_set_is_the_base_and_limits_go_further():
    grid = at("width", changes={"width": 16}, limits=True)
    assert [key for key in grid if key[0] == 4] == [(4, width) for width in (16, 24, 32, 48, 128, 256)]
    assert [key for key in grid if key[1] == 16] == [(depth, 16) for depth in (4, 8, 16, 32, 256, 1024)]


def test_only_the_depths_of_actor_and_critic_differ():
    for (actor, critic), case in at("actor_critic").items():
        agent = agent_of(case)
        assert (agent.depth_of("actor"), agent.depth_of("critic"), agent.depth_of("goal_encoder")) == (
            actor,
            critic,
            critic,
        )
        assert set(difference(case, at("actor_critic")[4, 4])) <= {"depth", "crl.actor_depth"}


@pytest.mark.parametrize("size", SIZES)
def test_every_batch_gets_as_many_gradient_steps(size):
    grid = at("batch", size)
    first, *others = grid.values()
    assert len({case.config.batch_size for case in grid.values()}) >= 3
    for case in others:
        assert set(difference(case, first)) <= {"depth", "batch_size"}
        for name in ("num_unrolls", "prefill_env_steps", "env_steps_per_unroll"):
            assert getattr(case.config, name) == getattr(first.config, name)


@pytest.mark.parametrize("size", SIZES)
def test_an_ablation_differs_from_the_base_in_what_it_says_alone(size):
    base, *others = STUDIES["ablation"].grid(size)
    assert base.labels["changed"] == "base"
    assert len(others) <= 11 if size == "cpu" else len(others) > 11
    changes = {(change.what, change.to): change for change in changes_of(base.config)}
    for case in others:
        change = changes[case.labels["changed"], case.labels["to"]]
        assert difference(case, base) == flat(change.settings), case.name
        assert len(change.settings) == 1


def test_no_policy_has_as_little_entropy_as_the_ablation_without_asks_for():
    """The narrowest spread, around actions at the edge, where the tanh's correction is largest."""
    agent = agent_of(at("ablation")["entropy", "none"])
    narrowest = 0.5 * np.log(2.0 * np.pi * np.e) + tanh_gaussian.LOG_STD_MIN
    least = agent.action_size * (narrowest + np.log(tanh_gaussian.SATURATION_EPSILON))
    assert agent.target_entropy < 1.1 * least


def test_an_ablation_of_what_the_base_has_is_left_out():
    """Of the scaling of branches, the one is tried that the base does not have: `auto` scales deep networks."""
    shallow, deep = (at("ablation", "gpu", changes={"depth": depth}) for depth in (4, 128))
    assert ("depth", "4") not in shallow
    assert ("residual_scaling", "inverse_sqrt") in shallow
    assert ("residual_scaling", "none") in deep
    base = deep["base", "depth 128"].config
    assert {key[1] for key in deep if key[0] == "loss"} == {"forward", "backward", "symmetric", "binary_nce"} - {
        {"infonce_forward": "forward", "infonce_symmetric": "symmetric"}[base.agent_settings.loss]
    }
    assert ("energy", "dot") not in at("ablation", changes={"crl": {"energy": "dot"}})
    assert ("energy", "l2") in at("ablation", changes={"crl": {"energy": "dot"}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["width", "--set", "depth=8"], "depth=8: this study sets depth itself"),
        (["width", "--set", "crl.actor_width=8"], "crl.actor_width=8: this study sets crl.actor_width itself"),
        (
            ["actor_critic", "--set", "crl.critic_depth=8"],
            "this study sets crl.critic_depth itself",
        ),
        (["actor_critic", "--set", "agent=sac,sac.critic_depth=8"], "this study sets sac.critic_depth itself"),
        (["actor_critic", "--set", "agent=gcbc"], "agent='gcbc' has no setting actor_depth and no critic_depth; take"),
        (["batch", "--set", "batch_size=8"], "batch_size=8: this study sets batch_size itself"),
        (["ablation", "--set", "agent=sac"], "has no effect with agent='sac'"),
        (["ablation", "--set", "grow=4@0,16@400k"], "grow=4@0,16@400k: this study sets grow itself"),
    ],
)
def test_what_would_spoil_a_grid_is_refused_in_one_line(capsys, arguments, message):
    assert main(["study", *arguments, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_actor_and_critic_of_any_agent_that_has_both():
    cases = STUDIES["actor_critic"].grid("cpu", changes={"agent": "sac"})
    depths = {(case.labels["actor_depth"], case.labels["critic_depth"]) for case in cases}
    assert len(depths) == len(cases) == 9
    (case,) = (case for case in cases if case.name.endswith("-4-16"))
    assert (case.config.agent_settings.actor_depth, case.config.depth) == (4, 16)


def test_width_is_drawn_over_what_it_costs(tmp_path):
    study = STUDIES["width"]
    cases = study.grid("cpu")
    scores = {f"{TASK}-4-64": (0.25, 0.75), f"{TASK}-16-64": (1.0, 1.0), f"{TASK}-4-128": (0.0, 0.0)}
    found = outcomes(tmp_path, cases, scores, seconds=7.0)
    found = [dataclasses.replace(one, measured=study.measure(one)) for one in found]
    parameters = {one.case.name: sum(agent_of(one.case).parameter_counts().values()) for one in found}
    assert found[0].score("parameters") == parameters[f"{TASK}-4-64"]
    assert found[0].score("gflops") == gradient_step_flops(Setup.build(found[0].case.config)) / 1e9
    row = dict(found[0].measured.rows[0])
    assert row["actor_parameters"] + row["phi_parameters"] + row["psi_parameters"] == row["parameters"]
    by_parameters, by_operations, by_time = study.draw(found).axes
    deep, wide = positions(by_parameters)
    base = (parameters[f"{TASK}-4-64"], 50.0)
    np.testing.assert_allclose(deep, [base, (parameters[f"{TASK}-16-64"], 100.0)])
    np.testing.assert_allclose(wide, [base, (parameters[f"{TASK}-4-128"], 0.0)])
    assert positions(by_operations)[0][0][0] == pytest.approx(1e9 * found[0].score("gflops"))
    assert row["seeds_side_by_side"] == 2
    np.testing.assert_allclose(positions(by_time)[1], [(3.5, 50.0), (3.5, 0.0)])  # of the seven seconds of both seeds
    assert all(axes.get_xscale() == "log" for axes in (by_parameters, by_operations, by_time))
    assert {text.get_text() for text in by_time.texts} == {"4", "16", "64", "128"}


def test_actor_and_critic_are_drawn_as_a_map(tmp_path):
    study = STUDIES["actor_critic"]
    scores = {f"{TASK}-4-4": (0.0, 0.5), f"{TASK}-8-4": (1.0, 1.0), f"{TASK}-4-8": (0.5, 0.75)}
    figure = study.draw(outcomes(tmp_path, study.grid("cpu"), scores))
    time, success = figure.axes
    values = success.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(values, [[0.25, 1.0], [0.625, np.nan]])
    np.testing.assert_allclose(time.images[0].get_array().filled(np.nan), 100.0 * values)
    assert success.images[0].origin == "lower"
    assert (success.get_xlabel(), success.get_ylabel()) == ("actor depth", "critic depth")
    texts = {text.get_text(): text.get_position() for text in success.texts}
    assert texts["1.00"][0] == 1
    assert texts["0.62"][0] == 0
    assert texts["0.62"][1] > 1
    assert "± 0.25" in texts


def test_the_papers_map_stands_beside_ours(tmp_path):
    """Its numbers at the corners, and its shape: 25 cells of three tasks."""
    study = STUDIES["actor_critic"]
    humanoid = paper_cells("humanoid")
    assert len(humanoid) == 25
    assert {place: humanoid[place][0] for place in ((4, 4), (64, 4), (4, 64), (64, 64))} == {
        (4, 4): 13,
        (64, 4): 21,
        (4, 64): 32,
        (64, 64): 680,
    }
    assert paper_cells("arm_push_easy")[64, 32][0] == 921
    assert not paper_cells(TASK)
    found = outcomes(tmp_path, study.grid("paper", tasks=["humanoid"]), {"humanoid-4-4": (0.1,)})
    assert [len(axes.texts) for axes in study.draw(found).axes] == [1, 1, 25]


def test_batches_are_drawn_as_curves_and_over_their_size(tmp_path):
    study = STUDIES["batch"]
    scores = {f"{TASK}-4-64": (0.2, 0.4), f"{TASK}-16-64": (0.5,), f"{TASK}-16-1024": (0.9,)}
    shallow, deep, over = study.draw(outcomes(tmp_path, study.grid("cpu"), scores)).axes
    labels = [[line.get_label() for line in axes.get_lines() if line.get_label()[0] != "_"] for axes in (shallow, deep)]
    assert labels == [["batch 64"], ["batch 64", "batch 1024"]]
    mean = next(line for line in shallow.get_lines() if line.get_label() == "batch 64")
    np.testing.assert_allclose(mean.get_xydata(), [(0, 30.0), (1000, 30.0), (2000, 30.0)])
    lines = positions(over)
    np.testing.assert_allclose(lines[0], [(64, 30.0)])
    np.testing.assert_allclose(lines[1], [(64, 50.0), (1024, 90.0)])
    assert [tick.get_text() for tick in over.get_xticklabels()] == ["64", "1024"]


def test_ablations_are_drawn_as_bars_beside_the_base(tmp_path):
    study = STUDIES["ablation"]
    cases = study.grid("cpu")
    scores = {case.name: (0.1 * place, 0.1 * place + 0.2) for place, case in enumerate(cases[:7])}
    time, success = study.draw(outcomes(tmp_path, cases, scores)).axes
    assert [bar.get_width() for bar in success.patches[:7]] == pytest.approx([0.1 * place + 0.1 for place in range(7)])
    assert [tick.get_text() for tick in time.get_yticklabels()][:3] == [
        "base: depth 16",
        "depth: 4",
        "normalization: none",
    ]
    assert success.yaxis_inverted()
    for axes, scale in ((success, 1.0), (time, 100.0)):
        base = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in base] == pytest.approx([0.1 * scale])


@pytest.mark.parametrize("study", GRIDS)
def test_a_figure_can_be_drawn_before_all_is_trained(study, tmp_path):
    """It is drawn again as each case ends; here with one that is not the first."""
    case = STUDIES[study].grid("cpu")[-1]
    (found,) = outcomes(tmp_path, [case], {case.name: (0.5,)})
    measure = STUDIES[study].measure
    found = found if measure is None else dataclasses.replace(found, measured=measure(found))
    STUDIES[study].draw([found]).savefig(tmp_path / "figure.png")


def test_the_width_of_other_agents_is_a_question_too():
    grid = STUDIES["width"].grid("cpu", tasks=["point_u_maze_discrete"])
    assert {case.config.agent for case in grid} == {"crl_discrete"}
    assert {case.config.width for case in grid} == {64, 88, 128, 184}


# ---- frontier --------------------------------------------------------------------------------------------------


def test_frontier_asks_every_method_at_both_depths():
    cases = at("frontier")
    assert {method for method, _ in cases if isinstance(method, str)} == set(METHODS)
    plain = cases["crl", 4]
    assert difference(cases["crl, chunk 3", 4], plain) == {"crl.action_chunk": 3}
    assert difference(cases["crl, two critics", 4], plain) == {"crl.critics": 2}
    assert difference(cases["crl", 16], plain) == {"depth": 16}
    chunk = cases["survival, chunk 2", 4]
    assert difference(chunk, cases["survival", 4]) == {"survival.action_chunk": 2}
    assert chunk.config.agent_settings.horizon == chunk.config.episode_length


def test_frontier_draws_each_method_over_env_steps_and_over_seconds(tmp_path):
    grid = [case for case in STUDIES["frontier"].grid("cpu") if case.labels["task"] == TASK]
    figure = STUDIES["frontier"].draw(outcomes(tmp_path, grid, {case.name: (0.5, 0.7) for case in grid}))
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_xlabel() for axes in panels] == ["env steps", "env steps", "seconds", "seconds"]
    assert all(set(METHODS) <= {line.get_label() for line in axes.lines} for axes in panels)


# ---- updates ---------------------------------------------------------------------------------------------------


def test_updates_takes_parts_of_the_gradient_steps_for_longer():
    cases = at("updates", changes={"total_env_steps": 100_000})
    assert [steps for method, steps in cases if method == "crl"] == [64, 32, 16, 8]
    whole, eighth = cases["crl", 64], cases["crl", 8]
    assert (whole.config.total_env_steps, eighth.config.total_env_steps) == (100_000, 320_000)
    assert set(difference(eighth, whole)) == {"gradient_steps_per_unroll", "total_env_steps"}
    assert cases["survival", 16].config.agent_settings.action_chunk == 2
    with pytest.raises(ConfigurationError, match="gradient_steps_per_unroll"):
        at("updates", changes={"gradient_steps_per_unroll": 5})


def test_updates_are_drawn_over_env_steps_and_over_seconds(tmp_path):
    grid = STUDIES["updates"].grid("cpu")
    figure = STUDIES["updates"].draw(outcomes(tmp_path, grid, {case.name: (0.5, 0.7) for case in grid}))
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_xlabel() for axes in panels] == ["env steps", "seconds"] * 2
