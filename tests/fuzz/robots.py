"""Models and tasks of others, for test_fuzz_robots.py: `python robots.py models|slips|checks` in an empty folder.

A process of its own is as a user's is: in those of the tests, types are checked at every call.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from invariants import check_call, contents, generators, nothing_ran

from kilolayer.envs import EnvironmentSpec, RobotTask, Start, registry
from kilolayer.envs.check import check
from kilolayer.envs.task_check import check_methods
from kilolayer.errors import KilolayerError

MODEL = """<mujoco model="m">
  <option timestep="0.01" integrator="implicitfast"/>
  <worldbody>
    <geom name="floor" type="plane" size="4 4 0.1"/>
    <body name="base" pos="0 0 1">
      <joint name="a" type="hinge" axis="0 1 0" range="-1 1" damping="1"/>
      <geom name="g" type="capsule" size="0.05" fromto="0 0 0 0 0 0.4" mass="1"/>
      <body name="hand" pos="0 0 0.4">
        <joint name="b" type="slide" axis="1 0 0"/>
        <geom type="sphere" size="0.05"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="m" joint="a" gear="15" ctrlrange="-1 1"/>
    <position name="p" joint="b" kp="60" ctrlrange="0 1"/>
  </actuator>
  <keyframe><key name="home" qpos="0 0"/></keyframe>
</mujoco>"""
PIECES = [
    "hinge",
    "slide",
    "ball",
    "free",
    "capsule",
    "ellipsoid",
    "mesh",
    "plane",
    "implicitfast",
    "RK4",
    "base",
    "hand",
    "nobody",
]
NUMBERS = [
    "0",
    "-1",
    "1e-9",
    "1e9",
    "nan",
    "inf",
    "",
    "x",
    "0 0 0 0",
    "0.5",
    "1 2 3",
    "\u0665",
    "1e400",
    "$(touch fuzz-canary)",
]


def model(number) -> str:
    """Return the model with some attributes, elements or bytes changed."""
    text = MODEL
    for _ in range(number.randint(1, 3)):
        quotes = [place for place, letter in enumerate(text) if letter == '"']
        match number.randrange(4):
            case 0 if len(quotes) > 1:
                start = number.randrange(len(quotes) // 2) * 2
                low, high = quotes[start] + 1, quotes[start + 1]
                text = text[:low] + number.choice(NUMBERS + PIECES) + text[high:]
            case 1:
                lines = text.splitlines()
                del lines[number.randrange(len(lines))]
                text = "\n".join(lines) or "<mujoco/>"
            case 2:
                place = number.randrange(len(text))
                text = (
                    text[:place]
                    + number.choice(["<", ">", '"', "\x00", "é", "&x;", "<!--", "<body>", "<site/>"])
                    + text[place:]
                )
            case _:
                lines = text.splitlines()
                lines.insert(number.randrange(len(lines)), number.choice(lines))
                text = "\n".join(lines)
    return text


VALUES = [
    *(
        None,
        True,
        0,
        -1,
        3.5,
        float("nan"),
        "text",
        [],
        [0.1],
        [0.1, 0.2, 0.3],
        {},
        (),
        b"x",
        object(),
        np.zeros(3),
        np.zeros((2, 3)),
    ),
    *(
        jnp.zeros(()),
        jnp.zeros(4),
        jnp.zeros(3, bool),
        jnp.zeros(3, int),
        jnp.full(3, jnp.nan),
        Start(jnp.zeros(2), jnp.zeros(2)),
    ),
    *(
        Start(jnp.zeros(3), jnp.zeros(2)),
        Start(jnp.zeros(2), jnp.zeros(0)),
        Start([0.0, 0.0], [0.0, 0.0]),
        Start(None, None),
    ),
]
METHODS = [
    "draw_start",
    "draw_goal",
    "achieved_goal",
    "observe",
    "failed",
    "control",
    "success",
    "reward",
    "marker",
    "ghost",
    "reset",
]
ATTRIBUTES = ["control_step", "goal_body", "bodies", "success_distance", "engines", "mjcf", "variant"]


def slips(number, folder) -> type[RobotTask]:
    """Return a task with one or two slips: a method that returns, raises or branches on the wrong thing."""
    fields: dict = {"mjcf": str(folder / "m.xml"), "goal_body": "hand", "control_step": 0.05}
    fields["draw_goal"] = lambda self, key: jax.random.uniform(key, (3,))
    for _ in range(number.randint(1, 2)):
        value = number.choice(VALUES)
        if number.random() < 0.3:
            fields[number.choice(ATTRIBUTES)] = value
            continue

        kind = number.randrange(4)

        def method(self, *arguments, value=value, kind=kind):
            if kind == 0:
                raise ValueError("two\nlines of somebody's own error " * 50)
            if kind == 1 and arguments:
                leaf = jax.tree.leaves(arguments)[0]
                return value if leaf.sum() > 0 else leaf
            if kind == 2 and arguments:
                return np.asarray(jax.tree.leaves(arguments)[0]) + 1
            return value

        fields[number.choice(METHODS)] = method
    return type("Slipped", (RobotTask,), fields)


def shapes_of(task: type[RobotTask]) -> None:
    """Build an environment of a task, and ask for the shapes of a reset and a step."""
    registry.register(EnvironmentSpec("fuzzed", "a fuzzed robot", task=task, episode_length=10))
    try:
        environment = registry.make("fuzzed", engine="mujoco", episode_length=10)
        check_methods(environment)
        state = jax.eval_shape(lambda key: environment.reset(key, 2), jax.random.key(0))
        jax.eval_shape(environment.step, state, jax.ShapeDtypeStruct((2, environment.action_size), jnp.float32))
    finally:
        registry.unregister("fuzzed")


def models(folder: Path) -> None:
    """A model is one that moves, or one line."""
    file = folder / "m.xml"

    class Reach(RobotTask):
        mjcf = str(file)
        goal_body = "hand"

        def draw_goal(self, key):
            return jax.random.uniform(key, (3,))

    for case, number in generators("models"):
        text = model(number)
        file.write_bytes(text.encode())
        check_call(lambda: shapes_of(type("Reach", (Reach,), {})), KilolayerError, case=f"{case}: {text}")
    assert list(contents(folder)) == ["m.xml"]
    assert nothing_ran(folder)


def slipped_tasks(folder: Path) -> None:
    """A slip in a task is one line."""
    (folder / "m.xml").write_text(MODEL)
    for case, number in generators("slips"):
        check_call(lambda number=number: shapes_of(slips(number, folder)), KilolayerError, case=case)


def checks(folder: Path) -> None:
    """The check of an environment ends with findings, or one line."""
    (folder / "m.xml").write_text(MODEL)
    for case, number in generators("checks"):
        task = slips(number, folder)

        def run(task=task):
            registry.register(EnvironmentSpec("fuzzed", "a fuzzed robot", task=task, episode_length=10))
            try:
                list(check(registry.make("fuzzed", episode_length=10), num_envs=2, num_steps=10))
            finally:
                registry.unregister("fuzzed")

        check_call(run, KilolayerError, case=case)


if __name__ == "__main__":
    {"models": models, "slips": slipped_tasks, "checks": checks}[sys.argv[1]](Path.cwd())
