"""On a GPU the choices of kernels are kept with a run, and a process that resumes it computes with the same."""

import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import jax
import pytest

import kilolayer as kl
from kilolayer import kernel_choices
from kilolayer.kernel_choices import AUTOTUNE, claim, has_gpu, is_known_to_xla, keep_choices, own_kernel_choices, texts
from small_runs import assert_same_state, final_state, flags, small_config

CACHE = "jax_compilation_cache_dir"


def end_process(monkeypatch):
    """Give back the directory that this process owns, as its end does."""
    kernel_choices._held.close()
    monkeypatch.setattr(kernel_choices, "_held", ExitStack())


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine with a GPU; returns the parent of its directories."""
    before = {name: jax.config.values[name] for name in (CACHE, "jax_persistent_cache_min_compile_time_secs")}
    monkeypatch.setenv("KILOLAYER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(kernel_choices, "has_gpu", lambda: True)
    monkeypatch.setattr(kernel_choices, "is_known_to_xla", lambda flag: True)
    monkeypatch.setattr(kernel_choices, "_held", ExitStack())
    jax.config.update(CACHE, None)
    yield tmp_path / "cache" / "kernels"
    kernel_choices._held.close()
    for name, value in before.items():
        jax.config.update(name, value)


def tune(owned, **choices):
    """Do as XLA does when it compiles."""
    for name, text in choices.items():
        (owned.choices / f"{name}.textproto").write_text(text)


def test_a_directory_belongs_to_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_choices, "_held", ExitStack())
    first, second = claim(tmp_path), claim(tmp_path)
    assert first.path != second.path
    assert first.fresh
    assert second.fresh
    tune(first, a="1")
    end_process(monkeypatch)
    again = claim(tmp_path)
    assert (again.path, again.fresh) == (first.path, False)
    assert texts(again.choices) == {"a.textproto": "1"}
    kernel_choices._held.close()


@pytest.mark.parametrize(
    ("wanted", "place"),
    [({"a": "1"}, "1"), ({}, "1"), ({"a": "2"}, "2"), ({"a": "1", "b": "1"}, "2")],
    ids=["the same", "none", "another", "more"],
)
def test_only_a_directory_with_all_choices_of_the_run_is_taken(tmp_path, monkeypatch, wanted, place):
    monkeypatch.setattr(kernel_choices, "_held", ExitStack())
    tune(claim(tmp_path), a="1")
    end_process(monkeypatch)
    wanted = {f"{name}.textproto": text for name, text in wanted.items()}
    owned = claim(tmp_path, wanted)
    assert owned.path.name == place
    assert wanted.items() <= texts(owned.choices).items()
    assert owned.fresh == (place == "2")
    kernel_choices._held.close()


def test_the_oldest_directories_are_dropped_if_nobody_owns_them(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_choices, "_held", ExitStack())
    monkeypatch.setattr(kernel_choices, "MOST", 1)
    for _ in range(3):
        claim(tmp_path)
    end_process(monkeypatch)
    used = claim(tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [used.path]
    kernel_choices._held.close()


def test_a_process_sets_its_directory_before_it_compiles(gpu):
    owned = own_kernel_choices()
    assert Path(jax.config.values[CACHE]) == owned.path
    assert owned.path.parent.parent == gpu
    assert os.environ["XLA_FLAGS"] == f"--xla_gpu_experimental_autotuner_cache_dir={owned.path / AUTOTUNE}"
    assert own_kernel_choices() is None  # the process has one


@pytest.mark.parametrize("reason", ["no GPU", "cache off", "the user's own cache"])
def test_nothing_is_changed_without_need(gpu, monkeypatch, reason, tmp_path):
    if reason == "no GPU":
        monkeypatch.setattr(kernel_choices, "has_gpu", lambda: False)
    elif reason == "cache off":
        monkeypatch.setenv("KILOLAYER_CACHE_DIR", "off")
    else:
        jax.config.update(CACHE, str(tmp_path / "own"))
    before = dict(jax.config.values)
    assert own_kernel_choices() is None
    assert (dict(jax.config.values), os.environ["XLA_FLAGS"], gpu.exists()) == (before, "", False)


def test_a_run_keeps_its_choices_and_takes_them_back(gpu, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO, "kilolayer")
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert keep_choices(run) is None  # there is no directory yet
    tune(own_kernel_choices(), a="1", b="1")
    about = keep_choices(run)
    assert (about["entries"], about["card"]) == (2, jax.devices()[0].device_kind)
    assert about["versions"]["jaxlib"]
    assert keep_choices(run) == about
    end_process(monkeypatch)
    shutil.rmtree(gpu)
    jax.config.update(CACHE, None)
    tune(own_kernel_choices(), a="2")  # another run chose otherwise meanwhile
    end_process(monkeypatch)
    jax.config.update(CACHE, None)
    owned = own_kernel_choices(run)
    assert texts(owned.choices) == {"a.textproto": "1", "b.textproto": "1"}
    assert keep_choices(run) | {"directory": ""} == about | {"directory": ""}
    assert not caplog.messages


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"card": "NVIDIA Z9"}, "was trained on NVIDIA Z9, and resumes on cpu, with other last bits"),
        ({"versions": {"jaxlib": "0"}}, "was trained with other versions of JAX or CUDA"),
    ],
)
def test_another_card_or_version_is_said(gpu, monkeypatch, tmp_path, caplog, change, expected):
    caplog.set_level(logging.INFO, "kilolayer")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tune(own_kernel_choices(), a="1")
    keep_choices(tmp_path / "run")
    file = tmp_path / "run" / "kernels" / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    end_process(monkeypatch)
    jax.config.update(CACHE, None)
    assert own_kernel_choices(tmp_path / "run") is not None
    assert expected in caplog.text
    monkeypatch.setattr(kernel_choices, "has_gpu", lambda: False)
    assert own_kernel_choices(tmp_path / "run") is None
    assert "resumes on another device" in caplog.text


def test_training_keeps_the_choices_with_the_run(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tune(own_kernel_choices(), a="1")
    result = kl.train(config=small_config(total_env_steps=120), run_dir=tmp_path / "run", progress=False)
    assert texts(tmp_path / "run" / "kernels") == {"a.textproto": "1"}
    (entry,) = json.loads(result.run.system_file.read_text())
    assert entry["kernels"]["entries"] == 1


def test_xla_is_asked_for_a_flag_without_starting_it(monkeypatch, tmp_path):
    assert not is_known_to_xla("xla_gpu_no_such_flag_at_all")
    for folder, name in (("jaxlib", "libjax_common.so"), ("jax_plugins/xla_cuda13", "xla_cuda_plugin.so")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(b"..one_flag..")
    found = {name: type("Spec", (), {"submodule_search_locations": [str(tmp_path / name)]}) for name in ("jaxlib",)}
    found["jax_plugins"] = type("Spec", (), {"submodule_search_locations": [str(tmp_path / "jax_plugins")]})
    monkeypatch.setattr(kernel_choices.importlib.util, "find_spec", found.get)
    assert is_known_to_xla("one_flag")
    assert not is_known_to_xla("another_flag")


def test_a_cpu_has_no_gpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not has_gpu()


@pytest.mark.gpu
def test_a_run_resumed_in_a_fresh_process_computes_the_same_bits(tmp_path):
    """Five processes: one trains to the end, each of the others resumes it, with or without what this machine kept."""
    cache = tmp_path / "cache"
    environment = os.environ | {"KILOLAYER_CACHE_DIR": str(cache)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_DISABLE_MOST_OPTIMIZATIONS"):
        environment.pop(name, None)

    def run(*arguments):
        command = [sys.executable, "-m", "kilolayer", "train", *map(str, arguments), "--quiet"]
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)

    settings = flags(depth=16, width=256, batch_size=512, num_envs=64, total_env_steps=6400, replay_capacity=200)
    run("ant", *settings, "--engine=mujoco", "--checkpoint-every=3200", "--run-dir", tmp_path / "whole")
    expected = final_state(tmp_path / "whole")
    for number in range(4):
        if number % 2:
            shutil.rmtree(cache)
        copy = tmp_path / f"resumed-{number}"
        shutil.copytree(tmp_path / "whole", copy)
        for later in sorted((copy / "checkpoints").iterdir(), key=lambda path: int(path.name))[-1:]:
            shutil.rmtree(later)
        run("--resume", copy)
        assert_same_state(final_state(copy), expected)
