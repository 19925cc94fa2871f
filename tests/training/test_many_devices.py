"""What is learnt on several devices is what one device learns. A process of its own has eight devices on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TOLERANCE = 1e-5


def on_eight_devices(*words: str) -> list[dict]:
    """Run `many_devices.py` where JAX has eight devices; return what it prints."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(TESTS / "many_devices.py"), *words],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def found():
    """What the quick checks find, by the name of each."""
    return {line["case"]: line for line in on_eight_devices("quick")}


def test_contrast_is_over_the_batch_of_all_devices(found):
    result = found["crl infonce_symmetric"]
    assert max(result["parameters"].values()) < TOLERANCE
    assert max(result["metrics"].values()) < TOLERANCE


def test_a_label_that_is_off_by_a_shard_would_be_seen(found):
    assert found["labels"]["off"] > 1000 * TOLERANCE


def test_no_gather_crosses_devices_and_each_has_its_part(found):
    assert found["parts"] == {
        "case": "parts",
        "environments on a device": 2,
        "copies of a parameter": 8,
        "gathers": True,
        "replay of a GPU": 8.0,
        "gathers of the buffer": 0,
    }


def test_replay_of_eight_devices_holds_what_one_device_would(found):
    assert found["replay"] == {"case": "replay", "different": [], "sizes": [40, 16], "histories": 10}


@pytest.mark.slow
def test_every_agent_learns_the_same_on_any_number_of_devices():
    for result in on_eight_devices("1,2,4,8"):
        tolerance = 1e-3 if result["case"] == "ppo" else TOLERANCE
        assert max(result["parameters"].values()) < tolerance, result
        assert max(result["metrics"].values()) < tolerance, result


@pytest.mark.slow
def test_runs_go_on_with_other_devices_and_seeds_share_them():
    (result,) = on_eight_devices("runs")
    assert result["resumed"] < 1e-3  # five rounds, of which each collects with what the last one learnt
    assert result["seeds"] < 1e-3
    assert result["settings"] == [4, None]  # the shards of the run, which are as many as its devices now
    assert result["cut again"] == 2
    assert result["mujoco"] < 1e-3
    assert result["seed"]
