"""Damaged checkpoints: every read gives the arrays that were saved, or one line; another checkpoint still works."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from invariants import check_call, contents, generators

import kilolayer as kl
from kilolayer.errors import KilolayerError
from kilolayer.named_arrays import to_arrays
from kilolayer.runs import Checkpoints
from kilolayer.training import load_policy
from small_runs import final_state, small_config

JSON_NOISE = [
    "",
    "{",
    "null",
    "[]",
    "3",
    '"x"',
    "{}",
    "[" * 2000,
    '{"a": null}',
    "NaN",
    "true",
    '{"eval/success_any": "x"}',
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with two checkpoints."""
    path = tmp_path_factory.mktemp("whole") / "run"
    kl.train(config=small_config(num_evals=2, checkpoints_to_keep=2), run_dir=path, progress=False)
    return path


def damage(number, checkpoint: Path, other: Path, outside: Path) -> str:
    """Change one file or folder of a checkpoint; return what was done."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    folders = sorted(path for path in checkpoint.rglob("*") if path.is_dir())
    file = number.choice(files)
    name = file.relative_to(checkpoint)
    data = bytearray(file.read_bytes())
    match number.randrange(9):
        case 0 if data:
            place = number.randrange(len(data))
            data[place] ^= 1 << number.randrange(8)
            file.write_bytes(data)
            return f"flip a bit at {place} of {name}"
        case 1:
            length = number.randrange(len(data) + 1)
            file.write_bytes(data[:length])
            return f"cut {name} to {length}"
        case 2:
            file.write_bytes(b"")
            return f"empty {name}"
        case 3:
            file.unlink()
            return f"remove {name}"
        case 4:
            small = [path for path in files if path.stat().st_size < 5000 and b"\x00" not in path.read_bytes()]
            file = number.choice(small)
            text = number.choice(JSON_NOISE)
            file.write_text(text)
            return f"write {text:.20} to {file.relative_to(checkpoint)}"
        case 5:
            folder = number.choice(folders)
            shutil.rmtree(folder)
            return f"remove folder {folder.relative_to(checkpoint)}"
        case 6:
            twin = other / name
            if twin.exists():
                shutil.copyfile(twin, file)
            return f"take {name} of another checkpoint"
        case 7:
            file.unlink()
            file.symlink_to(outside)
            return f"link {name}"
        case _:
            start = number.randrange(len(data) + 1)
            data[start : start + 16] = os.urandom(16)
            file.write_bytes(data)
            return f"write noise at {start} of {name}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*damaged now")
def test_a_damaged_checkpoint_gives_the_saved_arrays_or_one_line(whole, tmp_path):
    first, last = Checkpoints(whole / "checkpoints").steps()
    saved = {step: to_arrays(final_state(whole, step)) for step in (first, last)}
    outside = tmp_path / "outside.txt"
    outside.write_text("of somebody else")
    refused = 0
    for case, number in generators("checkpoints"):
        run = shutil.copytree(whole, tmp_path / "run")
        what = damage(number, run / "checkpoints" / str(last), run / "checkpoints" / str(first), outside)
        named = f"{case}: {what}"

        def read(run=run, named=named):
            for name, value in to_arrays(final_state(run, last)).items():
                assert np.array_equal(value, saved[last][name], equal_nan=True), f"{named}: {name} is another array"

        refused += bool(check_call(read, KilolayerError, case=named))
        check_call(lambda run=run: load_policy(run), KilolayerError, case=named)
        if not what.startswith("link"):  # links in a run are refused whole
            policy = load_policy(run, checkpoint=first)
            assert policy.env_steps == first, named
            kl.train(resume=run, checkpoint=first, total_env_steps=400, progress=False)
            after = to_arrays(final_state(run, last))
            assert all(np.array_equal(after[name], value, equal_nan=True) for name, value in saved[last].items()), named
        assert outside.read_text() == "of somebody else", named
        shutil.rmtree(run)
    assert refused > 0


def test_damaged_small_files_of_a_run_are_one_line(whole, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("of somebody else")
    before = contents(outside)
    for case, number in generators("small files"):
        run = shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True)
        name = number.choice(
            ["config.json", "system.json", "metrics.jsonl", "metrics.csv", ".lock", "checkpoints", "figures"]
        )
        file = run / name
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
        match number.randrange(3):
            case 0:
                file.write_text(number.choice(JSON_NOISE))
            case 1:
                file.symlink_to(number.choice([outside, outside / "file", outside / "new", Path("/dev/null")]))
            case _:
                if name == "config.json":
                    settings = json.loads((whole / name).read_text())
                    settings[number.choice(list(settings))] = json.loads(
                        number.choice(["null", "[]", "-1", "1e30", '"x"', "{}"])
                    )
                    file.write_text(json.dumps(settings))
        for call in (
            lambda run=run: load_policy(run),
            lambda run=run: kl.train(resume=run, checkpoint=400, progress=False),
        ):
            check_call(call, KilolayerError, case=f"{case}: {name}")
        assert contents(outside) == before, case
        shutil.rmtree(run)
