"""`auto` on a GPU takes the fastest engine with the same physics, measures once, and says what it took."""

import json
import logging

import jax
import pytest

import kilolayer as kl
from kilolayer.envs import EnvironmentSpec, Maze, engine_choice, make, register, register_engine, registry
from kilolayer.envs.engine_choice import choice_made, choose_engine, env_steps_per_second
from kilolayer.envs.engines import EngineSpec, PointEngine, same_physics, unregister_engine
from kilolayer.envs.tasks import PointMaze
from kilolayer.envs.tasks.reacher import Reacher
from kilolayer.errors import ConfigurationError
from kilolayer.runs import TrainConfig, default_config
from small_runs import SMALL

MAZE = Maze("#####\n#R G#\n#####\n")


class Slippery(PointMaze):
    """A point maze with two engines of one physics, one that refuses it, and one of another physics."""

    engines = ("slow", "fast", "broken", "other")


def refuse(task):
    raise ConfigurationError(f"engine 'broken' cannot run task {type(task).__name__}: it slips")


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """Engines of one physics on a machine with a GPU; returns the names of those that were timed."""
    monkeypatch.setenv("KILOLAYER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(engine_choice, "_made", {})
    speeds = {"slow": 1000.0, "fast": 9000.0, "other": 1e9}
    build = {name: lambda task, name=name: type(name, (PointEngine,), {})(task.maze) for name in speeds}
    for name in Slippery.engines:
        where = "host" if name == "slow" else "device"
        physics = "" if name == "other" else "slippery"
        register_engine(EngineSpec(name, "a disc", build.get(name, refuse), physics=physics, runs_on=where))
    register(EnvironmentSpec("slippery", "a disc", task=lambda: Slippery(MAZE)))
    timed = []

    def timer(task, engine, num_envs):
        timed.append((type(engine).__name__, num_envs))
        return speeds[type(engine).__name__]

    monkeypatch.setattr(engine_choice, "env_steps_per_second", timer)
    yield timed
    registry.unregister("slippery")
    for name in Slippery.engines:
        unregister_engine(name)


def test_the_fastest_engine_is_taken_and_nothing_is_measured_again(engines, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO, "kilolayer")
    assert default_config("slippery", **SMALL).engine == "fast"
    assert engines == [("slow", 4), ("fast", 4)]
    assert caplog.messages == [
        "engine fast for 4 environments of slippery: env steps per second are fast 9,000, slow 1,000; "
        "broken is left out: engine 'broken' cannot run task Slippery: it slips"
    ]
    assert default_config("slippery", **SMALL).engine == "fast"
    monkeypatch.setattr(engine_choice, "_made", {})  # another process
    assert default_config("slippery", **SMALL).engine == "fast"
    assert len(engines) == 2
    (file,) = (tmp_path / "cache" / "engines").iterdir()
    kept = json.loads(file.read_text())
    assert (kept["env"], kept["num_envs"], kept["device"]) == ("slippery", 4, jax.devices()[0].device_kind)
    assert kept["cpu"]
    assert kept["versions"]["jax"]
    default_config("slippery", **SMALL | {"num_envs": 8})  # another number of environments is another measurement
    assert engines[2:] == [("slow", 8), ("fast", 8)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"speeds": {"fast": -1}, "left_out": {}}', '{"speeds": {"gone": 1}'])
def test_a_damaged_measurement_is_made_again(engines, monkeypatch, text, tmp_path):
    default_config("slippery", **SMALL)
    (file,) = (tmp_path / "cache" / "engines").iterdir()
    file.write_text(text)
    monkeypatch.setattr(engine_choice, "_made", {})
    assert default_config("slippery", **SMALL).engine == "fast"
    assert len(engines) == 4


def test_a_run_records_the_engine_and_resumes_with_it(engines, tmp_path, monkeypatch):
    config = TrainConfig(**SMALL | {"env": "slippery", "total_env_steps": 120})
    assert config.engine == "auto"
    result = kl.train(config=config, run_dir=tmp_path / "run", progress=False)
    assert result.run.config().engine == "fast"
    (entry,) = json.loads(result.run.system_file.read_text())
    assert entry["engine"]["name"] == "fast"
    assert entry["engine"]["env_steps_per_second"] == {"fast": 9000.0, "slow": 1000.0}
    monkeypatch.setattr(engine_choice, "_made", {})
    monkeypatch.setattr(engine_choice, "env_steps_per_second", None)  # nothing is timed
    kl.train(resume=tmp_path / "run", total_env_steps=160, progress=False)
    assert json.loads(result.run.system_file.read_text())[1]["engine"] == {"name": "fast"}


@pytest.mark.parametrize(("cores", "expected"), [(2, "fast"), (64, "slow")])
def test_without_a_measurement_the_cores_decide(engines, monkeypatch, cores, expected):
    monkeypatch.setattr(engine_choice, "cpu_cores", lambda: cores)
    task = Slippery(MAZE)
    assert choose_engine(task, "slippery").engine == expected

    def fails(*_):
        raise RuntimeError("out of memory")

    assert choose_engine(task, "slippery", num_envs=4, timer=fails).engine == expected
    assert type(make("slippery").engine).__name__ == expected
    assert not [name for name, _ in engines]


def test_only_engines_of_the_same_physics_compete(monkeypatch):
    names = {variant: [spec.name for spec in same_physics(Reacher(variant))] for variant in ("default", "paper")}
    assert names == {"default": ["mujoco", "mjx", "mjx-warp"], "paper": ["spring"]}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_engine(Reacher("paper"), "reacher", num_envs=4, timer=lambda *_: 1.0).engine == "spring"
    assert default_config("reacher", variant="paper").engine == "spring"
    assert choose_engine(PointMaze(MAZE), "maze", num_envs=4).engine == "point"


def test_on_a_cpu_nothing_is_timed():
    task = Reacher()
    assert choose_engine(task, "reacher", num_envs=4, timer=None).engine == "mujoco"
    assert choice_made(task, "reacher", 4) is None


def test_steps_of_an_engine_are_timed():
    assert env_steps_per_second(PointMaze(MAZE), PointEngine(MAZE), 4) > 0.0


@pytest.mark.gpu
def test_a_gpu_measures_the_engines_of_the_ant(monkeypatch, tmp_path):
    monkeypatch.setenv("KILOLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(engine_choice, "_made", {})
    assert jax.default_backend() == "gpu"
    config = default_config("ant")
    (file,) = (tmp_path / "engines").iterdir()
    speeds = json.loads(file.read_text())["speeds"]
    assert {"mujoco", "mjx"} <= set(speeds)
    assert speeds[config.engine] == max(speeds.values())
