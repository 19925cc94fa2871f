"""How many cases of a study share a GPU, and that the command line asks."""

import pytest

from kilolayer.cli import study
from kilolayer.cli.main import main
from kilolayer.studies.core.side_by_side import jobs_that_fit
from kilolayer.training import Setup
from kilolayer.training.memory import run_bytes
from small_runs import small_config

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "cores", "cases", "jobs"),
    [
        (80 * GIB, 64, 9, 4),  # a fifth of the memory is left to the activations of each
        (80 * GIB, 9, 9, 2),
        (80 * GIB, 64, 3, 3),
        (80 * GIB, 2, 9, 1),
        (2**17, 64, 9, 1),
    ],
)
def test_memory_cores_and_cases_bound_the_number(memory, cores, cases, jobs):
    assert jobs_that_fit([small_config()] * cases, 1, memory=memory, cores=cores) == jobs


def test_the_state_of_all_seeds_counts():
    config = small_config(replay_capacity=1000)
    state = sum(run_bytes(Setup.build(config, seeds=8), config, seeds=8).values())
    assert jobs_that_fit([config] * 9, 8, memory=state, cores=64) == 1
    assert jobs_that_fit([config] * 9, 8, memory=4 * state, cores=64) == 2
    assert jobs_that_fit([config] * 9, 1, memory=4 * state, cores=64) > 2


@pytest.mark.parametrize(
    ("size", "on_gpu", "flags", "jobs"),
    [("gpu", True, [], 3), ("gpu", False, [], None), ("cpu", True, [], None), ("gpu", True, ["--jobs=2"], 2)],
)
def test_the_size_gpu_shares_the_gpu_unless_told_otherwise(monkeypatch, capsys, size, on_gpu, flags, jobs):
    asked = []
    monkeypatch.setattr(study, "has_gpu", lambda: on_gpu)
    monkeypatch.setattr(study, "jobs_that_fit", lambda configs, seeds: 3)
    monkeypatch.setattr(study, "own_kernel_choices", lambda: asked.append(None))
    monkeypatch.setattr(study, "in_processes", asked.append)
    monkeypatch.setattr(study, "_run", lambda *arguments, **keywords: 0)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert main(["study", "depth", f"--size={size}", *flags]) == 0
    assert asked == [jobs]
    assert ("3 of 3 cases at once on the GPU; --jobs sets another number" in capsys.readouterr().err) == (jobs == 3)
