"""Nothing in the files of a policy is trusted: what is damaged or forged is one line."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from policy_cases import case_of, edit_json

import kilolayer as kl
from kilolayer.errors import RunError


@pytest.fixture(scope="module")
def policy():
    return case_of("crl")[2]


@pytest.fixture
def saved(policy, tmp_path):
    return policy.save(tmp_path / "policy")


def error_line(directory):
    with pytest.raises(RunError) as error:
        kl.load(directory)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 700
    assert str(directory) in line
    return line


def put(*path, value):
    """Return a change that puts a value at a place of JSON data."""

    def change(data):
        for name in path[:-1]:
            data = data[name]
        data[path[-1]] = value

    return change


def drop(name):
    return lambda data: data.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("format", value=2), "written by a newer kilolayer (format 2, this version reads up to 1); update"),
        (put("format", value=0), "format=0 must be from 1 to 1"),
        (put("format", value=True), "it has no format number"),
        (drop("format"), "it has no format number"),
        (put("agent", "name", value="mine"), "agent='mine' is unknown; "),
        (put("agent", "name", value="mine"), "if a file of your own registers it, import that file first"),
        (put("torso", "name", value="mine"), "torso='mine' is unknown; "),
        (put("torso", "name", value="mine"), "if a file of your own registers it, import that file first"),
        (put("agent", "settings", "discount", value=2.0), "discount=2.0"),
        (put("agent", "settings", "os.system", value="ls"), "setting 'agent.settings.os.system' is unknown"),
        (put("torso", "settings", "block_size", value="four"), "torso.settings.block_size='four'"),
        (put("observation", "size", value=0), "observation: size=0 must be at least 1"),
        (put("observation", "size", value=4.5), "observation.size=4.5"),
        (put("observation", "size", value="4"), "observation.size='4'"),
        (put("observation", "size", value=5), "observation: names has 4 entries for size=5"),
        (put("observation", "names", value=["x"]), "names has 1 entries for size=4"),
        (put("action", "discrete", value=True), "agent='crl' is for continuous actions"),
        (put("depth", value=6), "depth=6"),
        (put("depth", value=8), "policy.safetensors does not fit policy.json: "),
        (put("depth", value=10**30), "policy.json"),
        (put("width", value=10**15), "policy.json"),
        (put("width", value=-1), "width=-1 must be at least 1"),
        (put("surprise", value=1), "surprise is unknown"),
        (put("environment", "surprise", value=1), "environment.surprise is unknown"),
        (put("environment", "control_step", value=float("nan")), "control_step=nan must be above 0"),
        (drop("seed"), "seed is missing"),
        (drop("weights"), "has no SHA-256 digest of the weights"),
        (put("weights", "sha256", value="00"), "has no SHA-256 digest of the weights"),
        (put("weights", "file", value="../../other"), "weights={'file': '../../other'"),
        (put("weights", "sha256", value="0" * 64), "policy.safetensors is damaged: its SHA-256 digest is not the one"),
    ],
)
def test_a_contract_that_was_changed_is_one_line(saved, change, words):
    edit_json(saved / "policy.json", change)
    assert words in error_line(saved)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe{}", "it is not UTF-8 text"),
        (b"[1]", "it has no format number"),
        (b"null", "it has no format number"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"format": ' + b"1" * 5000 + b"}", "it is not JSON"),
    ],
)
def test_a_contract_that_is_no_contract_is_one_line(saved, content, words):
    (saved / "policy.json").write_bytes(content)
    assert words in error_line(saved)


def rewrite(saved, change):
    """Change the arrays of a policy, and forge the digest."""
    arrays = safetensors.numpy.load_file(saved / "policy.safetensors")
    change(arrays)
    forge(saved, safetensors.numpy.save(arrays))


def forge(saved, weights):
    (saved / "policy.safetensors").write_bytes(weights)
    edit_json(saved / "policy.json", put("weights", "sha256", value=hashlib.sha256(weights).hexdigest()))


def first_of(arrays):
    return min(name for name in arrays if name.startswith("actor."))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop(first_of(arrays)), "found nothing"),
        (lambda arrays: arrays.update(extra=np.zeros(3, np.float32)), "extra has no place"),
        (lambda arrays: arrays.update({first_of(arrays): np.zeros(3, np.float32)}), "found float32[3]"),
        (lambda arrays: arrays.update({first_of(arrays): arrays[first_of(arrays)].astype(np.float16)}), "float16"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(saved, change, words):
    rewrite(saved, change)
    line = error_line(saved)
    assert "does not fit policy.json" in line
    assert words in line


def test_weights_that_are_cut_short_or_no_safetensors_are_one_line(saved):
    weights = (saved / "policy.safetensors").read_bytes()
    (saved / "policy.safetensors").write_bytes(weights[:-1])
    assert "its SHA-256 digest is not the one in policy.json" in error_line(saved)
    for damaged in (weights[:-1], weights[:4], b"", b"\xff" * 64, (2**62).to_bytes(8, "little") + weights[8:]):
        forge(saved, damaged)
        assert "is not a safetensors file" in error_line(saved)


def test_missing_files_are_one_line(saved):
    (saved / "policy.safetensors").unlink()
    assert "policy.safetensors cannot be read: No such file" in error_line(saved)
    (saved / "policy.json").unlink()
    (saved / "policy.json").mkdir()
    assert "policy.json cannot be read: Is a directory" in error_line(saved)


def test_a_pickle_is_not_run(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "evil"), "w")

    import pickle

    forge(saved, pickle.dumps(Evil()))
    assert "is not a safetensors file" in error_line(saved)
    assert not (tmp_path / "evil").exists()
    assert json.loads((saved / "policy.json").read_text())["format"] == 1
