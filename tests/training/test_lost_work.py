"""What happens to a run whose directory is odd, moved, rotated or left half made. Nothing is lost without a word."""

import json
import shutil

import pytest

import kilolayer as kl
from kilolayer.checkpoint_files import read_again_if_rotated, steps_in
from kilolayer.cli.main import main
from kilolayer.errors import KilolayerError, RunError
from kilolayer.runs import RunDirectory
from kilolayer.runs.seed_group import SeedGroup
from small_runs import assert_same_state, final_state, flags, small_config

EVERY_STEP = {"num_evals": 10, "checkpoints_to_keep": 20}
ODD = "".join(chr(code) for code in range(1, 127) if not chr(code).isalnum() and chr(code) != "/") + "é鹿 "


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with several checkpoints."""
    path = tmp_path_factory.mktemp("whole") / "run"
    kl.train(config=small_config(**EVERY_STEP), run_dir=path, progress=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lr[3e-4]", "a*b?c", "{x}", "[!a]", ODD, "-x --y", "'\"\\n$(touch x)`"], ids=range(7))
def test_every_character_of_a_file_name_works(tmp_path, name, whole):
    path = tmp_path / name / name
    kl.train(config=small_config(total_env_steps=200, num_evals=2), run_dir=path, progress=False)
    kl.load(path)
    kl.train(resume=path, total_env_steps=400, progress=False)
    assert_same_state(final_state(path), final_state(whole))
    moved = shutil.move(path, tmp_path / "moved")
    assert_same_state(final_state(moved), final_state(whole))


def test_a_save_that_cannot_be_read_back_is_an_error_at_the_save(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def lose_the_manifest(self):
        for manifest in (tmp_path / "run").glob("checkpoints/*/rest/manifest.ocdbt"):
            manifest.unlink()

    monkeypatch.setattr(ocp.CheckpointManager, "check_for_errors", lose_the_manifest)
    with pytest.raises(KilolayerError, match=r"checkpoint .* could not be saved \(.*No such file"):
        kl.train(config=small_config(), run_dir=tmp_path / "run", progress=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of writers that were given up
def test_a_run_directory_that_is_deleted_ends_training_with_an_error(tmp_path, monkeypatch):
    from kilolayer.training import trainer

    path, advance = tmp_path / "run", trainer.Trainer._advance

    def delete_then_advance(self, display):
        if self.clocks.env_steps == 200:
            path.rename(tmp_path / "gone")  # at once: a save that is being written would disturb a deletion
        advance(self, display)

    monkeypatch.setattr(trainer.Trainer, "_advance", delete_then_advance)
    with pytest.raises(KilolayerError, match=r"was deleted or moved|could not be saved"):
        kl.train(config=small_config(), run_dir=path, progress=False)


def test_resuming_from_an_earlier_checkpoint_keeps_the_later_ones(tmp_path, whole, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    before = steps_in(run / "checkpoints")
    assert main(["train", "--resume", str(run), "--checkpoint", "200"]) == 0
    place = run / "set-aside" / "after-200"
    assert f"is in {place}" in capsys.readouterr().err
    kept = steps_in(place)
    assert kept == [step for step in before if step > 200]
    assert (place / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert steps_in(run / "checkpoints") == before
    assert_same_state(final_state(run), final_state(whole))
    kl.train(resume=run, checkpoint=240, progress=False)
    kl.train(resume=run, checkpoint=240, keep_later=False, progress=False)
    assert sorted(path.name for path in (run / "set-aside").iterdir()) == ["after-200", "after-240"]
    kl.train(resume=run, checkpoint=200, progress=False)
    assert (run / "set-aside" / "after-200-2").is_dir()


@pytest.mark.parametrize("made", [0, 1])
def test_seeds_that_were_killed_while_their_directories_were_made_can_be_trained(tmp_path, monkeypatch, made, capsys):
    path = tmp_path / "seeds"
    create, calls = RunDirectory.create.__func__, []

    def killed(cls, *arguments):
        if len(calls) == made:
            raise SystemExit("killed")
        calls.append(arguments)
        return create(cls, *arguments)

    command = ["train", "point_u_maze", "--seeds", "0,3", f"--run-dir={path}", "--quiet", *flags(total_env_steps=200)]
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "create", classmethod(killed))
        main(command)
    capsys.readouterr()
    assert main(["train", "--resume", str(path), "--quiet"] if made else command) == 0
    assert [run.metrics()[-1]["env_steps"] for run in SeedGroup.open(path).runs] == [200, 200]


def test_seeds_without_any_run_say_that_they_are_to_be_started_again(tmp_path, capsys):
    path = tmp_path / "seeds"
    SeedGroup(path, (0, 1), "threads").create(small_config())
    for seed in (0, 1):
        shutil.rmtree(path / f"seed-{seed}")
    assert main(["train", "--resume", str(path)]) == 2
    assert "start it again" in capsys.readouterr().err


def test_files_that_a_killed_process_left_half_written_are_removed(whole, tmp_path):
    run = RunDirectory.open(shutil.copytree(whole, tmp_path / "run"))
    left = run.path / ".partial-abc"
    left.write_text("{")
    with run.lock():
        assert not left.exists()


def test_a_checkpoint_that_was_deleted_while_it_was_read_is_read_again(tmp_path):
    for step in (40, 80):
        (tmp_path / str(step)).mkdir()
    reads = []

    def read():
        latest = steps_in(tmp_path)[-1]
        reads.append(latest)
        if latest == 80:
            (tmp_path / "80").rename(tmp_path / "120")
            raise RunError("checkpoint 80 is damaged")
        return latest

    assert read_again_if_rotated(tmp_path, read) == 120
    assert reads == [80, 120]

    def fail():
        raise RunError("checkpoint 120 is damaged")

    with pytest.raises(RunError, match="120"):
        read_again_if_rotated(tmp_path, fail)


def test_the_limit_of_a_run_is_said_before_it_starts(tmp_path, capsys):
    command = ["train", "point_u_maze", "--total-env-steps", str(2**40), "--run-dir", str(tmp_path / "run")]
    assert main(command) == 2
    assert json.dumps(capsys.readouterr().err).count("\\n") == 1
    assert not (tmp_path / "run").exists()
