"""The environments of this library in Gymnasium, under the namespace `kilolayer`.

import gymnasium
import kilolayer.gym

env = gymnasium.make("kilolayer/ant_u4_maze", render_mode="rgb_array")
envs = gymnasium.make_vec("kilolayer/ant_u4_maze", num_envs=256)

Without the second import, `gymnasium.make("kilolayer.gym:kilolayer/ant_u4_maze")` does the same. Importing it registers
what is registered here at that moment; `register_envs` adds what came later, and `kilolayer/env` takes any name, the
path of a maze file or a maze as text: `gymnasium.make("kilolayer/env", env="my_maze.txt")`.
"""

from typing import TYPE_CHECKING, Any

try:
    import gymnasium
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "kilolayer.gym needs gymnasium, which is not installed: pip install 'kilolayer[gym]'"
    ) from None

if TYPE_CHECKING:
    from kilolayer.envs import Environment
    from kilolayer.envs.gym.goal_env import GoalEnv
    from kilolayer.envs.gym.goals import Drawing, Painter
    from kilolayer.envs.gym.vector_env import VectorGoalEnv

NAMESPACE = "kilolayer"
ANY = "env"
"""The name that takes the environment as an argument."""

PICTURE = (480, 480)
"""Width and height of a picture in pixels."""


def register_envs() -> None:
    """Register all environments of this library that Gymnasium does not know yet."""
    from kilolayer.envs import names, spec

    makers: Any = {
        "entry_point": "kilolayer.gym:make_env",
        "vector_entry_point": "kilolayer.gym:make_vector_env",
    }
    if f"{NAMESPACE}/{ANY}" not in gymnasium.registry:
        gymnasium.register(f"{NAMESPACE}/{ANY}", **makers)
    for name in names():
        if f"{NAMESPACE}/{name}" not in gymnasium.registry:
            steps = spec(name).episode_length
            gymnasium.register(f"{NAMESPACE}/{name}", max_episode_steps=steps, kwargs={"env": name}, **makers)


def make_env(
    env: str,
    *,
    episode_length: int | None = None,
    engine: str = "auto",
    variant: str = "default",
    reward: Any = None,
    render_mode: str | None = None,
    width: int = PICTURE[0],
    height: int = PICTURE[1],
) -> "GoalEnv":
    """Make an environment of Gymnasium with one robot.

    Args:
        env: as for `kilolayer.make_env`.
        episode_length: steps after which an episode is truncated; None for the environment's default.
        engine: as for `kilolayer.make_env`.
        variant: as for `kilolayer.make_env`.
        reward: `sparse` (0 at the goal, -1 elsewhere), `dense` (the task's own), or None for the one that it has.
        render_mode: `rgb_array`, `human` or None.
        width: of a picture in pixels.
        height: of a picture in pixels.

    Raises:
        ConfigurationError: in one line, if the environment is unknown or a setting is not valid.
    """
    from kilolayer.envs import make
    from kilolayer.envs.gym.goal_env import GoalEnv

    made = make(env, episode_length=episode_length, engine=engine, variant=variant)
    return GoalEnv(made, reward=reward, render_mode=render_mode, drawing=_drawing(width, height))


def make_vector_env(
    env: str,
    num_envs: int = 1,
    *,
    episode_length: int | None = None,
    max_episode_steps: int | None = None,
    engine: str = "auto",
    variant: str = "default",
    reward: Any = None,
    render_mode: str | None = None,
    width: int = PICTURE[0],
    height: int = PICTURE[1],
) -> "VectorGoalEnv":
    """Make a vector environment of Gymnasium; see `make_env`.

    Args:
        env: as for `kilolayer.make_env`.
        num_envs: robots, stepped by one compiled program.
        episode_length: steps after which an episode is truncated.
        max_episode_steps: the same, as Gymnasium calls it.
        engine: as for `kilolayer.make_env`.
        variant: as for `kilolayer.make_env`.
        reward: as for `make_env`.
        render_mode: `rgb_array` or None.
        width: of a picture in pixels.
        height: of a picture in pixels.
    """
    from kilolayer.envs import make
    from kilolayer.envs.gym.vector_env import VectorGoalEnv

    length = max_episode_steps if episode_length is None else episode_length
    made = make(env, episode_length=length, engine=engine, variant=variant)
    return VectorGoalEnv(made, num_envs, reward=reward, render_mode=render_mode, drawing=_drawing(width, height))


def _drawing(width: int, height: int) -> "Drawing":
    from kilolayer.envs.gym.goals import Drawing
    from kilolayer.render.live import Pictures, Window, has_screen

    def painter_of(environment: "Environment", render_mode: str) -> "Painter":
        return Window(environment) if render_mode == "human" else Pictures(environment, width, height)

    return Drawing(("human", "rgb_array") if has_screen() else ("rgb_array",), painter_of)


register_envs()
