"""A student's run: an ordinary one, which needs its teacher's folder only at its beginning."""

import json
import shutil

import jax
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.runs import RunDirectory
from kilolayer.studies.core.compare import labels
from kilolayer.training import load_with_setup, run_episodes
from kilolayer.training.distillation import distillation_config
from small_runs import assert_same_state, final_state, small_config

SETTINGS = {"total_env_steps": 400, "num_evals": 2, "checkpoints_to_keep": 9, "progress": False}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "run"
    kl.train(config=small_config(depth=8, crl={"action_chunk": 2}), run_dir=path, progress=False)
    return path


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "run"
    kl.distill(teacher, run_dir=path, width=8, **SETTINGS)
    return path


def test_a_student_is_a_run_that_resumes_bit_for_bit_without_its_teacher(teacher, student, tmp_path):
    gone = teacher.with_name("gone")
    teacher.rename(gone)
    try:
        copy = tmp_path / "copy"
        shutil.copytree(student, copy)
        kl.train(resume=copy, checkpoint=200, progress=False)
        assert_same_state(final_state(student), final_state(copy))
        policy, setup = load_with_setup(copy)
        assert policy.agent.actor(policy.agent_state).depth == 4
        assert (policy.contract.width, policy.contract.action.chunk) == (8, 2)
        key = jax.random.key(0)
        assert run_episodes(policy.agent, policy.agent_state, setup.eval_environment, key, num_episodes=4).finite
        assert kl.load(copy)([0.0] * 4, [0.0] * 2).shape == (2,)
    finally:
        gone.rename(teacher)


def test_settings_are_those_of_the_teachers_run_but_for_the_networks(teacher, student):
    taught, own = RunDirectory.open(teacher).config(), RunDirectory.open(student).config()
    same = ("env", "eval_env", "engine", "num_envs", "batch_size", "episode_length", "unroll_length")
    assert all(getattr(taught, name) == getattr(own, name) for name in same)
    assert (own.agent, own.depth, own.width, own.min_replay) == ("distill", 4, 8, 0)
    assert own.agent_settings.teacher.checkpoint == 400
    assert kl.TrainConfig.from_dict(json.loads(json.dumps(own.to_dict()))) == own


def test_a_comparison_names_the_teacher_by_its_run(teacher, student):
    of_teacher, of_student = labels([RunDirectory.open(run).config() for run in (teacher, student)])
    assert (of_teacher["distill.teacher"], of_student["distill.teacher"]) == ("", f"{teacher} 400")


def test_a_run_killed_before_its_first_checkpoint_begins_with_its_teacher_again(teacher, student, tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copyfile(student / "config.json", killed / "config.json")
    kl.train(resume=killed, progress=False)
    assert_same_state(final_state(student), final_state(killed))
    gone = teacher.with_name("gone")
    teacher.rename(gone)
    try:
        again = tmp_path / "again"
        again.mkdir()
        shutil.copyfile(student / "config.json", again / "config.json")
        with pytest.raises(RunError, match="there is no such directory"):
            kl.train(resume=again, progress=False)
    finally:
        gone.rename(teacher)


def test_a_policy_by_itself_can_teach(teacher, tmp_path):
    kl.load(teacher).save(tmp_path / "policy")
    config = distillation_config(tmp_path / "policy", total_env_steps=400, num_envs=4)
    assert (config.env, config.agent_settings.teacher.checkpoint) == ("point_u_maze", None)


def test_a_student_learns_from_each_state_many_times(teacher):
    config = distillation_config(teacher, unroll_length=10, num_envs=8, batch_size=64)
    assert config.gradient_steps_per_unroll == 20 * 10 * 8 / 64
    assert distillation_config(teacher, gradient_steps_per_unroll=3).gradient_steps_per_unroll == 3


def test_a_teacher_that_changed_is_refused(teacher, student, tmp_path):
    config = RunDirectory.open(student).config().to_dict()
    config["distill"]["teacher"]["depth"] = 4
    with pytest.raises(ConfigurationError, match="has other networks than this run was begun with"):
        kl.train(config=kl.TrainConfig.from_dict(config), run_dir=tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--depth=3"], "depth=3 is not a multiple"),
        (["--width=100000000"], "lower width=100000000"),
        (["--checkpoint=7"], "has no checkpoint 7"),
        (["--set", "agent=crl"], "agent='crl' has no effect on a student"),
        (["--set", "depth=8"], "there is an option of this name"),
        (["--weighting=x"], "Input should be 'none' or 'critic'"),
        (["--seed=1", "--seeds=0..1"], "exclude each other"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(teacher, tmp_path, capsys, flags, words):
    assert main(["distill", str(teacher), "--run-dir", str(tmp_path / "new"), "--quiet", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_command_trains_students_of_several_seeds(teacher, tmp_path, capsys):
    flags = ["--total-env-steps=400", "--set", "num_evals=1"]
    assert main(["distill", str(teacher), "--run-dir", str(tmp_path / "new"), "--quiet", "--seeds=0,1", *flags]) == 0
    assert "2 seeds" in capsys.readouterr().out
    assert (tmp_path / "new" / "seed-1" / "checkpoints").is_dir()


def test_a_student_is_not_trained_without_a_teacher(capsys):
    assert main(["train", "point_u_maze", "--agent", "distill", "--quiet"]) == 2
    assert "begin with `kilolayer distill RUN`" in capsys.readouterr().err
