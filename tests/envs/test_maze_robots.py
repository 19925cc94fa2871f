"""Mazes as text with another robot than a point, and the ball that is pushed through one."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.cli.main import main
from kilolayer.envs import LAYOUTS, Maze, make, registry, spec
from kilolayer.envs.mazes.robot_line import split_robot, with_robot
from kilolayer.envs.tasks import AntBallMaze, AntMaze, Humanoid, PointMaze
from kilolayer.errors import ConfigurationError
from kilolayer.runs import default_config

MAZE = "#####\n#R.G#\n#####\n"


def test_the_robot_is_in_the_first_line():
    assert split_robot(MAZE) == (None, MAZE)
    for text in (f"robot: ant\n{MAZE}", f"\n  robot:ant \r\n{MAZE}"):
        assert split_robot(text) == ("ant", MAZE)
    assert with_robot(MAZE, "ant") == with_robot(f"robot: humanoid\n{MAZE}", "ant") == f"robot: ant\n{MAZE}"


@pytest.mark.parametrize(
    ("robot", "task", "cell"), [("point", PointMaze, 1.5), ("ant", AntMaze, 4.0), ("humanoid", Humanoid, 2.0)]
)
def test_a_maze_has_the_robot_that_it_names(robot, task, cell):
    entry = spec(f"robot: {robot}\n{MAZE}")
    assert entry.name == f"{robot}_maze"
    assert "in a maze of 3 lines" in entry.summary
    found = entry.make_task()
    assert type(found) is task
    assert found.maze.cell_size == cell
    np.testing.assert_array_equal(found.maze.walls, Maze(MAZE).walls)


def test_a_setting_puts_another_robot_into_the_maze_of_a_file(tmp_path: Path):
    file = tmp_path / "mine.txt"
    file.write_text(f"robot: humanoid\n{MAZE}")
    assert registry.resolve(str(file)) == f"robot: humanoid\n{MAZE}"
    config = default_config(str(file), robot="ant", eval_env=str(file))
    assert config.env == config.eval_env == f"robot: ant\n{MAZE}"
    assert default_config(config.env).env == config.env
    assert type(make(str(file), robot="ant", engine="mujoco").task) is AntMaze


@pytest.mark.parametrize(
    ("name", "robot", "said"),
    [
        (MAZE, "ants", "robot='ants' of a maze is unknown; did you mean ant"),
        ("ant_u_maze", "ant", "robot='ant' is for a maze file"),
    ],
)
def test_a_wrong_robot_is_one_line(name, robot, said):
    with pytest.raises(ConfigurationError) as error:
        default_config(name, robot=robot)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_line_of_a_file_is_checked(tmp_path: Path):
    file = tmp_path / "mine.txt"
    file.write_text(f"robot: cow\n{MAZE}")
    with pytest.raises(ConfigurationError, match=r"mine\.txt: robot='cow' of a maze is unknown"):
        registry.resolve(str(file))


def test_the_command_takes_the_robot(tmp_path: Path, capsys):
    file = tmp_path / "mine.txt"
    file.write_text(MAZE)
    assert main(["train", str(file), "--robot", "cow", "--dry-run"]) == 2
    assert "robot='cow' of a maze is unknown" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path), "--robot", "ant"]) == 2
    assert "--robot is for a new run in a maze file" in capsys.readouterr().err


def test_a_ball_begins_beside_the_ant_on_free_floor():
    task = AntBallMaze(Maze(LAYOUTS["big"], cell_size=4.0))
    start, goal = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), 64))
    ant, ball = start.qpos[:, :2], start.qpos[:, 15:17]
    apart = np.linalg.norm(ball - ant, axis=-1)
    assert apart.min() > task.ant_reach + task.ball_radius
    assert apart.max() < task.ball_distance + 0.5
    cells = np.rint(np.asarray(ball) / 4.0).astype(int)
    assert not task.maze.walls[tuple(cells.T)].any()
    assert not np.asarray(jax.vmap(task.success)(ball, goal)).any()
    assert task.observations_at(jnp.array([4.0, 4.0])).shape == (8, task.observation_size)


def test_walls_stop_the_ball():
    task = AntBallMaze(Maze(LAYOUTS["u"], cell_size=4.0))
    model = task.model
    wall, ball = model.geom("wall_0"), model.geom("ball")
    assert (wall.contype[0] & ball.conaffinity[0]) | (ball.contype[0] & wall.conaffinity[0])
