"""Runs whose networks grow: nothing jumps, and whatever opens them finds the depth of the moment."""

import contextlib
import csv
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.report import write_report
from kilolayer.runs import Checkpoints, Clocks, RunDirectory
from kilolayer.training import compile_steps, load_with_setup, run_episodes
from kilolayer.training.keys import stream
from kilolayer.training.setup import Setup
from kilolayer.training.step import grow_state
from small_runs import SMALL, assert_same_state, final_state, small_config

pytestmark = [pytest.mark.slow]

GROWTH = {
    "depth": 12,
    "grow": "4@0,8@190,12@250",
    "architecture": {"residual_scaling": "inverse_sqrt"},
    "checkpoints_to_keep": 30,
    "num_evals": 10,
}
KEEP_ALL = ["--checkpoints-to-keep=30", "--num-evals=10"]
DEPTHS = {0: 4, 40: 4, 80: 4, 120: 4, 160: 4, 200: 8, 240: 8, 280: 12, 320: 12, 360: 12, 400: 12}
"""Of the networks by env steps: steps are 40 apart, and learning begins at 80."""


FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name not in ("depth", "num_evals")]


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Path, str]:
    """A run that was never stopped, with a checkpoint after every training step, and what it told."""
    path = tmp_path_factory.mktemp("grown") / "run"
    flags = [f"--grow={GROWTH['grow']}", "--architecture.residual-scaling=inverse_sqrt"]
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert main(["train", "point_u_maze", f"--run-dir={path}", *FLAGS, *flags, *KEEP_ALL]) == 0
    return path, told.getvalue()


@pytest.fixture(scope="module")
def whole(started) -> Path:
    return started[0]


def test_the_flag_sets_the_schedule_and_the_depth_and_growth_is_logged_in_a_line(started):
    path, told = started
    assert RunDirectory.open(path).config() == small_config(**GROWTH)
    assert [line for line in told.splitlines() if "depth" in line] == [
        "depth 4 grows to 8 at 200 env steps",
        "depth 8 grows to 12 at 280 env steps",
    ]


@pytest.mark.slow
def test_a_dry_run_prints_the_last_depth(capsys):
    assert main(["train", "point_u_maze", *FLAGS, "--grow=4@0,16@0.2K", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["actor_parameters"] == (6 + 3) * 16 + 16 * (16 * 16 + 3 * 16) + (16 + 1) * 4


def without_times(path: Path) -> str:
    rows = RunDirectory.open(path).metrics()
    return json.dumps([{name: row[name] for name in row if not name.startswith("perf/")} for row in rows])


def blocks(state) -> set[int]:
    """Return how many blocks the networks have, and Adam's moments of them."""
    adam = [state.agent.optimizers[part][0] for part in ("actor", "critic")]
    trees = [state.agent.actor.blocks, state.agent.critic.phi.blocks, state.agent.critic.psi.blocks]
    for moments in (adam[0].mu, adam[0].nu):
        trees.append(moments.blocks)
    for moments in (adam[1].mu, adam[1].nu):
        trees += [moments.phi.blocks, moments.psi.blocks]
    return {len(leaf) for leaf in jax.tree.leaves(trees)}


def test_rows_and_checkpoints_have_the_depth_of_their_env_steps(whole):
    rows = RunDirectory.open(whole).metrics()
    assert {row["env_steps"]: row["train/depth"] for row in rows} == DEPTHS
    with open(whole / "metrics.csv") as file:
        assert {int(row["env_steps"]): int(row["train/depth"]) for row in csv.DictReader(file)} == DEPTHS
    saved = {step: blocks(final_state(whole, step)) for step in Checkpoints(whole / "checkpoints").steps()}
    assert saved == {step: {depth // 4} for step, depth in DEPTHS.items() if step}


@pytest.mark.parametrize(
    "step", [160, pytest.param(200, marks=pytest.mark.slow), pytest.param(360, marks=pytest.mark.slow)]
)
def test_it_resumes_bit_for_bit_from_before_at_and_after_growth(whole, step):
    expected, rows = final_state(whole), without_times(whole)
    kl.train(resume=whole, checkpoint=step, progress=False)
    assert_same_state(final_state(whole), expected)
    assert without_times(whole) == rows


def test_actions_and_values_do_not_jump_in_the_moment_of_growth(whole):
    setup = Setup.build(small_config(**GROWTH))
    # The checkpoint before, and the training step up to the moment of growth.
    state = final_state(whole, 160)
    collect, learn = compile_steps(setup)
    state, _ = learn(collect(state)[0])
    deep = setup.at(state.clocks)
    grown = grow_state(deep, state, 0)
    assert (setup.depth, deep.depth) == (4, 8)
    assert_same_state(grown, final_state(whole, 200))
    observation, goal = state.buffer.observation.reshape(-1, 4), state.buffer.achieved_goal[::-1].reshape(-1, 2)
    key = jax.random.key(0)
    for mode in ("deterministic", "stochastic"):
        before = setup.agent.act(state.agent, observation, goal, key, mode)
        np.testing.assert_allclose(deep.agent.act(grown.agent, observation, goal, key, mode), before, atol=4e-7)
        assert np.std(before) > 0.01
    value = setup.agent.value(state.agent, observation, goal)
    np.testing.assert_allclose(deep.agent.value(grown.agent, observation, goal), value, rtol=1e-6)


def test_all_layers_learn_after_growth(whole):
    early, late = (final_state(whole, step).agent for step in (280, 400))
    assert early.actor.depth == late.actor.depth == 12
    for before, after in zip(jax.tree.leaves(early.actor.blocks), jax.tree.leaves(late.actor.blocks), strict=True):
        assert np.any(after != before, axis=tuple(range(1, before.ndim))).all()


def test_other_seeds_and_moments_draw_other_blocks(whole):
    def new_block(seed, step):
        setup = Setup.build(small_config(**GROWTH))
        state = final_state(whole, step)
        return grow_state(setup.at(Clocks(280)), state, seed).agent.actor.blocks.dense.weight[-1, 0]

    blocks = [new_block(0, 160), new_block(0, 240), new_block(1, 160)]
    assert all(np.all(a != b) for a, b in [(blocks[0], blocks[1]), (blocks[0], blocks[2]), (blocks[1], blocks[2])])


@pytest.mark.slow
def test_a_policy_is_loaded_from_before_and_after(whole, capsys):
    observation, goal = np.zeros((3, 4)), np.ones((3, 2))
    for step, depth in ((160, 4), (200, 8), (400, 12)):
        policy = kl.load(whole, checkpoint=step)
        assert (policy.contract.depth, policy.agent_state.actor.depth, policy.env_steps) == (depth, depth, step)
        assert policy.agent_state.actor.architecture.branch_factor(depth // 4) == 3**-0.5
        assert policy(observation, goal).shape == (3, 2)
        assert np.isfinite(policy.value(observation, goal)).all()
        assert main(["eval", str(whole), "--episodes=2", f"--checkpoint={step}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["env_steps"] == step


def test_evaluations_are_those_of_the_loaded_policy(whole):
    """What the run wrote at the moment of growth is what the grown checkpoint does."""
    policy, setup = load_with_setup(whole, checkpoint=200)
    key = stream(jax.random.key(0), "evaluation", 200)
    episodes = run_episodes(policy.agent, policy.agent_state, setup.eval_environment, key, num_episodes=4)
    (row,) = [row for row in RunDirectory.open(whole).metrics() if row["env_steps"] == 200]
    assert episodes.metrics()["return"].mean() == pytest.approx(row["eval/return"])


def test_the_report_shows_the_depth_of_the_checkpoint(whole):
    assert "crl, depth 8</title>" in write_report(whole, checkpoint=240).read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grow=4@0,16@200", "--depth=8"], "depth=8 is not the depth that grow='4@0,16@200' ends with"),
        (["--grow=4@0,16@200", "--depth=4"], "make it 16"),
        (["--grow=4@0,8@2M"], "8@2M leaves nothing to train"),
        (["--grow=4-8"], "such as 4@0,16@2M,64@50K gradient_steps"),
        (["--grow=4@0,8@200", "--crl.actor-depth=4"], "crl.actor_depth=4"),
        (["--grow=4@0,8@200", "--architecture.activation=relu"], "activation='relu' cannot grow"),
    ],
)
def test_bad_schedules_are_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in error_line(capsys, "train", "point_u_maze", *FLAGS, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_schedule_of_a_run_cannot_change(capsys, whole):
    line = error_line(capsys, "train", f"--resume={whole}", "--grow=4@0,16@200")
    assert "grow cannot change when a run is resumed" in line
    assert "must begin by env_steps 240" in error_line(capsys, "train", f"--resume={whole}", "--total-env-steps=250")


def error_line(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kilolayer: error: ")
    return line
