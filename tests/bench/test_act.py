"""`bench_act`: it measures what it says, in a process of its own; no test asserts a time."""

import dataclasses
import importlib.util
import os
from pathlib import Path

import pytest

from kilolayer.bench import bench_act
from kilolayer.bench.act import busy_neighbour, installed_runtimes
from kilolayer.errors import ConfigurationError, KilolayerError


@pytest.mark.slow
def test_every_precision_of_every_depth_has_a_line():
    told = []
    rows = list(bench_act([0, 4], width=16, batch=2, precisions=["float32", "int8"], calls=3, log=told.append))
    assert [(row.depth, row.precision) for row in rows] == [(0, "float32"), (0, "int8"), (4, "float32"), (4, "int8")]
    for row in rows:
        assert (row.width, row.batch_size) == (16, 2)
        assert row.cores == 1 or not hasattr(os, "sched_setaffinity")
        assert 0.0 < row.step_seconds <= row.slowest <= row.slowest_of_thousand
        assert min(row.compile_seconds, row.floor_seconds, row.float32_ratio) > 0.0
        assert 0.0 <= row.mean_action_error <= row.largest_action_error
        assert all(isinstance(value, int | float | str) for value in dataclasses.asdict(row).values())
    assert rows[0].float32_ratio == rows[2].float32_ratio == 1.0
    assert rows[0].weight_bytes == rows[1].weight_bytes == 4 * (31 * 16 + 3 * 16 + 16 * 16 + 16)
    assert rows[2].weight_bytes - rows[3].weight_bytes == 4 * (3 * 16 * 16 - 4 * 16)
    assert rows[2].largest_action_error < 1e-5 < rows[3].largest_action_error < 0.1
    forms = "library float32, library int8"
    assert told == [f"depth 0, {forms}", f"depth 4, {forms}"]


@pytest.mark.slow
def test_exported_models_have_lines_too(export_packages):
    rows = list(bench_act([4], width=16, runtimes=None, load=True, calls=3))
    assert [(row.runtime, row.precision) for row in rows] == [
        (runtime, precision) for runtime in ("library", "onnxruntime") for precision in ("float32", "int8")
    ]
    assert all(row.load and row.float32_ratio > 0.0 for row in rows)
    assert rows[2].largest_action_error < 1e-5 < rows[3].largest_action_error < 0.1
    assert rows[3].weight_bytes < rows[2].weight_bytes


def test_a_neighbour_is_busy_as_long_as_it_is_wanted():
    def children():
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        pytest.skip("this system does not list children")
    before = children()
    with busy_neighbour(False):
        assert children() == before
    with busy_neighbour(True):
        assert len(children() - before) == 1
    assert children() == before


def test_a_runtime_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert installed_runtimes() == ("library",)
    with pytest.raises(ConfigurationError, match=r"^runtime='onnxruntime' is not installed; pip install"):
        bench_act([0], runtimes=["onnxruntime"])


def test_without_float32_there_is_no_ratio_and_a_caller_may_stop_early():
    lines = bench_act([0, 0], width=8, precisions=["int8"], calls=1)
    assert next(lines).float32_ratio is None
    lines.close()


def test_a_process_that_dies_is_reported(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "neither true nor false")
    with pytest.raises(KilolayerError, match=r"the measurement of depth=0, .* failed: .*neither true nor false"):
        list(bench_act([0], width=8, calls=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [6]}, "depth=6 is not a multiple"),
        ({"precisions": ["int4"]}, "precision='int4' is unknown"),
        ({"runtimes": ["torch"]}, "runtime='torch' is unknown; choose one of library, onnxruntime"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"calls": 0}, "calls=0 must be at least 1"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_starts(options, message):
    told = []
    with pytest.raises(ConfigurationError, match=message):
        bench_act(**{"depths": [0], "log": told.append} | options)
    assert told == []
