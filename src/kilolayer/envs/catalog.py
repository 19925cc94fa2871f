"""Registers the environments of the library."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from kilolayer.envs.mazes.layouts import EVAL_LAYOUTS, LAYOUTS
from kilolayer.envs.mazes.maze import Maze
from kilolayer.envs.registry import EnvironmentSpec, register, register_family, register_maze_robot, spec
from kilolayer.envs.tasks import (
    Ant,
    AntBall,
    AntBallMaze,
    AntCorridor,
    AntMaze,
    AntPush,
    AntRandomStart,
    ArmBinpick,
    ArmGrasp,
    ArmPush,
    ArmReach,
    DiscretePointMaze,
    Fish,
    HalfCheetah,
    Hopper,
    Humanoid,
    PointCorridor,
    PointMaze,
    Pusher,
    PusherReacher,
    QuadrupedGo,
    QuadrupedStandUp,
    Reacher,
    SixAxisPick,
    SixAxisPush,
    SixAxisReach,
    Swimmer,
    Walker2d,
)

POINT_MAZE_EPISODE, ARM_EPISODE = 200, 100
"""Control steps in an episode."""
RUN_EPISODE = 400
"""Control steps in an episode of robots that run, swim or walk to a point a few metres away: 20 s."""

CORRIDORS = ("u", "u2", "u3", "u4", "u5", "u6", "u7")
"""Layouts that are a single corridor without branches."""

ANT_CELL = 4.0
HUMANOID_CELL = 2.0
"""Edge of a maze cell, in metres."""


def _register(name: str, summary: str, task: Any, paper_engine: str | None = None, **others: Any) -> None:
    register(EnvironmentSpec(name, summary, task, paper_engine=paper_engine, **others))


# Point mazes


def _point_maze(name: str, layout: str, summary: str, eval_env: str | None) -> EnvironmentSpec:
    return EnvironmentSpec(
        name=name,
        summary=summary,
        task=lambda: PointMaze(Maze(layout)),
        episode_length=POINT_MAZE_EPISODE,
        eval_env=eval_env,
        family="point_maze",
    )


def _discrete(point_maze: EnvironmentSpec, layout: str) -> EnvironmentSpec:
    """Return the form of a point maze with discrete actions."""
    return dataclasses.replace(
        point_maze,
        name=f"{point_maze.name}_discrete",
        summary=f"{point_maze.summary}; discrete actions",
        task=lambda: DiscretePointMaze(Maze(layout)),
        eval_env=point_maze.eval_env and f"{point_maze.eval_env}_discrete",
        family="point_maze_discrete",
    )


def _own_summary(robot: str, text: str) -> str:
    return f"{robot} in a maze of {len(text.strip().splitlines())} lines"


def _maze_name(robot: str, layout: str) -> str:
    """Return the name of an environment: `u_eval` becomes ROBOT_u_maze_eval."""
    stem, *rest = layout.split("_")
    return "_".join([robot, stem, "maze", *rest])


def _maze_summary(robot: str, layout: str) -> str:
    stem, *rest = layout.split("_")
    return f"{robot} in the {stem} maze{', goals for evaluation' if rest else ''}"


def _far_goals(robot: str, layout: str) -> str | None:
    """Return the environment with the far goals of a layout; humanoids have one more goal in the big maze."""
    if layout in EVAL_LAYOUTS:
        return None
    stem = layout.split("_")[0]
    far = f"{stem}_eval_10" if robot == "humanoid" and stem == "big" else f"{stem}_eval"
    return _maze_name(robot, far) if far in LAYOUTS | EVAL_LAYOUTS else None


register_maze_robot("point", lambda text: _point_maze("point_maze", text, _own_summary("point", text), None))
_POINT_MAZES = {
    text: _point_maze(_maze_name("point", layout), text, _maze_summary("point", layout), _far_goals("point", layout))
    for layout, text in LAYOUTS.items()
}
for _spec in _POINT_MAZES.values():
    register(_spec)
for _text, _spec in _POINT_MAZES.items():
    register(_discrete(_spec, _text))

# Corridors


def _corridor_name(name: str) -> tuple[str, str, tuple[int, ...]] | None:
    """Parse ROBOT_LAYOUT_maze_gen_DISTANCES into robot, layout, and distances between start and goal in cells."""
    match = re.fullmatch(r"([a-z]+)_([a-z]+[0-9]?)(?:_maze)?_gen_((?:\d{1,4}f)+)", name, re.ASCII)
    if match is None or match[2] not in CORRIDORS:
        return None
    return match[1], match[2], tuple(int(number) for number in match[3].removesuffix("f").split("f"))


def _corridor_summary(robot: str, layout: str, distances: Sequence[int]) -> str:
    return f"{robot} in the {layout} maze, goals {', '.join(map(str, distances))} cells from the start"


def _point_corridor(name: str) -> EnvironmentSpec | None:
    """Parse point_LAYOUT_maze_gen_DISTANCES. In point_u_maze_gen_1f2f3f goals are 1, 2 or 3 cells from starts."""
    parts = _corridor_name(name)
    if parts is None or parts[0] != "point":
        return None
    _, layout, distances = parts
    longer = _longer(distances, len(Maze(LAYOUTS[layout]).free_cells) - 1)
    return EnvironmentSpec(
        name=name,
        summary=_corridor_summary(*parts),
        task=lambda: PointCorridor(Maze(LAYOUTS[layout]), distances=distances),
        episode_length=POINT_MAZE_EPISODE,
        eval_env=f"{_maze_name('point', layout)}_gen_{longer}" if longer else None,
        family="point_maze",
    )


def _longer(distances: Sequence[int], length: int) -> str:
    """Return the distances beyond the longest, up to twice the longest, as in names: 4f5f6f for 1f2f3f."""
    longest = max(distances)
    return "".join(f"{distance}f" for distance in range(longest + 1, min(2 * longest, length) + 1))


register_family(_point_corridor)
for _layout in CORRIDORS:
    register(spec(f"point_{_layout}_maze_gen_1f2f3f"))

# Ants

_register("ant", "ant to a point 10 m away", Ant, "spring")
for _layout, _text in (LAYOUTS | {name: text for name, text in EVAL_LAYOUTS.items() if name != "big_eval_10"}).items():
    _register(
        _maze_name("ant", _layout),
        _maze_summary("ant", _layout),
        functools.partial(AntMaze, Maze(_text, cell_size=ANT_CELL)),
        "spring",
        eval_env=_far_goals("ant", _layout),
    )
register_maze_robot(
    "ant",
    lambda text: EnvironmentSpec(
        name="ant_maze",
        summary=_own_summary("ant", text),
        task=functools.partial(AntMaze, Maze(text, cell_size=ANT_CELL)),
        paper_engine="spring",
    ),
)
_register("ant_random_start", "ant from any point of a disc to another", AntRandomStart)
_register("ant_ball", "ant pushes a ball to a point", AntBall, "spring")
for _layout in ("u", "u_eval", "big", "big_eval"):
    _register(
        _maze_name("ant_ball", _layout),
        _maze_summary("ant with a ball", _layout),
        functools.partial(AntBallMaze, Maze(LAYOUTS[_layout], cell_size=ANT_CELL)),
        eval_env=_far_goals("ant_ball", _layout),
    )
register_maze_robot(
    "ant_ball",
    lambda text: EnvironmentSpec(
        name="ant_ball_maze",
        summary=_own_summary("ant with a ball", text),
        task=functools.partial(AntBallMaze, Maze(text, cell_size=ANT_CELL)),
    ),
)
_register("ant_push", "ant moves a block out of its way", AntPush, "mjx")


def _ant_corridor(name: str) -> EnvironmentSpec | None:
    """Parse ant_LAYOUT_maze_gen_DISTANCES. In ant_u_maze_gen_1f2f3f goals are 1, 2 or 3 cells from starts."""
    parts = _corridor_name(name)
    if parts is None or parts[0] != "ant":
        return None
    _, layout, distances = parts
    return EnvironmentSpec(
        name=name,
        summary=_corridor_summary(*parts),
        task=functools.partial(AntCorridor, Maze(LAYOUTS[layout], cell_size=ANT_CELL), distances),
        eval_env=_far_goals("ant", layout),
        paper_engine="spring",
    )


register_family(_ant_corridor)
for _layout in CORRIDORS:
    register(spec(f"ant_{_layout}_maze_gen_1f2f3f"))

# Humanoids

_register("humanoid", "humanoid to a point up to 5 m away", Humanoid, "spring")
for _layout in ("u", "u_eval", "big", "big_eval", "big_eval_10", "hardest"):
    _register(
        _maze_name("humanoid", _layout),
        _maze_summary("humanoid", _layout),
        functools.partial(Humanoid, Maze((LAYOUTS | EVAL_LAYOUTS)[_layout], cell_size=HUMANOID_CELL)),
        "spring",
        eval_env=_far_goals("humanoid", _layout),
    )

register_maze_robot(
    "humanoid",
    lambda text: EnvironmentSpec(
        name="humanoid_maze",
        summary=_own_summary("humanoid", text),
        task=functools.partial(Humanoid, Maze(text, cell_size=HUMANOID_CELL)),
        paper_engine="spring",
    ),
)

# Arms

_register("arm_reach", "arm moves its wrist to a point", ArmReach, "mjx", episode_length=ARM_EPISODE)
for _level in ("easy", "hard"):
    _register(
        f"arm_push_{_level}",
        f"arm pushes a cube to a point{', far away' if _level == 'hard' else ''}",
        functools.partial(ArmPush, _level),
        "mjx",
    )
for _level in ("easy", "hard"):
    _register(
        f"arm_binpick_{_level}",
        f"arm moves a cube from one bin to another{', far away' if _level == 'hard' else ''}",
        functools.partial(ArmBinpick, _level),
        "mjx",
    )
_register("arm_grasp", "arm takes a cube between its fingers", ArmGrasp, "mjx")
_register("six_axis_reach", "arm moves its tip by steps of its joints", SixAxisReach, episode_length=ARM_EPISODE)
for _name, _verb, _task in (("push", "pushes a cube", SixAxisPush), ("pick", "picks up a cube", SixAxisPick)):
    _register(f"six_axis_{_name}", f"arm {_verb} by steps of its tip", _task, episode_length=ARM_EPISODE)

# Others

_register("reacher", "two links reach a point in the plane", Reacher, "spring", episode_length=ARM_EPISODE)
for _level in ("easy", "hard"):
    _register(f"pusher_{_level}", "arm pushes a puck to a point", functools.partial(Pusher, _level), "spring")
_register("pusher_reacher", "arm of the pusher reaches a point", PusherReacher, episode_length=ARM_EPISODE)
_register("half_cheetah", "cheetah runs to a line", HalfCheetah, "mjx")
_register("hopper", "one leg hops to a line", Hopper, episode_length=RUN_EPISODE)
_register("walker2d", "two legs walk to a line", Walker2d, episode_length=RUN_EPISODE)
_register("swimmer", "snake swims to a point of a plane", Swimmer, episode_length=RUN_EPISODE)
_register("fish", "fish swims to a point in space", Fish, episode_length=RUN_EPISODE)
_register("quadruped_go", "dog walks to a point", QuadrupedGo, episode_length=RUN_EPISODE)
_register("quadruped_stand_up", "dog stands up from where it fell", QuadrupedStandUp, episode_length=RUN_EPISODE)
