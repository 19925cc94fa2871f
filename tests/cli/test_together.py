"""Several processes that train together: how they are found, and what ends all."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from kilolayer import hosts
from kilolayer.cli import together
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.runs import checksums
from kilolayer.runs.checksums import agrees, checksums_of
from kilolayer.training import choose_mode


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-processes", "2"], "--num-processes 2 needs --coordinator HOST:PORT"),
        (["--coordinator", "a:1"], "--coordinator a:1 needs --num-processes, a number"),
        (["--coordinator", "a:1", "--num-processes", "2"], "--coordinator a:1 needs --process-id, a number"),
        (
            ["--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"],
            "--process-id 2 must be below --num-processes 2",
        ),
        (["--coordinator", "a", "--num-processes", "2", "--process-id", "0"], "--coordinator a must be HOST:PORT"),
    ],
)
def test_flags_that_do_not_say_where_the_others_are_are_one_line(flags, message, capsys):
    assert main(["train", "point_u_maze", "--devices", "2", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}


def test_a_place_is_found_from_slurm_and_open_mpi():
    assert hosts.place_in({}) is None
    assert hosts.place_in(SLURM) == hosts.Place(None, 4, 3)
    assert hosts.place_in(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert hosts.place_in({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a script of sbatch, outside of srun
    assert hosts.place_in(MPI) == hosts.Place(None, 2, 1)
    with pytest.raises(ConfigurationError, match="JAX_COORDINATOR_ADDRESS"):
        hosts.place_in({name: MPI[name] for name in list(MPI)[:2]})


def test_tasks_of_slurm_are_joined_only_for_several_devices(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert together._place({"env": "ant"}) is None  # each task trains a run of its own
    assert together._place({"env": "ant", "devices": "4"}) == hosts.Place(None, 4, 3)


class Service:
    """What processes tell each other, as JAX's client has it."""

    def __init__(self):
        self.told = {}

    def key_value_set(self, name, value, allow_overwrite=False):
        self.told[name] = value

    def key_value_try_get(self, name):
        if self.told is None:
            raise RuntimeError("UNAVAILABLE")
        if name not in self.told:
            raise RuntimeError("NOT_FOUND")
        return self.told[name]


@pytest.fixture
def watched(monkeypatch):
    """A process beside process 1 of two, and what ends it."""
    service, ended = Service(), []
    monkeypatch.setattr(hosts, "_client", lambda: service)
    monkeypatch.setattr(hosts, "num_processes", lambda: 2)
    monkeypatch.setattr(hosts, "BEAT_SECONDS", 0.01)
    watch = hosts.Watch(ended.append)
    yield service, watch, ended
    watch.stop()


def wait_for(ended):
    deadline = time.monotonic() + 60.0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
    return ended


def test_a_process_that_says_why_it_ends_ends_the_others(watched):
    service, watch, ended = watched
    assert watch.gone() is None
    service.told[hosts._words(1)] = "the disk is full"
    assert wait_for(ended) == ["process 1 of 2 has ended: the disk is full"]


def test_a_process_without_a_sign_of_life_is_gone(watched):
    _, watch, ended = watched
    watch.suspect()
    assert wait_for(ended) == ["process 1 of 2 has ended or cannot be reached"]


def test_errors_of_lost_connections_are_told_apart():
    lost = ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    wrapped = RuntimeError("a program failed")
    wrapped.__cause__ = lost
    assert hosts.is_of_others(lost)
    assert hosts.is_of_others(wrapped)
    assert not hosts.is_of_others(ValueError("the actor loss is not finite"))


def test_alone_nothing_is_joined():
    assert hosts.num_processes() == 1
    assert hosts.is_first_process()
    assert hosts.largest_of_all(3, 0) == (3, 0)
    assert hosts.from_first_process(lambda: {"a": 1}) == {"a": 1}


def test_the_log_filter_says_in_one_line_what_jax_aborts_with():
    text = (
        "W1 coordination_service.cc] x\nkept\n{}F1 JAX distributed service detected fatal errors.\n*** trace\n@ 0x1\n"
    )
    command = [sys.executable, "-S", "-c", together.LOG_FILTER, "apart", "lost", together.JOINED, *together.NOISE]
    for joined, expected in (("", "apart"), (f"{together.JOINED}\n", "lost")):
        given = text.format(joined)
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=True, env=dict(os.environ))
        assert done.stdout.splitlines() == ["kept", expected]


class Shared:
    """An array of which this process has the second half."""

    def __init__(self, whole):
        self.whole = whole
        self.sharding = type("sharding", (), {"spec": (None, "data")})
        half = whole.shape[1] // 2
        parts = [slice(half, half + half // 2), slice(half + half // 2, None)]
        self.addressable_shards = [
            type("shard", (), {"index": (slice(None), part), "data": whole[:, part]}) for part in reversed(parts)
        ]


def test_checksums_of_shared_arrays_are_those_of_the_parts(monkeypatch):
    whole = np.arange(24.0).reshape(3, 8)
    monkeypatch.setattr(checksums, "from_each_process", lambda own: np.stack([checksum_of_first(whole), own]))
    found = checksums_of({"own": whole, "shared": Shared(whole)})
    assert found["shared"]["axis"] == 1
    for checksum in found.values():
        assert agrees(whole, checksum)
        assert not agrees(whole + 1.0, checksum)


def checksum_of_first(whole):
    from kilolayer.runs.checksums import _crc

    return np.array([_crc(whole[:, :4])], np.uint32)


# Seeds on devices


def test_seeds_that_devices_cannot_share_are_one_line(capsys, tmp_path):
    flags = ["train", "point_u_maze", "--seeds", "0..2", "--devices", "2", "--run-dir", str(tmp_path / "seeds")]
    assert main(flags) == 2
    assert "devices=2 cannot share 3 seeds equally; take 1 or 3" in capsys.readouterr().err
    assert main([*flags[:3], "0..3", *flags[4:], "--seeds-mode", "threads"]) == 2
    assert "devices=2 have no effect on seeds by mode='threads'" in capsys.readouterr().err
    assert choose_mode("auto", devices=2) == "vmap"


def test_more_devices_than_there_are_say_how_to_get_more(capsys, tmp_path):
    sizes = ["--num-envs", "128", "--batch-size", "256", "--num-eval-envs", "128"]
    assert main(["train", "point_u_maze", *sizes, "--devices", "64", "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "devices=64 is more than there are: 1 (cpu); XLA_FLAGS=--xla_force_host_platform_device_count=64" in error
    assert not (tmp_path / "run").exists()
