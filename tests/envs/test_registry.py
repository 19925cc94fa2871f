import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.envs import LAYOUTS, EnvironmentSpec, Maze, make, names, register, registry, spec
from kilolayer.envs.tasks import PointMaze
from kilolayer.errors import ConfigurationError
from kilolayer.runs import preset

MAZE = "#####\n#R G#\n#G###\n#####\n"


def refusal(name: str, **settings: int) -> str:
    with pytest.raises(ConfigurationError) as error:
        make(name, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_layout_has_a_point_maze() -> None:
    expected = {
        f"point_{layout.removesuffix('_eval')}_maze{'_eval' if layout.endswith('_eval') else ''}" for layout in LAYOUTS
    }
    assert len(expected) == 17
    assert expected <= set(names())
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_point_mazes_have_their_layouts(layout: str) -> None:
    stem = layout.removesuffix("_eval")
    environment = make(f"point_{stem}_maze" + ("_eval" if layout != stem else ""))
    np.testing.assert_array_equal(environment.task.maze.walls, Maze(LAYOUTS[layout]).walls)
    np.testing.assert_array_equal(environment.task.maze.goal_cells, Maze(LAYOUTS[layout]).goal_cells)
    assert environment.engine.maze is environment.task.maze


FIRST = ("point_u_maze", "point_u_maze_eval", "point_u_maze_discrete", "ant_u_maze", "humanoid_u_maze")
ALIKE = ("ant_random_start", "walker2d", "quadruped_stand_up", "six_axis_push")
MANY = [name for name in names() if ("_maze" in name and name not in FIRST) or name.endswith("_hard") or name in ALIKE]
"""Of each robot, mazes differ only in their walls, and hard tasks in where things are; others are built like others."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in MANY else []) for n in names()])
def test_every_environment_can_be_made_and_stepped(name: str) -> None:
    entry, environment = spec(name), make(name)
    assert entry.name == environment.name == name
    assert entry.summary
    assert environment.episode_length == entry.episode_length
    sizes = environment.observation_size, environment.goal_size, environment.action_size
    if name.startswith("point_"):
        assert sizes == ((4, 2, 9) if environment.discrete_actions else (4, 2, 2))
    assert environment.discrete_actions == name.endswith("_discrete")

    state = environment.reset(jax.random.key(0), 3)
    after, result = environment.step(state, jnp.full((3, environment.action_size), 0.5))
    for one in (state, after, result):
        assert one.observation.shape == (3, sizes[0])
        assert one.achieved_goal.shape == (3, sizes[1])
        assert jnp.isfinite(one.observation).all()
    assert state.desired_goal.shape == (3, sizes[1])
    assert result.reward.shape == result.success.shape == result.done.shape == (3,)
    assert not jnp.array_equal(state.observation, after.observation)
    np.testing.assert_array_equal(after.episode_step, [1, 1, 1])


@pytest.mark.parametrize("name", [name for name in names() if spec(name).eval_env])
def test_evaluation_environments_exist_and_fit(name: str) -> None:
    evaluated_on = make(spec(name).eval_env)
    environment = make(name)
    for size in ("observation_size", "goal_size", "action_size"):
        assert getattr(evaluated_on, size) == getattr(environment, size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_point_maze_has_a_discrete_form_in_the_same_walls(layout: str) -> None:
    stem = layout.removesuffix("_eval")
    name = f"point_{stem}_maze" + ("_eval" if layout != stem else "")
    plain, discrete = spec(name), spec(f"{name}_discrete")
    np.testing.assert_array_equal(discrete.make_task().maze.walls, plain.make_task().maze.walls)
    np.testing.assert_array_equal(discrete.make_task().maze.goal_cells, plain.make_task().maze.goal_cells)
    assert discrete.eval_env == (plain.eval_env and f"{plain.eval_env}_discrete")
    assert preset(discrete.name) == {**preset(plain.name), "agent": "crl_discrete"}
    assert discrete.summary != plain.summary


def test_mazes_are_evaluated_on_their_far_goals() -> None:
    assert spec("point_u_maze").eval_env == "point_u_maze_eval"
    assert spec("point_big_maze_eval").eval_env == "point_big_maze_eval"
    assert spec("point_hardest_maze").eval_env is None


@pytest.mark.parametrize("wrong", ["point_u_mazes", "pointu_maze", "Point_U_Maze"])
def test_an_unknown_name_suggests_the_nearest(wrong: str) -> None:
    message = refusal(wrong)
    assert repr(wrong) in message
    assert "did you mean" in message
    assert "point_u_maze" in message


def test_a_name_like_no_other_lists_the_names() -> None:
    assert "`kilolayer envs` lists them" in refusal("zzz")


@pytest.fixture
def registered() -> Iterator[EnvironmentSpec]:
    entry = EnvironmentSpec(name="mine", summary="mine", task=lambda: PointMaze(Maze(MAZE)))
    register(entry)
    yield entry
    registry.unregister("mine")


def test_a_registered_environment_is_found_by_its_name(registered: EnvironmentSpec) -> None:
    assert "mine" in names()
    assert spec("mine") is registered
    assert make("mine").episode_length == 1000
    assert make("mine", episode_length=12).episode_length == 12


def test_a_name_cannot_be_registered_twice(registered: EnvironmentSpec) -> None:
    usurper = dataclasses.replace(registered, summary="another")
    with pytest.raises(ConfigurationError, match="'mine' is already registered"):
        register(usurper)
    assert spec("mine") is registered


def test_an_unregistered_name_is_free_again(registered: EnvironmentSpec) -> None:
    registry.unregister("mine")
    assert "mine" not in names()
    register(registered)
    assert spec("mine") is registered


def test_a_maze_as_text_is_an_environment() -> None:
    environment = make(MAZE)
    assert environment.name == "point_maze"
    assert environment.task.maze.goal_cells.tolist() == [[1, 3], [2, 1]]
    assert "4 lines" in spec(MAZE).summary
    assert environment.episode_length == make("point_u_maze").episode_length
    assert make(MAZE, episode_length=3).episode_length == 3


@pytest.mark.parametrize("text", [MAZE, "\n" + MAZE + "\n\n", MAZE.rstrip("\n"), MAZE.replace("\n", "\r\n")])
def test_a_maze_file_is_an_environment(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(text.encode())
    environment, expected = make(str(path), episode_length=9), make(MAZE)
    assert environment.episode_length == 9
    np.testing.assert_array_equal(environment.task.maze.walls, expected.task.maze.walls)
    np.testing.assert_array_equal(environment.task.maze.goal_cells, expected.task.maze.goal_cells)


def test_a_missing_maze_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.txt")
    assert path in refusal(path)


def test_a_directory_is_no_maze_file(tmp_path: Path) -> None:
    path = tmp_path / "folder.txt"
    path.mkdir()
    assert str(path) in refusal(str(path))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "noise.txt"
    path.write_bytes(b"\xff\xfe\x00")
    assert str(path) in refusal(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("#####\n#RxG#\n#####\n", "line 2, column 3"),
        ("#####\n#R.G\n#####\n", "line 2 has 4 cells"),
        ("#####", "no start"),
        ("hello", "line 1, column 1"),
    ],
)
def test_a_bad_maze_file_is_named_with_the_line_at_fault(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    message = refusal(str(path))
    assert message.startswith(f"{path}: ")
    assert said in message


def test_a_bad_maze_as_text_is_refused() -> None:
    assert "line 2, column 3" in refusal("#####\n#RxG#\n#####\n")


@pytest.mark.parametrize("episode_length", [0, -5])
def test_episodes_have_a_step_at_least(episode_length: int) -> None:
    assert f"episode_length={episode_length} must be at least 1" in refusal(
        "point_u_maze", episode_length=episode_length
    )


def test_an_episode_can_have_one_step() -> None:
    assert make("point_u_maze", episode_length=1).episode_length == 1
