"""Seeds side by side: each is the run that it would be alone, and all stop, fail and go on together."""

import dataclasses
import json
import shutil
import signal
import sys
import types
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.cli.main import main
from kilolayer.runs import Checkpoints, RunDirectory, SeedGroup
from kilolayer.runs.sinks import WandbSink
from kilolayer.training import SeedRun, choose_mode, train_seeds
from kilolayer.training.population import Threads
from kilolayer.training.start import LEAST_KEPT
from small_runs import assert_same_state, final_state, flags, small_config

SEEDS = (0, 3)
MODES = ("threads", "vmap")
KEEP_ALL = {"checkpoints_to_keep": 30, "num_evals": 10}


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> dict[str, Path]:
    """Two seeds moved each way, with a checkpoint after every training step."""
    paths = {mode: tmp_path_factory.mktemp(mode) / "many" for mode in MODES}
    for mode, path in paths.items():
        results = kl.train_seeds(config=small_config(**KEEP_ALL), seeds=SEEDS, mode=mode, run_dir=path, progress=False)
        assert [result.run.path for result in results] == [path / "seed-0", path / "seed-3"]
        assert [(result.env_steps, result.stopped_by) for result in results] == [(400, None)] * 2
    return paths


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run of the second seed alone."""
    path = tmp_path_factory.mktemp("alone") / "run"
    kl.train(config=small_config(**KEEP_ALL, seed=3), run_dir=path, progress=False)
    return path


@pytest.fixture
def by_threads(groups, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(groups["threads"], tmp_path / "many"))


@pytest.fixture
def by_vmap(groups, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(groups["vmap"], tmp_path / "many"))


def rows_of(path: Path) -> list[dict]:
    rows = RunDirectory.open(path).metrics()
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def assert_same_runs(a: Path, b: Path) -> None:
    for seed in SEEDS:
        assert_same_state(final_state(a / f"seed-{seed}"), final_state(b / f"seed-{seed}"))
        assert json.dumps(rows_of(a / f"seed-{seed}")) == json.dumps(rows_of(b / f"seed-{seed}"))


@pytest.mark.slow
def test_by_threads_each_seed_is_bit_for_bit_the_run_alone(groups, alone):
    together = groups["threads"] / "seed-3"
    assert RunDirectory.open(together).config() == RunDirectory.open(alone).config()
    assert rows_of(together) == rows_of(alone)
    assert Checkpoints(together / "checkpoints").steps() == Checkpoints(alone / "checkpoints").steps()
    assert_same_state(final_state(together), final_state(alone))


def test_by_vmap_each_seed_is_the_run_alone_up_to_rounding(groups, alone):
    together = groups["vmap"] / "seed-3"
    a, b = final_state(together), final_state(alone)
    assert_same_state(a.key, b.key)
    assert_same_state(a.collector.key, b.collector.key)
    np.testing.assert_array_equal(a.buffer.episode, b.buffer.episode)
    np.testing.assert_array_equal(a.buffer.last_time, b.buffer.last_time)
    for name in ("observation", "action", "achieved_goal"):
        np.testing.assert_allclose(getattr(a.buffer, name), getattr(b.buffer, name), atol=1e-4)
    for x, y in zip(jax.tree.leaves(a.agent), jax.tree.leaves(b.agent), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    for row, other in zip(rows_of(together), rows_of(alone), strict=True):
        assert row == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_seeds_differ(groups, mode):
    first, second = (final_state(groups[mode] / f"seed-{seed}") for seed in SEEDS)
    assert not np.allclose(first.agent.actor.head.weight, second.agent.actor.head.weight, atol=1e-3)
    assert not np.allclose(first.buffer.observation, second.buffer.observation, atol=1e-3)


def test_every_seed_leaves_an_ordinary_run(groups, capsys, tmp_path):
    path = groups["vmap"] / "seed-3"
    assert (path / "system.json").exists()
    assert RunDirectory.open(path).csv_file.read_text().count("\n") == 1 + len(rows_of(path))
    assert main(["eval", str(path), "--episodes=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 400
    shutil.copytree(path, tmp_path / "run")
    assert kl.train(resume=tmp_path / "run", total_env_steps=480, progress=False).env_steps == 480


def test_a_directory_of_seeds_is_no_run_and_its_runs_are_named(groups):
    with pytest.raises(kl.RunError, match=r"no config\.json; it holds 2 of them, as .*seed-0$"):
        kl.load(groups["vmap"])


# ---- Going on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_all_resume_from_the_latest_checkpoint_that_all_have(mode, groups, tmp_path):
    """As if killed while the last checkpoint was being saved: one has it, and the other not even the row."""
    path = Path(shutil.copytree(groups[mode], tmp_path / "many"))
    shutil.rmtree(path / "seed-3" / "checkpoints" / "400")
    metrics = path / "seed-3" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    results = kl.train_seeds(resume=path, progress=False)
    assert [result.env_steps for result in results] == [400, 400]
    assert_same_runs(path, groups[mode])


@pytest.mark.slow
def test_a_signal_saves_all_and_says_how_to_resume(groups, monkeypatch, tmp_path, capsys):
    write = SeedRun.write

    def write_and_stop(self, row):
        write(self, row)
        if (self.seed, row["env_steps"]) == (0, 160):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SeedRun, "write", write_and_stop)
    path = tmp_path / "many"
    arguments = ["train", "point_u_maze", "--seeds=0,3", "--seeds-mode=vmap", f"--run-dir={path}"]
    assert main([*arguments, *flags(**KEEP_ALL)]) == 128 + signal.SIGINT
    out, err = capsys.readouterr()
    assert out.endswith(f"stopped and saved at 160 env steps; resume with: kilolayer train --resume {path}\n")
    assert err.splitlines()[0] == "2 seeds by vmap; steps of each, mean success"
    assert "SIGINT: saved after 160 env steps" in err
    assert [Checkpoints(path / f"seed-{seed}" / "checkpoints").steps()[-1] for seed in SEEDS] == [160, 160]
    monkeypatch.undo()
    kl.train_seeds(resume=path, checkpoint=120, progress=False)
    assert_same_runs(path, groups["vmap"])


@pytest.mark.slow
def test_stopped_while_the_first_checkpoints_are_saved_all_start_again(by_threads, groups):
    for checkpoint in (by_threads / "seed-0" / "checkpoints").iterdir():
        if checkpoint.name != "40":
            shutil.rmtree(checkpoint)
    shutil.rmtree(by_threads / "seed-3" / "checkpoints")
    (by_threads / "seed-3" / "metrics.jsonl").unlink()  # not even evaluated
    kl.train_seeds(resume=by_threads, progress=False)
    assert_same_runs(by_threads, groups["threads"])


def test_without_a_common_checkpoint_nothing_is_dropped(by_vmap):
    for step in range(40, 240, 40):
        shutil.rmtree(by_vmap / "seed-3" / "checkpoints" / str(step))
    for step in range(240, 440, 40):
        shutil.rmtree(by_vmap / "seed-0" / "checkpoints" / str(step))
    with pytest.raises(kl.RunError, match=r"no checkpoint that all seeds have \(seed-0 has 40, .*200; seed-3 has 240"):
        kl.train_seeds(resume=by_vmap, progress=False)
    assert Checkpoints(by_vmap / "seed-3" / "checkpoints").steps() == list(range(240, 440, 40))


def test_each_seed_keeps_two_checkpoints_at_least(groups, tmp_path):
    run = RunDirectory(groups["threads"] / "seed-0")
    config = dataclasses.replace(run.config(), checkpoints_to_keep=1)
    with closing(SeedRun(RunDirectory(tmp_path), config, least_kept=LEAST_KEPT)) as seed_run:
        for step in (40, 80, 120):
            seed_run.checkpoints.save(final_state(run.path, step))
            seed_run.checkpoints.wait()
        assert seed_run.checkpoints.steps() == [80, 120]


@pytest.mark.slow
def test_settings_must_agree_when_all_resume(by_threads):
    kl.train(resume=by_threads / "seed-3", total_env_steps=480, progress=False)
    with pytest.raises(kl.ConfigurationError, match=r"total_env_steps is 400 in .*seed-0 and 480 in .*seed-3"):
        kl.train_seeds(resume=by_threads, progress=False)
    results = kl.train_seeds(resume=by_threads, total_env_steps=480, progress=False)
    assert [result.env_steps for result in results] == [480, 480]
    with pytest.raises(kl.ConfigurationError, match="batch_size cannot change"):
        kl.train_seeds(resume=by_threads, batch_size=8, progress=False)


# ---- Faults ------------------------------------------------------------------------------------------------------


def test_a_fault_names_its_seed_and_leaves_whole_checkpoints(tmp_path, monkeypatch):
    advance = Threads.advance

    def breaking(self, *, learn):
        outcomes = advance(self, learn=learn)
        if self.clocks.env_steps > 200:
            collected = outcomes[1].collected
            broken = dataclasses.replace(collected, observation_step=np.int32(2), observation_env=np.int32(1))
            outcomes[1] = outcomes[1]._replace(collected=broken)
        return outcomes

    monkeypatch.setattr(Threads, "advance", breaking)
    path = tmp_path / "many"
    with pytest.raises(kl.TrainingError) as error:
        train_seeds(config=small_config(**KEEP_ALL), seeds=SEEDS, mode="threads", run_dir=path, progress=False)
    assert str(error.value) == (
        "seed 3: the observation of point_u_maze in environment 1 is not finite at env step 208; the last good "
        f"checkpoint is {path / 'seed-3' / 'checkpoints' / '200'}"
    )
    for seed in SEEDS:
        assert final_state(path / f"seed-{seed}").env_steps == 200
    monkeypatch.undo()
    assert kl.train(resume=path / "seed-0", progress=False).env_steps == 400


@pytest.mark.slow
def test_numbers_that_are_not_finite_stop_all(tmp_path):
    config = small_config(num_evals=10, crl={"critic_learning_rate": 1e38})
    with pytest.raises(kl.TrainingError, match=r"^seed 5: .* is not finite at gradient step .*seed-5/checkpoints/80$"):
        train_seeds(config=config, seeds=(5, 6), mode="vmap", run_dir=tmp_path / "many", progress=False)
    assert kl.load(tmp_path / "many" / "seed-6").env_steps == 80


# ---- Robots and growth -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_robots_on_the_c_engine_move_alike_both_ways(tmp_path):
    config = small_config(env="reacher", engine="mujoco", total_env_steps=160, num_evals=1, episode_length=15)
    for mode in MODES:
        train_seeds(config=config, seeds=SEEDS, mode=mode, run_dir=tmp_path / mode, progress=False)
    for seed in SEEDS:
        a, b = (final_state(tmp_path / mode / f"seed-{seed}") for mode in MODES)
        np.testing.assert_allclose(a.buffer.observation, b.buffer.observation, atol=1e-4)
        np.testing.assert_array_equal(a.buffer.episode, b.buffer.episode)
        assert a.buffer.episode.max() >= 2


@pytest.mark.slow
def test_networks_grow_in_every_seed_as_alone(tmp_path):
    config = small_config(depth=8, grow="4@0,8@120", total_env_steps=200, num_evals=5)
    train_seeds(config=config, seeds=SEEDS, mode="threads", run_dir=tmp_path / "many", progress=False)
    kl.train(config=dataclasses.replace(config, seed=3), run_dir=tmp_path / "run", progress=False)
    assert final_state(tmp_path / "run", 160).agent.actor.depth == 8
    assert_same_state(final_state(tmp_path / "many" / "seed-3", 160), final_state(tmp_path / "run", 160))


# ---- What is asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seeds": [0, -1]}, "-1 must be at least 0"),
        ({"seeds": []}, "holds 0 seeds"),
        ({"seeds": [1, 1]}, "1 appears twice"),
        ({}, "seeds is missing"),
        ({"seeds": [0], "seed": 1}, "seed=1 and seeds exclude each other"),
        ({"seeds": [0], "mode": "fast"}, "mode='fast' is unknown; choose one of auto, threads, vmap"),
        ({"seeds": [0], "checkpoint": 5}, "checkpoint=5 needs resume"),
        ({"seeds": [0], "resume": "there"}, "leave them out"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(tmp_path, arguments, words):
    with pytest.raises(kl.ConfigurationError, match=words):
        train_seeds("point_u_maze", run_dir=tmp_path / "many", progress=False, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_threads_are_the_choice_on_a_cpu_and_vmap_elsewhere(monkeypatch):
    assert choose_mode() == "threads"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_mode() == "vmap"
    assert choose_mode("threads") == "threads"


def test_no_run_is_overwritten_and_nothing_written_if_one_is_there(tmp_path):
    path = tmp_path / "many"
    RunDirectory.create(path / "seed-3", small_config())
    with pytest.raises(kl.RunError, match="seed-3 holds a run already"):
        train_seeds(config=small_config(), seeds=SEEDS, run_dir=path, progress=False)
    assert [entry.name for entry in path.iterdir()] == ["seed-3"]
    run = RunDirectory.create(tmp_path / "run", small_config())
    with pytest.raises(kl.RunError, match="run holds a run already"):
        train_seeds(config=small_config(), seeds=SEEDS, run_dir=run.path, progress=False)


def test_a_group_whose_runs_are_gone_is_one_line(tmp_path):
    (tmp_path / "seeds.json").write_text('{"format": 1, "seeds": [0], "mode": "vmap"}')
    with pytest.raises(kl.RunError, match="was stopped before the run of its first seed was made; start it again"):
        train_seeds(resume=tmp_path, progress=False)


def test_weights_and_biases_gets_a_run_for_each_seed_under_one_group(monkeypatch, groups):
    calls = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: calls.append(settings)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for seed in SEEDS:
        WandbSink(RunDirectory(groups["threads"] / f"seed-{seed}"), "project", {})
    assert [(call["name"], call["group"]) for call in calls] == [("many-seed-0", "many"), ("many-seed-3", "many")]
    assert {call["reinit"] for call in calls} == {"create_new"}


# ---- The command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commanded(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("commanded") / "many"
    assert main(["train", "point_u_maze", "--seeds=0,3", f"--run-dir={path}", "--quiet", *flags(num_evals=10)]) == 0
    return path


def test_the_command_trains_what_the_library_does(commanded, groups):
    assert SeedGroup.open(commanded) == SeedGroup(commanded, SEEDS, "threads")
    assert_same_runs(commanded, groups["threads"])


def test_the_command_resumes_and_prints_each_and_the_mean(capsys, commanded):
    assert main(["train", f"--resume={commanded}", "--total-env-steps=440"]) == 0
    success = [RunDirectory(commanded / f"seed-{seed}").metrics()[-1]["eval/success_any"] for seed in SEEDS]
    *each, last = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in each] == [str(commanded / f"seed-{seed}") for seed in SEEDS]
    error = abs(success[0] - success[1]) / 2
    assert last.startswith("finished 440 env steps with each of 2 seeds: ")
    assert f"success_any {np.mean(success):.3f} ± {error:.3f}" in last
    assert main(["train", f"--resume={commanded}", "--json", "--quiet"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["run_dir"] for result in results] == [str(commanded / f"seed-{seed}") for seed in SEEDS]
    assert {(result["status"], result["env_steps"]) for result in results} == {("finished", 440)}


@pytest.mark.slow
def test_a_dry_run_prints_the_memory_of_all(capsys):
    plans = []
    for several in ([], ["--seeds=0..1"], ["--seeds=0..1", "--seeds-mode=vmap"]):
        assert main(["train", "point_u_maze", *flags(), *several, "--dry-run", "--json"]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    one, threads, vmap = plans
    assert (threads["seeds"], threads["seeds_mode"], vmap["seeds_mode"]) == (2, "threads", "vmap")
    assert threads["state_bytes"] == vmap["state_bytes"] == 2 * one["state_bytes"]
    assert vmap["step_peak_bytes"] > 1.5 * one["step_peak_bytes"]
    assert threads["step_peak_bytes"] >= one["step_peak_bytes"] + one["state_bytes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["point_u_maze", "--seeds", "0..7", "--seed", "0"], "--seed and --seeds 0..7 exclude each other"),
        (["point_u_maze", "--seeds", "0..7", "--seed=1"], "exclude each other"),
        (["point_u_maze", "--seeds=1,1"], "1 appears twice"),
        (["point_u_maze", "--seeds=-1"], "'-1' is not a seed"),
        (["point_u_maze", "--seeds-mode", "vmap"], "needs --seeds"),
        (["point_u_maze", "--seeds", "0..1", "--checkpoint", "3"], "needs --resume"),
        (["--resume", "somewhere", "--seeds", "0..1"], "leave them out"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []
