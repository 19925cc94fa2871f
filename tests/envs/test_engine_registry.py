"""Engines are an open set: an engine of one's own goes through the same door as the library's."""

import subprocess
import sys

import pytest
from test_check import Walk

from kilolayer.cli.main import main
from kilolayer.envs import EnvironmentSpec, Maze, make, register, register_engine, registry
from kilolayer.envs.engines import (
    EngineSpec,
    PointEngine,
    engine_names,
    engine_spec,
    make_engine,
    unregister_engine,
)
from kilolayer.envs.tasks import PointMaze
from kilolayer.envs.tasks.reacher import Reacher
from kilolayer.errors import ConfigurationError
from kilolayer.runs import TrainConfig, default_config
from small_runs import SMALL

MAZE = Maze("#####\n#R G#\n#####\n")


class OnIce(PointMaze):
    """A point maze that only the engine `ice` runs."""

    engines = ("ice",)


def ice(task: PointMaze) -> PointEngine:
    return PointEngine(task.maze, drag=0.0)


@pytest.fixture
def own_engine():
    register_engine(EngineSpec("ice", "discs without drag", ice))
    register(EnvironmentSpec("on_ice", "a disc on ice", task=lambda: OnIce(MAZE)))
    yield
    registry.unregister("on_ice")
    unregister_engine("ice")


def refusal(function, *arguments, **settings) -> str:
    with pytest.raises(ConfigurationError) as error:
        function(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_engine_of_ones_own_runs_its_task(own_engine):
    environment = make("on_ice")
    assert environment.engine.drag == 0.0
    assert make("on_ice", engine="ice").engine.drag == 0.0
    assert default_config("on_ice", **SMALL).engine == "ice"
    assert "it runs on ice" in refusal(make, "on_ice", engine="point")
    assert "it runs on point" in refusal(make, "point_u_maze", engine="ice")


def test_help_and_errors_list_the_registered_engines(own_engine, capsys):
    assert main(["train", "point_u_maze", "--help-all"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(engine_names()) in text
    assert engine_names()[-1] == "ice"
    assert "ice" in refusal(engine_spec, "icy")


def test_an_engine_that_is_gone_is_unknown(own_engine):
    config = default_config("on_ice", **SMALL)
    unregister_engine("ice")
    assert "engine='ice' is unknown" in refusal(TrainConfig.from_dict, config.to_dict())
    assert "engine='ice' is unknown" in refusal(make, "on_ice")


@pytest.mark.parametrize("name", ["point", "auto"])
def test_a_name_cannot_be_taken_twice(name):
    assert "already registered" in refusal(register_engine, EngineSpec(name, "another", ice))


@pytest.mark.parametrize("name", engine_names()[1:])
def test_every_engine_has_a_summary_and_may_need_an_extra(name):
    entry = engine_spec(name)
    assert entry.summary
    assert bool(entry.needs) == (name in ("mjx", "mjx-warp", "spring", "gym_sync", "gym_async"))


def test_an_engine_runs_what_another_one_runs(own_engine):
    register_engine(EngineSpec("black-ice", "the same", ice, same_tasks_as="ice"))
    try:
        assert isinstance(make_engine("black-ice", OnIce(MAZE)), PointEngine)
        assert "it runs on point" in refusal(make_engine, "black-ice", PointMaze(MAZE))
    finally:
        unregister_engine("black-ice")


def test_a_collision_that_mjx_lacks_names_the_way_out(monkeypatch):
    mjx = pytest.importorskip("mujoco.mjx")

    def put_model(*_, **__):
        raise NotImplementedError("(ELLIPSOID, BOX) collisions not implemented.")

    monkeypatch.setattr(mjx, "put_model", put_model)
    expected = "(ELLIPSOID, BOX) collisions not implemented; the task also names engine=mujoco"
    assert expected in refusal(make_engine, "mjx", Reacher())


def test_engines_need_what_they_run():
    walk = type("Walk", (Walk,), {"engines": ("point", "mujoco")})()
    assert "has no `maze`" in refusal(make_engine, "point", walk)
    assert "is not a RobotTask" in refusal(make_engine, "mujoco", walk)


def test_listing_the_engines_loads_none_of_their_packages():
    script = """
import sys
from kilolayer.envs.engines import engine_names
assert "spring" in engine_names()
print([name for name in ("mujoco.mjx", "brax", "kilolayer.envs.engines.mjx") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
